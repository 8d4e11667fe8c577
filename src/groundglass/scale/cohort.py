"""Answer the studies of a cohort with Ray workers that keep their detector loaded, on one machine or a cluster.

Ray places and starts the workers; each free worker gets the next study. Answers and files are the same as
those of ``groundglass predict`` without workers (groundglass.commands.study.begin_study). Workers keep no
state: a study counts as done once its folder is in place.
"""

import io
import logging
import os
import socket
import tempfile
import threading
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import psutil

os.environ.setdefault(
    "RAY_USAGE_STATS_ENABLED", "0"
)  # otherwise Ray sends usage statistics to its developers
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
from ray.exceptions import RayError

from groundglass import __version__
from groundglass.bundle.engine import limit_threads
from groundglass.commands.study import Making, Outcome, StudyAnswer, Todo, begin_study, warm_up
from groundglass.detect.detector import Detector
from groundglass.errors import GroundglassError, ScanError, count_of
from groundglass.progress import rated
from groundglass.scale.remote import Remote
from groundglass.scan.studies import Study

log = logging.getLogger(__name__)

MB = 1_000_000
LOOK = 0.1
"""Seconds between two checks of a worker's memory and time."""
GRACE = 30.0
"""Seconds past its time limit that a worker has to stop by itself before it is killed."""
TRIES = 2
"""Number of attempts for a study whose worker ends without an answer or cannot write its results."""
START = 300.0
"""Seconds that the first worker may take to be ready."""
OBJECTS = 500 * MB
"""Shared memory of a Ray instance started for one run; it holds only the detector."""


@dataclass(frozen=True)
class Limits:
    """The limits of one study.

    Attributes
    ----------
    seconds
        Time in seconds after which it is stopped.
    memory_mb
        Memory of its worker at which it is stopped. Ray places only as many workers on a machine as fit in
        its memory.
    """

    seconds: float = 900.0
    memory_mb: float = 3000.0


class _StoppedError(ScanError):
    """A study reached a limit; its worker is still busy with it and must be ended."""


def set_up(cores: int, here: Path) -> None:
    """Prepare a process as a worker with this many cores, for a command that runs in the folder ``here``."""
    warnings.simplefilter("ignore")  # warnings quote header values, and Ray writes them to its logs
    logging.disable(logging.CRITICAL)
    with suppress(OSError):
        os.chdir(here)
    limit_threads(cores)
    cv2.setNumThreads(cores)


class _Worker:
    """A Ray actor that holds a detector and answers one study after the other."""

    def __init__(
        self, shared: list[Any], results: Path | str | None, cores: int, limits: Limits, here: Path
    ) -> None:
        version, detector = shared
        if version != __version__:
            raise GroundglassError(
                f"a machine of the cluster has Groundglass {__version__}, this one {version}; install the same"
            )
        set_up(cores, here)
        self._detector: Detector = ray.get(detector)
        self._remote = Remote(results) if isinstance(results, str) else None
        self._folder = Path(tempfile.mkdtemp()) if isinstance(results, str) else results
        self._limits = limits
        self._process = psutil.Process()

    def ready(self) -> str:
        """The id of its machine; returns once the detector is loaded."""
        return str(ray.get_runtime_context().get_node_id())

    def answer(self, study: Study, making: Making) -> Outcome:
        """Answer a study and write its results; never raises."""
        done: Future[Outcome] = Future()
        until = time.monotonic() + self._limits.seconds
        threading.Thread(target=self._answer, args=(study, making, done), daemon=True).start()
        while True:
            with suppress(TimeoutError):
                return done.result(LOOK)
            if self._process.memory_info().rss > self._limits.memory_mb * MB:
                return _too_large(study, self._limits)
            if time.monotonic() > until:
                return _too_long(study, self._limits)

    def _answer(self, study: Study, making: Making, done: "Future[Outcome]") -> None:
        warm_up(making.outputs)
        with ThreadPoolExecutor(1) as pool:
            outcome = begin_study(study, self._folder, self._detector, making, pool).result()
        if self._remote is not None and self._folder is not None and isinstance(outcome, StudyAnswer):
            started = time.perf_counter()
            try:
                self._remote.put(self._folder / study.name)
                outcome.seconds["write"] += time.perf_counter() - started
            except GroundglassError as error:
                outcome = error
        done.set_result(outcome)


def _too_large(study: Study, limits: Limits) -> _StoppedError:
    problem = f"needs more than {limits.memory_mb:.0f} MB of memory, so it was stopped"
    return _StoppedError(study.source, problem, "allow more with --memory-limit")


