"""The DICOM node with a real Orthanc: speed, kills, archives that are down, many senders, and damaged messages.

Root is needed, since everything runs in a network namespace of its own. The archive is that of the tests.

.venv/bin/python benchmarks/pacs.py speed --series ../ct-series
.venv/bin/python benchmarks/pacs.py kills
.venv/bin/python benchmarks/pacs.py down --seconds 180
.venv/bin/python benchmarks/pacs.py many --series ../ct-series
.venv/bin/python benchmarks/pacs.py reception --series ../ct-series
.venv/bin/python benchmarks/pacs.py fuzz
"""

import argparse
import io
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import pydicom
from pydicom import Dataset
from pynetdicom import AE, build_context
from sqlalchemy import select

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "node"))
from orthanc import DIMSE, NODE, Orthanc, running

from groundglass.node.peers import resumed
from groundglass.node.receive import silence
from groundglass.phantom import make_phantom, random_lesions
from groundglass.phantom.dicom import write_phantom_dicom
from groundglass.scan.dicom.headers import CT_CLASSES
from groundglass.scan.dicom.pixels import syntaxes
from groundglass.store.database import Database
from groundglass.store.history import files_of
from groundglass.store.tables import ANSWER, SEND, Arrival, Job, Study

QUIET = 2.0
KINDS = ("SR", "SEG", "OT")


@dataclass
class Server:
    """``groundglass serve`` with a node that sends to Orthanc."""

    folder: Path
    bundle: str
    quiet: float = QUIET
    process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        peer = {"name": "orthanc", "ae_title": "ORTHANC", "host": "127.0.0.1", "port": DIMSE}
        dicom = {
            "port": NODE,
            "quiet_seconds": self.quiet,
            "peers": [peer],
            "callers": [{"ae_title": "SCANNER"}, {"ae_title": "STORESCU"}],
            "destinations": [{"to": "orthanc"}],
        }
        config = {
            "data": str(self.folder / "data"),
            "port": 0,
            "bundles": [self.bundle],
            "upload": {"free_disk_mb": 100},
            "dicom": dicom,
        }
        (self.folder / "serve.yaml").write_text(json.dumps(config))
        command = [sys.executable, "-m", "groundglass", "serve", "--config", str(self.folder / "serve.yaml")]
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline(), (self.folder / "log").read_text()
        while socket.socket().connect_ex(("127.0.0.1", NODE)):  # the node begins a moment later
            time.sleep(0.1)

    def kill(self) -> None:
        """End the server as a power failure would; its worker ends with it."""
        assert self.process is not None
        workers = psutil.Process(self.process.pid).children()
        self.process.kill()
        self.process.wait()
        psutil.wait_procs(workers, 10)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait()

    def database(self) -> Database:
        return Database.of(self.folder / "data")

    def rows(self, table: Any, *where: Any) -> list[Any]:
        database = self.database()
        with database.read() as session:
            found = list(session.scalars(select(table).where(*where)))
        database.close()
        return found

    def jobs(self) -> list[Job]:
        return self.rows(Job, Job.kind == SEND)


@contextmanager
def both(bundle: str = "detector-lesions", quiet: float = QUIET) -> Iterator[tuple[Orthanc, Server]]:
    """An empty Orthanc and a server that sends to it."""
    silence()
    with tempfile.TemporaryDirectory(prefix="gg-pacs-") as folder:
        place = Path(folder)
        (place / "orthanc").mkdir()
        (place / "server").mkdir()
        with running(place / "orthanc") as orthanc:
            server = Server(place / "server", bundle, quiet)
            server.start()
            try:
                yield orthanc, server
            finally:
                server.stop()


def wait(until: Callable[[], Any], seconds: float = 600, pause: float = 0.1) -> Any:
    end = time.monotonic() + seconds
    while not (found := until()):
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(pause)
    return found


def copies(images: Sequence[Dataset], number: int) -> list[Dataset]:
    """The same images as another examination."""
    made = []
    for image in images:
        copy = pydicom.dcmread(io.BytesIO(content(image)))
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
            setattr(copy, keyword, f"2.25.{number}{abs(hash(image[keyword].value)) % 10**18}")
        copy.file_meta.MediaStorageSOPInstanceUID = copy.SOPInstanceUID
        made.append(copy)
    return made


