from math import sqrt

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from groundglass.audit.check import NotApplicable
from groundglass.audit.data.counts import TooFewPatients, half_width, needed, standard_error
from groundglass.audit.material import Material, SmallPictures


def made(positives, negatives, part="", patients=True):
    """Patients with this many slices each."""
    rows = [
        {"label": label, "patient": f"{label} {patient}" if patients else "", "split": part}
        for label, counts in (("covid", positives), ("not covid", negatives))
        for patient, count in enumerate(counts)
        for _ in range(count)
    ]
    manifest = pd.DataFrame(rows).assign(source="made")
    manifest["path"] = [f"/made/{number}.png" for number in range(len(rows))]
    nothing = np.zeros((len(rows), 1, 1))
    return Material("made", manifest, SmallPictures(nothing.astype(np.uint8), nothing > 0, nothing > 0, ()))


@pytest.mark.parametrize(
    ("positives", "negatives", "published"),
    [(20, 200, 0.06498283), (110, 110, 0.03282048), (20, 20, 0.07789072)],
)
def test_the_standard_error_is_that_of_auctestr(positives, negatives, published):
    # The examples of se_auc with an AUC of 0.75 in the manual of the R package auctestr 1.0.0, by Hanley & McNeil.
    assert standard_error(0.75, positives, negatives) == pytest.approx(published, abs=5e-9)


def test_the_standard_error_is_that_of_exponential_scores():
    # Hanley & McNeil assume exponential scores: their AUC is scale / (1 + scale).
    generator = np.random.default_rng(0)
    truth = np.arange(90) < 40
    areas = [roc_auc_score(truth, generator.exponential(np.where(truth, 4.0, 1.0))) for _ in range(800)]
    assert np.mean(areas) == pytest.approx(0.8, abs=0.01)
    assert np.std(areas) == pytest.approx(standard_error(0.8, 40, 50), rel=0.08)


@pytest.mark.parametrize("area", [0.5, 0.8, 0.9, 0.95, 1.0])
@pytest.mark.parametrize("aim", [0.05, 0.025])
def test_exactly_this_many_are_needed(area, aim):
    count = needed(area, aim)
    assert half_width(area, count, count) <= aim
    assert count == 1 or half_width(area, count - 1, count - 1) > aim


def test_few_patients_are_a_warning_with_the_interval_by_hand():
    result = TooFewPatients().run(made([1] * 30, [1] * 30))
    q1, q2 = 0.9 / 1.1, 2 * 0.81 / 1.9
    by_hand = 1.959964 * sqrt((0.09 + 29 * (q1 - 0.81) + 29 * (q2 - 0.81)) / 900)
    assert result.severity == "warning"
    assert result.figure.value == pytest.approx(by_hand)
    assert f"95% interval {0.9 - by_hand:.2f} to {0.9 + by_hand:.2f}" in result.message
    assert result.message.startswith("The dataset has 30 patients of covid and 30 of not covid: ")
    assert result.message.endswith("Plus or minus 0.05 requires 79 patients of each class.")
    assert [cells[0] for cells in result.rows] == ["0.80", "0.90", "0.95"]
    assert result.rows[1][2:] == ("79", "314")


@pytest.mark.parametrize(("patients", "severity"), [(78, "warning"), (79, None)])
def test_enough_patients_pass(patients, severity):
    assert TooFewPatients().run(made([2] * patients, [3] * patients)).severity == severity


def test_slices_of_a_patient_do_not_count_and_unequal_patients_count_less():
    alike = TooFewPatients().run(made([9] * 100, [9] * 100)).figure.value
    assert alike == pytest.approx(half_width(0.9, 100, 100))
    unequal = TooFewPatients().run(made([100] + [1] * 99, [9] * 100))
    assert unequal.figure.value == pytest.approx(half_width(0.9, 199**2 / 10099, 100))
    assert "equivalent to 4 and 100 of equal size" in unequal.message


def test_only_the_test_part_is_evaluated():
    material = made([1] * 200, [1] * 200, part="train")
    material.manifest.loc[180:219, "split"] = "test"
    result = TooFewPatients().run(material)
    assert result.message.startswith("The test set has 20 patients of covid and 20 of not covid")
    material = made([1] * 200, [1] * 200, part="train")
    material.manifest.loc[:50, "split"] = "test"
    with pytest.raises(NotApplicable, match="The test set has only one class"):
        TooFewPatients().run(material)


def test_unknown_patients_are_reported():
    result = TooFewPatients().run(made([1] * 100, [1] * 100, patients=False))
    assert result.severity is None
    assert "100 slices of covid" in result.message
    assert result.message.endswith("there may be fewer patients and the interval may be wider.")
