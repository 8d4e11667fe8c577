"""One real series from end to end: COVID-positive, JPEG lossless, every second slice of the scan."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from groundglass.commands.predict_volumes import predict_volumes
from groundglass.detect.detector import Detector
from groundglass.labels import UNCERTAIN
from groundglass.scan.find import find_series

SERIES = Path("dicom", "MIDRC-RICORD-1A-419639-001012")


@pytest.fixture(scope="module")
def series() -> Path:
    mirror = os.environ.get("GROUNDGLASS_MIRROR")
    if not mirror or not (Path(mirror) / SERIES).is_dir():
        pytest.skip(f"GROUNDGLASS_MIRROR names no folder with {SERIES}")
    return Path(mirror) / SERIES


def test_a_real_patient(series: Path, tmp_path: Path, shipped_detector: Detector) -> None:
    result = predict_volumes(find_series([series]), tmp_path, detector=shipped_detector)
    (row,) = result.rows
    assert not result.failures
    study = tmp_path / row["study"]
    findings = json.loads((study / "findings.json").read_text())
    # SliceThickness says 1.25; the positions say otherwise.
    assert findings["volume"]["spacing_mm"] == pytest.approx([2.5, 0.703125, 0.703125])
    # Only the amount of lesion speaks for COVID-19 here, which counts for screening.
    assert row["verdict"] == UNCERTAIN
    assert row["reason"].startswith("lesions present, cause open")
    assert row["likelihood_ratio_screening"] > 10
    assert 2500 < row["both_lung_ml"] < 3500
    assert 0.03 < row["both_lesion_share"] < 0.15
    assert row["right_lung_ml"] > 1000
    assert row["left_lung_ml"] > 1000
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not here: apt install dicom3tools")
    for name in ("sr", "seg", "sc"):
        checked = subprocess.run(
            ["dciodvfy", study / f"{name}.dcm"], capture_output=True, text=True, check=False
        )
        assert "Error" not in checked.stderr + checked.stdout
