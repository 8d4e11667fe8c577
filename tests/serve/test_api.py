"""What the API answers, in process: uploads, studies, results and errors; and results equal the command line's."""

import json
import logging
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from serving import BUNDLE, CANARIES, FILE_CANARY, Served
from sqlalchemy import update

from groundglass.commands.predict_volumes import predict_volumes
from groundglass.commands.study import Outputs
from groundglass.detect.detector import Detector
from groundglass.phantom import Phantom, make_phantom
from groundglass.phantom.dicom import write_phantom_dicom
from groundglass.phantom.volumes import write_phantom_nifti
from groundglass.scan.find import find_series
from groundglass.store.tables import Study
from pdf_text import pdf_text

OWN = ("study", "patient", "made_from")
"""The entries of findings.json about the location of the files, not their content."""


UNENDED = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\nx'
NO_FILE = b'--b\r\nContent-Disposition: form-data; name="files"\r\n\r\nx\r\n--b--\r\n'
OTHER_FIELD = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n--b--\r\n'


@pytest.fixture(scope="module")
def chest_study(served: Served, chest: list[Path]) -> str:
    """The id of a study that was sent as DICOM files and answered."""
    study = served.send(*chest)
    served.answered(study)
    return study


@pytest.fixture
def picture() -> tuple[str, bytes]:
    grey = np.random.default_rng(1).integers(0, 255, (64, 64), dtype=np.uint8)
    buffer = BytesIO()
    Image.fromarray(grey).save(buffer, "PNG")
    return f"{FILE_CANARY}.png", buffer.getvalue()


def test_a_study_is_received_answered_and_shown(served: Served, chest_study: str, chest: list[Path]) -> None:
    study = served.get(f"/studies/{chest_study}")
    assert (study["state"], study["verdict"], study["files"]) == ("done", "covid", len(chest))
    assert study["patient"] == {"name": CANARIES["PatientName"], "id": CANARIES["PatientID"]}
    assert study["study_date"] == CANARIES["StudyDate"]
    assert study["findings"]["verdict"] == "covid"
    assert study["lesion_ml"] == study["findings"]["both"]["lesion_ml"]
    names = [
        "findings.json",
        "lesions.nii.gz",
        "lungs.nii.gz",
        "report.html",
        "report.pdf",
        "sc.dcm",
        "seg.dcm",
        "slices.csv",
        "sr.dcm",
    ]
    assert study["results"] == names
    assert [file["name"] for file in study["sent"]] == [path.name for path in chest]


def test_the_results_equal_those_of_the_command_line(
    served: Served, chest_study: str, chest: list[Path], usual_detector: Detector, tmp_path: Path
) -> None:
    outputs = Outputs(pdf=True)
    done = predict_volumes(find_series([chest[0].parent]), tmp_path, detector=usual_detector, outputs=outputs)
    (folder,) = done.folders.values()
    theirs = json.loads((folder / "findings.json").read_text())
    ours = served.get(f"/studies/{chest_study}")["findings"]
    assert {name: value for name, value in ours.items() if name not in OWN} == {
        name: value for name, value in theirs.items() if name not in OWN
    }
    for name in ("slices.csv", "lungs.nii.gz", "lesions.nii.gz"):
        answer = served.client.get(f"/api/v1/studies/{chest_study}/results/{name}", headers=served.bearer)
        assert answer.content == (folder / name).read_bytes()


def test_a_report_is_shown_in_a_sandbox(served: Served, chest_study: str) -> None:
    answer = served.client.get(f"/api/v1/studies/{chest_study}/results/report.html", headers=served.bearer)
    assert answer.headers["content-type"].startswith("text/html")
    assert "sandbox" in answer.headers["content-security-policy"]
    for value in (*CANARIES.values(), FILE_CANARY):
        assert value not in answer.text


def test_a_pdf_can_be_fetched_and_names_no_patient(served: Served, chest_study: str, tmp_path: Path) -> None:
    answer = served.client.get(f"/api/v1/studies/{chest_study}/results/report.pdf", headers=served.bearer)
    assert answer.headers["content-type"] == "application/pdf"
    (tmp_path / "report.pdf").write_bytes(answer.content)
    text = pdf_text(tmp_path / "report.pdf")
    assert "COVID-19 is likely" in text
    for value in (*CANARIES.values(), FILE_CANARY):
        assert value not in text