def content(image: Dataset) -> bytes:
    buffer = io.BytesIO()
    image.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def phantom(slices: int = 20, edge: int = 128) -> list[Dataset]:
    made = make_phantom(1, shape=(slices, edge, edge), lesions=random_lesions(1, "covid"))
    with tempfile.TemporaryDirectory() as folder:
        return [
            pydicom.dcmread(io.BytesIO(path.read_bytes())) for path in write_phantom_dicom(made, Path(folder))
        ]


def associate(title: str = "SCANNER") -> Any:
    contexts = [build_context(one, syntax) for one in CT_CLASSES for syntax in syntaxes()]
    return AE(title).associate("127.0.0.1", NODE, contexts, ae_title="GROUNDGLASS")


def send(images: Sequence[Dataset]) -> None:
    assoc = associate()
    assert assoc.is_established
    for image in images:
        resumed(assoc)
        assert int(assoc.send_c_store(image).Status) == 0
    assoc.release()


def series(folder: Path) -> list[Dataset]:
    return [pydicom.dcmread(path) for path in sorted(folder.glob("*.dcm"))]


def speed(images: list[Dataset], repetitions: int) -> None:
    """Seconds from the time a study counts as complete until Orthanc has all of its results."""
    took = []
    with both() as (orthanc, server):
        for number in range(1, repetitions + 2):
            uid = copies(images, number)
            begun = time.time()
            send(uid)
            received = time.time() - begun
            study = uid[0].StudyInstanceUID
            wait(lambda: all(orthanc.find(Modality=kind, StudyInstanceUID=study) for kind in KINDS))  # noqa: B023
            complete, now = server.rows(Arrival, Arrival.uid == study)[0].last + QUIET, time.time()
            (row,) = server.rows(Study, Study.uid == study)
            (job,) = server.rows(Job, Job.study_id == row.id, Job.kind == ANSWER)
            took.append(now - complete)
            print(
                f"{len(uid)} instances received in {received:.1f} s; complete to sent: {took[-1]:.1f} s "
                f"(to a worker {job.started - complete:.1f}, answered {row.finished - job.started:.1f}, "
                f"sent {now - row.finished:.1f})"
            )
    print(f"complete to sent: median {median(took[1:]):.1f} s without the first, which waits for the worker")


def current(orthanc: Orthanc, study: str) -> tuple[int, int]:
    """The number of Orthanc's reports of a study, and of those that no other report replaces."""
    ids = orthanc.find(Modality="SR", StudyInstanceUID=study)
    reports = [pydicom.dcmread(io.BytesIO(orthanc.content(f"/instances/{one}/file"))) for one in ids]
    replaced = {
        item.ReferencedSOPInstanceUID
        for report in reports
        for document in report.get("PredecessorDocumentsSequence", [])
        for one in document.ReferencedSeriesSequence
        for item in one.ReferencedSOPSequence
    }
    return len(reports), len([one for one in reports if one.SOPInstanceUID not in replaced])


def kills(count: int, seed: int) -> None:
    """Kill the server while it receives, waits for the rest, answers or sends each study, and check what is left.

    The stages take turns. A kill comes after a random part of the time that its stage took without one.
    """
    draw, images, lost, versions = random.Random(seed), phantom(20, 96), 0, 0
    doing, partly, reports = Counter[str](), 0, Counter[tuple[int, int]]()
    with both("covid-ct-lite0", quiet=1) as (orthanc, server), ThreadPoolExecutor(1) as pool:
        takes = durations(server, copies(images, 1), pool)
        print("without a kill: " + ", ".join(f"{stage} {takes[stage]:.2f} s" for stage in STAGES))
        for number in range(count):
            made = copies(images, number + 2)
            study, acknowledged = made[0].StudyInstanceUID, set[str]()
            sending, stage = pool.submit(persistently, made, acknowledged), STAGES[number % len(STAGES)]
            wait(lambda: stage_of(server, study) in (stage, "sent"), pause=0.002)  # noqa: B023
            time.sleep(draw.uniform(0, takes[stage]))
            server.kill()
            doing["receiving" if len(acknowledged) < len(made) else stage_of(server, study)] += 1
            partly += 0 < len(orthanc.find(StudyInstanceUID=study)) < len(KINDS)
            server.start()
            sending.result()
            wait(lambda: stage_of(server, study) == "sent")  # noqa: B023
            (arrival,) = server.rows(Arrival, Arrival.uid == study)
            lost += len(acknowledged) - arrival_files(server, arrival)
            versions += len(server.rows(Study, Study.uid == study))
            reports[current(orthanc, study)] += 1
            print(
                f"kill {number + 1}: aimed at {stage}; reports, and current ones: {current(orthanc, study)}"
            )
    print(
        f"{count} kills, by what the server was doing: {dict(doing)}; with a part of the results sent: {partly}"
    )
    print(f"{count} studies with {versions} versions; acknowledged instances lost: {lost}")
    for (all_, last), how_often in sorted(reports.items()):
        print(f"  {how_often} studies: reports in the archive {all_}, of which current {last}")
    wrong = lost or any(last != 1 for _, last in reports)
    wrong = wrong or sum(all_ * studies for (all_, _), studies in reports.items()) > versions
    if wrong:
        raise SystemExit("the server lost an instance, or the archive has too many reports or too few")


