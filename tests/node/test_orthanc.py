"""End to end with a real Orthanc: images in by C-STORE, results back, and the archive's content afterwards."""

import json
import pickle
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from io import BytesIO
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from noding import BUNDLE, CANARIES, Noded, wait
from orthanc import DIMSE, NODE, Orthanc, running
from typer.testing import CliRunner

from groundglass.cli.app import app
from groundglass.errors import GroundglassError, ScanError
from groundglass.node.cohort import listed
from groundglass.node.config import DicomConfig
from groundglass.phantom import make_phantom, random_lesions
from groundglass.report.pdf import PDF
from groundglass.serve.config import load_config
from groundglass.serve.worker import _can_write_pdf
from groundglass.store.upload import RESULTS, STUDIES

SLICES = 124
DOC = (Path(__file__).parents[2] / "docs" / "pacs.md").read_text("utf-8")
ADDRESS = f"ORTHANC@127.0.0.1:{DIMSE}"
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


@pytest.fixture
def documented(orthanc: Orthanc, tmp_path: Path) -> Iterator[tuple[Orthanc, Path]]:
    """Another Orthanc, and a server, both as docs/pacs.md configures them."""
    for name in ("orthanc.json", "forward.lua", "serve.yaml"):
        (tmp_path / name).write_text(block(name))
    (tmp_path / "orthanc-data").mkdir()
    other = Orthanc(tmp_path, orthanc.binary, "choose-a-password", http=8042)
    other.start()
    command = [sys.executable, "-m", "groundglass", "serve", "--port", "0", "--bundle", BUNDLE]
    with (tmp_path / "serve-log").open("w") as log:
        server = subprocess.Popen(
            [*command, "--config", "serve.yaml"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=log
        )
    try:
        assert server.stdout is not None
        assert server.stdout.readline(), (tmp_path / "serve-log").read_text()
        yield other, tmp_path
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) in (0, -signal.SIGTERM)
        other.stop()


def block(mark: str) -> str:
    """The document's code after a mark."""
    (found,) = re.findall(rf"<!-- test: {re.escape(mark)} -->\n```\w+\n(.*?)```", DOC, re.DOTALL)
    return str(found)


def test_the_steps_of_the_document_bring_results_into_the_archive(
    documented: tuple[Orthanc, Path], chest: Any
) -> None:
    other, folder = documented
    phantom = make_phantom(1, shape=(SLICES, 96, 96), lesions=random_lesions(1, "covid"))
    images = {image.SOPInstanceUID: image for image in chest("end to end", phantom=phantom)}
    (folder / "ct").mkdir()
    for number, image in enumerate(images.values()):
        image.save_as(folder / "ct" / f"{number}.dcm", enforce_file_format=True)
    script = block("send").replace("groundglass", f"{sys.executable} -m groundglass")
    subprocess.run(["bash", "-euc", script], cwd=folder, check=True)

    kinds = ("SR", "SEG", "OT")
    wait(lambda: all(other.find(Modality=kind) for kind in kinds), 180)
    objects = {kind: stored(other, Modality=kind) for kind in kinds}
    assert [len(found) for found in objects.values()] == [1, 1, 1]
    report, segmentation = objects["SR"][0], objects["SEG"][0]
    image = next(iter(images.values()))
    for (one,) in objects.values():
        assert (one.StudyInstanceUID, one.PatientID) == (image.StudyInstanceUID, image.PatientID)

    (results,) = (folder / "groundglass-data" / STUDIES).glob(f"*/{RESULTS}")
    found = json.loads((results / "findings.json").read_text())
    assert found["volume"]["shape"][0] == SLICES
    wait(lambda: (results / PDF).is_file() or not _can_write_pdf())  # it is written after the answer
    numbers = numbers_of(report)
    assert numbers["probability"] == pytest.approx(found["probability"], abs=1e-4)
    assert numbers["lesion-volume"] == pytest.approx(found["both"]["lesion_ml"], abs=0.05)

    for item in segmentation.PerFrameFunctionalGroupsSequence:
        source = images[item.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID]
        position = item.PlanePositionSequence[0].ImagePositionPatient
        assert np.allclose(np.asarray(position, float), np.asarray(source.ImagePositionPatient, float))
    assert segmentation.FrameOfReferenceUID == image.FrameOfReferenceUID
    for name in ("sr", "seg", "sc"):
        valid(results / f"{name}.dcm")
    for value in (*CANARIES.values(), image.StudyInstanceUID, image.SOPInstanceUID):
        assert value not in (folder / "serve-log").read_text()


