"""The server under stress: kills, many uploads at once, hostile files, and a series beside the command line.

.venv/bin/python benchmarks/server.py kills
.venv/bin/python benchmarks/server.py uploads
.venv/bin/python benchmarks/server.py hostile
.venv/bin/python benchmarks/server.py series --series ../ct-series
"""

import argparse
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import httpx
import numpy as np
import psutil
from PIL import Image

from groundglass.phantom import make_phantom, random_lesions
from groundglass.phantom.dicom import write_phantom_dicom
from groundglass.phantom.write import write_phantom
from groundglass.serve.client import Client, ServerError

OWN = ("study", "patient", "made_from")
CONFIG = "upload: {free_disk_mb: 100}\naccess: {requests_per_minute: 6000}\n"


@dataclass
class Running:
    """A server process."""

    process: subprocess.Popen[str]
    url: str
    token: str

    def client(self) -> Client:
        return Client(self.url, self.token)

    def processes(self) -> list[psutil.Process]:
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]

    def kill(self, process: psutil.Process) -> None:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)


def start(folder: Path, port: int = 0, token: str = "", wait: bool = True) -> Running:
    (folder / "serve.yaml").write_text(CONFIG)
    command = [sys.executable, "-m", "groundglass", "serve", "--data", folder / "data"]
    process = subprocess.Popen(
        [*command, "--port", str(port), "--config", folder / "serve.yaml"],
        stdout=subprocess.PIPE,
        stderr=(folder / "log").open("a"),
        text=True,
    )
    assert process.stdout is not None
    found = re.search(r"http://\S+", process.stdout.readline())
    assert found, (folder / "log").read_text()
    token = token or process.stdout.readline().rpartition(" ")[2].strip()
    running = Running(process, found.group(), token)
    while wait and not httpx.get(f"{running.url}/api/v1/health", timeout=60).json()["workers"]:
        time.sleep(0.1)
    return running


@contextmanager
def server() -> Iterator[tuple[Running, Path]]:
    with tempfile.TemporaryDirectory(prefix="gg-server-") as folder:
        running = start(Path(folder))
        try:
            yield running, Path(folder)
        finally:
            running.process.terminate()
            running.process.wait()


def inputs(folder: Path, count: int) -> list[list[Path]]:
    """Files of small studies: volumes of DICOM, and slices as PNG."""
    studies = []
    for number in range(count):
        phantom = make_phantom(number, shape=(12, 128, 128), lesions=random_lesions(number, "covid"))
        if number % 3 == 0:
            write_phantom_dicom(phantom, folder / str(number))
            studies.append(sorted((folder / str(number)).iterdir()))
        else:
            path = write_phantom(phantom, folder / str(number), every=12)[0]
            studies.append([path])
    return studies


def compared(study: dict[str, Any]) -> tuple[Any, ...]:
    findings = {name: value for name, value in (study["findings"] or {}).items() if name not in OWN}
    return study["state"], json.dumps(findings, sort_keys=True), tuple(study["results"])


def kills(count: int, moments: int, seed: int) -> None:
    """Kill the server or the worker at random moments while studies are sent; compare with a run without kills."""
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as made, tempfile.TemporaryDirectory() as folder:
        studies = inputs(Path(made), count)
        with server() as (running, _), running.client() as client:
            expected = [compared(client.wait(client.send(files))) for files in studies]
        running = start(Path(folder))
        port, token, killed = int(running.url.rpartition(":")[2]), running.token, Counter[str]()
        acknowledged: dict[int, str] = {}
        over = threading.Event()

        def send(numbers: list[int]) -> None:
            for number in numbers:
                while number not in acknowledged:
                    with suppress(ServerError), running.client() as client:
                        acknowledged[number] = client.send(studies[number])
                    time.sleep(0.1)
                time.sleep(draw.random() * 0.5)

        with ThreadPoolExecutor(2) as pool:
            sending = [pool.submit(send, list(range(first, count, 2))) for first in (0, 1)]
            while sum(killed.values()) < moments:
                time.sleep(draw.uniform(0.1, 4))
                if draw.random() < 0.5:
                    workers = running.processes()[1:]
                    for worker in workers[:1]:
                        running.kill(worker)
                    killed["worker"] += bool(workers)
                else:
                    running.kill(psutil.Process(running.process.pid))
                    running.process.wait()
                    running = start(Path(folder), port, token, wait=False)
                    killed["server"] += 1
            for one in sending:
                one.result()
        over.set()
        with running.client() as client:
            found = [client.wait(acknowledged[number]) for number in range(count)]
            listed = [one["id"] for one in client.studies()]
        running.process.terminate()
        running.process.wait()
    differing = sum(compared(one) != wanted for one, wanted in zip(found, expected, strict=True))
    print(f"killed: {dict(killed)}; studies sent: {count}; acknowledged: {len(acknowledged)}")
    print(f"lost: {len(set(acknowledged.values()) - set(listed))}; twice: {len(listed) - len(set(listed))}")
    print(f"listed: {len(listed)}; results that differ from the undisturbed run: {differing}")


