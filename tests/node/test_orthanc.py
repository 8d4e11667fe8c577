"""End to end with a real Orthanc: images in by C-STORE, results back, and what the archive then holds."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from noding import Noded, wait
from orthanc import DIMSE, NODE, Orthanc, running

from groundglass.phantom import make_phantom, random_lesions
from groundglass.store.upload import RESULTS, STUDIES

SLICES = 124
PEERS = [
    {"name": "pacs", "ae_title": "ORTHANC", "host": "127.0.0.1", "port": DIMSE},
    {"name": "moves", "ae_title": "ORTHANC", "host": "127.0.0.1", "port": DIMSE, "by": "move"},
]


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with running(tmp_path_factory.mktemp("orthanc")) as orthanc:
        (orthanc.folder / "password").write_text(orthanc.password)
        yield orthanc


@pytest.fixture(autouse=True)
def _empty(orthanc: Orthanc) -> Iterator[None]:
    yield
    orthanc.clear()


def web(orthanc: Orthanc) -> dict[str, str]:
    """The peer that is Orthanc's DICOMweb service."""
    password = str(orthanc.folder / "password")
    return {"name": "web", "url": f"{orthanc.url}/dicom-web", "user": "gg", "password_file": password}


def stored(orthanc: Orthanc, **query: str) -> list[pydicom.Dataset]:
    ids = orthanc.find(**query)
    return [pydicom.dcmread(BytesIO(orthanc.content(f"/instances/{one}/file"))) for one in ids]


def numbers_of(report: pydicom.Dataset) -> dict[str, float]:
    """The measurements of the group about the patient, by their names' codes."""
    content = hd.sr.Comprehensive3DSR.from_dataset(report).content
    groups = content.get_image_measurement_groups()
    (answer,) = [
        group for group in groups if any(one.name.value == "probability" for one in group.get_measurements())
    ]
    return {one.name.value: float(one.value) for one in answer.get_measurements()}


def test_a_chest_comes_by_c_store_and_its_results_are_in_the_archive(
    orthanc: Orthanc, noded: Callable[..., Noded], chest: Any, tmp_path: Path
) -> None:
    phantom = make_phantom(1, shape=(SLICES, 96, 96), lesions=random_lesions(1, "covid"))
    images = chest("end to end", phantom=phantom)
    noded = noded(port=NODE, peers=PEERS, destinations=[{"to": "pacs"}], works=True)
    assert set(noded.send(images)) == {0}
    (job,) = noded.sent()
    assert (job.state, job.problem) == ("done", None)

    (entry,) = noded.studies()
    results = noded.data / STUDIES / entry.study.id / RESULTS
    found = json.loads((results / "findings.json").read_text())
    uid = images[0].StudyInstanceUID
    kinds = {one: stored(orthanc, StudyInstanceUID=uid, Modality=one) for one in ("SR", "SEG", "OT")}
    assert {name: len(objects) for name, objects in kinds.items()} == {"SR": 1, "SEG": 1, "OT": 1}
    report, segmentation = kinds["SR"][0], kinds["SEG"][0]
    assert report.PatientID == images[0].PatientID

    numbers = numbers_of(report)
    assert numbers["probability"] == pytest.approx(found["probability"], abs=1e-4)
    assert numbers["lesion-volume"] == pytest.approx(found["both"]["lesion_ml"], abs=0.05)

    sources = {image.SOPInstanceUID: image for image in images}
    for item in segmentation.PerFrameFunctionalGroupsSequence:
        source = sources[item.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID]
        position = item.PlanePositionSequence[0].ImagePositionPatient
        assert np.allclose(np.asarray(position, float), np.asarray(source.ImagePositionPatient, float))
    assert segmentation.FrameOfReferenceUID == images[0].FrameOfReferenceUID

    for name in ("sr", "seg", "sc"):
        valid(results / f"{name}.dcm")


def valid(path: Path) -> None:
    """Check an object with dciodvfy, where that is installed."""
    if shutil.which("dciodvfy") is None:
        return
    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
    assert [line for line in done.stderr.splitlines() if line.startswith("Error")] == []


def test_a_late_slice_supersedes_the_report_and_nothing_stands_beside_it(
    orthanc: Orthanc, noded: Callable[..., Noded], chest: Any, covid_phantom: Any
) -> None:
    images = chest("late", phantom=covid_phantom)
    noded = noded(port=NODE, peers=[*PEERS, web(orthanc)], destinations=[{"to": "web"}], works=True)
    noded.send(images[1:])
    noded.sent()
    noded.send(images[:1])
    noded.sent()
    for _ in range(3):  # sent again: nothing new
        noded.send(images)
    noded.sent()
    assert len(noded.studies()) == 2
    assert [(job.state, job.problem) for job in noded.jobs()] == [("done", None)] * 2
    reports = stored(orthanc, Modality="SR")
    assert len(reports) == 2
    (last,) = [one for one in reports if "PredecessorDocumentsSequence" in one]
    (first,) = [one for one in reports if one is not last]
    item = last.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert item.ReferencedSOPInstanceUID == first.SOPInstanceUID


def test_results_that_are_sent_again_are_there_once(
    orthanc: Orthanc, noded: Callable[..., Noded], chest: Any, covid_phantom: Any
) -> None:
    from groundglass.store.queue import resend

    noded = noded(
        port=NODE, peers=[*PEERS, web(orthanc)], destinations=[{"to": "web"}, {"to": "pacs"}], works=True
    )
    noded.send(chest("again", phantom=covid_phantom))
    noded.sent()
    (entry,) = noded.studies()
    assert resend(noded.database, entry.study.id) == 2
    wait(lambda: all(job.state == "done" for job in noded.jobs()))
    assert [job.problem for job in noded.jobs()] == [None, None]
    assert len(orthanc.find(Modality="SR")) == len(orthanc.find(Modality="SEG")) == 1
