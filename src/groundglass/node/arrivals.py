"""Turn acknowledged instances into studies: sort them by examination, await complete ones, and queue them.

One thread does all this (:meth:`Arrivals.look`), in steps that can be interrupted at any point and repeated:

1. An instance in ``node/incoming`` is entered into its examination's row, and then moved to ``node/pending/ROW``.
2. A complete examination becomes a study, or a new version of its study, through the same intake as an
upload. Its row then names the study, and its pending instances are removed.
3. An answered study gets a job for each destination, in one transaction with its row.
"""

import hashlib
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import select

from groundglass.errors import GroundglassError, ScanError, count_of, place_of
from groundglass.labels import NOT_A_CHEST_CT
from groundglass.node.config import Choice, DicomConfig
from groundglass.node.inbox import FINAL, caller_of
from groundglass.scan.dicom.headers import CT_CLASSES, read_values
from groundglass.store.database import Database
from groundglass.store.history import superseded
from groundglass.store.intake import Wanted, accept, content_of
from groundglass.store.queue import new_job, retry
from groundglass.store.tables import DONE, IGNORED, RECEIVING, TAKEN, Arrival, StoredFile, Study
from groundglass.store.upload import (
    FILES,
    INCOMING,
    NODE,
    PENDING,
    STUDIES,
    Limits,
    Received,
    RefusedError,
    Upload,
    sync_folder,
)

log = logging.getLogger(__name__)

KEYWORDS = (
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "Modality",
    "BodyPartExamined",
    "SeriesDescription",
    "StudyDescription",
    "SliceThickness",
    "SOPClassUID",
)
UNREADABLE = "its header cannot be read"
OLD = 120.0
"""Seconds after which a sender's empty folder is removed."""
ASKED = 10.0
"""Seconds between two queries to the PACS about the same study."""
AT_ONCE = 200
"""Number of instances sorted in one transaction."""
Counted = Callable[[str], Mapping[str, int]]
"""Returns the number of instances that the PACS has of each series of a study, by the series' codes."""


def code_of(uid: str) -> str:
    """A name for an instance or series that reveals nothing about the patient."""
    return hashlib.sha256(uid.encode()).hexdigest()[:24]


def left_out(header: Mapping[str, str], choice: Choice) -> str:
    """Why an instance is not answered; "" if it is. The reasons contain only text from the configuration."""
    if header["SOPClassUID"] not in CT_CLASSES:  # so that this node's own results are never answered
        return "is not a CT image"
    if header["Modality"].upper() not in choice.modality:
        return f"its modality is not {' or '.join(choice.modality)}"
    if not re.search(choice.body_part, header["BodyPartExamined"], re.IGNORECASE):
        return "its body part is not among those of dicom.choose.body_part"
    texts = f"{header['SeriesDescription']}\n{header['StudyDescription']}"
    if not re.search(choice.description, texts, re.IGNORECASE):
        return "its description does not match dicom.choose.description"
    if choice.not_description and re.search(choice.not_description, texts, re.IGNORECASE):
        return "its description matches dicom.choose.not_description"
    if choice.thickness_mm and header["SliceThickness"]:
        least, greatest = choice.thickness_mm
        try:
            fits = least <= float(header["SliceThickness"]) <= greatest
        except ValueError:
            fits = True
        if not fits:
            return f"its slices are not {least:g} to {greatest:g} mm thick"
    return ""


@dataclass(frozen=True)
class _Instance:
    """An instance waiting to be sorted."""

    path: Path
    study: str
    series: str
    code: str
    reason: str


