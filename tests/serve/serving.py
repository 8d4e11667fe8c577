"""A server in the tests' own process, and what its input hides."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fastapi.testclient import TestClient

from groundglass.phantom import Phantom
from groundglass.phantom.dicom import PhantomStack, classic_images
from groundglass.phantom.dicom_syntax import encode
from groundglass.phantom.phantom import phantom_geometry
from groundglass.scan.volume import Geometry
from groundglass.serve.server import Server
from groundglass.serve.worker import Worker

BUNDLE = "covid-ct-lite0"
CANARIES = {
    "PatientName": "Canaryname^Zebulon",
    "PatientID": "CANARYID77",
    "PatientBirthDate": "19010203",
    "StudyDate": "19020304",
    "StudyInstanceUID": "1.2.826.0.1.7777777.1",
    "SeriesInstanceUID": "1.2.826.0.1.7777777.2",
    "AccessionNumber": "CANARYACC",
}
"""Values of headers that must be in no log, URL, metric or message."""
FILE_CANARY = "Canaryfile"


@dataclass
class Served:
    """A server for tests."""

    client: TestClient
    server: Server
    worker: Worker
    token: str

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def send(self, *files: Path | tuple[str, bytes], **params: str) -> str:
        parts = [
            ("files", (file.name, file.read_bytes()) if isinstance(file, Path) else file) for file in files
        ]
        answer = self.client.post("/api/v1/studies", files=parts, params=params, headers=self.bearer)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def answered(self, study: str) -> dict[str, Any]:
        while self.worker.one():
            pass
        return dict(self.get(f"/studies/{study}"))

    def get(self, path: str, **params: object) -> dict[str, Any]:
        answer = self.client.get(f"/api/v1{path}", params=params, headers=self.bearer)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


def write_stored(phantom: Phantom, folder: Path, turned: str) -> list[Path]:
    """A phantom as DICOM, its slices, rows or columns stored in the other direction; the patient stays the same."""
    hu = np.rint(phantom.scan.pixels).astype(np.int16)
    there = phantom_geometry(phantom)
    geometry = there
    if turned == "columns":
        hu = hu[:, :, ::-1]
        geometry = Geometry(
            there.positions + (hu.shape[2] - 1) * there.column_step, there.row_step, -there.column_step
        )
    elif turned == "rows":
        hu = hu[:, ::-1]
        geometry = Geometry(
            there.positions + (hu.shape[1] - 1) * there.row_step, -there.row_step, there.column_step
        )
    elif turned == "slices":
        hu, geometry = hu[::-1], Geometry(there.positions[::-1], there.row_step, there.column_step)
    folder.mkdir()
    paths = []
    for number, image in enumerate(
        classic_images(PhantomStack(hu, geometry, phantom.seed, f"stored by {turned}"))
    ):
        paths.append(folder / f"{number}.dcm")
        paths[-1].write_bytes(encode(image, "explicit-little"))
    return paths
