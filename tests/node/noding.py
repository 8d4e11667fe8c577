"""A node whose studies are answered by a worker in the tests' own process, and a sender."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom import Dataset
from pynetdicom import AE, build_context
from sqlalchemy import select

from groundglass.node.config import DicomConfig
from groundglass.node.node import Node
from groundglass.node.peers import resumed
from groundglass.serve.worker import Worker
from groundglass.store.database import Database
from groundglass.store.history import Entry, listed
from groundglass.store.intake import Wanted
from groundglass.store.tables import SEND, Arrival, Job
from groundglass.store.upload import Limits

BUNDLE = "covid-ct-lite0"
LONG = 60.0
QUIET = 0.4
CANARIES = {
    "PatientName": "Canaryname^Zebulon",
    "PatientID": "CANARYID77",
    "PatientBirthDate": "19010203",
    "AccessionNumber": "CANARYACC",
    "SeriesDescription": "Canaryseries",
}


def config(**settings: Any) -> DicomConfig:
    """A node's settings, for tests."""
    callers = [{"ae_title": "SCANNER"}]
    return DicomConfig.model_validate({"port": 0, "quiet_seconds": QUIET, "callers": callers, **settings})


def wait(until: Callable[[], Any], seconds: float = LONG) -> Any:
    """What a call gives once that is true."""
    end = time.monotonic() + seconds
    while not (found := until()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


@dataclass
class Noded:
    """A node in the tests' own process."""

    node: Node
    database: Database
    data: Path
    worker: Worker | None

    def send(self, files: Sequence[Path | Dataset], **options: Any) -> list[int]:
        """Send instances in one association; returns the statuses."""
        with Sending(self.node.receiver.port, **options) as sending:
            return [sending.send(one) for one in files]

    def arrivals(self) -> list[Arrival]:
        with self.database.read() as session:
            return list(session.scalars(select(Arrival).order_by(Arrival.first)))

    def jobs(self) -> list[Job]:
        with self.database.read() as session:
            return list(session.scalars(select(Job).where(Job.kind == SEND).order_by(Job.id)))

    def studies(self) -> list[Entry]:
        """The studies, the earliest first."""
        return listed(self.database)[0][::-1]

    def settled(self) -> None:
        """Wait until nothing is being received."""
        incoming = self.data / "node" / "incoming"
        wait(lambda: not any(incoming.glob("*/*")))
        wait(lambda: (found := self.arrivals()) and all(one.state != "receiving" for one in found))

    def answer(self) -> None:
        """Answer the waiting studies, and queue their results."""
        assert self.worker is not None
        self.settled()
        while self.worker.one():
            pass
        failed = {one.study.id for one in self.studies() if one.study.state == "failed"}
        wait(lambda: all(one.answered or one.study_id in (None, *failed) for one in self.arrivals()))

    def sent(self) -> list[Job]:
        """Answer the waiting studies, and wait until their results are sent."""
        self.answer()
        wait(lambda: all(job.state == "done" for job in self.jobs()))
        return self.jobs()


class Sending:
    """An association that sends instances, as a scanner does."""

    def __init__(self, port: int, title: str = "SCANNER", called: str = "GROUNDGLASS") -> None:
        self._port, self._title, self._called = port, title, called
        self.assoc: Any = None

    def __enter__(self) -> "Sending":
        from groundglass.scan.dicom.headers import CT_CLASSES
        from groundglass.scan.dicom.pixels import syntaxes

        contexts = [build_context(one, syntax) for one in CT_CLASSES for syntax in syntaxes()]
        contexts.append(build_context("1.2.840.10008.1.1"))
        self.assoc = AE(self._title).associate("127.0.0.1", self._port, contexts, ae_title=self._called)
        return self

    def __exit__(self, *_: object) -> None:
        if self.assoc.is_established:
            self.assoc.release()

    def send(self, one: Path | Dataset) -> int:
        """The status that an instance is answered with."""
        dataset = pydicom.dcmread(one) if isinstance(one, Path) else one
        resumed(self.assoc)
        return int(self.assoc.send_c_store(dataset).Status)


def node_of(data: Path, settings: DicomConfig, database: Database) -> Node:
    return Node(settings, database, data, Wanted(BUNDLE, "key"), Limits(free_bytes=0))
