import numpy as np
import pytest
from answered import answered
from scipy.special import expit
from sklearn.metrics import balanced_accuracy_score, recall_score, roc_curve

from evaluations import evaluation
from groundglass.audit import measures as figures
from groundglass.audit.check import NotApplicable
from groundglass.audit.detector import probabilities as threshold
from groundglass.audit.detector.probabilities import ThresholdCarriesOver, rechosen
from groundglass.bundle.evaluation import Estimate
from groundglass.labels import NOT_A_CHEST_CT


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(figures, "RESAMPLES", 200)
    monkeypatch.setattr(threshold, "RESAMPLES", 200)


def probabilities(apart, count=200, seed=0):
    """Truth, and probabilities whose logits are ``apart`` between the classes, centred on 0."""
    truth = np.arange(count) % 2 == 0
    return truth, expit(np.random.default_rng(seed).normal(np.where(truth, apart, -apart) / 2))


def test_a_suitable_threshold_passes_with_its_figures():
    truth, probability = probabilities(3)
    validation = evaluation(0.8)
    shown = {
        "sensitivity": Estimate(value=0.87, low=0.77, high=0.96),
        "specificity": Estimate(value=0.78, low=0.68, high=0.88),
    }
    validation = validation.model_copy(update={"metrics": validation.metrics | shown})
    result = ThresholdCarriesOver().run(answered(truth, probability, validation=validation))
    called = probability >= 0.5
    assert result.severity is None
    assert result.figure.value == pytest.approx(balanced_accuracy_score(truth, called))
    assert "costs nothing" in result.message
    rows = {name: (here, before) for name, here, before in result.rows}
    assert rows["Sensitivity (recall)"][0].startswith(f"{recall_score(truth, called):.2f} (")
    assert rows["Specificity"][0].startswith(f"{recall_score(~truth, ~called):.2f} (")
    assert rows["Specificity"][1] == "0.78 (0.68 to 0.88)"
    assert rows["ROC AUC"][1] == "0.80"
    assert "(on its validation set sensitivity 0.87 (0.77 to 0.96), specificity 0.78" in result.message


def test_a_threshold_that_costs_much_is_a_warning_and_a_better_one_is_reported():
    truth, probability = probabilities(3)
    result = ThresholdCarriesOver().run(answered(truth, probability, threshold=0.88))
    assert result.severity == "warning"
    assert "validation set" not in result.message
    best = float(result.message.split("A threshold of ")[1].split()[0])
    falls, hits, cuts = roc_curve(truth, probability)
    youden = (hits - falls).max()
    assert (probability >= best)[truth].mean() - (probability >= best)[~truth].mean() > youden - 0.04
    assert best == pytest.approx(cuts[(hits - falls).argmax()], abs=0.1)


def test_verdicts_that_may_be_chance_are_an_error():
    truth, probability = probabilities(0)
    result = ThresholdCarriesOver().run(answered(truth, probability))
    assert (result.severity, result.figure.low <= 0.5) == ("error", True)
    assert "may be no better than chance" in result.message


def test_a_threshold_that_all_slices_pass_is_an_error_however_good_the_order():
    truth, probability = probabilities(5)
    result = ThresholdCarriesOver().run(answered(truth, probability, threshold=0.001))
    assert result.severity == "error"
    assert result.figure.value == 0.5
    assert "so the bundle's threshold costs 0.50 (0.50 to 0.50)" in result.message


def test_a_rechosen_threshold_is_not_evaluated_on_the_slices_that_chose_it():
    gained = []
    for seed in range(8):
        truth, probability = probabilities(0, count=60, seed=seed)
        falls, hits, _ = roc_curve(truth, probability)
        in_sample = 0.5 + (hits - falls).max() / 2
        compared = rechosen(truth, probability, np.arange(60), 0.5)
        assert compared.chosen.value < in_sample
        gained.append(compared.chosen.value)
    assert np.mean(gained) == pytest.approx(0.5, abs=0.05)


def test_what_is_lost_is_the_difference_of_both():
    truth, probability = probabilities(2)
    compared = rechosen(truth, probability, np.arange(200), 0.9)
    assert compared.given.value == pytest.approx(balanced_accuracy_score(truth, probability >= 0.9))
    assert compared.lost.value == pytest.approx(compared.chosen.value - compared.given.value)
    assert compared.lost.low > 0.05


def test_slices_of_one_patient_do_not_choose_for_each_other():
    """Each patient's slices have one probability: only another patient's threshold can answer them wrongly."""
    truth = np.repeat([True, False] * 5, 10)
    probability = np.repeat([0.9, 0.1, 0.8, 0.2, 0.7, 0.3, 0.6, 0.4, 0.35, 0.65], 10)
    alone = rechosen(truth, probability, np.arange(100), 0.5)
    together = rechosen(truth, probability, np.repeat(np.arange(10), 10), 0.5)
    assert together.chosen.value <= alone.chosen.value
    assert together.given.high - together.given.low > 1.5 * (alone.given.high - alone.given.low)


def test_what_is_refused_is_left_out():
    truth, probability = probabilities(3)
    refused = np.arange(200) < 60
    verdict = np.where(refused, NOT_A_CHEST_CT, np.where(probability >= 0.5, "covid", "not covid"))
    result = ThresholdCarriesOver().run(answered(truth, probability, verdict=verdict))
    kept = balanced_accuracy_score(truth[~refused], probability[~refused] >= 0.5)
    assert result.figure.value == pytest.approx(kept)
    verdict[truth] = NOT_A_CHEST_CT
    with pytest.raises(NotApplicable, match="no answer for any slice of one class"):
        ThresholdCarriesOver().run(answered(truth, probability, verdict=verdict))


def test_few_patients_are_too_few_to_choose_a_threshold():
    truth, probability = probabilities(3)
    patient = [f"p{row % 8}" for row in range(200)]
    with pytest.raises(NotApplicable, match="One class has only 4 patients or groups"):
        ThresholdCarriesOver().run(answered(truth, probability, patient=patient))
