"""An Orthanc of the tests' own, in a network namespace that nobody else can reach."""

import ctypes
import fcntl
import json
import os
import secrets
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

REQUIRED = "GROUNDGLASS_TEST_ORTHANC"
"""Where this is set, as in continuous integration, a missing Orthanc is a failure."""
PLUGINS = Path("/usr/share/orthanc/plugins")
NEW_NETWORK = 0x40000000
"""CLONE_NEWNET of Linux."""
HTTP, DIMSE, NODE = 18042, 14242, 11112


def program() -> str:
    """Where Orthanc is; skips the test if it, its DICOMweb plugin or the right to make a namespace is missing."""
    found = shutil.which("Orthanc") or shutil.which("/usr/sbin/Orthanc")
    why = ""
    if found is None or not (PLUGINS / "libOrthancDicomWeb.so").exists():
        why = "Orthanc with its DICOMweb plugin is not installed"
    elif os.geteuid() != 0:
        why = "only root can make the network namespace in which Orthanc runs"
    if why:
        (pytest.fail if os.environ.get(REQUIRED) else pytest.skip)(why)
    return str(found)


@contextmanager
def namespace() -> Iterator[None]:
    """Put this thread and its children into a network namespace that has only a loopback address."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    if libc.unshare(NEW_NETWORK) != 0:
        os.close(before)
        (pytest.fail if os.environ.get(REQUIRED) else pytest.skip)("network namespaces are not allowed here")
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            fcntl.ioctl(one, 0x8914, struct.pack("16sh", b"lo", 1 | 64))  # SIOCSIFFLAGS: up and running
        yield
    finally:
        libc.setns(before, NEW_NETWORK)
        os.close(before)


def settings(folder: Path, password: str) -> dict[str, Any]:
    """What most tests configure."""
    node = {"AET": "GROUNDGLASS", "Host": "127.0.0.1", "Port": NODE}
    allowed = dict.fromkeys(("AllowGet", "AllowMove", "AllowFind", "AllowStore"), True)
    return {
        "StorageDirectory": str(folder),
        "IndexDirectory": str(folder),
        "HttpPort": HTTP,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {"gg": password},
        "DicomAet": "ORTHANC",
        "DicomPort": DIMSE,
        "DicomCheckCalledAet": True,
        "DicomAlwaysAllowStore": False,
        "DicomCheckModalityHost": True,
        "DicomModalities": {"gg": {**node, **allowed}},
        "OverwriteInstances": False,
        "Plugins": [str(PLUGINS / name) for name in ("libOrthancDicomWeb.so", "libOrthancGdcm.so")],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }


@dataclass
class Orthanc:
    """An Orthanc that runs in a folder, in which it finds ``orthanc.json``."""

    folder: Path
    binary: str
    password: str
    http: int = HTTP
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(
                [self.binary, "orthanc.json"],
                cwd=self.folder,
                env={**os.environ, "TCP_NODELAY": "1"},
                stdout=log,
                stderr=log,
            )
        end = time.monotonic() + 60
        while True:
            try:
                self.get("/system")
                return
            except requests.ConnectionError:
                assert time.monotonic() < end
                assert self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
                time.sleep(0.1)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def get(self, path: str) -> Any:
        answer = requests.get(self.url + path, auth=("gg", self.password), timeout=60)
        answer.raise_for_status()
        return answer.json()

    def content(self, path: str) -> bytes:
        answer = requests.get(self.url + path, auth=("gg", self.password), timeout=60)
        answer.raise_for_status()
        return answer.content

    def find(self, level: str = "Instance", **query: str) -> list[str]:
        """The ids of the resources with these attributes."""
        return list(self.post("/tools/find", {"Level": level, "Query": query}))

    def post(self, path: str, body: Any) -> Any:
        answer = requests.post(self.url + path, json=body, auth=("gg", self.password), timeout=60)
        answer.raise_for_status()
        return answer.json()

    def clear(self) -> None:
        for one in self.get("/patients"):
            requests.delete(f"{self.url}/patients/{one}", auth=("gg", self.password), timeout=60)


@contextmanager
def running(folder: Path) -> Iterator[Orthanc]:
    """An Orthanc with an empty archive."""
    binary = program()
    with namespace():
        orthanc = Orthanc(folder, binary, secrets.token_hex(8))
        (folder / "orthanc.json").write_text(json.dumps(settings(folder, orthanc.password)))
        orthanc.start()
        try:
            yield orthanc
        finally:
            orthanc.stop()
