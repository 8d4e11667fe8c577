import numpy as np
import pandas as pd
import pytest

from groundglass.audit import label_prediction
from groundglass.audit import measures as auc
from groundglass.audit.check import NotApplicable
from groundglass.audit.data.label_from_picture import LabelWithoutLungs, most_confident
from groundglass.audit.material import Material, SmallPictures

COUNT = 60


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(label_prediction, "TREES", 15)
    monkeypatch.setattr(auc, "RESAMPLES", 200)


def made(split=""):
    """Noise with lungs, every second slice labelled covid."""
    grey = np.random.default_rng(3).integers(60, 180, (COUNT, 128, 128), dtype=np.uint8)
    lungs = np.zeros(grey.shape, dtype=bool)
    lungs[:, 40:90, 25:55] = lungs[:, 40:90, 75:105] = True
    manifest = pd.DataFrame(
        {
            "path": [f"/made/{number}.png" for number in range(COUNT)],
            "label": ["covid", "not covid"] * (COUNT // 2),
            "patient": [f"p{number}" for number in range(COUNT)],
            "split": split,
            "source": "made",
        }
    )
    return Material("made", manifest, SmallPictures(grey, lungs, np.zeros_like(lungs), ()))


def test_a_label_coloured_border_is_found():
    material = made(split=["train"] * 40 + ["test"] * 20)
    material.pictures.grey[material.truth, :4] = 200
    result = LabelWithoutLungs().run(material)
    assert result.severity == "error"
    assert result.figure.value == pytest.approx(1)
    assert result.message.startswith(
        "The label can be predicted without any lung: from the border with AUC 1.00"
    )
    assert [cells[2] for cells in result.rows[:2]] == ["1.00 (1.00 to 1.00)"] * 2
    shown = [int(file.split("/")[-1].removesuffix(".png")) % 2 for (file,) in result.side_by_side]
    assert shown == [0, 1] * 4
    assert result.files == tuple(file for (file,) in result.side_by_side)


def test_the_content_of_the_lungs_is_not_seen():
    material = made()
    material.pictures.grey[material.pictures.lungs & material.truth[:, None, None]] = 200
    result = LabelWithoutLungs().run(material)
    assert result.severity is None
    assert result.message.startswith("The label cannot reliably be predicted without any lung: ")
    assert result.figure.low < 0.6
    assert result.side_by_side == ()
    assert result.rows[0][2] == "no such part"


def test_slices_without_lungs_are_left_out_and_counted():
    material = made()
    material.pictures.lungs[:6] = False
    material.pictures.grey[:6] = np.where(material.truth[:6, None, None], 255, 0)
    result = LabelWithoutLungs().run(material)
    assert result.message.endswith(" 6 of 60 slices, on which no lungs were found, are left out.")
    assert result.severity is None


def test_lungs_on_one_class_alone_are_not_enough():
    material = made()
    material.pictures.lungs[material.truth] = False
    with pytest.raises(NotApplicable, match="fewer than two groups"):
        LabelWithoutLungs().run(material)


def test_the_surest_are_right_and_of_different_groups():
    truth = np.array([True, True, True, True, False, False])
    scores = np.array([0.9, 0.95, 0.6, 0.2, 0.4, 0.7])
    units = np.array([0, 0, 1, 2, 3, 4])
    paths = np.array(list("abcdef"), dtype=object)
    assert most_confident(scores, truth, units, paths) == ("b", "e", "c")
    assert most_confident(scores, truth, units, paths, each=1) == ("b", "e")
