import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2_contingency
from sklearn.metrics import balanced_accuracy_score

from groundglass.audit.data import label_from_metadata as source_and_label
from groundglass.audit.data.label_from_metadata import SourceAndLabel
from groundglass.audit.material import Material, SmallPictures


def material(sources, covid, patients=None, brightness=None):
    """Noise, brighter by a value for each source."""
    count = len(sources)
    grey = np.random.default_rng(0).integers(0, 100, (count, 128, 128), dtype=np.uint8)
    for place, source in enumerate(sources):
        grey[place] += (brightness or {}).get(source, 0)
    manifest = pd.DataFrame(
        {
            "path": [f"/data/{number}.png" for number in range(count)],
            "label": np.where(covid, "covid", "not covid"),
            "patient": [str(patient) for patient in (range(count) if patients is None else patients)],
            "split": "",
            "source": sources,
        }
    )
    nothing = np.zeros(grey.shape, dtype=bool)
    return Material("made", manifest, SmallPictures(grey, nothing, nothing, ()))


def test_sources_of_one_class_each_are_the_label():
    sources = ["a"] * 20 + ["b"] * 30
    result = SourceAndLabel().run(material(sources, [True] * 20 + [False] * 30, brightness={"a": 100}))
    assert (result.severity, result.figure.value, result.measure) == ("error", 1.0, "AUC, 5-fold")
    assert "Every source has only one class: the label is the source" in result.message
    assert "Cramer's V 1.00" in result.message
    assert "balanced accuracy 1.00" in result.message
    assert result.rows == (("b", "30", "0", "0%"), ("a", "20", "20", "100%"))


def test_sources_with_similar_shares_pass_although_they_look_different():
    sources = ["a", "a", "b", "b"] * 15
    result = SourceAndLabel().run(material(sources, [True, False] * 30, brightness={"b": 100}))
    assert result.severity is None
    assert "The label cannot reliably be predicted from the source alone" in result.message
    assert "balanced accuracy 1.00" in result.message
    assert "chance is 0.50" in result.message
    assert "only one class" not in result.message


def test_auc_and_cramer_are_those_of_the_table():
    # In a 40 of 50 are covid, in b 10 of 50: the shares rank 0.8 * 0.8 pairs correctly, 0.2 * 0.2 wrongly and
    # tie the rest, which is an AUC of 0.8; shares that differ from fold to fold break some of the ties at
    # random.
    sources = ["a"] * 50 + ["b"] * 50
    covid = np.array([True] * 40 + [False] * 10 + [True] * 10 + [False] * 40)
    result = SourceAndLabel().run(material(sources, covid))
    assert result.figure.value == pytest.approx(0.8, abs=0.03)
    chi2 = chi2_contingency([[40, 10], [10, 40]], correction=False).statistic
    assert f"Cramer's V {np.sqrt(chi2 / 100):.2f}" in result.message


def test_sources_that_look_alike_are_predicted_by_chance():
    sources = ["a", "a", "b", "b", "c", "c"] * 12
    result = SourceAndLabel().run(material(sources, [True, False] * 36))
    told = float(result.message.split("balanced accuracy ")[1][:4])
    assert told == pytest.approx(1 / 3, abs=0.15)
    assert "chance is 0.33" in result.message


def test_a_source_per_patient_reveals_nothing_about_others():
    # In the table each source determines the label; for an unseen patient none does.
    patients = np.repeat(np.arange(20), 4)
    sources = [f"paper {patient}" for patient in patients]
    result = SourceAndLabel().run(material(sources, patients % 2 == 0, patients))
    assert result.severity is None
    assert "fewer than two sources have two groups" in result.message


def test_some_sources_of_one_class_are_counted_and_blank_ones_are_named():
    sources = ["a"] * 20 + ["b"] * 20 + [""] * 10
    covid = [True] * 20 + [True, False] * 10 + [True, False] * 5
    result = SourceAndLabel().run(material(sources, covid))
    assert "1 of 3 sources have only one class." in result.message
    assert ("not named", "10", "5", "50%") in result.rows


def test_balanced_accuracy_is_that_of_scikit_learn():
    rng = np.random.default_rng(3)
    sources = rng.choice(["a", "b", "c"], 200, p=[0.7, 0.2, 0.1])
    answers = np.where(rng.random(200) < 0.6, sources, "a")
    estimate = source_and_label._balanced_accuracy(sources, answers, np.arange(200), 0)
    assert estimate.value == pytest.approx(balanced_accuracy_score(sources, answers))
    assert estimate.low < estimate.value < estimate.high


def test_patients_are_kept_together_when_sources_are_predicted():
    # Slices of a patient are alike and sources are not: if patients were divided, all would be predicted.
    patients = np.repeat(np.arange(24), 5)
    sources = np.where(patients % 2 == 0, "a", "b")
    made = material(sources, np.random.default_rng(0).random(120) < 0.5, patients)
    levels = np.random.default_rng(1).permutation(24) * 6
    made.pictures.grey[:] = levels[patients][:, None, None] + made.pictures.grey // 20
    told = float(SourceAndLabel().run(made).message.split("balanced accuracy ")[1][:4])
    assert told < 0.75


def several(sources, labels):
    made = material(sources, [label == "covid" for label in labels])
    made.manifest["label"] = labels
    return made


def test_a_class_with_its_own_source_is_found_although_covid_is_in_both():
    # Sources a and b have covid and normal in equal shares; only b has viral pneumonia.
    labels = ["covid"] * 20 + ["normal"] * 20 + ["covid"] * 20 + ["normal"] * 20 + ["viral"] * 40
    sources = ["a"] * 40 + ["b"] * 80
    result = SourceAndLabel().run(several(sources, labels))
    # Every viral slice is in b, as are half of the other 80: half of the pairs are ranked correctly and the rest
    # are tied, 0.75. As above, shares that differ from fold to fold break ties, here against the class.
    assert 0.65 <= result.figure.value <= 0.75
    assert result.severity == "warning"
    assert result.message.startswith("The class viral can be predicted from the source alone")
    assert "AUC of each class against the rest: covid 0." in result.message
    assert result.header == ("Source", "Slices", "covid", "normal", "viral", "Share of covid")
    assert result.rows == (("b", "80", "20", "20", "40", "25%"), ("a", "40", "20", "20", "0", "50%"))


def test_covid_from_a_source_of_its_own_is_an_error_among_several_classes():
    labels = ["normal", "benign", "malignant"] * 20 + ["covid"] * 30
    result = SourceAndLabel().run(several(["tumours"] * 60 + ["covid set"] * 30, labels))
    assert (result.severity, result.figure.value) == ("error", 1.0)
    assert result.message.startswith("The class covid can be predicted from the source alone")
    assert "No source has slices both with and without covid: covid is the source" in result.message
    assert ("tumours", "60", "20", "0", "20", "20", "0%") in result.rows


def test_several_classes_in_equal_shares_of_every_source_pass():
    labels = ["covid", "normal", "viral"] * 30
    result = SourceAndLabel().run(several(["a"] * 45 + ["b"] * 45, labels))
    assert result.severity is None
    assert "cannot reliably be predicted from the source alone" in result.message


def test_a_class_of_a_single_slice_is_left_out():
    labels = ["covid", "normal"] * 20 + ["rare"]
    result = SourceAndLabel().run(several(["a"] * 20 + ["b"] * 21, labels))
    assert "rare" not in result.message
