"""The section ``dicom`` of the server's configuration: senders, choice of images, and destinations of results."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from groundglass.errors import GroundglassError

MB = 1 << 20
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Port = Annotated[int, Field(ge=0, le=65535)]
AeTitle = Annotated[str, Field(pattern=r"^[ -\[\]-~]{1,16}$")]
"""At most 16 characters, without a backslash (PS3.5 6.2)."""
CHEST = "^$|CHEST|CHST|THORA|LUNG|TORSO|TRUNK|BODY"
ADDRESS = re.compile(r"(?P<ae_title>[^@/]{1,16})@(?P<host>[^@/]+?)(:(?P<port>\d+))?")
Object = Literal["sr", "seg", "sc"]


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"is not a regular expression ({error})") from error
    return text


Pattern = Annotated[str, AfterValidator(_pattern)]


class Section(BaseModel):
    """A section of the configuration; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class TlsConfig(Section):
    """This node's identity and trusted certificates, as PEM files.

    Attributes
    ----------
    certificate, key
        This node's certificate and key.
    authority
        The authority that signed the other systems' certificates; every system must present one.
    """

    certificate: Path
    key: Path
    authority: Path


class Peer(Section):
    """A PACS or another system: an AE title with its address, or the root of a DICOMweb service.

    Attributes
    ----------
    name
        Its name in the rest of the configuration, on the page and in commands.
    ae_title, host, port
        Its address for DIMSE.
    tls
        Whether to connect to it with DICOM TLS.
    url
        The root of its DICOMweb service.
    user, password_file, token_file
        This node's credentials there: a user with a password, or a token. The secrets are in files.
    by
        Whether images are fetched with C-GET, or with C-MOVE to this node, whose address the peer must know.
    """

    name: Annotated[str, Field(pattern=r"^[\w.-]{1,60}$")]
    ae_title: AeTitle | None = None
    host: str | None = None
    port: Port = 104
    tls: bool = False
    url: str | None = None
    user: str | None = None
    password_file: Path | None = None
    token_file: Path | None = None
    by: Literal["get", "move"] = "get"

    @model_validator(mode="after")
    def _one_address(self) -> "Peer":
        if (self.url is None) == (self.ae_title is None or self.host is None):
            raise ValueError("give either ae_title and host, or url")
        return self


class Caller(Section):
    """A system that may send images to this node, besides the peers.

    Attributes
    ----------
    ae_title
        Its AE title.
    hosts
        Allowed addresses, networks such as 10.1.0.0/16, or host names; empty means any.
    """

    ae_title: AeTitle
    hosts: tuple[str, ...] = ()


class Destination(Section):
    """Where results are sent.

    Attributes
    ----------
    to
        The name of a peer.
    objects
        The objects to send: report (sr), segmentation (seg), picture (sc).
    anonymise
        De-identify them; they then belong to a different study than the images.
    callers
        Send only results of studies from these AE titles, or ``STOW-RS``; empty means all.
    """

    to: str
    objects: Annotated[tuple[Object, ...], Field(min_length=1)] = ("sr", "seg", "sc")
    anonymise: bool = False
    callers: tuple[str, ...] = ()


class Choice(Section):
    """Which instances are answered; the others are received, counted and removed.

    The regular expressions are searched for anywhere in the value, ignoring case.

    Attributes
    ----------
    modality
        Accepted values of Modality.
    body_part
        Expression for BodyPartExamined; the default also accepts images that do not state it.
    description, not_description
        Expressions that the descriptions of series and study must and must not match.
    thickness_mm
        Smallest and largest SliceThickness; images that do not state it are accepted.
    """

    modality: tuple[str, ...] = ("CT",)
    body_part: Pattern = CHEST
    description: Pattern = ""
    not_description: Pattern | None = None
    thickness_mm: tuple[Annotated[float, Field(ge=0)], Positive] | None = None


class FetchRule(Section):
    """Studies that this node fetches from a peer.

    Attributes
    ----------
    source
        The peer's name; ``from`` in the file.
    minutes
        Minutes between two queries.
    days
        Maximum age of studies in days; 1 means today.
    description
        A regular expression that StudyDescription must contain.
    """

    source: str = Field(alias="from")
    minutes: Positive = 10
    days: Count = 1
    description: Pattern = ""


class DicomConfig(Section):
    """The DICOM node.

    Attributes
    ----------
    ae_title, host, port
        This node's AE title, and the address and port on which it listens.
    tls
        If given, this node accepts only DICOM TLS associations with trusted certificates.
    bundle
        The detector; None for the server's default.
    peers
        The systems that this node connects to; those with an AE title may also send to it.
    callers
        Further systems that may send.
    associations, object_mb, idle_seconds
        Maximum number of simultaneous associations, size of an instance, and idle time of an association.
    quiet_seconds
        A study is complete when nothing has arrived for this long and no association that sent parts of it is open.
    counts_from
        A peer that is asked for the number of instances of each series; while some are missing, the study waits.
    wait_seconds
        Longest time to wait for missing instances.
    choose
        Which images are answered.
    destinations
        Where results are sent.
    fetch
        Studies to fetch from peers.
    give_up_hours
        How long to retry sending to an unreachable destination before the results count as failed.
    """

    ae_title: AeTitle = "GROUNDGLASS"
    host: str = "127.0.0.1"
    port: Port = 11112
    tls: TlsConfig | None = None
    bundle: str | None = None
    peers: tuple[Peer, ...] = ()
    callers: tuple[Caller, ...] = ()
    associations: Count = 64
    object_mb: Positive = 1024
    idle_seconds: Positive = 60
    quiet_seconds: Positive = 30
    counts_from: str | None = None
    wait_seconds: Positive = 1800
    choose: Choice = Choice()
    destinations: tuple[Destination, ...] = ()
    fetch: tuple[FetchRule, ...] = ()
    give_up_hours: Positive = 72

    @model_validator(mode="after")
    def _known(self) -> "DicomConfig":
        names = [peer.name for peer in self.peers]
        if len(names) != len(set(names)):
            raise ValueError("peers: give each a different name")
        to = [destination.to for destination in self.destinations]
        if len(to) != len(set(to)):
            raise ValueError("destinations: name each peer once")
        used = [*to, *(rule.source for rule in self.fetch), *([self.counts_from] if self.counts_from else [])]
        if unknown := set(used) - set(names):
            raise ValueError(f"there is no peer {', '.join(sorted(unknown))}")
        if self.tls is None and any(peer.tls for peer in self.peers):
            raise ValueError("peers with tls need the section dicom.tls")
        return self

    def peer(self, name: str) -> Peer:
        """The peer with this name, or one given by ``AETITLE@HOST:PORT`` or the URL of a DICOMweb service.

        Raises
        ------
        GroundglassError
            If there is no such peer.
        """
        for peer in self.peers:
            if peer.name == name:
                return peer
        if name.startswith(("http://", "https://")):
            return Peer(name="url", url=name)
        if found := ADDRESS.fullmatch(name):
            given = {key: value for key, value in found.groupdict().items() if value}
            return Peer.model_validate({"name": "address", **given})
        known = ", ".join(peer.name for peer in self.peers) or "none"
        raise GroundglassError(
            f"{name}: there is no such peer (known: {known}); give AETITLE@HOST:PORT or a URL instead"
        )