def _too_long(study: Study, limits: Limits) -> _StoppedError:
    problem = f"took more than {limits.seconds:.0f} seconds, so it was stopped"
    return _StoppedError(study.source, problem, "allow more with --time-limit")


@dataclass(frozen=True)
class Workers:
    """Answers studies with workers on this machine or a Ray cluster; see groundglass.commands.study.Crew.

    Attributes
    ----------
    number
        Number of workers; None for one per core.
    address
        The cluster's address, or ``auto``; None for this machine only.
    limits
        The limits of each study.
    results
        The address to which results are copied (groundglass.scale.remote); None to leave them in their folder.
    """

    number: int | None = None
    address: str | None = None
    limits: Limits = field(default_factory=Limits)
    results: str | None = None

    def __call__(
        self, detector: Detector, folder: Path | None, todo: Todo
    ) -> Iterator[tuple[Study, Outcome]]:
        """Answer studies, and yield each outcome as soon as it is known.

        If a worker ends without an answer, its study is tried once more. The loss of a machine does not count
        as an attempt. A worker that cannot write results gets no further studies.

        Raises
        ------
        GroundglassError
            If there is no such cluster, or if no worker can start or write.
        """
        if not todo:
            return
        with connected(self.address, self.number):
            yield from _Crew(self, detector, folder, todo).run()


@contextmanager
def connected(address: str | None, number: int | None) -> Iterator[None]:
    """Connect to Ray, which is started if there is no address; an existing connection is used.

    Ray prints a message for each worker that ends, even if it was ended on purpose; this would mix with results.
    """
    if ray.is_initialized():
        with redirect_stdout(io.StringIO()):
            yield
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    try:
        if address is None:
            here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
            cores = max(here or 1, number or 1)
            own: dict[str, Any] = {
                "num_cpus": cores,
                "include_dashboard": False,
                "object_store_memory": OBJECTS,
            }
            ray.init("local", **own, **quiet)
        else:
            _reach(address)
            ray.init(address, **quiet)
    except (OSError, RuntimeError, ValueError, RayError) as error:
        where = "Ray cannot be started" if address is None else f"{address}: no Ray cluster answers"
        reason = str(error).strip().partition("\n")[0]
        raise GroundglassError(f"{where} ({reason}); start one with `ray start --head`") from error
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Raise OSError if nothing listens at ``HOST:PORT``; Ray itself would wait for minutes."""
    host, _, port = address.rpartition(":")
    if port.isdecimal() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=10).close()


@dataclass
class _Task:
    """A worker's current task: answering ``item``, or starting or waiting if that is None."""

    worker: Any
    node: str = ""
    item: tuple[Study, Making] | None = None
    started: float = field(default_factory=time.monotonic)


