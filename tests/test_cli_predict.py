import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from dicom_faults import write_faulty_dicom, write_series
from groundglass.cli import predict as cli_predict
from groundglass.cli.app import app
from groundglass.detect.detector import Detector
from groundglass.phantom import Phantom
from groundglass.phantom.dicom import write_phantom_dicom
from groundglass.phantom.volumes import write_phantom_nifti
from groundglass.scan.scan import apply_window


@pytest.fixture(autouse=True)
def _loaded(shipped_detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_predict, "_load_detector", lambda *_: shipped_detector)


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory, covid_phantom: Phantom) -> Path:
    folder = tmp_path_factory.mktemp("series")
    write_phantom_dicom(covid_phantom, folder, syntax="rle")
    return folder


def run(*words: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


def test_a_volume_is_one_line(series: Path) -> None:
    code, out, err = run("predict", series)
    assert code == 0
    (line,) = out.splitlines()
    assert line.startswith(("covid ", "uncertain "))
    assert "LR differential " in line
    assert " ml)" in line
    assert "CT-1, mild" in line
    assert str(series) in line
    assert "not a medical device" in err


def test_with_a_folder_the_report_is_named(series: Path, tmp_path: Path) -> None:
    code, out, _ = run("predict", series, "-o", tmp_path, "--no-nifti", "--no-dicom")
    assert code == 0
    report = next(line.removeprefix("Report: ") for line in out.splitlines() if line.startswith("Report"))
    page = Path(report).read_text()
    assert page.count('"j"') == 20
    assert "Montage" in page
    assert (tmp_path / "patients.html").exists()
    assert Path(report).parent.name in (tmp_path / "patients.html").read_text()
    _, _, err = run("predict", series, "-o", tmp_path, "--no-nifti", "--no-dicom")
    assert "already done: 1 of 1 studies" in err


def test_at_an_address_the_report_is_named_by_it(
    series: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without workers, which need Ray: the temporary folder is copied to the address at the end."""
    pytest.importorskip("fsspec")
    monkeypatch.setattr(cli_predict, "_crew", lambda *_: {})
    code, out, err = run("predict", series, "-o", f"file://{tmp_path}/out", "--no-nifti", "--no-dicom")
    assert code == 0, err
    report, table = (line.partition(": file://")[2] for line in out.splitlines()[-2:])
    assert Path(report).parent.parent == Path(table).parent == tmp_path / "out"
    assert Path(report).exists()
    assert Path(table).exists()


def test_warnings_about_a_volume_are_printed(covid_phantom: Phantom, tmp_path: Path) -> None:
    write_faulty_dicom(covid_phantom, tmp_path / "gap", fault="missing-slices", seed=4)
    code, out, err = run("predict", tmp_path / "gap")
    assert code == 0
    assert "slices missing, between" in err
    assert "slices missing" not in out


def test_json_is_one_document(series: Path) -> None:
    _, out, _ = run("predict", series, "--json")
    document = json.loads(out)
    assert sum(document["summary"][verdict] for verdict in ("covid", "uncertain")) == 1
    assert document["patients"][0]["both_lung_ml"] > 1000


def test_pictures_and_volumes_together(series: Path, tmp_path: Path, covid_phantom: Phantom) -> None:
    shutil.copytree(series, tmp_path / "in" / "ct")
    Image.linear_gradient("L").save(tmp_path / "in" / "slice.png")
    (tmp_path / "in" / "broken.dcm").write_text("no DICOM")
    code, out, err = run("predict", tmp_path / "in", "--json")
    document = json.loads(out)
    assert len(document["slices"]) == 1
    assert len(document["volumes"]["patients"]) == 1
    assert code == 3
    assert err.count("broken.dcm") == 1


def test_what_could_not_be_read_is_in_the_json(tmp_path: Path) -> None:
    (tmp_path / "broken.dcm").write_text("no DICOM")
    code, out, _ = run("predict", tmp_path, "--json")
    assert code == 1
    assert "is not a DICOM file" in json.loads(out)["failures"][0]["problem"]


def test_anonymised_results_name_nobody(series: Path, tmp_path: Path) -> None:
    import pydicom

    own = pydicom.dcmread(next(series.iterdir()), stop_before_pixels=True)
    run("predict", series, "-o", tmp_path, "--anonymise", "--no-nifti")
    (study,) = (path.parent for path in tmp_path.rglob("sr.dcm"))
    for name in ("sr.dcm", "seg.dcm", "sc.dcm"):
        content = (study / name).read_bytes()
        for secret in (str(own.PatientName), own.PatientID, own.StudyInstanceUID, own.SOPInstanceUID):
            assert secret.encode() not in content
        assert pydicom.dcmread(study / name).PatientIdentityRemoved == "YES"


def test_scan_lists_without_naming_anybody(series: Path, tmp_path: Path, covid_phantom: Phantom) -> None:
    shutil.copytree(series, tmp_path / "ct")
    write_faulty_dicom(covid_phantom, tmp_path / "scout", fault="localizer-alone", seed=4)
    write_phantom_nifti(covid_phantom, tmp_path / "ct[red].nii.gz")
    code, out, _ = run("scan", tmp_path)
    assert code == 0
    assert "3 series" in out
    assert "ct[red]" in out.replace("\n", "")
    assert "is a localizer" in out
    assert "PHANTOM" not in out.upper().replace(str(tmp_path).upper(), "")
    _, out, _ = run("scan", tmp_path, "--json")
    listed = json.loads(out)["series"]
    assert [one["usable"] for one in listed].count(True) == 2
    assert {one["kind"] for one in listed} == {"dicom", "nifti"}
    assert next(one for one in listed if one["kind"] == "dicom" and one["usable"])["slices"] == 20


def test_a_kernel_that_looks_like_markup(tmp_path: Path, covid_phantom: Phantom) -> None:
    write_series(covid_phantom, tmp_path, ConvolutionKernel="[/b]\x1b[31m")
    code, out, _ = run("scan", tmp_path)
    assert code == 0
    assert "[/b]" in out
    assert "\x1b" not in out


def test_a_refused_picture_is_printed_without_a_probability(tmp_path: Path) -> None:
    Image.linear_gradient("L").save(tmp_path / "slice.png")
    code, out, _ = run("predict", tmp_path / "slice.png")
    assert code == 0
    assert re.match(rf"not a chest CT +{re.escape(str(tmp_path))}/slice.png: no lungs", out)


def test_heatmaps_within_the_input_are_not_read_as_slices(tmp_path: Path, covid_phantom: Phantom) -> None:
    pixels = apply_window(covid_phantom.scan.pixels[10], -600, 1500)
    Image.fromarray((pixels * 255).astype("uint8")).save(tmp_path / "slice.png")
    for _ in range(2):
        _, out, _ = run("predict", tmp_path, "-o", tmp_path, "--json")
        assert len(json.loads(out)["slices"]) == 1
    assert (tmp_path / "heatmaps" / "slice.png").exists()
