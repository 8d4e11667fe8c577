import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2

from groundglass.audit.data.counts import ClassBalance
from groundglass.audit.material import Material, SmallPictures


def made(*counts, patient=""):
    """Slices by (part, source, covid, not covid)."""
    rows = [
        {"label": label, "split": part, "source": source}
        for part, source, *numbers in counts
        for label, number in zip(("covid", "not covid"), numbers, strict=True)
        for _ in range(number)
    ]
    manifest = pd.DataFrame(rows)
    manifest["path"] = [f"/made/{number}.png" for number in range(len(rows))]
    manifest["patient"] = patient
    nothing = np.zeros((len(rows), 1, 1))
    return Material("made", manifest, SmallPictures(nothing.astype(np.uint8), nothing > 0, nothing > 0, ()))


def test_balanced_data_pass_and_give_the_accuracy_of_a_constant_answer():
    result = ClassBalance().run(made(("train", "a", 40, 60), ("test", "a", 20, 30)))
    assert result.severity is None
    assert result.figure.value == pytest.approx(0.6)
    assert (
        result.message == "90 of 150 slices are not covid: always answering that is correct for 60% of them."
    )
    assert result.rows == (
        ("all", "150", "60", "90", "60%"),
        ("train set", "100", "40", "60", "60%"),
        ("test set", "50", "20", "30", "60%"),
    )


@pytest.mark.parametrize(("positives", "severity"), [(25, None), (24, "warning")])
def test_more_than_three_to_one_is_a_warning(positives, severity):
    result = ClassBalance().run(made(("", "a", positives, 75)))
    assert result.severity == severity
    assert ("One class is more than 3 times as frequent as the other: all" in result.message) == (
        severity is not None
    )


def test_a_part_of_one_class_is_an_error():
    result = ClassBalance().run(made(("train", "a", 30, 30), ("test", "a", 20, 0)))
    assert result.severity == "error"
    assert "Only one class: test set (20 covid, 0 not)." in result.message


def test_a_source_of_one_class_is_an_error_if_it_has_some_groups():
    result = ClassBalance().run(made(("", "a", 30, 30), ("", "b", 20, 0), ("", "c", 0, 9)))
    assert result.severity == "error"
    assert "the source alone reveals the label: source b (20 covid, 0 not)." in result.message
    assert "fewer than 10 patients or groups: source c (0 covid, 9 not)." in result.message
    few = ClassBalance().run(made(("", "a", 30, 30), ("", "c", 0, 9)))
    assert few.severity == "warning"


def test_data_of_one_class_report_only_that():
    result = ClassBalance().run(made(("train", "a", 30, 0), ("test", "b", 20, 0)))
    assert result.severity == "error"
    assert result.message.endswith(
        "There is no slice of the other class, so there is nothing to distinguish."
    )


def test_parts_that_differ_by_more_than_chance_are_a_warning():
    result = ClassBalance().run(made(("train", "a", 60, 40), ("test", "a", 40, 60)))
    # With Yates' correction, by hand: each of the four cells is 9.5 from the 50 that are expected.
    p_value = chi2.sf(4 * 9.5**2 / 50, 1)
    assert p_value < 0.01
    assert result.severity == "warning"
    assert f"by more than chance (p {p_value:.1g})" in result.message


def test_slices_of_one_patient_count_once_between_parts():
    parts = (("train", "a", 60, 40), ("test", "a", 40, 60))
    patient = [f"p{number // 20}" for number in range(200)]
    assert ClassBalance().run(made(*parts, patient=patient)).severity is None