def uploads(count: int) -> None:
    """Send studies all at once, and ask for the server's health meanwhile."""
    with tempfile.TemporaryDirectory() as made, server() as (running, _):
        studies = inputs(Path(made), count)
        statuses: Counter[int] = Counter()
        waits: list[float] = []
        peak = 0
        over = threading.Event()

        def watch() -> None:
            nonlocal peak
            with httpx.Client(base_url=running.url) as health:
                while not over.wait(0.05):
                    began = time.perf_counter()
                    statuses[health.get("/api/v1/health").status_code] += 1
                    waits.append(time.perf_counter() - began)
                    with suppress(psutil.Error):
                        peak = max(peak, sum(one.memory_info().rss for one in running.processes()))

        def send(files: list[Path]) -> str:
            with running.client() as client:
                client._http.event_hooks["response"].append(
                    lambda answer: statuses.update([answer.status_code])
                )
                return str(client.wait(client.send(files))["state"])

        watching = threading.Thread(target=watch)
        watching.start()
        began = time.perf_counter()
        with ThreadPoolExecutor(count) as pool:
            states = Counter(pool.map(send, studies))
        seconds = time.perf_counter() - began
        over.set()
        watching.join()
    print(f"{count} uploads at once: {dict(states)} after {seconds:.1f} s; statuses: {dict(statuses)}")
    print(f"peak memory of server and worker: {peak / 2**30:.2f} GB")
    print(f"/health: median {median(waits) * 1000:.0f} ms, p99 {quantiles(waits, n=100)[98] * 1000:.0f} ms")


def hostile_files() -> Iterator[tuple[str, str, bytes]]:
    """Bombs, ways out of the folder, and damaged files: what it is, the file's name, and its bytes."""

    def packed(**files: bytes) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return buffer.getvalue()

    yield "ZIP of 1 GB of zeros", "a.zip", packed(a=bytes(1 << 30))
    yield (
        "ZIP of 4000 files of 1 MB of zeros",
        "a.zip",
        packed(**{str(n): bytes(1 << 20) for n in range(4000)}),
    )
    yield "ZIP of 10,000 files", "a.zip", packed(**{str(n): b"x" for n in range(10_000)})
    yield "ZIP within a ZIP", "a.zip", packed(**{"b.zip": packed(a=bytes(1 << 28))})
    yield "ZIP that leads out", "a.zip", packed(**{"../../../tmp/evil.dcm": b"x"})
    yield "ZIP with an absolute path", "a.zip", packed(**{"/tmp/evil.dcm": b"x"})
    yield "name that leads out", "../../../tmp/evil.png", b"x"
    header = bytearray()
    header += (
        (348).to_bytes(4, "little")
        + bytes(36)
        + b"".join(n.to_bytes(2, "little") for n in (3, 512, 512, 30000, 1, 1, 1, 1))
    )
    header += bytes(14) + (4).to_bytes(2, "little") + (16).to_bytes(2, "little") + bytes(2)
    header += np.array([1, 1, 1, 1, 0, 0, 0, 0, 352], "<f4").tobytes()
    header += bytes(344 - len(header)) + b"n+1\0" + bytes(4)
    press = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = press.compress(bytes(header)) + b"".join(press.compress(bytes(1 << 24)) for _ in range(256))
    yield "NIfTI of 4 GB of zeros, packed", "a.nii.gz", bomb + press.flush()
    buffer = io.BytesIO()
    Image.new("L", (30000, 30000)).save(buffer, "PNG")
    yield "PNG of 900 million pixels", "a.png", buffer.getvalue()
    with tempfile.TemporaryDirectory() as folder:
        write_phantom_dicom(make_phantom(1, shape=(3, 128, 128)), Path(folder))
        scan = next(Path(folder).iterdir()).read_bytes()
    draw = random.Random(0)
    for number in range(30):
        damaged = bytearray(scan[: draw.randrange(200, len(scan))])
        for _ in range(draw.randrange(1, 200)):
            damaged[draw.randrange(132, len(damaged))] = draw.randrange(256)
        yield f"damaged DICOM {number}", "a.dcm", bytes(damaged)
    for number in range(10):
        yield f"noise {number}", draw.choice(["a.png", "a.nii", "a.dcm", "a"]), draw.randbytes(50_000)


