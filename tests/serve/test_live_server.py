"""``groundglass serve`` as its users run it: the first start, the document's commands, the client, and kills."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from serving import BUNDLE, CANARIES, FILE_CANARY

from groundglass.phantom import make_phantom
from groundglass.phantom.volumes import write_phantom_nifti
from groundglass.serve.client import Client, ServerError
from groundglass.serve.config import ServeConfig, load_config

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs" / "server.md").read_text("utf-8")
LONG = 240.0


@dataclass
class Live:
    """A server that runs as a process of its own."""

    process: subprocess.Popen[str]
    url: str
    token: str
    data: Path
    log: Path

    def client(self) -> Client:
        return Client(self.url, self.token)


def start(data: Path, token: str = "") -> Live:
    """Start a server, and wait until it listens."""
    config = data.parent / "serve.yaml"
    config.write_text(
        "upload: {free_disk_mb: 0}\naccess: {requests_per_minute: 100000, sign_ins_per_minute: 100000}\n"
    )
    command = [sys.executable, "-m", "groundglass", "-v", "serve", "--data", str(data), "--port", "0"]
    log = data.parent / "log"
    with log.open("a") as handle:
        process = subprocess.Popen(
            [*command, "--config", str(config), "--bundle", BUNDLE],
            stdout=subprocess.PIPE,
            stderr=handle,
            text=True,
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"http://\S+", line)
    assert found, log.read_text()
    if not token:
        token = process.stdout.readline().rpartition(" ")[2].strip()
    return Live(process, found.group(), token, data, log)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    live = start(tmp_path_factory.mktemp("live") / "data")
    yield live
    live.process.send_signal(signal.SIGINT)
    assert live.process.wait(LONG) == 0


def picture(seed: int) -> bytes:
    """A PNG that every detector refuses as a chest, so that the answer is immediate."""
    buffer = BytesIO()
    grey = np.random.default_rng(seed).integers(0, 255, (48, 48), dtype=np.uint8)
    Image.fromarray(grey).save(buffer, "PNG")
    return buffer.getvalue()


def blocks(mark: str) -> list[str]:
    """The document's code after a mark."""
    return re.findall(rf"<!-- test: {mark} -->\n```\w+\n(.*?)```", DOC, re.DOTALL)


def test_the_first_start_makes_a_private_folder_and_a_token(live: Live) -> None:
    assert live.token.startswith("gg_")
    assert live.data.stat().st_mode & 0o777 == 0o700
    with live.client() as client:
        assert list(client.studies()) == []
    with Client(live.url, "gg_wrong") as client, pytest.raises(ServerError, match="401"):
        list(client.studies())