STAGES = ("receiving", "waiting", "answering", "sending")


def stage_of(server: Server, study: str) -> str:
    """What the server is doing with a study, or was when it was killed; "" before its first instance."""
    arrivals = server.rows(Arrival, Arrival.uid == study)
    if not arrivals:
        return ""
    (arrival,) = arrivals
    if arrival.state != "taken":
        return "receiving" if time.time() - arrival.last < RECEIVED else "waiting"
    sends = server.rows(Job, Job.study_id == arrival.study_id, Job.kind == SEND)
    if not arrival.answered:
        return "answering"
    return "sent" if all(job.state == "done" for job in sends) else "sending"


RECEIVED = 0.4
"""Seconds without an instance after which a study is no longer being received, for the names of stages."""


def durations(server: Server, images: Sequence[Dataset], pool: ThreadPoolExecutor) -> dict[str, float]:
    """How long each stage of a study takes that nothing disturbs."""
    pool.submit(persistently, images, set()).result()  # the worker loads its detector meanwhile
    wait(lambda: stage_of(server, images[0].StudyInstanceUID) == "sent")
    made, began = copies(images, 1000), dict[str, float]()
    sending = pool.submit(persistently, made, set())
    while "sent" not in began:
        began.setdefault(stage_of(server, made[0].StudyInstanceUID), time.monotonic())
        time.sleep(0.002)
    sending.result()
    ends = [*(began[stage] for stage in STAGES[1:]), began["sent"]]
    return {stage: end - began[stage] for stage, end in zip(STAGES, ends, strict=True)}


def arrival_files(server: Server, arrival: Arrival) -> int:
    """How many instances the latest version of a study has."""
    database = server.database()
    files = len(files_of(database, str(arrival.study_id)))
    database.close()
    return files


def persistently(images: Sequence[Dataset], acknowledged: set[str]) -> None:
    """Send images until each is acknowledged."""
    while left := [one for one in images if one.SOPInstanceUID not in acknowledged]:
        assoc = associate()
        if not assoc.is_established:
            time.sleep(0.3)
            continue
        for image in left:
            resumed(assoc)
            answer = assoc.send_c_store(image) if assoc.is_established else Dataset()
            if answer.get("Status") != 0:
                break
            acknowledged.add(image.SOPInstanceUID)
            time.sleep(0.05)
        if assoc.is_established:
            assoc.release()


def down(seconds: float, count: int) -> None:
    """An archive that is down, refuses or hangs for a while: the deliveries after its return, and their delay."""
    images = phantom()
    with both("covid-ct-lite0") as (orthanc, server):
        send(copies(images, 1))
        wait(lambda: [job.state for job in server.jobs()] == ["done"])
        number = 1
        for how in ("down", "refuses", "frozen"):
            begin_outage(orthanc, how)
            for _ in range(count):
                number += 1
                send(copies(images, number))
            wait(lambda: len(server.jobs()) == number)  # noqa: B023
            time.sleep(seconds)
            attempts = sum(job.attempts for job in server.jobs() if job.state != "done")
            end_outage(orthanc, how)
            back = time.monotonic()
            wait(lambda: all(job.state == "done" for job in server.jobs()))
            drained = time.monotonic() - back
            found = len(orthanc.find(Modality="SR"))
            print(
                f"{how} for {seconds:.0f} s with {count} studies: {attempts} attempts; "
                f"drained {drained:.1f} s after its return; reports in the archive: {found} of {number}"
            )