def hostile() -> None:
    """Send hostile files one after the other: how long until each is refused, and how much memory it takes."""
    slowest, most, answered = (0.0, ""), (0, ""), []
    with server() as (running, _), running.client() as client, tempfile.TemporaryDirectory() as made:
        plain = Path(made) / "plain.png"
        Image.new("L", (64, 64)).save(plain)
        client.wait(client.send([plain]))
        for what, name, content in hostile_files():
            before = {one.pid: one.memory_info().rss for one in running.processes()}
            peak, over = [0], threading.Event()

            def watch(before: dict[int, int] = before, peak: list[int] = peak, over: Any = over) -> None:
                while not over.wait(0.01):
                    for one in running.processes():
                        with suppress(psutil.Error):
                            grown = one.memory_info().rss - before.get(one.pid, 0)
                            peak[0] = max(peak[0], grown)

            watching = threading.Thread(target=watch)
            watching.start()
            began = time.perf_counter()
            answer = client._http.post("/studies", files={"files": (name, content)})
            refused = answer.status_code >= 400
            if not refused:
                study = client.wait(answer.json()["id"])
                refused = study["state"] == "failed"
                if not refused:
                    answered.append(f"{what}: {study['state']}, {study['verdict']}")
            seconds = time.perf_counter() - began
            over.set()
            watching.join()
            slowest, most = max(slowest, (seconds, what)), max(most, (peak[0], what))
            print(f"{what:40} {seconds:6.2f} s {peak[0] / 2**20:6.0f} MB  {answer.status_code}", flush=True)
    print(f"slowest: {slowest[0]:.2f} s ({slowest[1]}); most memory: {most[0] / 2**20:.0f} MB ({most[1]})")
    print(
        f"not refused: {answered or 'none'}; files outside the data folder: {Path('/tmp/evil.dcm').exists()}"
    )


def series(folder: Path, repetitions: int) -> None:
    """A series from the end of its upload to its findings, beside ``groundglass predict``, in turn."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    ours, theirs = [], []
    with server() as (running, _), running.client() as client:
        for _ in range(repetitions):
            with tempfile.TemporaryDirectory() as out:
                began = time.perf_counter()
                command = [sys.executable, "-m", "groundglass", "predict", folder, "-o", out]
                subprocess.run(command, check=True, capture_output=True)
                theirs.append(time.perf_counter() - began)
                (findings,) = Path(out).glob("*/findings.json")
                expected = json.loads(findings.read_text())
            began = time.perf_counter()
            study = client.send(files)
            sent = time.perf_counter()
            while (found := client.study(study))["state"] not in ("done", "failed"):
                time.sleep(0.05)
            ours.append(time.perf_counter() - sent)
            upload = sent - began
            same = {name: value for name, value in found["findings"].items() if name not in OWN}
            assert same == {name: value for name, value in expected.items() if name not in OWN}
            client.delete(study)
    ratio = median(a / b for a, b in zip(ours, theirs, strict=True))
    print(
        f"{len(files)} files; command line {median(theirs):.2f} s; warm server {median(ours):.2f} s after the"
    )
    print(f"end of the upload ({upload:.2f} s); ratio {ratio:.2f}; the findings are equal")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["kills", "uploads", "hostile", "series"])
    parser.add_argument("--count", type=int, help="studies")
    parser.add_argument("--moments", type=int, default=20, help="kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--series", type=Path)
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.1f}", flush=True)
    if options.what == "kills":
        kills(options.count or 40, options.moments, options.seed)
    elif options.what == "uploads":
        uploads(options.count or 100)
    elif options.what == "hostile":
        hostile()
    else:
        series(options.series, options.repetitions)


if __name__ == "__main__":
    main()