def test_a_second_server_on_the_same_folder_is_refused(live: Live) -> None:
    command = [sys.executable, "-m", "groundglass", "serve", "--data", str(live.data), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith("another server uses this folder; stop it first\n")


def test_the_commands_of_the_document_work(live: Live, chest: list[Path], tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    (script,) = blocks("curl")
    for number, path in enumerate(chest[:2], start=1):
        shutil.copy(path, tmp_path / f"slice-{number}.dcm")
    environment = {**os.environ, "URL": live.url, "TOKEN": live.token}
    done = subprocess.run(
        ["bash", "-euc", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    study = json.loads((tmp_path / "study.json").read_text())
    assert study["state"] == "done"
    assert "event: study" in done.stdout
    assert "<html" in (tmp_path / "report.html").read_text()


@pytest.mark.tutorial
def test_the_documents_python_works(live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_phantom_nifti(make_phantom(1, shape=(12, 96, 96)), tmp_path / "ct.nii.gz")
    (code,) = blocks("python")
    exec(code.replace("http://127.0.0.1:8080", live.url), {"token": live.token})
    assert "<html" in (tmp_path / "report.html").read_text()


def test_many_uploads_at_once_are_all_answered(live: Live, tmp_path: Path) -> None:
    def send(number: int) -> str:
        path = tmp_path / f"{number}.png"
        path.write_bytes(picture(number))
        with live.client() as client:
            return str(client.wait(client.send([path]), LONG)["state"])

    with ThreadPoolExecutor(12) as pool:
        assert set(pool.map(send, range(12))) == {"done"}


def test_the_client_saves_and_deletes(live: Live, tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(picture(100))
    with live.client() as client:
        study = client.wait(client.send([tmp_path / "one.png"], bundle=BUNDLE, anonymise=True))
        saved = client.save(study["id"], "findings.json", tmp_path / "findings.json")
        assert json.loads(saved.read_text()) == study["findings"]
        client.delete(study["id"])
        with pytest.raises(ServerError, match="there is no such study"):
            client.study(study["id"])


def test_nothing_acknowledged_is_lost_when_server_or_worker_is_killed(tmp_path: Path) -> None:
    live = start(tmp_path / "data")
    sent: dict[int, str] = {}
    for round_ in range(3):
        try:
            for number in range(4 * round_, 4 * round_ + 4):
                path = tmp_path / f"{number}.png"
                path.write_bytes(picture(1000 + number))
                with live.client() as client:
                    sent[number] = client.send([path])
            time.sleep(0.5 * round_)
        finally:
            live.process.kill()
            live.process.wait()
        live = start(tmp_path / "data", live.token)
    try:
        with live.client() as client:
            studies = [client.wait(study, LONG) for study in sent.values()]
            assert {study["state"] for study in studies} == {"done"}
            assert sum(1 for _ in client.studies()) == len(sent) == 12
    finally:
        live.process.send_signal(signal.SIGTERM)
        live.process.wait(LONG)


def test_the_api_keeps_to_its_document(live: Live, tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("schemathesis")
    if not program.exists():
        pytest.skip("schemathesis is not installed")
    config = Path(__file__).with_name("schemathesis.toml")
    command = [program, "--config-file", config, "run", f"{live.url}/api/openapi.json", "--seed", "1"]
    header = ["-H", f"Authorization: Bearer {live.token}"]
    options = ["--max-examples", os.environ.get("SCHEMATHESIS_EXAMPLES", "3"), "--no-color"]
    phases = ["--phases", os.environ.get("SCHEMATHESIS_PHASES", "coverage,fuzzing")]
    done = subprocess.run(
        [*command, *header, *options, *phases, "--generation-database", "none"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:]


def test_no_canary_is_in_the_log_of_the_server(live: Live, chest: list[Path]) -> None:
    with live.client() as client:
        client.wait(client.send(chest[:4]), LONG)
        damaged = chest[0].with_name(f"{FILE_CANARY}-damaged.dcm")
        damaged.write_bytes(chest[0].read_bytes()[:900])
        try:
            client.wait(client.send([damaged]), LONG)
        finally:
            damaged.unlink()
    log = live.log.read_text()
    assert "POST /studies 202" in log
    for value in (*CANARIES.values(), FILE_CANARY):
        assert value not in log


def test_the_document_states_the_defaults(tmp_path: Path) -> None:
    (text,) = blocks("defaults")
    path = tmp_path / "serve.yaml"
    path.write_text(text)
    assert load_config(path) == ServeConfig()


def test_the_systemd_unit_is_valid(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    text = (ROOT / "deploy" / "groundglass.service").read_text()
    unit = tmp_path / "groundglass.service"
    unit.write_text(text.replace("/opt/groundglass/bin/groundglass", sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert str(unit) not in done.stderr


def test_nginx_accepts_the_example(tmp_path: Path) -> None:
    nginx = shutil.which("nginx")
    if nginx is None:
        pytest.skip("nginx is not installed")
    (text,) = blocks("nginx")
    plain = re.sub(r"\n\s*ssl_certificate\S* .*", "", text).replace("443 ssl", "18443")
    path = tmp_path / "nginx.conf"
    path.write_text(f"pid {tmp_path}/pid;\nevents {{}}\nhttp {{\n{plain}\n}}\n")
    done = subprocess.run([nginx, "-t", "-c", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