class Arrivals:
    """Received instances, and their processing.

    Parameters
    ----------
    config
        The node's configuration.
    database, data
        The server's database and data folder.
    wanted
        How studies are to be answered.
    limits
        The limits of a study.
    counted
        Asks the PACS how many instances it has; None if no PACS is to be asked.
    """

    def __init__(
        self,
        config: DicomConfig,
        database: Database,
        data: Path,
        wanted: Wanted,
        limits: Limits,
        counted: Counted | None = None,
    ) -> None:
        self._config, self._database, self._data = config, database, data
        self._wanted, self._limits, self._counted = wanted, limits, counted
        self._incoming, self._pending = data / NODE / INCOMING, data / NODE / PENDING
        self._senders: dict[str, set[str]] = {}
        self._up = 0.0
        self._asked: dict[str, tuple[float, str]] = {}
        for folder in (self._incoming, self._pending):
            folder.mkdir(parents=True, exist_ok=True)

    def recover(self) -> None:
        """At start-up, resume studies that were interrupted between two steps.

        Senders need time to reconnect, so no study is complete until this node has been up for ``quiet_seconds``.
        """
        self._up = time.time()
        left = [folder.name for folder in self._pending.iterdir() if any(folder.iterdir())]
        with self._database.write() as session:
            for arrival in session.scalars(select(Arrival).where(Arrival.id.in_(left))):
                if arrival.uid:
                    arrival.state = RECEIVING

    def look(self, open_: Iterable[str] = ()) -> None:
        """Sort new instances, make studies of complete examinations, and queue results for their destinations.

        Parameters
        ----------
        open_
            Names of the folders whose senders may still have been sending just before this call.
        """
        still, before = set(open_), set(self._senders)
        self._sort()
        # A sender that has appeared since then counts as open until the next call.
        self._senders = {
            name: ids for name, ids in self._senders.items() if name in still or name not in before
        }
        blocked = set().union(*self._senders.values())
        for arrival in self._quiet(blocked):
            try:
                self._complete(arrival)
            except Exception as error:  # continue with the other studies, and retry this one later
                log.error("a received study could not be processed yet: %s", place_of(error))
        self._hand_over()

    def _sort(self) -> None:
        for folder in sorted(self._incoming.iterdir()):
            files = sorted(folder.glob(f"*{FINAL}"))
            for start in range(0, len(files), AT_ONCE):
                read = [self._read(path) for path in files[start : start + AT_ONCE]]
                self._enter(read, caller_of(folder), folder.name)
            if not files and time.time() - folder.stat().st_mtime > OLD:
                with suppress(OSError):  # it is not empty: an instance is being written
                    folder.rmdir()

    def _read(self, path: Path) -> _Instance:
        try:
            header = read_values(path, KEYWORDS)
        except ScanError:
            header = dict.fromkeys(KEYWORDS, "")
        study, series, instance = (header[keyword] for keyword in KEYWORDS[:3])
        if not (study and series and instance) or max(map(len, (study, series, instance))) > 64:
            return _Instance(path, "", "", path.parent.name[:16] + path.stem, UNREADABLE)
        return _Instance(
            path, study, code_of(series), code_of(instance), left_out(header, self._config.choose)
        )

    def _enter(self, read: Sequence[_Instance], caller: str, sender: str) -> None:
        """Enter instances into their rows, and move them only afterwards."""
        now = time.time()
        places: dict[str, str] = {}
        with self._database.write() as session:
            for uid in dict.fromkeys(one.study for one in read):
                mine = [one for one in read if one.study == uid]
                row = session.scalar(select(Arrival).where(Arrival.uid == uid))
                if row is None:
                    row = Arrival(
                        id=secrets.token_hex(10),
                        uid=uid,
                        first=now,
                        instances={},
                        left_out={},
                        answered=False,
                    )
                    session.add(row)
                row.last, row.caller, row.problem = now, caller, None
                row.state = RECEIVING if uid else IGNORED
                _count(row, mine)
                places[uid] = row.id
                self._senders.setdefault(sender, set()).add(row.id)
        for folder in {self._pending / place for place in places.values()}:
            folder.mkdir(exist_ok=True)
        for one in read:
            if one.reason and one.study:
                one.path.unlink()
            else:
                one.path.rename(self._pending / places[one.study] / f"{one.code}{FINAL}")
        for folder in {self._pending / place for place in places.values()}:
            sync_folder(folder)

    def _quiet(self, blocked: set[str]) -> list[Arrival]:
        until = time.time() - self._config.quiet_seconds
        if self._up > until:
            return []
        with self._database.read() as session:
            rows = session.scalars(
                select(Arrival).where(Arrival.state == RECEIVING, Arrival.last <= until)
            ).all()
        return [row for row in rows if row.id not in blocked]

    def _complete(self, arrival: Arrival) -> None:
        """Make a study of an examination, unless the PACS has more of it."""
        missing = self._missing(arrival)
        if missing and time.time() - arrival.last < self._config.wait_seconds:
            if arrival.problem != missing:
                self._update(arrival, problem=missing)
            return
        self._asked.pop(arrival.id, None)
        new = {path.stem: path for path in sorted((self._pending / arrival.id).glob(f"*{FINAL}"))}
        if not new:
            self._update(arrival, state=TAKEN if arrival.study_id else IGNORED, problem=None)
            return
        try:
            study = self._take(arrival, new)
        except RefusedError as error:
            self._update(arrival, problem=str(error))
            log.warning("a received study could not be processed yet: %s", error)
            return
        changed = study != arrival.study_id
        self._update(
            arrival,
            state=TAKEN,
            study_id=study,
            answered=arrival.answered and not changed,
            problem=missing or None,
        )
        shutil.rmtree(self._pending / arrival.id, ignore_errors=True)

    def _take(self, arrival: Arrival, new: Mapping[str, Path]) -> str:
        """The id of the study with these instances and those of the previous version."""
        with Upload(self._data, self._limits) as upload:
            files = self._files_before(arrival)
            digests = {code: _digest(path) for code, path in new.items()}
            files |= {code: (path, digests[code]) for code, path in new.items()}
            for number, (code, (path, digest)) in enumerate(sorted(files.items()), start=1):
                stored = f"{number:05d}{FINAL}"
                os.link(path, upload.folder / stored)
                size = path.stat().st_size
                upload.grown(size, size)
                upload.files.append(Received(stored, f"{code}{FINAL}", size, digest))
            if (latest := self._latest(arrival, content_of(upload.files))) is not None:
                return latest
            study, _ = accept(self._database, upload, self._wanted, uid=arrival.uid)
            if superseded(self._database, study):  # a correction was reverted
                options = {**self._wanted.options, "after": arrival.study_id}
                wanted = replace(self._wanted, options=options)
                study, _ = accept(self._database, upload, wanted, uid=arrival.uid)
            return study

    def _latest(self, arrival: Arrival, content: str) -> str | None:
        """The id of the latest version if it has this content; a failed version is queued again."""
        with self._database.read() as session:
            study = None if arrival.study_id is None else session.get(Study, arrival.study_id)
        if study is None or (study.content, study.bundle_key) != (content, self._wanted.bundle_key):
            return None
        retry(self._database, study.id)
        return study.id

    def _files_before(self, arrival: Arrival) -> dict[str, tuple[Path, str]]:
        """The files of the latest version, with their hashes, by the codes of their instances."""
        if arrival.study_id is None:
            return {}
        folder = self._data / STUDIES / arrival.study_id / FILES
        with self._database.read() as session:
            rows = session.scalars(select(StoredFile).where(StoredFile.study_id == arrival.study_id)).all()
        return {row.name.removesuffix(FINAL): (folder / row.stored, row.sha256) for row in rows}

    def _missing(self, arrival: Arrival) -> str:
        """How many instances of the received series the PACS has not sent, in words; "" if none, or unknown."""
        if self._counted is None:
            return ""
        at, text = self._asked.get(arrival.id, (-ASKED, ""))
        if time.monotonic() - at >= ASKED:
            try:
                counts = self._counted(arrival.uid)
            except GroundglassError as error:  # this must not prevent a study from being answered
                log.warning("the PACS could not be asked how many instances a study has: %s", error)
                counts = {}
            lacking = sum(max(0, counts.get(name, 0) - len(have)) for name, have in arrival.instances.items())
            text = f"{count_of(lacking, 'instance')} in the PACS did not arrive" if lacking else ""
            self._asked[arrival.id] = (time.monotonic(), text)
        return text

    def _update(self, arrival: Arrival, **columns: object) -> None:
        with self._database.write() as session:
            row = session.get(Arrival, arrival.id)
            for name, value in columns.items():
                setattr(row, name, value)

    def _hand_over(self) -> None:
        """Queue the results of answered studies for their destinations."""
        waiting = (
            select(Arrival, Study)
            .join(Study, Study.id == Arrival.study_id)
            .where(Arrival.state == TAKEN, Arrival.answered.is_(False), Study.state == DONE)
        )
        with self._database.read() as session:
            if session.execute(waiting.limit(1)).first() is None:
                return
        with self._database.write() as session:
            for arrival, study in session.execute(waiting).all():
                arrival.answered = True
                if study.verdict == NOT_A_CHEST_CT:
                    arrival.problem = "is not a chest CT, so no results are sent"
                elif study.divided_into:
                    arrival.problem = "its instances are of several patients, so no results are sent"
                else:
                    wanted = (
                        one
                        for one in self._config.destinations
                        if not one.callers or arrival.caller in one.callers
                    )
                    session.add_all(new_job(study.id, one.to) for one in wanted)


def _count(row: Arrival, read: Iterable[_Instance]) -> None:
    """Count instances, each once even if it is sent repeatedly.

    The columns are replaced, because SQLAlchemy does not notice changes within their values.
    """
    instances = {series: list(codes) for series, codes in row.instances.items()}
    reasons = dict(row.left_out)
    for one in read:
        codes = instances.setdefault(one.series, [])
        if one.code not in codes:
            codes.append(one.code)
            if one.reason:
                reasons[one.reason] = reasons.get(one.reason, 0) + 1
    row.instances, row.left_out = instances, reasons


def _digest(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
