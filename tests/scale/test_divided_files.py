"""Files of one command that several processes answer: the same answers, in the same order."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ray", reason="Ray is not installed (extra scale)")

from PIL import Image

from groundglass.detect.detector import Detector
from groundglass.detect.findings import SliceFinding
from groundglass.errors import GroundglassError, ScanError
from groundglass.phantom import make_phantom, write_phantom
from groundglass.preprocess import Preprocessing
from groundglass.scale import protect
from groundglass.scale.cohort import Workers
from groundglass.scale.files import FILES, divided, header_reader
from groundglass.scan.find import find_series

pytestmark = [pytest.mark.timeout(200), pytest.mark.usefixtures("own_ray")]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """More slices than two workers take at once, one that is not a chest CT, and one that is missing."""
    folder = tmp_path_factory.mktemp("slices")
    slices = write_phantom(make_phantom(1, shape=(2 * FILES, 96, 96)), folder)
    Image.linear_gradient("L").save(folder / "blob.png")
    return [*slices[:FILES], folder / "missing.png", *slices[FILES:], folder / "blob.png"]


def test_workers_answer_files_as_one_process_does(usual_detector: Detector, files: list[Path]) -> None:
    segmenter = usual_detector.segmenter
    assert segmenter is not None
    with divided(2) as divide:
        findings, masks = divide(usual_detector).predict_files(files), divide(segmenter).segment_files(files)
        findings, masks = list(findings), list(masks)
    assert [path for path, _ in findings] == files
    for (_, one), (_, other) in zip(findings, usual_detector.predict_files(files), strict=True):
        assert isinstance(one, ScanError) == isinstance(other, ScanError)
        if isinstance(one, SliceFinding) and isinstance(other, SliceFinding):
            assert replace(one, view=None) == replace(other, view=None)
    for (path, one), (_, other) in zip(masks, segmenter.segment_files(files), strict=True):
        if isinstance(other, ScanError):
            assert (path.name, str(one)) == ("missing.png", str(other))
            continue
        np.testing.assert_array_equal(one[1].lungs, other[1].lungs)
        np.testing.assert_array_equal(one[0].pixels, other[0].pixels)


def test_an_error_in_a_worker_is_the_error_of_the_command(files: list[Path]) -> None:
    def broken(slices: np.ndarray) -> np.ndarray:
        return np.full(len(slices), np.nan)

    detector = Detector.of_function(broken, Preprocessing(size=(32, 32), channels=1), lungs=False)
    with divided(1) as divide, pytest.raises(GroundglassError) as caught:
        list(divide(detector).predict_files(files[:2]))
    with pytest.raises(GroundglassError) as alone:
        list(detector.predict_files(files[:2]))
    assert str(caught.value) == str(alone.value)


def test_workers_read_headers_as_one_process_does(cohort: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cohort / "study0" / "broken.dcm").write_bytes(b"no DICOM")
    monkeypatch.setattr("groundglass.scale.files.MANY", 3)
    monkeypatch.setattr("groundglass.scale.files.HEADERS", 4)
    monkeypatch.chdir(cohort)
    listed, expected = find_series(["."], read=header_reader(Workers(2))), find_series(["."])
    facts = ("source", "slices", "spacing", "problem", "warnings", "number", "patient", "study", "content")
    for one, other in zip(listed.series, expected.series, strict=True):
        assert [getattr(one, fact) for fact in facts] == [getattr(other, fact) for fact in facts]
        if one.usable:
            np.testing.assert_array_equal(one.load().read(0), other.load().read(0))
    assert list(map(str, listed.failures)) == list(map(str, expected.failures))
    (cohort / "study0" / "broken.dcm").unlink()


def test_a_ray_of_ones_own_has_a_token() -> None:
    code = "import os; from groundglass.scale import protect; protect(); print(len(os.environ['RAY_AUTH_TOKEN']))"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout == "64\n"
    protect()  # Ray was imported without a token, so it is too late for one
    assert "RAY_AUTH_TOKEN" not in os.environ
