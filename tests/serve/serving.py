"""A server in the tests' own process, and what its input hides."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

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
