"""One server without worker processes, whose studies a worker in the tests' own process answers."""

from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from fastapi.testclient import TestClient
from serving import BUNDLE, CANARIES, FILE_CANARY, Served

from groundglass.phantom import Phantom
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
