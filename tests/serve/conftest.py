"""One server without worker processes, whose studies a worker in the tests' own process answers."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydicom
import pytest
from browsing import NO_WEBGL, Visit, chromium, listening
from fastapi.testclient import TestClient
from serving import BUNDLE, CANARIES, FILE_CANARY, Served

from groundglass.phantom import Lesion, Phantom, make_phantom
from groundglass.phantom.dicom import write_phantom_dicom
from groundglass.serve.app import build
from groundglass.serve.config import ServeConfig
from groundglass.serve.server import Server
from groundglass.serve.worker import Worker
from groundglass.store.access import add_token


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    data = tmp_path_factory.mktemp("served")
    upload = {"free_disk_mb": 0, "total_mb": 50, "file_mb": 30}
    access = {"requests_per_minute": 1_000_000, "sign_ins_per_minute": 1_000_000}
    config = ServeConfig.model_validate(
        {"data": data, "bundles": [BUNDLE], "upload": upload, "access": access}
    )
    app = build(config, work=False)
    server: Server = app.state.server
    token = add_token(server.database, "tests", ["read", "write", "admin"])
    worker = Worker(data, None, "tests", {BUNDLE: BUNDLE})
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        yield Served(client, server, worker, token)


@pytest.fixture(scope="session")
def chest(tmp_path_factory: pytest.TempPathFactory, covid_phantom: Phantom) -> list[Path]:
    """The DICOM files of a chest whose headers and names hold canaries."""
    folder = tmp_path_factory.mktemp("chest")
    write_phantom_dicom(covid_phantom, folder)
    files = []
    for number, path in enumerate(sorted(folder.iterdir())):
        dataset = pydicom.dcmread(path)
        for name, value in CANARIES.items():
            setattr(dataset, name, value)
        named = folder / f"{FILE_CANARY}-{number}.dcm"
        dataset.save_as(named)
        path.unlink()
        files.append(named)
    return files


@pytest.fixture(scope="session")
def marked() -> Phantom:
    """A chest with lesions in the right lung only, and a bright mark in front at the patient's right."""
    phantom = make_phantom(5, shape=(14, 128, 128), lesions=[Lesion("consolidation", 150, side="right")])
    pixels = phantom.scan.pixels.copy()
    pixels[-3:, 4:24, 4:24] = 1500
    return replace(phantom, scan=replace(phantom.scan, pixels=pixels))


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium without WebGL."""
    from playwright.sync_api import sync_playwright

    path = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(NO_WEBGL), timeout=120_000)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def address(served: Served) -> Iterator[str]:
    """The server as a browser reaches it."""
    with listening(served.client.app) as url:
        yield url


@pytest.fixture
def visit(browser: Any, address: str, served: Served) -> Iterator[Callable[..., Visit]]:
    """Open windows; at the end, none may have loaded anything from other servers or had an error."""
    visits: list[Visit] = []

    def opened(**how: Any) -> Visit:
        visits.append(Visit(browser, address, served, **how))
        return visits[-1]

    yield opened
    for one in visits:
        one.clean()