class _Crew:
    """The workers of one run, and the studies waiting for them."""

    def __init__(self, workers: Workers, detector: Detector, folder: Path | None, todo: Todo) -> None:
        self.limits = workers.limits
        self.waiting = deque(todo)
        self.tries: Counter[str] = Counter()
        self.busy: dict[Any, _Task] = {}
        self.idle: list[_Task] = []
        number, cores = _places(workers.number, self.limits)
        self.total, number = len(todo), min(number, len(todo))
        # Inside a list, the detector is loaded only after the number of threads is limited.
        shared = [__version__, ray.put(detector)]
        kind: Any = ray.remote(_Worker)
        actor = kind.options(num_cpus=cores, memory=int(self.limits.memory_mb * MB))
        place = workers.results or (None if folder is None else folder.absolute())
        self.hire: Callable[[], Any] = lambda: actor.remote(shared, place, cores, self.limits, Path.cwd())
        self.failed_starts = 0
        log.info("%s with %s each", count_of(number, "worker"), count_of(cores, "core"))
        for _ in range(number):
            self._start()

    def run(self) -> Iterator[tuple[Study, Outcome]]:
        """Yield outcomes until none is missing."""
        with rated("studies", self.total) as advance:
            while self.waiting or any(task.item for task in self.busy.values()):
                while self.waiting and self.idle:
                    free, item = self.idle.pop(), self.waiting.popleft()
                    self.busy[free.worker.answer.remote(*item)] = _Task(free.worker, free.node, item)
                finished, _ = ray.wait(list(self.busy), timeout=1)
                for ref in finished:
                    for outcome in self._finished(ref):
                        advance(1)
                        yield outcome
                for outcome in self._overdue():
                    advance(1)
                    yield outcome

    def _start(self) -> None:
        worker = self.hire()
        self.busy[worker.ready.remote()] = _Task(worker)

    def _finished(self, ref: Any) -> Iterator[tuple[Study, Outcome]]:
        task = self.busy.pop(ref)
        try:
            answer = ray.get(ref)
        except RayError as error:
            yield from self._lost(task, error)
            return
        if task.item is None:
            self.failed_starts = 0
            self.idle.append(_Task(task.worker, answer))
        elif isinstance(answer, _StoppedError):
            self._replace(task)
            yield task.item[0], answer
        elif isinstance(answer, GroundglassError) and not isinstance(answer, ScanError):
            yield from self._cannot_write(task, task.item, answer)
        else:
            self.idle.append(_Task(task.worker, task.node))
            yield task.item[0], answer

    def _lost(self, task: _Task, error: RayError) -> Iterator[tuple[Study, Outcome]]:
        """Handle the end of a worker: start another one, and retry its study or report it."""
        if task.item is None:
            self.failed_starts += 1
            if self.failed_starts > TRIES:
                raise _not_started(error) from error
        elif not _is_alive(task.node):
            log.warning("a machine was lost; its study moves to another machine")
            self.waiting.appendleft(task.item)
        elif self._again(task.item):
            log.warning("a worker ended without an answer; its study is tried again")
        else:
            problem = f"its worker ended {TRIES} times without an answer, as happens when memory runs out"
            yield task.item[0], ScanError(task.item[0].source, problem, "predict it alone, without --workers")
        self._replace(task)

    def _cannot_write(
        self, task: _Task, item: tuple[Study, Making], error: GroundglassError
    ) -> Iterator[tuple[Study, Outcome]]:
        """Stop giving studies to a worker without disk space; another worker retries its study, or it is
        reported."""
        ray.kill(task.worker)
        if not self.busy and not self.idle:
            raise error
        log.warning("a worker cannot write its results and gets no more studies: %s", error)
        if not self._again(item):
            yield item[0], ScanError(item[0].source, f"its results could not be written: {error}")

    def _overdue(self) -> Iterator[tuple[Study, Outcome]]:
        """Stop workers that did not notice that they had reached the time limit."""
        now = time.monotonic()
        late = self.limits.seconds + GRACE
        for ref in [ref for ref, task in self.busy.items() if task.item and now - task.started > late]:
            task = self.busy.pop(ref)
            self._replace(task)
            if task.item is not None:
                yield task.item[0], _too_long(task.item[0], self.limits)
        if self.busy and all(not task.item and now - task.started > START for task in self.busy.values()):
            raise _not_started(None)

    def _replace(self, task: _Task) -> None:
        with suppress(RayError):
            ray.kill(task.worker)
        if len(self.waiting) > len(self.idle):
            self._start()

    def _again(self, item: tuple[Study, Making]) -> bool:
        """Queue a study once more, unless its attempts are used up."""
        self.tries[item[0].name] += 1
        if self.tries[item[0].name] >= TRIES:
            return False
        self.waiting.append(item)
        return True


def _places(wanted: int | None, limits: Limits) -> tuple[int, int]:
    """The number of workers that fit on the machines, at most the number wanted, and the cores of each."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    total = int(sum(machine.get("CPU", 0) for machine in machines))
    cores = max(1, total // wanted) if wanted else 1
    memory = limits.memory_mb * MB
    fit = sum(int(min(one.get("CPU", 0) // cores, one.get("memory", 0) // memory)) for one in machines)
    if not fit:
        raise GroundglassError(
            f"no machine has a free core and {limits.memory_mb:.0f} MB of memory for a worker; lower --memory-limit"
        )
    if wanted and fit < wanted:
        log.warning(
            "%s of %d fit, with %d cores and %.0f MB each (--memory-limit)",
            count_of(fit, "worker"), wanted, cores, limits.memory_mb,
        )  # fmt: skip
    return min(wanted or fit, fit), cores


def _is_alive(node: str) -> bool:
    """Whether a machine still belongs to the cluster."""
    return any(one["NodeID"] == node and one["Alive"] for one in ray.nodes())


def _not_started(error: RayError | None) -> GroundglassError:
    if isinstance(cause := getattr(error, "cause", None), GroundglassError):
        return cause
    reason = "it took too long" if error is None else str(error).strip().splitlines()[-1]
    return GroundglassError(
        f"no worker could be started ({reason}); is Groundglass installed on each machine?"
    )
