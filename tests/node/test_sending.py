"""Sending to a destination that is down, refuses, is slow or recovers; nothing is sent twice."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pydicom
import pytest
from noding import Noded, wait
from pynetdicom import AE, evt

from groundglass.dicom_out.stamp import NAME
from groundglass.node import send
from groundglass.store import queue
from groundglass.store.tables import SEND, Job
from groundglass.store.upload import RESULTS, STUDIES

Start = Callable[..., Noded]
CLASSES = ("1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.7")


class Archive:
    """A PACS whose answers the test determines."""

    def __init__(self) -> None:
        self.status, self.pause, self.asked = 0, 0.0, 0
        self.held: dict[str, pydicom.Dataset] = {}
        self.port = 0
        self._server: Any = None

    def start(self) -> None:
        entity = AE("ARCHIVE")
        for one in CLASSES:
            entity.add_supported_context(one)
        self._server = entity.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )
        self.port = self._server.socket.getsockname()[1]

    def stop(self) -> None:
        self._server.shutdown()

    def _store(self, event: Any) -> int:
        self.asked += 1
        time.sleep(self.pause)
        if not self.status:
            self.held[event.dataset.SOPInstanceUID] = event.dataset
        return self.status

    def reports(self) -> list[pydicom.Dataset]:
        return [one for one in self.held.values() if one.Modality == "SR"]


@pytest.fixture
def archive() -> Iterator[Archive]:
    archive = Archive()
    archive.start()
    yield archive
    archive.stop()


@pytest.fixture
def started(noded: Start, archive: Archive, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Noded]:
    """A node that sends to the archive; ``answer`` makes answered studies without reading any images."""
    monkeypatch.setattr(send, "LONGEST_PAUSE", 0.5)

    def start(**settings: Any) -> Noded:
        peer = {"name": "archive", "ae_title": "ARCHIVE", "host": "127.0.0.1", "port": archive.port}
        destination = {"to": "archive", **settings.pop("destination", {})}
        return noded(peers=[peer], destinations=[destination], idle_seconds=1, **settings)

    return start


def answered(noded: Noded, images: list[Any], results: Callable[[str], Any], **answer: Any) -> str:
    """Send images, and enter an answer as a worker does."""
    noded.send(images)
    noded.settled()
    lease = queue.claim(noded.database, "tests")
    assert lease is not None
    results(lease.study)
    assert queue.finish(noded.database, lease, {"verdict": "covid", **answer})
    return lease.study


@pytest.fixture
def results(covid_results: dict[str, bytes]) -> Callable[[Noded], Callable[[str], None]]:
    """Write results of a study, with UIDs of their own."""

    def of(noded: Noded) -> Callable[[str], None]:
        def write(study: str) -> None:
            folder = noded.data / STUDIES / study / RESULTS
            folder.mkdir()
            for name, content in covid_results.items():
                dataset = pydicom.dcmread(pydicom.filebase.DicomBytesIO(content))
                dataset.SOPInstanceUID = f"2.25.{int(study, 16)}.{ord(name[1])}"
                dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
                dataset.save_as(folder / name)

        return write

    return of


def jobs(noded: Noded) -> list[tuple[str, str | None]]:
    return [(job.state, job.problem) for job in noded.jobs()]


def test_an_archive_that_is_down_gets_everything_when_it_is_back(
    started: Start, archive: Archive, chest: Any, results: Any
) -> None:
    noded = started()
    archive.stop()
    studies = [answered(noded, chest(f"down {number}", 2), results(noded)) for number in range(3)]
    wait(lambda: any(job.problem for job in noded.jobs()))
    assert {state for state, _ in jobs(noded)} <= {"queued", "running"}
    noded.node.stop()
    archive.start()
    assert archive.asked == 0
    restarted = started(again=noded)
    wait(lambda: all(job.state == "done" for job in restarted.jobs()))
    assert len(archive.held) == 3 * len(studies)
    assert jobs(restarted) == [("done", None)] * 3


def test_refused_results_are_tried_a_few_times_and_then_listed(
    started: Start, archive: Archive, chest: Any, results: Any
) -> None:
    noded = started()
    archive.status = 0xC000
    study = answered(noded, chest("refused", 2), results(noded))
    wait(lambda: [state for state, _ in jobs(noded)] == ["failed"])
    assert archive.asked == queue.ATTEMPTS
    assert jobs(noded)[0][1] == "archive: refuses an object (status 0xC000)"
    time.sleep(1)
    assert archive.asked == queue.ATTEMPTS  # no loop
    archive.status = 0
    assert queue.resend(noded.database, study) == 1
    wait(lambda: jobs(noded) == [("done", None)])
    assert len(archive.held) == 3


def test_an_archive_without_room_or_time_is_asked_again(
    started: Start, archive: Archive, chest: Any, results: Any
) -> None:
    noded = started()
    archive.status = 0xA700
    answered(noded, chest("room", 2), results(noded))
    wait(lambda: archive.asked > queue.ATTEMPTS)
    assert jobs(noded)[0][0] != "failed"
    archive.status, archive.pause = 0, 2.5  # longer than it may be silent
    asked = archive.asked
    wait(lambda: archive.asked > asked + 1)
    archive.pause = 0
    wait(lambda: jobs(noded) == [("done", None)])
    assert len(archive.held) == 3


@pytest.mark.parametrize("status", [0x0111, 0xB000, 0xB007])
def test_what_is_already_there_or_is_taken_with_a_warning_counts_as_sent(
    started: Start, archive: Archive, chest: Any, results: Any, status: int
) -> None:
    noded = started()
    archive.status = status
    answered(noded, chest("there", 2), results(noded))
    wait(lambda: jobs(noded) == [("done", None)])
    assert archive.asked == 3


def test_what_was_superseded_before_it_was_sent_is_not_sent(
    started: Start, archive: Archive, chest: Any, results: Any
) -> None:
    noded = started()
    archive.status = 0xA700
    images = chest("superseded", 4)
    first = answered(noded, images[:3], results(noded))
    wait(lambda: archive.asked)
    second = answered(noded, images[3:], results(noded))
    archive.status = 0
    wait(lambda: [state for state, _ in jobs(noded)] == ["done", "done"])
    assert jobs(noded) == [("done", "superseded before it was sent"), ("done", None)]
    assert [one.SOPInstanceUID for one in archive.reports()] == [f"2.25.{int(second, 16)}.{ord('r')}"]
    assert first != second


def test_only_what_a_destination_wants_is_sent_and_without_the_patient(
    started: Start, archive: Archive, chest: Any, results: Any
) -> None:
    noded = started(destination={"objects": ["sr", "sc"], "anonymise": True, "callers": ["SCANNER"]})
    answered(noded, chest("anonymous", 2), results(noded))
    wait(lambda: jobs(noded) == [("done", None)])
    assert sorted(one.Modality for one in archive.held.values()) == ["OT", "SR"]
    for one in archive.held.values():
        assert one.PatientIdentityRemoved == "YES"
        assert one.Manufacturer == NAME
        assert not [value for value in ("Canary", "CANARY", "Phantom^", "PHANTOM") if value in str(one)]


def test_a_destination_of_other_senders_and_what_is_not_a_chest_get_nothing(
    started: Start, archive: Archive, chest: Any, results: Any
) -> None:
    noded = started(destination={"callers": ["OTHER"]})
    answered(noded, chest("others", 2), results(noded))
    answered(noded, chest("no chest", 2), results(noded), verdict="not a chest CT")
    wait(lambda: all(one.answered for one in noded.arrivals()))
    assert (noded.jobs(), archive.asked) == ([], 0)
    assert [one.problem for one in noded.arrivals()] == [None, "is not a chest CT, so no results are sent"]


def test_a_crash_while_sending_makes_no_second_report(
    started: Start, archive: Archive, chest: Any, results: Any
) -> None:
    noded = started()
    study = answered(noded, chest("crash", 2), results(noded))
    wait(lambda: jobs(noded) == [("done", None)])
    noded.node.stop()
    with noded.database.write() as session:  # as if the process had ended before it entered the success
        session.query(Job).filter(Job.kind == SEND).update({"state": "running", "owner": "gone"})
    queue.recover(noded.database)
    after = started(again=noded)
    wait(lambda: jobs(after) == [("done", None)])
    assert archive.asked == 6
    assert len(archive.held) == 3
    assert study
