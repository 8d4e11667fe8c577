from pathlib import Path

import pytest

from groundglass.phantom import Lesion, make_phantom, write_phantom
from groundglass.segment.segmenter import Segmenter
from segmenter_stub import threshold_segmenter


@pytest.fixture(scope="session")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    return Segmenter.load(threshold_segmenter(tmp_path_factory.mktemp("segmenter")))


@pytest.fixture(scope="session")
def phantom_slices(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Slices of a phantom with ground glass in its right lung, their true masks in ``lungs`` and ``lesions``."""
    lesions = [Lesion("ground glass", 120, side="right")]
    return write_phantom(
        make_phantom(1, shape=(9, 192, 160), lesions=lesions), tmp_path_factory.mktemp("phantom")
    )
