"""Studies of a PACS as a listing for ``groundglass predict``: each is fetched by the process that answers it."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from groundglass.errors import GroundglassError, ScanError
from groundglass.node.config import DicomConfig, Peer
from groundglass.node.inbox import Inbox
from groundglass.node.peers import client_of
from groundglass.scan.dicom import dicom_series
from groundglass.scan.find import manifest_column
from groundglass.scan.members import found
from groundglass.scan.volume import Listing, Member, Series

COLUMN = "study"
KEYS = dict.fromkeys(("PatientID", "NumberOfStudyRelatedInstances"), "")
ASKED = 4
"""Number of studies queried at a time."""


def listed(config: DicomConfig, peer: Peer, manifests: Sequence[Path | str]) -> Listing:
    """Query a PACS for the patients and sizes of studies, and list those that it has.

    Parameters
    ----------
    config
        This node's AE title and timeouts, for a DIMSE peer.
    peer
        The PACS.
    manifests
        CSV files with a StudyInstanceUID per row in the column ``study``.

    Returns
    -------
    A series for each study, named by its row in the manifest, because a UID identifies a patient.

    Raises
    ------
    GroundglassError
        If a manifest cannot be read, or the PACS does not answer or sends studies only by C-MOVE.
    """
    if peer.by == "move":
        raise GroundglassError(
            f"{peer.name}: sends studies by C-MOVE; fetch them first (groundglass pacs fetch)"
        )
    rows: dict[str, Path] = {}
    for path in manifests:
        for source, uid in _rows(Path(path)):
            rows.setdefault(uid, source)
    with ThreadPoolExecutor(ASKED) as pool:
        asked = list(pool.map(partial(_listed, config, peer), rows.values(), rows))
    return Listing(
        tuple(one for one in asked if isinstance(one, Series)),
        failures=tuple(one for one in asked if isinstance(one, ScanError)),
    )


def _rows(manifest: Path) -> Iterator[tuple[Path, str]]:
    """The studies of a manifest, each named by its row as numbered in spreadsheets."""
    for number, value in enumerate(manifest_column(manifest, COLUMN, "StudyInstanceUID"), start=2):
        if uid := value.strip():
            yield Path(f"{manifest} row {number}"), uid


def _listed(config: DicomConfig, peer: Peer, source: Path, uid: str) -> Series | ScanError:
    answers = client_of(config, peer).find("STUDY", {"StudyInstanceUID": uid, **KEYS})
    if not answers:
        return ScanError(source, f"{peer.name} has no such study")
    size = answers[0].get("NumberOfStudyRelatedInstances") or 0
    return Series(
        source=source,
        kind="dicom",
        slices=int(size),
        rows=0,
        columns=0,
        patient=str(answers[0].get("PatientID") or ""),
        study=uid,
        content=f"{uid} {size}",
        fetch=partial(_fetch, config, peer, source, uid),
    )


def _fetch(config: DicomConfig, peer: Peer, source: Path, uid: str) -> list[Series]:
    """The CT series of a study; raises ScanError if they cannot be fetched."""
    memory = _Memory()
    try:
        client_of(config, peer).fetch(uid, None, memory)
    except GroundglassError as error:
        raise ScanError(source, str(error), "run the command again") from error
    series, failures = dicom_series([found(member) for member in memory.members(source)])
    if failures or not series:
        problem = (
            f"{peer.name} sent no CT" if not failures else f"{peer.name} sent a file: {failures[0].problem}"
        )
        raise ScanError(source, problem)
    return series


class _Memory(Inbox):
    """Keeps instances in memory."""

    def __init__(self) -> None:
        self._contents: list[bytes] = []

    def add(self, pieces: Iterable[bytes]) -> Path:
        """Keep one instance."""
        self._contents.append(b"".join(pieces))
        return Path()

    def members(self, source: Path) -> Iterator[Member]:
        """The instances as files of a folder ``source`` that does not exist."""
        for number, content in enumerate(self._contents, start=1):
            yield Member(source / f"{number:05d}.dcm", content=content)
