import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

import groundglass.commands.predict_volumes as job
import groundglass.commands.study as one_study
from dicom_faults import write_faulty_dicom
from groundglass.bundle.facts import RESEARCH_USE
from groundglass.commands.predict_volumes import PatientAnswers, predict_volumes
from groundglass.commands.study import UNFINISHED, Outputs
from groundglass.detect.detector import Detector
from groundglass.errors import GroundglassError, ScanError
from groundglass.labels import POSITIVE
from groundglass.phantom import Phantom, make_phantom
from groundglass.phantom.dicom import write_phantom_dicom
from groundglass.phantom.volumes import write_phantom_nifti
from groundglass.scan.find import find_series
from groundglass.scan.volume import RESULTS
from pdf_text import pdf_text

FILES = {
    RESULTS,
    "findings.json", "lesions.nii.gz", "lungs.nii.gz", "report.html", "sc.dcm", "seg.dcm", "slices.csv", "sr.dcm",
}  # fmt: skip


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory, covid_phantom: Phantom) -> Path:
    """A patient with lesions, one without, and a series that cannot be used."""
    root = tmp_path_factory.mktemp("scans")
    healthy = make_phantom(2, shape=(20, 160, 160))
    write_phantom_dicom(covid_phantom, root / "a", syntax="jpeg-lossless")
    write_phantom_dicom(healthy, root / "b")
    write_faulty_dicom(healthy, root / "c", fault="localizer-alone", seed=9)
    return root


@pytest.fixture(scope="module")
def done(
    tmp_path_factory: pytest.TempPathFactory, scans: Path, usual_detector: Detector
) -> tuple[Path, PatientAnswers]:
    folder = tmp_path_factory.mktemp("out")
    return folder, predict_volumes(find_series([scans]), folder, detector=usual_detector)


def test_one_row_a_patient_and_failures_listed(done: tuple[Path, PatientAnswers]) -> None:
    folder, result = done
    rows = list(csv.DictReader((folder / "patients.csv").open()))
    assert [row["verdict"] for row in rows] == [POSITIVE, "not covid", ""]
    assert "localizer" in rows[2]["problem"]
    assert ["localizer" in failure.problem for failure in result.failures] == [True]
    document = json.loads((folder / "patients.json").read_text())
    assert document["summary"] == {"studies": 3, "covid": 1, "uncertain": 0, "not_a_chest_ct": 0, "failed": 1}


def test_every_file_of_a_study_is_written(done: tuple[Path, PatientAnswers]) -> None:
    folder, result = done
    for row in result.answered:
        assert {path.name for path in (folder / row["study"]).iterdir()} == FILES
    assert not list(folder.glob(f"{UNFINISHED}*"))


def test_nothing_that_is_written_for_reading_names_the_patient(
    done: tuple[Path, PatientAnswers], scans: Path
) -> None:
    folder, _ = done
    header = pydicom.dcmread(next((scans / "a").iterdir()), stop_before_pixels=True)
    secrets = [str(header.PatientName), header.PatientID, header.StudyInstanceUID, header.SeriesInstanceUID]
    for path in folder.rglob("*"):
        assert not any(secret in path.name for secret in secrets)
        if path.suffix in (".json", ".html", ".csv"):
            text = path.read_text()
            assert not [secret for secret in secrets if secret in text], path


@pytest.mark.parametrize("asked", [False, True])
def test_a_pdf_names_the_patient_only_on_request(
    scans: Path, usual_detector: Detector, tmp_path: Path, asked: bool
) -> None:
    outputs = Outputs(report=False, pdf=True, nifti=False, dicom=False, identities=asked)
    (row,) = predict_volumes(
        find_series([scans / "a"]), tmp_path, detector=usual_detector, outputs=outputs
    ).rows
    text = pdf_text(tmp_path / row["study"] / "report.pdf")
    header = pydicom.dcmread(next((scans / "a").iterdir()), stop_before_pixels=True)
    assert (header.PatientID in text) == asked
    assert str(header.PatientName) not in text
    parts = ("right upper third", "lungs-lite0", "The most informative slices", "Made")
    for shown in (RESEARCH_USE, row["severity"], *parts):
        assert shown in text


