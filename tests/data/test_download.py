import hashlib
import io
import socket
import stat
import struct
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest
from PIL import Image

from groundglass.data import datasets, folders, registry
from groundglass.data.download import DownloadError, fetch, unpack
from groundglass.data.manifest import read_manifest
from groundglass.errors import GroundglassError

CONTENT = bytes(range(256)) * 4000  # about 1 MB: several chunks
CUT = 700_000


class Server(ThreadingHTTPServer):
    """A real HTTP server on this machine, with the faults that a test asks for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.ranges = True
        self.faults: list[str] = []
        self.asked: list[tuple[str, str | None]] = []

    def handle_error(self, *args: object) -> None:
        pass  # a disconnected client is part of these tests

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers["Range"]
        self.server.asked.append((self.path, asked))
        fault = self.server.faults.pop(0) if self.server.faults else ""
        content = self.server.files.get(unquote(self.path.lstrip("/")))
        if fault == "busy" or content is None:
            self.send_error(503 if fault == "busy" else 404)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.server.ranges else 0
        if start >= len(content) > 0:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if fault:
            self.wfile.write(content[start:CUT])
        if fault == "reset":  # lingering for no time makes close() send a reset
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if not fault:
            self.wfile.write(content[start:])

    def log_message(self, *args: object) -> None:
        pass  # keeps the tests' output clean


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        running.files["data.zip"] = CONTENT
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def get(server: Server, path: Path, tries: int = 5) -> list[tuple[int, int | None]]:
    seen: list[tuple[int, int | None]] = []
    fetch(server.url + "data.zip", path, progress=lambda *at: seen.append(at), tries=tries, pause=0)
    return seen


def test_a_file_arrives_whole_with_its_progress(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "new" / "data.zip"
    seen = get(server, path)
    assert path.read_bytes() == CONTENT
    assert [file.name for file in path.parent.iterdir()] == ["data.zip"]
    assert seen == sorted(seen)
    assert seen[-1] == (len(CONTENT), len(CONTENT))


@pytest.mark.parametrize("fault", ["cut", "reset"])
def test_a_broken_connection_is_resumed(server: Server, tmp_path: Path, fault: str) -> None:
    server.faults = [fault]
    get(server, tmp_path / "data.zip")
    assert (tmp_path / "data.zip").read_bytes() == CONTENT
    (_, first), (_, second) = server.asked
    assert first is None
    if fault == "cut":  # a reset may discard what the client has not read yet
        assert int(second.removeprefix("bytes=").rstrip("-")) >= 500_000


def test_the_next_call_resumes_where_the_last_one_broke(server: Server, tmp_path: Path) -> None:
    server.faults = ["cut"]
    with pytest.raises(
        DownloadError, match=r"downloaded in 1 attempt \(the connection ended after .* of 1024000 bytes"
    ):
        get(server, tmp_path / "data.zip", tries=1)
    assert not (tmp_path / "data.zip").exists()
    kept = (tmp_path / "data.zip.part").stat().st_size
    seen = get(server, tmp_path / "data.zip")
    assert server.asked[-1] == ("/data.zip", f"bytes={kept}-")
    assert seen[0][0] > kept
    assert (tmp_path / "data.zip").read_bytes() == CONTENT


def test_a_server_without_ranges_starts_afresh(server: Server, tmp_path: Path) -> None:
    server.faults, server.ranges = ["cut"], False
    seen = get(server, tmp_path / "data.zip")
    assert (tmp_path / "data.zip").read_bytes() == CONTENT
    assert seen != sorted(seen)


def test_a_part_that_is_longer_than_the_file_is_dropped(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.zip.part").write_bytes(CONTENT + b"more")
    get(server, tmp_path / "data.zip")
    assert (tmp_path / "data.zip").read_bytes() == CONTENT


def test_an_empty_file_is_a_file(server: Server, tmp_path: Path) -> None:
    server.files["data.zip"] = b""
    get(server, tmp_path / "data.zip")
    assert (tmp_path / "data.zip").read_bytes() == b""


def test_a_busy_server_is_retried_and_a_missing_file_is_not(server: Server, tmp_path: Path) -> None:
    server.faults = ["busy", "busy"]
    get(server, tmp_path / "data.zip")
    assert len(server.asked) == 3
    with pytest.raises(DownloadError, match="the server answered 404 Not Found"):
        fetch(server.url + "nothing.zip", tmp_path / "nothing.zip", pause=0)
    assert len(server.asked) == 4


def test_a_missing_server_is_reported(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(DownloadError, match=r"could not be downloaded in 2 attempts .*refused"):
        fetch(f"http://127.0.0.1:{port}/x", tmp_path / "x", tries=2, pause=0)


def test_an_unknown_server_is_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="the server cannot be found; is there a network"):
        fetch("http://groundglass.invalid/x", tmp_path / "x", tries=2, pause=60)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_reported(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.zip.part").symlink_to("/dev/full")
    with pytest.raises(GroundglassError, match="the disk is full"):
        get(server, tmp_path / "data.zip")
    assert len(server.asked) == 1


def test_an_archive_becomes_its_folder(tmp_path: Path) -> None:
    archive = tmp_path / "CT_COVID.zip"
    with zipfile.ZipFile(archive, "w") as target:
        target.writestr("CT_COVID/a 1%.png", b"a")
        target.writestr("CT_COVID/deep/b.png", b"b")
        target.writestr("CT_COVID/.DS_Store", b"")
        target.writestr("__MACOSX/CT_COVID/._a.png", b"")
    unpack(archive, tmp_path / "CT_COVID")
    files = {file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*") if file.is_file()}
    assert files == {"CT_COVID.zip", "CT_COVID/a 1%.png", "CT_COVID/deep/b.png"}


def test_an_archive_without_a_folder_gets_one(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as target:
        target.writestr("1.png", b"a")
        target.writestr("2.png", b"b")
    unpack(tmp_path / "a.zip", tmp_path / "a")
    assert sorted(file.name for file in (tmp_path / "a").iterdir()) == ["1.png", "2.png"]


@pytest.mark.parametrize("name", ["../evil.png", "/evil.png", "a/../../evil.png", "C:/evil.png", "link"])
def test_an_archive_that_reaches_outside_is_refused(tmp_path: Path, name: str) -> None:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = (stat.S_IFLNK if name == "link" else stat.S_IFREG) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as target:
        target.writestr("good.png", b"")
        target.writestr(entry, b"/etc/passwd")
    with pytest.raises(DownloadError, match="is a link or points outside"):
        unpack(tmp_path / "a.zip", tmp_path / "a")
    assert [file.name for file in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize("damage", ["no zip", "truncated", "changed"])
def test_a_damaged_archive_leaves_nothing(tmp_path: Path, damage: str) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as target:
        target.writestr("a.png", b"x" * 1000)
        target.writestr("b.png", b"y" * 1000)
    content = archive.read_bytes()
    broken = {
        "no zip": b"<html>",
        "truncated": content[:-30],
        "changed": content.replace(b"yyyy", b"yzyy", 1),
    }
    archive.write_bytes(broken[damage])
    with pytest.raises(DownloadError, match="is not a complete zip archive"):
        unpack(archive, tmp_path / "a")
    assert [file.name for file in tmp_path.iterdir()] == ["a.zip"]


NAMES = {
    "COVID": ("2020.01.24.919183-p27-132.png", "2020.01.24.919183-p27-133.png", "x%0.png"),
    "NonCOVID": ("0.jpg", "1%0.jpg", "2 (1).png"),
}


@pytest.fixture
def published(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """Serve a tiny COVID-CT of three slices per class, with the pitfalls of the real one."""
    hashes = {}
    for kind, names in NAMES.items():
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as target:
            for number, name in enumerate(names):
                picture = io.BytesIO()
                Image.new("L", (40, 40), 10 * number + len(kind)).save(picture, "PNG")
                target.writestr(f"CT_{kind}/{name}", picture.getvalue())
                digest = hashlib.sha256(picture.getvalue()).hexdigest()
                hashes[f"Images-processed/CT_{kind}/{name}"] = digest
        server.files[f"Images-processed/CT_{kind}.zip"] = archive.getvalue()
        for part, name in zip(("train", "val", "test"), names, strict=True):
            server.files[f"Data-split/{kind}/{part}CT_{kind}.txt"] = f"{name}\r\n".encode()
    sheet = io.BytesIO()
    names = ["2020.01.24.919183-p27-132", "2020.01.24.919183-p27-133.png", "x%0.png", None]
    patients = ["Patient 1", "Patient 1", "Patient 2", None]
    pd.DataFrame({"File name": names, "Patient ID": patients, "Age": [4, 1, 9, 5]}).to_excel(
        sheet, index=False
    )
    server.files["COVID-CT-MetaInfo.xlsx"] = sheet.getvalue()
    table = pd.DataFrame({"image name": NAMES["NonCOVID"], "patient id": ["c0", "c1", "c2"]})
    server.files["NonCOVID-CT-MetaInfo.csv"] = table.to_csv(lineterminator="\r\n").encode()
    tiny = replace(
        registry.DATASETS["covid-ct"], classes={"covid": 3, "not covid": 3}, download_from=server.url
    )
    monkeypatch.setitem(registry.DATASETS, "covid-ct", tiny)
    monkeypatch.setattr(datasets, "hash_list", lambda dataset: hashes)
    return server


def test_get_downloads_checks_and_writes_the_manifest_once(published: Server) -> None:
    published.faults = ["", "cut"]
    seen = set()
    path = datasets.get("covid-ct", progress=lambda name, done, total: seen.add(name))
    assert path == folders.data_folder() / "covid-ct" / "manifest.csv"
    assert {"CT_COVID.zip", "CT_NonCOVID.zip", "valCT_COVID.txt"} < seen
    frame = read_manifest(path)
    assert frame.drop(columns=["path", "source"]).to_numpy().tolist() == [
        ["covid", "Patient 1", "train"],
        ["covid", "Patient 1", "val"],
        ["covid", "Patient 2", "test"],
        ["not covid", "c0", "train"],
        ["not covid", "c1", "val"],
        ["not covid", "c2", "test"],
    ]
    assert path.read_text().splitlines()[4].startswith("Images-processed/CT_NonCOVID/0.jpg,")
    requests, before = len(published.asked), path.read_bytes()
    assert datasets.get("covid-ct") == path
    assert (len(published.asked), path.read_bytes()) == (requests, before)
    assert not list(path.parent.rglob("*.zip")) + list(path.parent.rglob(".*"))


def test_a_changed_file_is_named_and_replaced_by_fetching_again(published: Server) -> None:
    folder = datasets.get("covid-ct").parent / "Images-processed" / "CT_COVID"
    (folder / "x%0.png").write_bytes(b"other")
    (folder / "2020.01.24.919183-p27-132.png").unlink()
    (folder / "stray.png").write_bytes(b"other")
    with pytest.raises(GroundglassError, match="files affected: 3") as caught:
        datasets.get("covid-ct")
    for problem in (
        "missing: {}/2020.01.24.919183-p27-132.png",
        "changed: {}/x%0.png",
        "not part of it: {}/stray",
    ):
        assert problem.format("Images-processed/CT_COVID") in str(caught.value)
    assert "groundglass data get covid-ct" in str(caught.value)
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    assert len(read_manifest(datasets.get("covid-ct"))) == 6


def test_a_failed_download_prints_the_steps_by_hand(published: Server) -> None:
    archive = published.files.pop("Images-processed/CT_COVID.zip")
    with pytest.raises(DownloadError, match="404 Not Found") as caught:
        datasets.get("covid-ct")
    assert f"1. Open {registry.DATASETS['covid-ct'].address}" in str(caught.value)
    assert str(folders.data_folder() / "covid-ct") in str(caught.value)
    assert folders.locate("covid-ct") is None
    published.files["Images-processed/CT_COVID.zip"] = b"<html>please log in</html>"
    with pytest.raises(DownloadError, match="is not a complete zip archive"):
        datasets.get("covid-ct")
    published.files["Images-processed/CT_COVID.zip"] = archive
    assert datasets.get("covid-ct").exists()