def begin_outage(orthanc: Orthanc, how: str) -> None:
    assert orthanc.process is not None
    if how == "frozen":
        psutil.Process(orthanc.process.pid).suspend()
        return
    orthanc.stop()
    if how == "refuses":
        know(orthanc, {})
        orthanc.start()


def end_outage(orthanc: Orthanc, how: str) -> None:
    assert orthanc.process is not None
    if how == "frozen":
        psutil.Process(orthanc.process.pid).resume()
        return
    if how == "refuses":
        orthanc.stop()
        know(orthanc, {"gg": ["GROUNDGLASS", "127.0.0.1", NODE]})
    orthanc.start()


def know(orthanc: Orthanc, modalities: dict[str, Any]) -> None:
    """Let Orthanc know other modalities: it rejects those that it does not know."""
    path = orthanc.folder / "orthanc.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "DicomModalities": modalities}))


def many(images: list[Dataset], slices: int) -> None:
    """Many senders, a study that comes ten times, and a long series: exactly the results that there should be."""
    small = phantom(50, 128)
    with both("covid-ct-lite0") as (orthanc, server):
        fifty = copies(small, 2) + copies(small, 3)  # two studies, interleaved
        begun = time.monotonic()
        with ThreadPoolExecutor(50) as pool:
            list(pool.map(send, (fifty[start::50] for start in range(50))))
        print(f"50 associations at once: {len(fifty)} instances in {time.monotonic() - begun:.1f} s")
        again = copies(small, 4)
        for _ in range(10):
            send(again)
        copied = -(-slices // len(images))
        long = [one for number in range(copied) for one in copies(images, number + 5)][:slices]
        for number, one in enumerate(long):
            one.StudyInstanceUID, one.SeriesInstanceUID = long[0].StudyInstanceUID, long[0].SeriesInstanceUID
            one.FrameOfReferenceUID = long[0].FrameOfReferenceUID
            one.ImagePositionPatient[2] = one.SliceLocation = float(number)
            one.InstanceNumber = number + 1
        begun = time.monotonic()
        send(long)
        print(f"a series of {slices}: received in {time.monotonic() - begun:.1f} s")
        begun = time.monotonic()
        uids = [made[0].StudyInstanceUID for made in (fifty[:50], fifty[50:], again, long)]
        wait(lambda: len(server.rows(Arrival)) == len(uids))
        wait(lambda: all(stage_of(server, one) == "sent" for one in uids))
        print(f"everything was answered and sent {time.monotonic() - begun:.1f} s later")
        studies = [server.rows(Study, Study.uid == one) for one in uids]
        reports = [current(orthanc, one) for one in uids]
    print(f"instances of the versions of each study: {[[one.files for one in found] for found in studies]}")
    print(f"reports of each in the archive, and those of them that are current: {reports}")
    expected = [[len(small)], [len(small)], [len(small)], [slices]]
    if [[one.files for one in found] for found in studies] != expected or set(reports) != {(1, 1)}:
        raise SystemExit("these are not the results that there should be")


def reception(folder: Path, repetitions: int) -> None:
    """The same sender, storescu, to the node and to storescp."""
    with both() as (_, _server), tempfile.TemporaryDirectory() as made:
        scp = subprocess.Popen(["storescp", "--fork", "+xs", "-od", made, "-aet", "GROUNDGLASS", "11113"])
        time.sleep(1)
        took: dict[str, list[float]] = {"Groundglass": [], "storescp": []}
        for number in range(repetitions):
            for one in folder.glob("*.dcm"):  # each time another study
                changed = pydicom.dcmread(one)
                changed.StudyInstanceUID = f"2.25.{number + 1}"
                changed.save_as(Path(made) / f"{one.stem}.send")
            files = sorted(map(str, Path(made).glob("*.send")))
            for name, port in (("Groundglass", NODE), ("storescp", 11113)):
                begun = time.monotonic()
                command = [
                    "storescu",
                    "-xs",
                    "-aet",
                    "STORESCU",
                    "-aec",
                    "GROUNDGLASS",
                    "127.0.0.1",
                    str(port),
                    *files,
                ]
                subprocess.run(command, check=True, env={**os.environ, "TCP_NODELAY": "1"})
                took[name].append(time.monotonic() - begun)
        scp.terminate()
        scp.wait()
    for name, seconds in took.items():
        each = ", ".join(f"{one:.2f}" for one in seconds)
        print(f"{name}: {len(files)} instances in {median(seconds):.2f} s ({each})")


def fuzz(count: int, seed: int) -> None:
    """Damaged messages and objects: the node must neither crash nor stop answering."""
    draw, images = random.Random(seed), phantom(6, 64)
    recorded = record(images[:2])
    with both() as (orthanc, server):
        assert server.process is not None
        before = psutil.Process(server.process.pid).memory_info().rss
        for _ in range(count):
            message = damaged(recorded, draw)
            with suppress(OSError), socket.create_connection(("127.0.0.1", NODE), timeout=5) as connection:
                connection.sendall(message)
                connection.settimeout(0.05)
                with suppress(OSError):
                    connection.recv(1000)
        assoc, statuses = associate(), Counter[Any]()
        for number in range(count // 5):
            image = copies(images[:1], number + 10)[0]
            raw = bytearray(image.PixelData)
            image.PixelData = bytes(raw[: draw.randrange(2, len(raw), 2)])
            for keyword in draw.sample(
                ("Rows", "StudyInstanceUID", "Modality", "RescaleSlope", "SOPClassUID"), 2
            ):
                with suppress(Exception):
                    image[keyword]._value = draw.choice(("", "x" * 200, "\\\\", "1.2.3"))
            with suppress(Exception):
                statuses[assoc.send_c_store(image).get("Status")] += 1
            if not assoc.is_established:
                assoc = associate()
        assoc.release()
        made = copies(images, 5)
        send(made)
        wait(lambda: server.rows(Arrival, Arrival.uid == made[0].StudyInstanceUID))
        wait(lambda: not [one for one in server.rows(Arrival) if one.state == "receiving"])
        log = (server.folder / "log").read_text()
        rss = psutil.Process(server.process.pid).memory_info().rss
        print(
            f"{count} damaged messages and {sum(statuses.values())} damaged objects (statuses {dict(statuses)})"
        )
        print(
            f"the node answers; {(rss - before) / 2**20:.0f} MB more; lines in its log: {len(log.splitlines())}"
        )
        print(f"tracebacks in its log: {log.count('Traceback')}; reports: {len(orthanc.find(Modality='SR'))}")


def record(images: Sequence[Dataset]) -> bytes:
    """Record the bytes of a sender: an association request and a C-STORE."""
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as pool:
        entity = AE("SCANNER")
        entity.acse_timeout = 2
        contexts = [build_context(CT_CLASSES[0], "1.2.840.10008.1.2.1")]
        asking = pool.submit(
            entity.associate, "127.0.0.1", listening.getsockname()[1], contexts, ae_title="GROUNDGLASS"
        )
        connection, _ = listening.accept()
        request = connection.recv(1 << 16)
        connection.close()
        asking.result()
    data = content(images[0])[-20000:]
    fragment = len(data).to_bytes(4, "big") + b"\x01\x02" + data
    return request + b"\x04\0" + len(fragment).to_bytes(4, "big") + fragment


def damaged(message: bytes, draw: random.Random) -> bytes:
    changed = bytearray(message)
    for _ in range(draw.choice((1, 3, 20))):
        changed[draw.randrange(min(len(changed), draw.choice((12, 200, len(changed)))))] = draw.randrange(256)
    return bytes(changed[: draw.choice((len(changed), draw.randrange(1, len(changed))))])


def main() -> None:
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("speed", "kills", "down", "many", "reception", "fuzz"))
    parser.add_argument("--series", type=Path, help="a folder with the DICOM files of a CT series")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--slices", type=int, default=600, help="of the long series of `many`")
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    if given.what in ("speed", "many", "reception") and given.series is None:
        parser.error("name a series with --series")
    if given.what == "speed":
        speed(series(given.series), given.repetitions)
    elif given.what == "kills":
        kills(given.count, given.seed)
    elif given.what == "down":
        down(given.seconds, given.count)
    elif given.what == "many":
        many(series(given.series), given.slices)
    elif given.what == "reception":
        reception(given.series, given.repetitions)
    else:
        fuzz(given.count, given.seed)


if __name__ == "__main__":
    main()