def test_the_document_states_the_defaults_and_the_peers_and_the_statement_the_conformance(
    tmp_path: Path,
) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text(block("defaults"))
    assert load_config(path).dicom == DicomConfig()
    path.write_text(block("peers"))
    assert load_config(path).dicom is not None
    printed = groundglass("pacs", "conformance")
    assert printed.startswith("Implementation class UID: `2.25.197513047262904935612718834862352117593`.")
    assert len(re.findall(r"^\| .+ \| `1\.2\.840\.10008[.\d]+` \| .+ \|$", printed, re.MULTILINE)) == 10
    assert len(re.findall(r"^- .+ \(`1\.2\.840\.10008[.\d]+`\)$", printed, re.MULTILINE)) == 16
    assert "| Comprehensive 3D SR Storage | `1.2.840.10008.5.1.4.1.1.88.34` | SCU of C-STORE |" in printed
    assert f"| associations at a time | {DicomConfig().associations} (" in printed


def valid(path: Path) -> None:
    """Check an object with dciodvfy, if that is installed."""
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


@pytest.fixture
def archived(orthanc: Orthanc, chest: Any, tmp_path: Path) -> list[Path]:
    """Files that ``groundglass pacs send`` has put into the archive."""
    folder = tmp_path / "archived"
    folder.mkdir()
    paths = [folder / f"IM{number}" for number in range(6)]
    for path, image in zip(paths, chest("archived", StudyDate=f"{date.today():%Y%m%d}"), strict=True):
        image.save_as(path, enforce_file_format=path is not paths[5])  # the last one has no preamble
    (folder / "notes.txt").write_text("nothing")
    assert groundglass("pacs", "send", ADDRESS, folder) == f"6 files sent to {ADDRESS}\n"
    return paths


def groundglass(*arguments: object) -> str:
    """What a command prints."""
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == 0, done.output + repr(done.exception)
    return done.stdout


def pixels(paths: Iterable[Path]) -> set[bytes]:
    return {pydicom.dcmread(path, force=True).PixelData for path in paths}


def test_the_commands_find_and_fetch_by_every_way(
    orthanc: Orthanc, archived: list[Path], tmp_path: Path
) -> None:
    image = pydicom.dcmread(archived[0])
    config = tmp_path / "serve.yaml"
    settings = {"port": NODE, "peers": [*PEERS, web(orthanc)]}
    config.write_text(json.dumps({"dicom": settings}))
    for peer, patient in (
        ("pacs", "CANARY*"),
        ("web", "CANARYID77"),
    ):  # whose plugin takes no * that is escaped
        assert groundglass("pacs", "echo", peer, "--config", config) == f"{peer} answers\n"
        find = ("pacs", "find", peer, "--config", config, "--json")
        found = json.loads(groundglass(*find, "--patient", patient))
        assert [one["StudyInstanceUID"] for one in found] == [image.StudyInstanceUID]
        assert found[0]["PatientName"] == "Canaryname^Zebulon"
        assert json.loads(groundglass(*find, "--patient", "nobody")) == []
        (series,) = json.loads(groundglass(*find, "--study", image.StudyInstanceUID))
        assert (series["SeriesInstanceUID"], series["NumberOfSeriesRelatedInstances"]) == (
            image.SeriesInstanceUID,
            "6",
        )
    for peer in ("pacs", "moves", "web"):
        fetch = ("pacs", "fetch", peer, image.StudyInstanceUID, "--config", config)
        groundglass(*fetch, "-o", tmp_path / peer)
        assert pixels((tmp_path / peer).iterdir()) == pixels(archived)
    nowhere = ["pacs", "fetch", "pacs", "1.2.3", "--config", str(config), "-o", str(tmp_path / "nowhere")]
    wrong = CliRunner().invoke(app, nowhere)
    assert "pacs: refuses the request" in str(wrong.exception)