def test_masks_on_disk_hold_the_volumes_of_the_findings(done: tuple[Path, PatientAnswers]) -> None:
    folder, result = done
    study = folder / result.rows[0]["study"]
    findings = json.loads((study / "findings.json").read_text())
    for name, key in (("lungs", "lung_ml"), ("lesions", "lesion_ml")):
        image = nib.load(study / f"{name}.nii.gz")
        voxel_ml = abs(np.linalg.det(image.affine[:3, :3])) / 1000
        assert np.count_nonzero(image.get_fdata()) * voxel_ml == pytest.approx(
            findings["both"][key], rel=1e-3
        )


def test_dicom_results_hold_the_numbers_of_the_findings(done: tuple[Path, PatientAnswers]) -> None:
    folder, result = done
    study = folder / result.rows[0]["study"]
    findings = json.loads((study / "findings.json").read_text())
    numbers = [
        float(item.MeasuredValueSequence[0].NumericValue)
        for item in walk(pydicom.dcmread(study / "sr.dcm"))
        if item.get("ValueType") == "NUM"
    ]
    for wanted in (
        findings["probability"],
        *(findings[side][key] for side in ("right", "left", "both") for key in ("lung_ml", "lesion_ml")),
    ):
        assert any(number == pytest.approx(wanted, abs=1e-3) for number in numbers), wanted


def walk(dataset: pydicom.Dataset) -> list[pydicom.Dataset]:
    items = list(dataset.get("ContentSequence", []))
    return items + [inner for item in items for inner in walk(item)]


