from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from groundglass.audit.data.appearance import BurntIn
from groundglass.audit.marks import Marks
from groundglass.audit.material import Material, SmallPictures

COUNT = 80


def made(marks, labels=("covid", "not covid"), patients=None):
    count = len(marks)
    manifest = pd.DataFrame(
        {
            "path": [f"/made/{number}.png" for number in range(count)],
            "label": [labels[number % len(labels)] for number in range(count)],
            "patient": patients or "",
            "split": "",
            "source": "made",
        }
    )
    grey = np.zeros((count, 128, 128), dtype=np.uint8)
    return Material("made", manifest, SmallPictures(grey, grey > 0, grey > 0, tuple(marks)))


def details(result):
    return {cells[0]: dict(zip(result.header, cells, strict=True)) for cells in result.rows}


def lettered(of_covid, of_others):
    """Marks of slices of alternating classes, given shares of which have a letter."""
    number = np.arange(COUNT // 2)
    carry = [(number < share * COUNT / 2).tolist() for share in (of_covid, of_others)]
    return [Marks(text=int(carry[place % 2][place // 2])) for place in range(COUNT)]


def test_letters_on_one_class_are_a_warning_with_their_figures():
    marks = lettered(0.9, 0.1)
    material = made(marks)
    result = BurntIn().run(material)
    assert (result.severity, result.measure) == ("warning", "AUC, 5-fold")
    assert result.figure.value == pytest.approx(0.9, abs=0.05)
    assert "40 of 80 slices (50%): 90.0% of covid, 10.0% of not covid" in result.message
    assert (
        f"The label can be predicted from their number and the area they cover: AUC {result.figure.value:.2f} ("
        in result.message
    )
    by_hand = roc_auc_score(material.truth, [one.text for one in marks])
    row = details(result)["letters"]
    assert (row["covid slices"], row["not covid slices"]) == ("90.0%", "10.0%")
    assert row["AUC of their number"].startswith(f"{by_hand:.2f} (")
    assert details(result)["arrows"]["AUC of their number"].startswith("0.50")
    assert details(result)["any of them"] == {**row, "Marks": "any of them"}
    assert result.files == tuple(material.paths[[one.found for one in marks]])


def test_it_is_never_more_than_a_warning():
    assert BurntIn().run(made(lettered(1, 0))).severity == "warning"


def test_arrows_on_the_other_class_are_found_too():
    marks = [Marks(arrows=number % 2) for number in range(COUNT)]
    result = BurntIn().run(made(marks))
    assert result.severity == "warning"
    assert result.figure.value == pytest.approx(1)
    assert details(result)["arrows"]["AUC of their number"].startswith("0.00")


def test_common_marks_are_a_note_even_if_both_classes_have_them():
    result = BurntIn().run(made(lettered(0.5, 0.5)))
    assert result.severity == "note"
    assert "cannot reliably be predicted" in result.message
    assert len(result.files) == 40


def test_a_few_marks_in_both_classes_pass_with_their_figure():
    result = BurntIn().run(made(lettered(0.05, 0.05)))  # 4 of 80, not over 5%
    assert result.severity is None
    assert result.figure.value is not None
    assert (result.files, result.side_by_side) == ((), ())


def test_no_marks_pass():
    result = BurntIn().run(made([Marks()] * 10))
    assert result.severity is None
    assert result.message == "No burnt-in marks were seen on any of the 10 slices."


@pytest.mark.parametrize(
    ("labels", "patients"),
    [(("covid",), None), (("covid", "not covid"), ["a", "b"] * 5)],
    ids=["one class", "one patient a class"],
)
def test_marks_are_noted_even_without_labels_to_predict(labels, patients):
    result = BurntIn().run(made([Marks(text=2)] * 10, labels, patients))
    assert (result.severity, result.figure.value) == ("note", None)
    assert "seen on 10 of 10 slices (100%)" in result.message
    assert result.rows


def test_the_most_marked_are_shown_one_of_a_patient():
    marks = [Marks(text=1)] * 16
    marks[5] = Marks(text=9)
    marks[7] = replace(marks[5], rulers=1)
    patients = [f"p{number // 2}" for number in range(16)]
    shown = BurntIn().run(made(marks, ("covid", "covid", "not covid", "not covid"), patients)).side_by_side
    assert shown[:2] == (("/made/7.png",), ("/made/5.png",))
    assert len(shown) == 8
    assert {len(files) for files in shown} == {1}
