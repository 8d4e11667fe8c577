"""Worker processes: their answers, their limits, and that other studies are not affected."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from serving import BUNDLE

from groundglass.serve.config import WorkerConfig
from groundglass.serve.workers import Workers
from groundglass.store.database import Database
from groundglass.store.history import Entry, find
from groundglass.store.intake import Wanted, accept
from groundglass.store.queue import claim
from groundglass.store.upload import Limits, Upload

LONG = 120.0


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Database, Path]]:
    data = tmp_path_factory.mktemp("data")
    database = Database.of(data)
    database.migrate()
    yield database, data
    database.close()


@pytest.fixture(scope="module")
def workers(database: tuple[Database, Path]) -> Iterator[Workers]:
    workers = Workers(*database, None, {BUNDLE: BUNDLE}, WorkerConfig())
    workers.start()
    wait(lambda: workers.ready == 1)
    yield workers
    workers.stop()


def wait(until: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG
    while not until():
        assert time.monotonic() < end
        time.sleep(0.02)


def send(database: tuple[Database, Path], seed: int) -> str:
    """The id of a new study of one slice."""
    with Upload(database[1], Limits(free_bytes=0)) as upload:
        pixels = np.random.default_rng(seed).integers(0, 255, (64, 64), dtype=np.uint8)
        buffer = BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        file = upload.file("slice.png")
        file.write(buffer.getvalue())
        file.close()
        return accept(database[0], upload, Wanted(BUNDLE, "key"))[0]


def ended(database: tuple[Database, Path], study: str) -> Entry:
    found: list[Entry] = []

    def over() -> bool:
        entry = find(database[0], study)
        assert entry is not None
        found[:] = [entry]
        return entry.study.state in ("done", "failed")

    wait(over)
    return found[0]


def test_a_worker_answers(workers: Workers, database: tuple[Database, Path]) -> None:
    entry = ended(database, send(database, 1))
    assert (entry.study.state, entry.attempts) == ("done", 1)
    assert entry.study.findings is not None
    assert workers.memory > 0


def test_a_killed_worker_is_replaced_and_its_study_answered(
    workers: Workers, database: tuple[Database, Path]
) -> None:
    worker = workers._running[0]
    os.kill(worker.process.pid, signal.SIGSTOP)
    study = send(database, 2)
    assert claim(database[0], worker.owner) is not None  # as if the worker had, before it was stopped
    os.kill(worker.process.pid, signal.SIGKILL)
    entry = ended(database, study)
    assert (entry.study.state, entry.attempts) == ("done", 2)
    assert workers._running[0].process.pid != worker.process.pid


@pytest.mark.parametrize(
    ("seed", "limit", "problem"),
    [
        (3, {"time_limit": 0.4}, "the study took more than 0 seconds"),
        (4, {"memory_limit_mb": 10}, "the study needs more than 10 MB of memory"),
    ],
)
def test_a_study_over_its_limit_is_stopped_and_listed_and_the_rest_goes_on(
    workers: Workers,
    database: tuple[Database, Path],
    seed: int,
    limit: dict[str, float],
    problem: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = workers._running[0]
    os.kill(worker.process.pid, signal.SIGSTOP)
    study, other = send(database, seed), send(database, seed + 10)
    assert claim(database[0], worker.owner) is not None
    with monkeypatch.context() as patched:
        patched.setattr(workers, "_config", WorkerConfig(**limit))  # type: ignore[arg-type]
        entry = ended(database, study)
    assert (entry.study.state, entry.study.problem) == ("failed", problem)
    assert worker.process.poll() is not None
    assert ended(database, other).study.state == "done"


def test_a_worker_ends_with_its_server(database: tuple[Database, Path]) -> None:
    workers = Workers(*database, None, {BUNDLE: BUNDLE}, WorkerConfig())
    worker = workers._start()
    assert worker.process.stdin is not None
    worker.process.stdin.close()
    assert worker.process.wait(LONG) == 0