def test_a_second_run_keeps_everything(
    done: tuple[Path, PatientAnswers],
    scans: Path,
    usual_detector: Detector,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, first = done
    before = (folder / "patients.csv").read_bytes()

    def never(*_: object) -> None:
        raise AssertionError("was done before")

    monkeypatch.setattr(one_study, "answer_study", never)
    listing = find_series([scans])
    usable = [one for one in listing.series if one.usable]
    again = predict_volumes(type(listing)(tuple(usable)), folder, detector=usual_detector)
    assert again.kept == 2
    assert [row["probability"] for row in again.rows] == [row["probability"] for row in first.answered]
    assert before.splitlines()[:3] == (folder / "patients.csv").read_bytes().splitlines()


def test_other_options_are_processed_again(
    done: tuple[Path, PatientAnswers], scans: Path, usual_detector: Detector, tmp_path: Path
) -> None:
    listing = find_series([scans / "b"])
    outputs = Outputs(report=False, nifti=False, dicom=False)
    for kept in (0, 1):
        result = predict_volumes(listing, tmp_path, detector=usual_detector, outputs=outputs)
        assert result.kept == kept
    study = tmp_path / result.rows[0]["study"]
    assert {path.name for path in study.iterdir()} == {RESULTS, "findings.json", "slices.csv"}
    assert predict_volumes(listing, tmp_path, detector=usual_detector).kept == 0
    assert {path.name for path in study.iterdir()} == FILES


def test_another_bundle_or_format_version_is_computed_again(
    scans: Path, usual_detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = find_series([scans / "b"])
    outputs = Outputs(report=False, nifti=False, dicom=False)

    def kept() -> int:
        return predict_volumes(listing, tmp_path, detector=usual_detector, outputs=outputs).kept

    assert [kept(), kept()] == [0, 1]
    facts = usual_detector.bundle.facts
    for changed in ({"graph_sha256": "0" * 64}, {"threshold": 0.123}):
        with monkeypatch.context() as patch:
            patch.setattr(usual_detector.bundle, "facts", facts.model_copy(update=changed))
            assert kept() == 0
    assert [kept(), kept()] == [0, 1]
    monkeypatch.setattr(job, "RESULTS_FORMAT", job.RESULTS_FORMAT + 1)
    assert [kept(), kept()] == [0, 1]


def test_changed_files_are_processed_again(
    tmp_path: Path, usual_detector: Detector, covid_phantom: Phantom
) -> None:
    path = write_phantom_nifti(covid_phantom, tmp_path / "in" / "ct.nii.gz")
    outputs = Outputs(report=False, nifti=False)
    out = tmp_path / "out"
    first = predict_volumes(find_series([path]), out, detector=usual_detector, outputs=outputs)
    write_phantom_nifti(make_phantom(2, shape=(20, 160, 160)), path)
    second = predict_volumes(find_series([path]), out, detector=usual_detector, outputs=outputs)
    assert second.kept == 0
    assert second.rows[0]["verdict"] != first.rows[0]["verdict"]


def test_what_a_killed_run_left_is_done_again_and_swept(
    tmp_path: Path, scans: Path, usual_detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = find_series([scans / "a", scans / "b"])
    real = one_study.answer_study

    def killed(detector: Detector, study: object, seen: object) -> object:
        if asked:
            raise KeyboardInterrupt
        asked.append(study)
        return real(detector, study, seen)  # type: ignore[arg-type]

    asked: list[object] = []
    monkeypatch.setattr(one_study, "answer_study", killed)
    outputs = Outputs(report=False, nifti=False, dicom=False)
    with pytest.raises(KeyboardInterrupt):
        predict_volumes(listing, tmp_path, detector=usual_detector, outputs=outputs)
    monkeypatch.undo()
    (tmp_path / f"{UNFINISHED}x").mkdir()
    result = predict_volumes(listing, tmp_path, detector=usual_detector, outputs=outputs)
    assert result.kept == 1
    assert len(result.answered) == 2
    assert not list(tmp_path.glob(f"{UNFINISHED}*"))


def test_an_error_of_our_own_ends_one_study_not_the_job(
    tmp_path: Path, scans: Path, usual_detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = one_study.answer_study

    def broken(detector: Detector, study: object, seen: object) -> object:
        if not asked:
            asked.append(study)
            raise ZeroDivisionError("oh")
        return real(detector, study, seen)  # type: ignore[arg-type]

    asked: list[object] = []
    monkeypatch.setattr(one_study, "answer_study", broken)
    result = predict_volumes(find_series([scans / "a", scans / "b"]), None, detector=usual_detector)
    assert "ZeroDivisionError" in result.rows[0]["problem"]
    assert "oh" not in result.rows[0]["problem"]
    assert result.rows[1]["verdict"] == "not covid"


def test_files_that_could_not_be_read_are_among_the_failures(usual_detector: Detector, scans: Path) -> None:
    listing = find_series([scans / "b"])
    damaged = type(listing)(listing.series, (), (ScanError("x.dcm", "is cut short"),))
    result = predict_volumes(damaged, None, detector=usual_detector)
    assert [failure.problem for failure in result.failures] == ["is cut short"]


def test_identities_only_on_request(usual_detector: Detector, scans: Path) -> None:
    listing = find_series([scans / "b"])
    own = listing.series[0].patient
    assert own
    hidden, shown = (
        predict_volumes(listing, None, detector=usual_detector, outputs=outputs).rows[0]["patient"]
        for outputs in (Outputs(), Outputs(identities=True))
    )
    assert own not in hidden
    assert shown == own


def test_an_error_while_writing_ends_one_study_not_the_job(
    tmp_path: Path, scans: Path, usual_detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("odd header")

    monkeypatch.setattr(one_study, "write_study", broken)
    result = predict_volumes(find_series([scans / "a"]), tmp_path, detector=usual_detector)
    assert "ValueError" in result.rows[0]["problem"]
    assert (tmp_path / "patients.csv").exists()


def test_a_full_disk_ends_the_job_and_leaves_nothing_half(
    tmp_path: Path, scans: Path, usual_detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise GroundglassError("seg.dcm: cannot be written (No space left on device)")

    monkeypatch.setattr("groundglass.dicom_out.write_results", full)
    listing = find_series([scans / "b"])
    with pytest.raises(GroundglassError, match="No space left"):
        predict_volumes(listing, tmp_path, detector=usual_detector)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
    monkeypatch.undo()
    assert predict_volumes(listing, tmp_path, detector=usual_detector).kept == 0


def test_what_is_not_a_result_is_never_replaced(
    tmp_path: Path, scans: Path, usual_detector: Detector
) -> None:
    listing = find_series([scans / "b"])
    outputs = Outputs(report=False, nifti=False, dicom=False)
    name = predict_volumes(listing, tmp_path, detector=usual_detector, outputs=outputs).rows[0]["study"]
    for path in (tmp_path / name).iterdir():
        path.unlink()
    (tmp_path / name / "precious.txt").write_text("mine")
    with pytest.raises(GroundglassError, match="does not contain results"):
        predict_volumes(listing, tmp_path, detector=usual_detector, outputs=outputs)
    assert (tmp_path / name / "precious.txt").read_text() == "mine"


def test_a_study_that_lost_a_file_is_done_again(
    tmp_path: Path, scans: Path, usual_detector: Detector
) -> None:
    listing = find_series([scans / "b"])
    outputs = Outputs(report=False, dicom=False)
    first = predict_volumes(listing, tmp_path, detector=usual_detector, outputs=outputs)
    lost = tmp_path / first.rows[0]["study"] / "lungs.nii.gz"
    lost.unlink()
    assert predict_volumes(listing, tmp_path, detector=usual_detector, outputs=outputs).kept == 0
    assert lost.exists()


def test_two_runs_do_not_write_into_one_folder(tmp_path: Path, scans: Path, usual_detector: Detector) -> None:
    with job._alone(tmp_path), pytest.raises(GroundglassError, match="another run is writing to it"):
        predict_volumes(find_series([scans / "b"]), tmp_path, detector=usual_detector)


def test_results_within_the_input_are_passed_over(
    tmp_path: Path, covid_phantom: Phantom, usual_detector: Detector
) -> None:
    write_phantom_dicom(covid_phantom, tmp_path / "ct")
    for folder in (tmp_path, tmp_path / "out"):
        first = predict_volumes(find_series([tmp_path]), folder, detector=usual_detector)
        listing = find_series([tmp_path])
        assert len(listing.series) == 1
        assert listing.results
        assert predict_volumes(listing, folder, detector=usual_detector).kept == 1
        assert not first.failures


def test_volumes_need_the_lungs(scans: Path) -> None:
    with pytest.raises(GroundglassError, match="--no-lungs"):
        predict_volumes(
            find_series([scans / "b"]), None, detector=Detector.load("covid-ct-lite0", lungs=False)
        )


def test_the_segmentation_holds_the_volumes_of_the_findings(
    done: tuple[Path, PatientAnswers], covid_phantom: Phantom
) -> None:
    folder, result = done
    study = folder / result.rows[0]["study"]
    findings = json.loads((study / "findings.json").read_text())
    written = pydicom.dcmread(study / "seg.dcm")
    numbers = [
        group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        for group in written.PerFrameFunctionalGroupsSequence
    ]
    voxels = np.zeros(5)
    np.add.at(voxels, numbers, written.pixel_array.astype(int).sum(axis=(1, 2)))
    right, left, *types = voxels[1:] * covid_phantom.voxel_ml
    assert right == pytest.approx(findings["right"]["lung_ml"], rel=1e-3)
    assert left == pytest.approx(findings["left"]["lung_ml"], rel=1e-3)
    assert sum(types) == pytest.approx(findings["both"]["lesion_ml"], rel=1e-3)
