import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from groundglass.evaluation.logistic_choice import (
    CandidateModel,
    evaluate_candidates,
    fit_logistic,
    simplest_good,
)

MODELS = {"noise": ("noise",), "signal": ("signal",), "both": ("signal", "noise")}


@pytest.fixture(scope="module")
def units() -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(0)
    positive = np.arange(120) % 2 == 1
    return pd.DataFrame(
        {"signal": rng.normal(2.0 * positive), "noise": rng.normal(size=120) * 40 + 7}
    ), positive


def test_weights_give_what_scikit_learn_gives(units: tuple[pd.DataFrame, np.ndarray]) -> None:
    table, positive = units
    values = table.to_numpy()
    weights, intercept = fit_logistic(values, positive)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(values, positive)
    probability = 1 / (1 + np.exp(-(values @ weights + intercept)))
    np.testing.assert_allclose(probability, model.predict_proba(values)[:, 1], atol=1e-12)


def test_informative_features_are_found_and_noise_is_not(units: tuple[pd.DataFrame, np.ndarray]) -> None:
    table, positive = units
    noise, signal, both = evaluate_candidates(table, positive, MODELS)
    assert signal.auc > 0.85
    assert abs(noise.auc - 0.5) < 0.15
    assert signal.loss < noise.loss
    assert both.loss - signal.loss > -signal.loss_error
    assert simplest_good([noise, signal, both]).name == "signal"


def test_figures_are_those_of_the_answers_out_of_fold(units: tuple[pd.DataFrame, np.ndarray]) -> None:
    table, positive = units
    (signal,) = evaluate_candidates(table, positive, {"signal": ("signal",)})
    assert signal.loss == pytest.approx(log_loss(positive, signal.out_of_fold), abs=0.01)
    assert signal.auc == pytest.approx(roc_auc_score(positive, signal.out_of_fold), abs=0.02)
    fitted = make_pipeline(StandardScaler(), LogisticRegression()).fit(table[["signal"]].to_numpy(), positive)
    seen = fitted.predict_proba(table[["signal"]].to_numpy())[:, 1]
    assert signal.loss > log_loss(positive, seen), "a model knows the units that it was fitted on better"


def test_the_seed_draws_the_folds(units: tuple[pd.DataFrame, np.ndarray]) -> None:
    table, positive = units
    first, again, other = (
        evaluate_candidates(table, positive, {"signal": ("signal",)}, seed)[0].out_of_fold
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def candidate(name: str, loss: float, error: float = 0.01) -> CandidateModel:
    return CandidateModel(name, (name,), loss, error, 0.5, np.zeros(1))


def test_the_simplest_within_one_standard_error_is_chosen() -> None:
    simple, middle, best = candidate("a", 0.30), candidate("b", 0.255), candidate("c", 0.25)
    assert simplest_good([simple, middle, best]).name == "b"
    assert simplest_good([simple, middle, candidate("c", 0.25, 0.06)]).name == "a"
    assert simplest_good([simple, middle, candidate("c", 0.25, 0.001)]).name == "c"
