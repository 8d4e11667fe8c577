"""Start the server's workers, stop them at their time and memory limits, and replace them."""

import json
import logging
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from groundglass.node.config import MB
from groundglass.serve.config import WorkerConfig
from groundglass.store import queue
from groundglass.store.database import Database

log = logging.getLogger(__name__)

LOOK = 0.1
"""Seconds between two checks of the workers' memory; their time is checked every tenth time."""
LONGEST_PAUSE = 60.0


@dataclass
class Running:
    """A worker process.

    Attributes
    ----------
    owner
        Its name in the queue, new for each process.
    ready
        Set once its detector is loaded.
    """

    process: subprocess.Popen[bytes]
    owner: str
    started: float = field(default_factory=time.monotonic)
    ready: threading.Event = field(default_factory=threading.Event)

    def rss(self) -> int:
        """Its memory in bytes; 0 once it has ended."""
        with suppress(psutil.Error):
            return int(psutil.Process(self.process.pid).memory_info().rss)
        return 0


class Workers:
    """Starts worker processes and keeps the configured number of them alive.

    Parameters
    ----------
    database, data, url
        The server's database and data folder, and the database's URL.
    bundles
        The location of each bundle, by name.
    config
        Number and limits of the workers.
    """

    def __init__(
        self,
        database: Database,
        data: Path,
        url: str | None,
        bundles: Mapping[str, str],
        config: WorkerConfig,
    ) -> None:
        self._database, self._config = database, config
        self._settings = {"data": str(data), "url": url, "bundles": dict(bundles)}
        self._running: list[Running] = []
        self._over = threading.Event()
        self._failures = 0
        self._thread = threading.Thread(target=self._watch, name="workers", daemon=True)

    def start(self) -> None:
        """Start the processes, and the thread that watches them."""
        self._running = [self._start() for _ in range(self._config.processes)]
        self._thread.start()

    def stop(self) -> None:
        """Stop the processes; their jobs are queued again."""
        self._over.set()
        self._thread.join()
        for worker in self._running:
            worker.process.kill()
            worker.process.wait()
        queue.recover(self._database)

    @property
    def ready(self) -> int:
        """The number of workers that are alive and have loaded their detector."""
        return sum(one.ready.is_set() and one.process.poll() is None for one in self._running)

    @property
    def memory(self) -> int:
        """Memory of all workers in bytes."""
        return sum(one.rss() for one in self._running)

    def _start(self) -> Running:
        owner = secrets.token_hex(8)
        process = subprocess.Popen(
            [sys.executable, "-m", "groundglass.serve.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        if (
            process.stdin is not None
        ):  # the pipe stays open: when it closes, the worker knows that the server is gone
            process.stdin.write(json.dumps({**self._settings, "owner": owner}).encode() + b"\n")
            process.stdin.flush()
        worker = Running(process, owner)
        threading.Thread(target=self._await, args=(worker,), daemon=True).start()
        return worker

    def _await(self, worker: Running) -> None:
        if worker.process.stdout is not None and worker.process.stdout.readline():
            self._failures = 0
            worker.ready.set()

    def _watch(self) -> None:
        looks = 0
        while not self._over.wait(LOOK):
            looks += 1
            try:
                for place, worker in enumerate(self._running):
                    if worker.process.poll() is not None:
                        self._replace(place, worker)
                    elif worker.rss() > self._config.memory_limit_mb * MB:
                        limit = f"{self._config.memory_limit_mb:.0f} MB of memory"
                        self._end(worker, f"the study needs more than {limit}")
                    elif looks % 10 == 0 and self._too_long(worker):
                        self._end(worker, f"the study took more than {self._config.time_limit:.0f} seconds")
            except Exception as error:  # such as a database that is briefly unreachable
                log.warning("the workers could not be monitored (%s); trying again", type(error).__name__)
                self._over.wait(1)

    def _too_long(self, worker: Running) -> bool:
        job = queue.running(self._database, worker.owner)
        return job is not None and time.time() - job[1] > self._config.time_limit

    def _end(self, worker: Running, problem: str) -> None:
        """Stop a worker and mark its study as failed; the next check replaces the worker."""
        job = queue.running(self._database, worker.owner)
        worker.process.kill()
        worker.process.wait()
        if job is not None:
            queue.fail(self._database, job[0], problem, "send fewer slices, or ask for a higher limit")
            log.warning("job %d was stopped at its limit", job[0].job)

    def _replace(self, place: int, worker: Running) -> None:
        """Replace a process that has ended, after failures only after a pause."""
        if not worker.ready.is_set():
            pause = min(LONGEST_PAUSE, 2.0**self._failures)
            if time.monotonic() - worker.started < pause:
                return
            self._failures += 1
            log.error("a worker could not start; trying again")
        queue.lost(self._database, worker.owner)
        self._running[place] = self._start()
