"""The server's configuration, ``serve.yaml``: every key has a default, and unknown keys are errors."""

import ipaddress
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError

from groundglass.errors import GroundglassError
from groundglass.files import reason_of
from groundglass.node.config import MB, Count, DicomConfig, Port, Positive, Section
from groundglass.store.retention import Retention
from groundglass.store.upload import Limits

GB = 1 << 30


class WorkerConfig(Section):
    """How studies are answered.

    Attributes
    ----------
    processes
        Number of processes. Each answers one study at a time and keeps its networks in memory, about 0.6 GB.
    time_limit
        Seconds after which a study is stopped.
    memory_limit_mb
        Memory of a process at which its study is stopped.
    """

    processes: Count = 1
    time_limit: Positive = 900
    memory_limit_mb: Positive = 6000


class UploadConfig(Section):
    """The limits of one upload; see groundglass.store.upload.Limits.

    Attributes
    ----------
    at_once
        Number of uploads received at the same time; further clients are asked to try again (429).
    """

    files: Count = 5000
    file_mb: Positive = 1024
    total_mb: Positive = 4096
    ratio: Positive = 50
    seconds: Positive = 900
    free_disk_mb: Annotated[float, Field(ge=0)] = 1024
    at_once: Count = 8

    @property
    def limits(self) -> Limits:
        """The limits, in bytes."""
        return Limits(
            files=self.files,
            file_bytes=int(self.file_mb * MB),
            bytes=int(self.total_mb * MB),
            ratio=self.ratio,
            seconds=self.seconds,
            free_bytes=int(self.free_disk_mb * MB),
        )


class RetentionConfig(Section):
    """How long studies are kept; without values, everything is kept.

    Attributes
    ----------
    days
        Studies received longer ago are deleted.
    gb
        The oldest studies are deleted while the uploaded files exceed this total size.
    """

    days: Positive | None = None
    gb: Positive | None = None

    @property
    def rules(self) -> Retention:
        """The same rules, in bytes."""
        return Retention(self.days, None if self.gb is None else int(self.gb * GB))


class AccessConfig(Section):
    """Who may use the server.

    Attributes
    ----------
    required
        Whether a token is needed; otherwise, the server binds only loopback addresses.
    requests_per_minute
        Requests allowed per client; above this, clients are asked to try again (429).
    sign_ins_per_minute
        Wrong or missing tokens allowed per address; above this, clients are asked to try again (429).
    session_hours
        How long a sign-in on the page lasts.
    proxies
        Addresses of reverse proxies whose ``X-Forwarded-For`` and ``X-Forwarded-Proto`` are trusted.
    user_header
        A header in which these proxies name the user they have authenticated, for example by OIDC; None means
        that no such header is trusted.
    user_scopes
        The permissions of these users.
    """

    required: bool = True
    requests_per_minute: Count = 1200
    sign_ins_per_minute: Count = 20
    session_hours: Positive = 12
    proxies: tuple[str, ...] = ()
    user_header: str | None = None
    user_scopes: tuple[str, ...] = ("read", "write")


class ServeConfig(Section):
    """All settings of ``groundglass serve``.

    Attributes
    ----------
    data
        The data folder.
    database
        The URL of a PostgreSQL database; None for SQLite in the data folder.
    host, port
        Where the server listens.
    hosts
        Host names of the server, besides ``host`` and the names of the loopback address.
    bundles
        Detectors that requests may use: names of shipped bundles, folders or ZIPs. The first one is the default.
    dicom
        The DICOM node (docs/pacs.md); None for no node.
    """

    data: Path = Path("groundglass-data")
    database: str | None = None
    host: str = "127.0.0.1"
    port: Port = 8080
    hosts: tuple[str, ...] = ()
    bundles: Annotated[tuple[str, ...], Field(min_length=1)] = ("detector-lesions",)
    worker: WorkerConfig = WorkerConfig()
    upload: UploadConfig = UploadConfig()
    retention: RetentionConfig = RetentionConfig()
    access: AccessConfig = AccessConfig()
    dicom: DicomConfig | None = None

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def check(self) -> None:
        """Raise GroundglassError if the settings would open the server to everybody."""
        if not self.access.required and not self.loopback:
            raise GroundglassError(
                f"{self.host}: without authentication the server binds loopback addresses only; "
                "use --host 127.0.0.1, or set access.required to true"
            )
        if self.access.user_header and not self.access.proxies:
            raise GroundglassError("access.user_header is trusted only from access.proxies; name the proxies")


def load_config(path: Path | None, **options: Any) -> ServeConfig:
    """Read a configuration; options that are not None override it.

    Raises
    ------
    GroundglassError
        If the file cannot be read, or a key or value is wrong; the message names it.
    """
    values: Any = {}
    if path is not None:
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except OSError as error:
            raise GroundglassError(f"{path}: cannot be read ({reason_of(error)})") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise GroundglassError(f"{path}: is not valid YAML; compare it with docs/server.md") from error
        if not isinstance(values, dict):
            raise GroundglassError(f"{path}: is not a table of settings; compare it with docs/server.md")
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return ServeConfig.model_validate({**values, **given})
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise GroundglassError(f"{path or 'the options'}: {where}: {first['msg']}") from error