def test_predict_answers_the_studies_of_a_table_as_it_does_files(
    orthanc: Orthanc, archived: list[Path], tmp_path: Path
) -> None:
    uid = pydicom.dcmread(archived[0]).StudyInstanceUID
    config, table = tmp_path / "serve.yaml", tmp_path / "studies.csv"
    config.write_text(json.dumps({"dicom": {"port": NODE, "peers": [*PEERS, web(orthanc)]}}))
    table.write_text(f"study,remark\n{uid},\n1.2.3,unknown\n{uid},again\n")
    predict = ("-b", BUNDLE, "-o", tmp_path / "out", "--no-nifti", "--no-dicom", "--json")

    def answers(*arguments: object) -> tuple[dict[str, Any], dict[str, Any]]:
        done = CliRunner().invoke(app, ["predict", *map(str, (*arguments, *predict))])
        document = json.loads(done.stdout)
        (row,) = document["patients"]
        findings = json.loads((tmp_path / "out" / row["study"] / "findings.json").read_text())
        assert findings.pop("made_from")
        assert [failure["problem"] for failure in document["failures"]] == problems
        return {**row, "source": ""}, findings

    problems: list[str] = []
    files = answers(archived[0].parent)
    for peer in ("web", "pacs"):
        problems = [f"{peer} has no such study"]
        assert answers(table, "--from", peer, "--config", config) == files
    assert "studies.csv row 2" in (tmp_path / "out" / "patients.csv").read_text()
    assert uid not in (tmp_path / "out" / "patients.csv").read_text()
    settings = load_config(config).dicom
    assert settings is not None
    listing = pickle.loads(pickle.dumps(listed(settings, settings.peer("web"), [table])))  # to a worker
    assert [series.slices for series in listing.series[0].fetch()] == [6]
    orthanc.clear()
    with pytest.raises(ScanError, match="sent no CT"):
        listing.series[0].fetch()
    with pytest.raises(GroundglassError, match="C-MOVE"):
        listed(settings, settings.peer("moves"), [table])
    table.write_text("path\nx\n")
    with pytest.raises(GroundglassError, match="no column study"):
        listed(settings, settings.peer("web"), [table])


@pytest.mark.parametrize("peer", ["pacs", "moves", "web"])
def test_a_rule_fetches_what_is_new_and_counts_it(
    orthanc: Orthanc, archived: list[Path], noded: Callable[..., Noded], peer: str
) -> None:
    noded = noded(
        port=NODE, peers=[*PEERS, web(orthanc)], fetch=[{"from": peer, "days": 2}], counts_from="pacs"
    )
    wait(noded.arrivals)
    noded.settled()
    assert [entry.study.files for entry in noded.studies()] == [6]
    assert noded.arrivals()[0].caller == (peer if peer != "moves" else "ORTHANC")
    assert noded.node.fetch_new(noded.node.config.fetch[0]) == 0
    again = noded.node.fetch(peer, noded.arrivals()[0].uid)  # nothing new
    assert again == (0 if peer == "moves" else 6)
    noded.settled()
    assert [entry.study.files for entry in noded.studies()] == [6]


def test_orthanc_sends_and_a_study_waits_for_the_rest_of_it(
    orthanc: Orthanc, archived: list[Path], noded: Callable[..., Noded]
) -> None:
    noded = noded(port=NODE, peers=PEERS, counts_from="pacs")
    instances = sorted(orthanc.find(Modality="CT"))
    orthanc.post("/modalities/gg/store", instances[:4])
    wait(lambda: [one.problem for one in noded.arrivals()] == ["2 instances in the PACS did not arrive"])
    orthanc.post("/modalities/gg/store", instances[4:])
    noded.settled()
    assert [entry.study.files for entry in noded.studies()] == [6]
