"""Nodes, chests to send to them, and one worker that answers."""

import shutil
import socketserver
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pydicom
import pytest
from noding import BUNDLE, CANARIES, Noded, config, node_of
from pydicom import Dataset

from groundglass.node import node, send
from groundglass.phantom import Phantom, make_phantom
from groundglass.phantom.dicom import PhantomStack, classic_images, write_phantom_dicom
from groundglass.phantom.dicom_syntax import file_meta
from groundglass.serve.answer import Answering, answer
from groundglass.serve.worker import Worker
from groundglass.store.database import Database

Chest = Callable[..., list[Dataset]]


@pytest.fixture(scope="session")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Worker:
    """A worker whose detector is loaded; :func:`noded` gives it another data folder for each test."""
    data = tmp_path_factory.mktemp("worker")
    worker = Worker(data, None, "tests", {BUNDLE: BUNDLE})
    worker.pdf = False
    return worker


@pytest.fixture
def noded(
    tmp_path: Path, migrated: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Noded]]:
    """Start a node with some settings; ``again`` starts another in the data folder of one that was stopped."""
    begun: list[Noded] = []
    monkeypatch.setattr(node, "LOOK", 0.05)
    monkeypatch.setattr(send, "LOOK", 0.05)
    # pynetdicom's servers look every half second whether they are to end.
    monkeypatch.setattr(socketserver.BaseServer.serve_forever, "__defaults__", (0.02,))

    def start(*, again: Noded | None = None, works: bool = False, **settings: Any) -> Noded:
        data = again.data if again else tmp_path / f"data-{len(begun)}"
        if again is None:
            data.mkdir()
            shutil.copy(migrated, data)
        database = Database.of(data)
        worker = request.getfixturevalue("worker") if works else None
        if worker is not None:
            monkeypatch.setattr(worker, "data", data)
            monkeypatch.setattr(worker, "database", database)
        begun.append(Noded(node_of(data, config(**settings), database), database, data, worker))
        begun[-1].node.start()
        return begun[-1]

    yield start
    for one in begun:
        one.node.stop()
        one.database.close()


@pytest.fixture(scope="session")
def chest() -> Chest:
    """The images of a chest that nobody else has, from the head to the feet; ``slices`` or a phantom."""

    def images(key: str, slices: int = 6, phantom: Phantom | None = None, **values: str) -> list[Dataset]:
        found = phantom or make_phantom(3, shape=(slices, 48, 48))
        stack = PhantomStack.of(found)
        stack = PhantomStack(stack.hu, stack.geometry, stack.seed, key)
        made = classic_images(stack)[::-1]
        for image in made:
            for name, value in {**CANARIES, **values}.items():
                setattr(image, name, value)
            image.file_meta = file_meta(image, pydicom.uid.ExplicitVRLittleEndian)
        return made

    return images


@pytest.fixture(scope="session")
def covid_results(
    worker: Worker, covid_phantom: Phantom, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """The DICOM results of a chest, by their files' names."""
    folder = tmp_path_factory.mktemp("results")
    write_phantom_dicom(covid_phantom, folder / "files")
    how = Answering(worker._detector(BUNDLE), "key", b"key", when=datetime(2026, 11, 30))
    answer(folder / "files", folder / "results", how)
    return {path.name: path.read_bytes() for path in (folder / "results").glob("*.dcm")}
