import numpy as np
import pandas as pd
import pytest

from groundglass.audit import label_prediction
from groundglass.audit import measures as auc
from groundglass.audit.data.label_from_picture import LabelFromGreyLevels, LabelFromThumbnail
from groundglass.audit.material import Material, SmallPictures

COUNT = 60


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(label_prediction, "TREES", 15)
    monkeypatch.setattr(auc, "RESAMPLES", 200)


def made(seed=5):
    grey = np.random.default_rng(seed).integers(60, 180, (COUNT, 128, 128), dtype=np.uint8)
    manifest = pd.DataFrame(
        {
            "path": [f"/made/{number}.png" for number in range(COUNT)],
            "label": ["covid", "not covid"] * (COUNT // 2),
            "patient": "",
            "split": "",
            "source": "made",
        }
    )
    nowhere = np.zeros(grey.shape, dtype=bool)
    return Material("made", manifest, SmallPictures(grey, nowhere, nowhere, ()))


def test_a_brighter_class_is_found_and_no_more_than_a_warning():
    material = made()
    material.pictures.grey[material.truth] += 20
    result = LabelFromGreyLevels().run(material)
    assert result.severity == "warning"
    assert result.figure.value == pytest.approx(1)
    assert result.message.startswith("The label can be predicted from grey levels alone: AUC 1.00")
    assert {len(files) for files in result.side_by_side} == {1}


def test_noise_passes_with_its_figure():
    result = LabelFromGreyLevels().run(made())
    assert result.severity is None
    assert 0.2 < result.figure.value < 0.8
    assert "cannot reliably be predicted" in result.message
    assert result.measure == "AUC, 5-fold"


def test_the_position_of_grey_does_not_count():
    material = made()
    cornered = np.sort(material.pictures.grey[material.truth].reshape(COUNT // 2, -1), axis=1)
    before = LabelFromGreyLevels().run(material).figure.value
    material.pictures.grey[material.truth] = cornered.reshape(-1, 128, 128)
    assert LabelFromGreyLevels().run(material).figure.value == pytest.approx(before, abs=0.01)


def test_a_shifted_class_is_found_and_no_more_than_a_warning():
    material = made(seed=7)
    material.pictures.grey[:, 30:90, 30:90] += 60
    material.pictures.grey[material.truth] = np.roll(material.pictures.grey[material.truth], 20, axis=2)
    result = LabelFromThumbnail().run(material)
    assert result.severity == "warning"
    assert result.figure.value == pytest.approx(1)
    assert result.message.startswith("The label can be predicted from a 16 x 16 thumbnail: AUC 1.00")
    assert "part of the difference may be the disease" in result.message


def test_what_is_smaller_than_a_cell_does_not_count():
    material = made(seed=7)
    before = LabelFromThumbnail().run(material)
    stripes = np.where(np.arange(128) % 2, 40, -40)
    material.pictures.grey[material.truth] = material.pictures.grey[material.truth] + stripes
    after = LabelFromThumbnail().run(material)
    assert after.figure.value == pytest.approx(before.figure.value, abs=0.01)
    assert after.severity is None
    assert "cannot reliably be predicted" in after.message
