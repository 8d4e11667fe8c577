"""A worker: a process that keeps its detectors loaded and answers one study after the other.

The server starts it as ``python -m groundglass.serve.worker`` (see groundglass.serve.workers) and writes its
settings, one line of JSON, to its standard input. When that input ends, the server is gone, and the worker
exits too.
"""

import json
import logging
import os
import shutil
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from groundglass.commands.study import Outputs, sweep, warm_up
from groundglass.detect.detector import Detector
from groundglass.errors import BundleError, GroundglassError, ScanError, place_of
from groundglass.report.pdf import need_pdf
from groundglass.scan.studies import key_of
from groundglass.serve.answer import Answering, Several, answer
from groundglass.store import queue
from groundglass.store.database import Database
from groundglass.store.history import find, sent_before
from groundglass.store.intake import Wanted, divide
from groundglass.store.queue import Claim
from groundglass.store.tables import BY_DICOM, Study
from groundglass.store.upload import FILES, RESULTS, STUDIES, RefusedError

log = logging.getLogger("groundglass.serve.worker")  # __name__ is "__main__" in the process

IDLE = 0.2
"""Seconds between two checks of an empty queue."""
SHOWN = 0.5
"""Seconds between two updates of the progress."""
READY = "ready"
"""The line that a worker prints when its detector is loaded."""


class Worker:
    """Answers studies.

    Parameters
    ----------
    data
        The server's data folder.
    url
        The database's URL; None for SQLite in the data folder.
    owner
        This worker's name in the queue.
    bundles
        The location of each available bundle, by name; the first one is loaded at once.
    """

    def __init__(self, data: Path, url: str | None, owner: str, bundles: dict[str, str]) -> None:
        self.data, self.owner, self.bundles = data, owner, bundles
        self.database = Database.of(data, url)
        self.key = key_of(data)
        self._detectors: dict[str, Detector] = {}
        self._detector(next(iter(bundles)))
        warm_up(Outputs())
        self.pdf = _can_write_pdf()

    def run(self) -> None:
        """Answer studies forever."""
        while True:
            if not self.one():
                time.sleep(IDLE)

    def one(self) -> bool:
        """Answer the study that has waited longest; False if none is waiting."""
        lease = queue.claim(self.database, self.owner)
        if lease is None:
            return False
        try:
            self._answer(lease)
        except ScanError as error:
            queue.fail(self.database, lease, error.problem, error.remedy)
        except BundleError:
            queue.fail(
                self.database, lease, "its bundle cannot be loaded", "send it again with another bundle"
            )
        except (GroundglassError, OSError):
            log.warning("job %d: the results could not be written; trying again later", lease.job)
            queue.postpone(self.database, lease, "the results could not be written", "free disk space")
        except MemoryError:
            queue.fail(
                self.database, lease, "the study needs more memory than is available", "send fewer slices"
            )
        except Exception as error:
            where = place_of(error)
            log.error("job %d: %s", lease.job, where)
            queue.fail(self.database, lease, f"an error in Groundglass ({where})", "report it")
        return True

    def _answer(self, lease: Claim) -> None:
        entry = find(self.database, lease.study)
        if entry is None:
            return
        study, folder = entry.study, self.data / STUDIES / lease.study
        sweep(folder)
        before = sent_before(self.database, study.id)
        by_dicom = bool(study.options.get(BY_DICOM))
        later: list[Callable[[Path], None]] = []  # DICOM results are sent without waiting for the PDF
        with _renewing(self.database, lease) as progress:
            how = Answering(
                self._detector(study.bundle),
                study.key,
                self.key,
                anonymise=bool(study.options.get("anonymise")),
                pdf=self.pdf,
                when=datetime.fromtimestamp(study.received),
                replaces=None if before is None else self._results(before).absolute() / "sr.dcm",
                progress=progress,
                identify=lambda person: queue.identify(self.database, lease, **person),
                later=later if by_dicom else None,
            )
            found = answer(folder / FILES, self._results(study.id), how)
            columns = self._divided(study, found) if isinstance(found, Several) else found
        if not queue.finish(self.database, lease, columns) and find(self.database, lease.study) is None:
            shutil.rmtree(folder, ignore_errors=True)  # the study has been deleted in the meantime
            return
        for write in later:
            try:
                write(self._results(study.id))
            except (GroundglassError, OSError):
                log.warning("job %d: its PDF could not be written", lease.job)

    def _results(self, study: str) -> Path:
        return self.data / STUDIES / study / RESULTS

    def _divided(self, study: Study, found: Several) -> dict[str, Any]:
        wanted = Wanted(study.bundle, study.bundle_key, study.options)
        try:
            return {"divided_into": divide(self.database, self.data, study, found.parts, wanted)}
        except RefusedError as error:
            raise GroundglassError(str(error)) from error

    def _detector(self, name: str) -> Detector:
        if name not in self._detectors:
            if name not in self.bundles:
                raise BundleError(f"{name}: is not among the server's bundles")
            self._detectors[name] = Detector.load(self.bundles[name])
        return self._detectors[name]


def _can_write_pdf() -> bool:
    try:
        need_pdf()
    except GroundglassError as error:
        log.warning("reports are not written as PDF: %s", error)
        return False
    return True


@contextmanager
def _renewing(database: Database, lease: Claim) -> Iterator[Any]:
    """Renew a lease in a thread; yields a function that records the slices read and the number of all slices."""
    now, over = [0, 0], threading.Event()

    def renew() -> None:
        entered, at = [0, 0], time.monotonic()
        while not over.wait(SHOWN):
            if now != entered or time.monotonic() - at > queue.LEASE / 3:
                entered, at = list(now), time.monotonic()
                try:
                    queue.renew(database, lease, *entered)
                except Exception as error:
                    log.warning("job %d: its lease was not renewed (%s)", lease.job, type(error).__name__)

    def progress(done: int, total: int) -> None:
        now[:] = done, total

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield progress
    finally:
        over.set()
        thread.join()


def _end_with_the_server() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def main() -> None:
    """Run a worker with the settings on standard input."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C is handled by the server, which then stops its workers
    warnings.simplefilter("ignore")  # warnings quote header values
    logging.basicConfig(format="%(levelname)s %(message)s", level=logging.CRITICAL)
    logging.getLogger("groundglass.serve").setLevel(logging.WARNING)
    settings = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_the_server, daemon=True).start()
    worker = Worker(Path(settings["data"]), settings["url"], settings["owner"], settings["bundles"])
    print(READY, flush=True)
    worker.run()


if __name__ == "__main__":
    main()