def test_two_volumes_of_one_patient_are_compared(
    served: Served, chest_study: str, picture: tuple[str, bytes], tmp_path: Path
) -> None:
    healthy = make_phantom(1, shape=(20, 160, 160))
    volume = served.send(write_phantom_nifti(healthy, tmp_path / "volume.nii.gz"))
    slice_ = served.send(picture)
    after, _ = served.answered(volume), served.answered(slice_)
    before = served.get(f"/studies/{chest_study}")
    compared = served.get("/followup", before=chest_study, after=volume)
    assert compared["warnings"][0] == "The files do not say whether both studies are of one patient."
    lesions = compared["regions"]["both"]["lesion_ml"]
    wanted = [study["findings"]["both"]["lesion_ml"] for study in (before, after)]
    assert [lesions["before"], lesions["after"]] == wanted
    assert lesions["change"] == pytest.approx(wanted[1] - wanted[0])

    def refusal(**query: str) -> str:
        answer = served.client.get("/api/v1/followup", params=query, headers=served.bearer)
        assert answer.status_code == 409
        return str(answer.json()["detail"])

    assert "contains pictures" in refusal(before=chest_study, after=slice_)
    with served.server.database.write() as session:
        session.execute(update(Study).where(Study.id == volume).values(patient_id="SOMEBODY"))
    assert "different patients" in refusal(before=chest_study, after=volume)
    allowed = served.get("/followup", before=chest_study, after=volume, any_patient=True)
    assert allowed["warnings"][0] == "The two studies are of different patients."
    assert allowed["regions"] == compared["regions"]


@pytest.mark.parametrize(
    "name", ["../files/00001.dcm", "..%2f..%2fgroundglass.sqlite", ".groundglass", "no", "/etc/passwd"]
)
def test_only_results_can_be_fetched(served: Served, chest_study: str, name: str) -> None:
    answer = served.client.get(f"/api/v1/studies/{chest_study}/results/{name}", headers=served.bearer)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_zip_of_the_same_files_is_the_same_study(
    served: Served, chest_study: str, chest: list[Path]
) -> None:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in chest:
            archive.write(path, f"disc/{path.name}")
    headers = {**served.bearer, "Content-Type": "application/zip"}
    answer = served.client.post("/api/v1/studies", content=buffer.getvalue(), headers=headers)
    assert answer.json() == {"id": chest_study, "known": True}


def test_a_picture_is_answered(served: Served, picture: tuple[str, bytes]) -> None:
    study = served.answered(served.send(picture))
    assert study["state"] == "done"
    assert study["progress"]["done"] == study["progress"]["total"]
    (row,) = study["findings"]["slices"]
    assert row["path"] == "00001.png"
    assert row["verdict"] == study["verdict"]
    assert "predictions.csv" in study["results"]


def test_a_nifti_volume_is_answered(served: Served, covid_phantom: Phantom, tmp_path: Path) -> None:
    path = write_phantom_nifti(covid_phantom, tmp_path / f"{FILE_CANARY}.nii.gz")
    study = served.answered(served.send(path))
    assert (study["state"], study["verdict"]) == ("done", "covid")
    assert study["patient"] == {"name": None, "id": None}
    assert FILE_CANARY not in json.dumps(study["findings"])


def test_an_upload_of_two_patients_and_a_picture_becomes_three_studies(
    served: Served, picture: tuple[str, bytes], tmp_path: Path
) -> None:
    for seed in (11, 12):
        write_phantom_dicom(make_phantom(seed, shape=(12, 96, 96)), tmp_path / str(seed))
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    other = (picture[0], picture[1] + b"\0")  # other bytes than in the other test
    study = served.answered(served.send(*files, other))
    assert study["state"] == "done"
    parts = [served.get(f"/studies/{part}") for part in study["divided_into"]]
    assert [part["files"] for part in parts] == [12, 12, 1]
    assert {part["state"] for part in parts} == {"done"}


def test_a_failure_says_why_in_the_words_of_the_command_line(served: Served) -> None:
    study = served.answered(served.send(("Canaryfile.txt", b"no scan at all")))
    assert study["state"] == "failed"
    assert study["problem"] == "there is no DICOM, NIfTI or picture among the files"
    study = served.answered(served.send(("Canaryfile.png", b"no picture at all")))
    assert study["state"] == "failed"
    assert study["problem"]
    assert FILE_CANARY not in f"{study['problem']} {study['remedy']}"
    listed = served.get("/studies", state="failed")
    assert study["id"] in [one["id"] for one in listed["studies"]]
    answer = served.client.post(f"/api/v1/studies/{study['id']}/retry", headers=served.bearer)
    assert answer.status_code == 202
    assert served.get(f"/studies/{study['id']}")["state"] == "queued"


def test_events_tell_every_change_until_the_end(served: Served, chest_study: str) -> None:
    answer = served.client.get(f"/api/v1/studies/{chest_study}/events", headers=served.bearer)
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in answer.text.splitlines() if line.startswith("data: ")]
    event = json.loads(lines[-1].removeprefix("data: "))
    assert (event["state"], event["verdict"]) == ("done", "covid")


