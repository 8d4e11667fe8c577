from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest

from groundglass.audit import measures as auc
from groundglass.audit.check import NotApplicable
from groundglass.audit.data.label_from_picture import WindowingByClass
from groundglass.audit.marks import Marks, find_marks
from groundglass.audit.material import SIDE, Material, SmallPictures, small_picture
from groundglass.phantom import make_phantom
from groundglass.scan.scan import LUNG_WINDOW, apply_window

COUNT = 60


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(auc, "RESAMPLES", 200)


def material_of(grey, lungs, marks, patients=""):
    count = len(marks)
    manifest = pd.DataFrame(
        {
            "path": [f"/made/{number}.png" for number in range(count)],
            "label": [("covid", "not covid")[number % 2] for number in range(count)],
            "patient": patients,
            "split": "",
            "source": "made",
        }
    )
    return Material("made", manifest, SmallPictures(grey, lungs, np.zeros_like(lungs), tuple(marks)))


def drawn(shift=0.0, count=COUNT, patients="", **constant):
    """Levels drawn equally for both classes, except for a shift of COVID-19's soft tissue; no lungs."""
    random = np.random.default_rng(3)
    marks = [
        Marks(
            **{
                "air": random.normal(50, 5),
                "soft": random.normal(200, 5) + shift * (number % 2 == 0),
                "black": random.random() / 10,
                "white": random.random() / 10,
                **constant,
            }
        )
        for number in range(count)
    ]
    nothing = np.zeros((count, SIDE, SIDE), dtype=bool)
    return material_of(nothing.astype(np.uint8), nothing, marks, patients)


@cache
def person(seed):
    return make_phantom(seed, shape=(3, SIDE, SIDE))


def phantoms(windows):
    """Slices of phantoms, each a patient, alternately in one window and the other, with their lungs."""
    greys, lungs, marks = [], [], []
    for seed in range(12):
        phantom = person(seed)
        grey = np.rint(255 * apply_window(phantom.scan.pixels[1], *windows[seed % 2])).astype(np.uint8)
        greys.append(small_picture(grey))
        lungs.append(small_picture(phantom.lungs[1] > 0))
        marks.append(find_marks(grey))
    return material_of(np.array(greys), np.array(lungs), marks)


def details(result):
    return {cells[0]: dict(zip(result.header, cells, strict=True)) for cells in result.rows}


def test_classes_in_windows_of_their_own_are_an_error():
    result = WindowingByClass().run(phantoms((LUNG_WINDOW, (-500, 1900))))
    assert (result.severity, result.figure.value) == ("error", 1)
    assert "The label can be predicted from grey levels" in result.message
    assert "): AUC 1.00" in result.message
    air = details(result)["air around the body"]
    # Air of -1000 HU is 350 HU above the lower end of one window, and 450 HU above that of the other.
    assert float(air["covid median"]) == pytest.approx(255 * 350 / 1500, abs=2)
    assert float(air["not covid median"]) == pytest.approx(255 * 450 / 1900, abs=2)
    soft = details(result)["soft tissue"]
    # Tissue of 30 HU is 1380 HU above the one, and 1480 HU above the other.
    assert float(soft["covid median"]) == pytest.approx(255 * 1380 / 1500, abs=12)
    assert float(soft["not covid median"]) == pytest.approx(255 * 1480 / 1900, abs=12)


def test_one_window_for_all_passes():
    result = WindowingByClass().run(phantoms((LUNG_WINDOW, LUNG_WINDOW)))
    assert result.severity is None
    assert "cannot reliably be predicted" in result.message
    assert (result.files, result.side_by_side) == ((), ())


def test_the_level_that_differs_is_named():
    result = WindowingByClass().run(drawn(shift=20))
    assert result.severity == "error"
    assert "The best single one is soft tissue, with AUC 0.99" in result.message
    alone = {name: cells["AUC, cross-validated"] for name, cells in details(result).items()}
    assert all(0.2 < float(alone[name][:4]) < 0.8 for name in alone if name != "soft tissue")
    assert {len(files) for files in result.side_by_side} == {1}
    assert result.files == tuple(file for (file,) in result.side_by_side)


def test_a_slight_shift_is_a_warning():
    result = WindowingByClass().run(drawn(shift=5, count=200))
    assert result.severity == "warning"
    assert 0.6 <= result.figure.low < 0.75


def test_levels_that_differ_by_chance_pass():
    result = WindowingByClass().run(drawn())
    assert result.severity is None
    assert 0.2 < result.figure.value < 0.8


def test_shares_are_given_in_percent():
    cells = details(WindowingByClass().run(drawn(white=0.0625)))["pure white"]
    assert (cells["covid median"], cells["not covid median"]) == ("6.25%", "6.25%")


def test_missing_levels_are_reported_and_count():
    material = drawn()
    lacking = [
        replace(one, air=float("nan") if covid else 50.0)
        for one, covid in zip(material.pictures.marks, material.truth, strict=True)
    ]
    result = WindowingByClass().run(material_of(material.pictures.grey, material.pictures.lungs, lacking))
    assert (result.severity, result.figure.value) == ("error", pytest.approx(1))
    assert result.message.endswith("A level that was not found, on 50% of slices, counts as -1.")
    air = details(result)["air around the body"]
    assert (air["covid median"], air["not covid median"]) == ("not found", "50")


def test_levels_that_are_partly_found_say_so():
    material = drawn()
    marks = list(material.pictures.marks)
    marks[0] = Marks(soft=200)
    result = WindowingByClass().run(material_of(material.pictures.grey, material.pictures.lungs, marks))
    assert details(result)["air around the body"]["covid median"].endswith("(not found on 1 of 30)")


def test_lungs_do_not_count_in_what_is_outside_them():
    material = phantoms((LUNG_WINDOW, LUNG_WINDOW))
    before = details(WindowingByClass().run(material))["all but the lungs"]
    material.pictures.grey[material.pictures.lungs] = 255
    assert details(WindowingByClass().run(material))["all but the lungs"] == before


def test_without_lungs_their_outside_is_left_out():
    assert "all but the lungs" not in details(WindowingByClass().run(drawn()))


def test_a_class_of_one_patient_does_not_apply():
    with pytest.raises(NotApplicable, match="fewer than two groups"):
        WindowingByClass().run(drawn(count=8, patients=["a", "b"] * 4))
