"""Fixtures: a small series as DICOM with masks, and what is measured of it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ct_series import COLUMNS, FORMS, ROWS, SLICES, Study, label_planes
from numpy.typing import NDArray

from groundglass.detect.setting import LikelihoodRatio
from groundglass.dicom_out import Measured
from groundglass.scan.volume import Origin
from groundglass.segment.extent import DiseaseExtent

MakeStudy = Callable[..., Study]


@pytest.fixture
def make_study(tmp_path: Path) -> MakeStudy:
    """Write a series; ``turns`` are the fields of Origin beside its instances."""

    def make(form: str = "classic", shear: float = 0.0, **turns: bool) -> Study:
        folder = tmp_path / "source"
        folder.mkdir()
        headers, instances = FORMS[form](folder, shear)
        shape = (SLICES, COLUMNS, ROWS) if turns.get("transposed") else (SLICES, ROWS, COLUMNS)
        study = Study(Origin(tuple(instances), **turns), headers, label_planes(shape))
        study.save()
        return study

    return make


@pytest.fixture
def measured() -> Measured:
    return Measured(
        probability=0.8734,
        verdict="covid",
        severity="moderate",
        severity_source="A paper, 2020: under ⅓ of the lungs",
        extent={
            "both": DiseaseExtent(4546.185956789, 120.5, unit_ml=1.0),
            "right": DiseaseExtent(2512.0625, 120.5, unit_ml=1.0),
            "left": DiseaseExtent(2034.123456789, 0.0, unit_ml=1.0),
        },
        bundle_name="covid-ct-lite0",
        bundle_sha256="ab" * 32,
        segmenter_name="lungs-lite0",
        segmenter_sha256="cd" * 32,
        slices_used=5,
        likelihood_ratios=(
            LikelihoodRatio("differential", 2.5, 1.2, 5.1, validated=True),
            LikelihoodRatio("screening", 34.0, 9.0, 99.0, validated=False),
        ),
    )


@pytest.fixture
def montage() -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (31, 41, 3), np.uint8)