def test_a_deleted_study_is_gone(served: Served, picture: tuple[str, bytes]) -> None:
    study = served.send((picture[0], picture[1] + b"\1"))
    folder = served.server.data / "studies" / study
    assert folder.exists()
    path = f"/api/v1/studies/{study}"
    assert served.client.delete(path, headers=served.bearer).status_code == 204
    assert not folder.exists()
    assert served.client.get(path, headers=served.bearer).status_code == 404
    assert served.client.delete(path, headers=served.bearer).status_code == 404


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("text/plain", b"x", 415),
        ("multipart/form-data", b"x", 415),
        ("multipart/form-data; boundary=b", b"x", 422),
        ("multipart/form-data; boundary=b", UNENDED, 422),
        ("multipart/form-data; boundary=b", OTHER_FIELD, 422),
        ("multipart/form-data; boundary=b", NO_FILE, 422),
        ("multipart/form-data; boundary=b", b"--b--\r\n", 422),
        ("application/zip", b"x", 422),
        ("application/zip", b"PK\x03\x04xxxxxxxxxxxxx", 422),
        ("application/zip", b"", 422),
        ("application/zip", b"PK" + bytes(31 << 20), 413),
    ],
)  # fmt: skip
def test_a_wrong_body_is_refused_and_leaves_nothing(
    served: Served, content_type: str, body: bytes, status: int
) -> None:
    headers = {**served.bearer, "Content-Type": content_type}
    answer = served.client.post("/api/v1/studies", content=body, headers=headers)
    assert answer.status_code == status, answer.text
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (problem["status"], problem["type"]) == (status, "about:blank")
    assert problem["detail"]
    assert not list((served.server.data / "incoming").iterdir())


def test_a_full_disk_answers_507_and_recovers(
    served: Served, chest_study: str, picture: tuple[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = served.server.config.upload.model_copy(update={"free_disk_mb": 1e12})
    full = served.server.config.model_copy(update={"upload": limits})
    with monkeypatch.context() as patched:
        patched.setattr(served.server, "config", full)
        answer = served.client.post("/api/v1/studies", files={"files": picture}, headers=served.bearer)
        assert answer.status_code == 507
        assert served.get(f"/studies/{chest_study}")["state"] == "done"
        assert served.client.get("/api/v1/health").json()["room"] is False
    assert served.send((picture[0], picture[1] + b"\2"))


def test_bundles_and_metrics_and_health(served: Served) -> None:
    bundles = served.client.get("/api/v1/bundles", headers=served.bearer).json()
    assert [(one["name"], one["default"]) for one in bundles] == [(BUNDLE, True)]
    answer = served.client.post("/api/v1/studies?bundle=no", files={"files": b"x"}, headers=served.bearer)
    assert answer.status_code == 422
    text = served.client.get("/api/v1/metrics", headers=served.bearer).text
    assert 'groundglass_studies{state="done"}' in text
    assert 'route="/bundles"' in text
    health = served.client.get("/api/v1/health").json()
    assert health["status"] == "degraded"  # this server has no worker process


def test_no_canary_is_in_logs_metrics_or_messages(
    served: Served, chest_study: str, chest: list[Path], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    canaries = [*CANARIES.values(), FILE_CANARY]
    damaged = [(path.name, path.read_bytes()[:700]) for path in chest]
    with caplog.at_level(logging.DEBUG):
        study = served.send(*damaged)
        failed = served.answered(study)
        served.client.get(f"/api/v1/studies/{chest_study}/results/{FILE_CANARY}", headers=served.bearer)
        served.client.get(f"/{FILE_CANARY}")
        served.client.get(
            "/api/v1/studies", params={"verdict": CANARIES["PatientName"]}, headers=served.bearer
        )
    assert failed["state"] == "failed"
    metrics = served.client.get("/api/v1/metrics", headers=served.bearer).text
    shown = f"{failed['problem']} {failed['remedy']} {metrics}"
    log = served.client.get("/api/v1/log", headers=served.bearer).text
    own = [record.getMessage() for record in caplog.records if not record.name.startswith("httpx")]
    for value in canaries:
        assert value not in shown
        assert value not in log
        assert not [line for line in own if value in line]


def test_an_error_of_ours_is_told_without_its_text(
    served: Served, chest_study: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("Canaryname")

    monkeypatch.setattr("groundglass.serve.api.history.find", broken)
    answer = served.client.get(f"/api/v1/studies/{chest_study}", headers=served.bearer)
    assert (answer.status_code, answer.json()["title"]) == (500, "Internal Server Error")
    assert "Canaryname" not in answer.text
    assert "Canaryname" not in " ".join(record.getMessage() for record in caplog.records)
    assert "RuntimeError in test_api.py" in caplog.text
