"""Two volumes of one phantom compared, and warnings about limited comparability."""

import copy
import html
import json
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from typer.testing import CliRunner

from groundglass.cli.app import app
from groundglass.commands.followup import NOT_CHECKED, write_follow_up
from groundglass.commands.predict_volumes import predict_volumes
from groundglass.commands.study import Outputs
from groundglass.detect.detector import Detector
from groundglass.errors import GroundglassError
from groundglass.phantom import Phantom, make_phantom
from groundglass.phantom.dicom import write_phantom_dicom
from groundglass.report.followup import LIMIT, follow_up
from groundglass.scan.find import find_series
from groundglass.segment.extent import THIRDS
from pdf_text import pdf_text


@pytest.fixture(scope="module")
def studies(
    tmp_path_factory: pytest.TempPathFactory, covid_phantom: Phantom, usual_detector: Detector
) -> list[Path]:
    """A patient's results without lesions, those with them, another patient's, and the first one's upper half."""
    root, out = tmp_path_factory.mktemp("scans"), tmp_path_factory.mktemp("out")
    shape = covid_phantom.scan.pixels.shape
    phantoms = [make_phantom(1, shape=shape), covid_phantom, make_phantom(2, shape=shape), covid_phantom]
    folders = []
    for number, phantom in enumerate(phantoms):
        files = write_phantom_dicom(phantom, root / str(number))
        for path in files:
            header = pydicom.dcmread(path)
            header.StudyInstanceUID = f"1.2.3.{number}"  # the same patient on another day
            header.save_as(path)
        if number == 3:
            for path in files[: len(files) // 2]:
                path.unlink()
        outputs = Outputs(report=False, nifti=False, dicom=False)
        done = predict_volumes(
            find_series([root / str(number)]), out, detector=usual_detector, outputs=outputs
        )
        folders += done.folders.values()
    return folders


def findings(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "findings.json").read_text()))


def test_the_change_is_that_of_the_phantom(
    studies: list[Path], covid_phantom: Phantom, tmp_path: Path
) -> None:
    compared = write_follow_up(*studies[:2], tmp_path, pdf=True)
    assert [text[:34] for text in compared.warnings] == ["In both volumes: the slices are 12"]
    document = json.loads((tmp_path / "followup.json").read_text())
    assert document == json.loads(json.dumps(compared.to_dict()))
    before, after = map(findings, studies[:2])
    both = document["regions"]["both"]
    true_ml = np.count_nonzero(covid_phantom.lesions) * covid_phantom.voxel_ml
    assert both["lesion_ml"]["change"] == pytest.approx(true_ml, rel=0.35)
    assert both["lesion_ml"]["before"] == before["both"]["lesion_ml"]
    points = 100 * (after["both"]["lesion_share"] - before["both"]["lesion_share"])
    assert both["lesion_share"]["change_points"] == pytest.approx(points, abs=1e-6)
    for side in ("right", "left"):
        thirds = [document["regions"][f"{side}_{third}"]["lesion_ml"]["change"] for third in THIRDS]
        assert sum(thirds) == pytest.approx(document["regions"][side]["lesion_ml"]["change"], abs=0.01)
    assert f"rose by {points:.1f} percentage points" in compared.headline()
    for text in (
        html.unescape((tmp_path / "followup.html").read_text()),
        pdf_text(tmp_path / "followup.pdf"),
    ):
        for shown in (
            compared.headline(),
            LIMIT,
            "right upper third",
            f"+{both['lesion_ml']['change']:.0f} ml",
        ):
            assert shown in text


def test_backwards_the_share_falls(studies: list[Path], tmp_path: Path) -> None:
    compared = write_follow_up(studies[1], studies[0] / "findings.json", tmp_path)
    assert " fell by " in compared.headline()
    assert compared.changes["both"]["lesion_ml"].change < 0
    assert not (tmp_path / "followup.pdf").exists()


def test_nothing_changes_between_a_study_and_itself(studies: list[Path]) -> None:
    compared = follow_up(findings(studies[1]), findings(studies[1]))
    assert "is unchanged" in compared.headline()
    assert {one.change for amounts in compared.changes.values() for one in amounts.values()} == {0.0}


def test_studies_of_different_patients_are_compared_only_on_request(
    studies: list[Path], tmp_path: Path
) -> None:
    runner = CliRunner()
    command = ["report", "followup", str(studies[0]), str(studies[2]), "-o", str(tmp_path)]
    with pytest.raises(GroundglassError, match="are of different patients; --any-patient"):
        runner.invoke(app, command, catch_exceptions=False)
    assert not list(tmp_path.iterdir())
    done = runner.invoke(app, [*command, "--any-patient", "--json"], catch_exceptions=False)
    assert done.exit_code == 0
    assert json.loads(done.stdout)["warnings"][0] == "The two volumes are of different patients."


def test_pseudonyms_of_different_folders_cannot_be_compared(studies: list[Path], tmp_path: Path) -> None:
    other = tmp_path / "other" / "study"
    other.mkdir(parents=True)
    (other / "findings.json").write_text(json.dumps(findings(studies[2])))
    assert write_follow_up(studies[0], other, tmp_path / "out").warnings[0] == NOT_CHECKED


def change_segmenter(found: dict[str, Any]) -> None:
    found["segmenter"]["graph_sha256"] = "0" * 64


def change_version(found: dict[str, Any]) -> None:
    found["groundglass"] = "0.0.1"


def change_spacing(found: dict[str, Any]) -> None:
    found["volume"]["spacing_mm"][0] *= 2


def lose_the_sides(found: dict[str, Any]) -> None:
    found |= {"right": None, "left": None, "zones": {}}


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (change_segmenter, "Different segmenters were used, lungs-lite0"),
        (change_version, "Different versions of Groundglass were used"),
        (change_spacing, "mm apart before and"),
        (
            lose_the_sides,
            "Known for only one of the volumes and therefore not compared: right lung, right upper third",
        ),
    ],
)
def test_a_warning_says_what_makes_volumes_less_comparable(
    studies: list[Path], change: Any, wanted: str
) -> None:
    before = findings(studies[0])
    after = copy.deepcopy(before)
    change(after)
    warning, _ = follow_up(before, after).warnings
    assert wanted in warning


def test_a_volume_that_ends_inside_the_lungs_is_compared_with_a_warning(studies: list[Path]) -> None:
    compared = follow_up(findings(studies[1]), findings(studies[3]))
    assert list(compared.changes) == ["both", "right", "left"]
    assert any("In the volume after: the lungs extend below the volume" in text for text in compared.warnings)
    assert any("not compared: right upper third" in text for text in compared.warnings)


def test_what_has_no_follow_up_is_refused(studies: list[Path], tmp_path: Path) -> None:
    found = findings(studies[0])
    refused = found | {"verdict": "not a chest CT", "reason": "lungs were found on 0 of 20 slices"}
    with pytest.raises(GroundglassError, match="the study after is not a chest CT"):
        follow_up(found, refused)
    with pytest.raises(GroundglassError, match="the study before contains pictures"):
        follow_up({"verdict": "covid"}, found)
    with pytest.raises(GroundglassError, match="does not contain findings"):
        write_follow_up(studies[0], tmp_path / "missing", tmp_path / "out")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(GroundglassError, match="does not contain the findings of a single study"):
        write_follow_up(studies[0], tmp_path / "list.json", tmp_path / "out")
