"""Real CT series, if they are available, for properties that synthetic ones lack."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from groundglass.scan.find import find_series
from groundglass.scan.volume import Series

MIRROR = Path(os.environ.get("GROUNDGLASS_MIRROR", ""), "dicom")
RICORD = MIRROR / "MIDRC-RICORD-1A-419639-001012"
FIXTURE = MIRROR / "lungmask-fixture"
pytestmark = pytest.mark.skipif(
    not (RICORD.is_dir() and FIXTURE.is_dir()), reason="GROUNDGLASS_MIRROR names no folder with dicom series"
)


@pytest.fixture(scope="module")
def ricord() -> Series:
    listing = find_series([RICORD])
    assert len(listing.series) == 1
    assert listing.failures == ()
    return listing.series[0]


def test_the_spacing_is_that_of_the_positions_not_of_the_header(ricord: Series) -> None:
    assert (ricord.slices, ricord.rows, ricord.columns) == (124, 512, 512)
    assert ricord.spacing == pytest.approx((2.5, 0.703125, 0.703125))
    assert (ricord.plane, ricord.modality, ricord.kernel) == ("axial", "CT", "STANDARD")
    assert ricord.usable
    assert ricord.warnings == ()


def test_padding_is_air_and_the_slices_run_from_belly_to_neck(ricord: Series) -> None:
    volume = ricord.load()
    belly, chest, neck = (volume.read(number) for number in (5, 50, 120))
    for pixels in (belly, chest, neck):
        assert pixels.min() == -1024
        assert pixels[0, 0] == -1024
    body = [float((pixels > -200).mean()) for pixels in (belly, chest, neck)]
    assert body[0] > body[1] > body[2]
    table, above = chest[450:, 200:312].max(), chest[:30, 200:312].max()
    assert table > -700 > above


@pytest.mark.skipif(shutil.which("dcmdjpeg") is None, reason="dcmtk's dcmdjpeg is not installed")
def test_lossless_jpeg_is_what_dcmtk_decodes(tmp_path: Path) -> None:
    import pydicom

    from groundglass.scan.dicom.headers import read_header
    from groundglass.scan.dicom.pixels import stored_values
    from groundglass.scan.members import found
    from groundglass.scan.volume import Member

    for path in sorted(RICORD.iterdir())[::40]:
        plain = tmp_path / "plain.dcm"
        subprocess.run(["dcmdjpeg", str(path), str(plain)], check=True)
        dataset = pydicom.dcmread(plain)
        stored = np.frombuffer(dataset.PixelData, "<i2").reshape(512, 512)
        np.testing.assert_array_equal(stored_values(read_header(found(Member(path)))[0]), stored)


def test_a_minimal_header_is_enough() -> None:
    (series,) = find_series([FIXTURE]).series
    assert series.slices == 2
    assert any("no modality" in warning for warning in series.warnings)
    volume = series.load()
    assert volume.geometry is not None
    assert volume.geometry.spacing == pytest.approx((1.0, 0.625, 0.625))
    assert volume.read(0).min() == -1024
    assert volume.scan_id == "ct"
