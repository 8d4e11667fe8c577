"""GG201, GG202 and GG203: lungs blacked out, only lungs, and lungs on other backgrounds."""

from dataclasses import replace

import numpy as np
import pytest
from cheats import planted_trial
from sklearn.metrics import roc_auc_score

from groundglass.audit.check import Check, NotApplicable
from groundglass.audit.detector.lungs import (
    BackgroundsSwapped,
    LungsRemoved,
    OnlyLungs,
    with_backgrounds_swapped,
    with_lungs_removed,
)
from groundglass.audit.measures import auc_drop, estimated, mean, surely_over, surely_under
from groundglass.audit.trial import Trial, some_of
from groundglass.bundle.evaluation import Estimate
from groundglass.scan.scan import Scan

CHECKS: list[type[Check[Trial]]] = [LungsRemoved, OnlyLungs, BackgroundsSwapped]


@pytest.fixture(scope="module")
def cheat(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    return planted_trial(tmp_path_factory.getbasetemp(), "border")


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    return planted_trial(tmp_path_factory.getbasetemp(), "lungs")


@pytest.mark.parametrize(("check", "severity"), list(zip(CHECKS, ["error", "warning", "error"], strict=True)))
def test_a_detector_of_the_border_is_detected(cheat: Trial, check: type[Check[Trial]], severity: str) -> None:
    result = check().run(cheat)
    assert result.severity == severity
    assert f"{result.figure.value:.2f}" in result.message


@pytest.mark.parametrize("check", CHECKS)
def test_a_detector_of_lesions_passes_if_the_border_reveals_the_label(
    honest: Trial, check: type[Check[Trial]]
) -> None:
    result = check().run(honest)
    assert result.severity is None
    assert result.message
    assert result.files == ()


def test_lungs_removed_is_the_auc_of_slices_with_a_black_box(honest: Trial) -> None:
    whole, removed = with_lungs_removed(honest).aucs(honest.material.seed)
    black = []
    for scan, found in zip(honest.scans, honest.segmentations, strict=True):
        rows, columns = np.nonzero(found.lungs)
        changed = scan.pixels.copy()
        changed[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = 0
        black.append(Scan(changed, is_hu=False, scan_id="black"))
    answered = [honest.detector(scan).probability for scan in black]
    assert removed.value == pytest.approx(roc_auc_score(honest.truth, answered), abs=0.02)
    assert whole.value == pytest.approx(roc_auc_score(honest.truth, honest.probability))


def test_files_without_lungs_that_are_still_called_covid_are_named(cheat: Trial) -> None:
    covid = cheat.material.manifest.query("label == 'covid'")["path"]
    assert sorted(LungsRemoved().run(cheat).files) == sorted(covid)


def test_lungs_are_put_on_backgrounds_of_both_classes_of_other_patients(cheat: Trial) -> None:
    composed = with_backgrounds_swapped(cheat)
    assert sorted(composed.lungs) == sorted(2 * list(range(len(cheat.paths))))
    assert (cheat.units[composed.lungs] != cheat.units[composed.backgrounds]).all()
    labels = cheat.truth[composed.backgrounds].reshape(-1, 2)
    assert (labels == [True, False]).all()
    np.testing.assert_array_equal(composed.probability > 0.5, cheat.truth[composed.backgrounds])


def test_few_groups_with_lungs_are_too_few(honest: Trial) -> None:
    four = honest.material.manifest["patient"].isin([f"person-{number}" for number in range(4)])
    material = replace(honest.material, manifest=honest.material.manifest[four].reset_index(drop=True))
    few = Trial(honest.detector, material, honest.predictions, honest.segmenter, external=False, part="test")
    with pytest.raises(NotApplicable, match="4 groups"):
        LungsRemoved().run(few)


def test_a_detector_of_lungs_alone_has_nothing_to_answer_to(honest: Trial) -> None:
    bundle = honest.detector.bundle
    preprocessing = bundle.facts.preprocessing.model_copy(update={"lungs": "mask"})
    facts = bundle.facts.model_copy(update={"preprocessing": preprocessing})
    detector = replace(bundle, facts=facts)
    masked = replace(honest, detector=type("Masked", (), {"bundle": detector})())
    with pytest.raises(NotApplicable, match="only at the lungs"):
        LungsRemoved().run(masked)


def test_a_drop_of_auc_is_paired() -> None:
    generator = np.random.default_rng(1)
    truth = np.arange(200) % 2 == 0
    before, noise = truth + generator.normal(0, 1, 200), generator.normal(0, 1, 200)
    drop = auc_drop(truth, before, noise, np.arange(200))
    assert drop.value == pytest.approx(roc_auc_score(truth, before) - roc_auc_score(truth, noise))
    assert drop.low < drop.value < drop.high
    assert auc_drop(truth, before, before, np.arange(200)) == Estimate(value=0, low=0, high=0)


def test_the_interval_of_a_mean_is_about_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(2).normal(3, 2, 400)
    figure = mean(values, np.arange(400))
    half = 1.96 * values.std() / 20
    assert figure.value == pytest.approx(values.mean())
    assert [figure.low, figure.high] == pytest.approx([figure.value - half, figure.value + half], abs=0.03)


def test_whole_groups_are_resampled_whatever_their_numbers() -> None:
    """Either one of two groups is drawn twice or both once: the mean is 0, 0.5 or 1."""
    figure = mean(np.array([0.0, 0, 1, 1]), np.array([7, 7, 3, 3]))
    assert figure == Estimate(value=0.5, low=0, high=1)


def test_one_group_has_no_interval() -> None:
    assert mean(np.array([1.0, 2]), np.array([5, 5])) == Estimate(value=1.5)


def test_what_is_undefined_is_neither_over_nor_under() -> None:
    nothing = estimated(lambda weights: np.full(len(weights), np.nan), np.arange(3))
    assert nothing == Estimate(value=None)
    assert not surely_over(nothing, 0)
    assert not surely_under(nothing, 1)


@pytest.mark.parametrize(
    ("figure", "over", "under"),
    [
        (Estimate(value=0.5, low=0.4, high=0.6), False, False),
        (Estimate(value=0.7, low=0.51, high=0.8), True, False),
        (Estimate(value=0.3, low=0.1, high=0.49), False, True),
        (Estimate(value=0.6), True, False),
    ],
)
def test_sure_is_the_whole_interval(figure: Estimate, over: bool, under: bool) -> None:
    assert (surely_over(figure, 0.5), surely_under(figure, 0.5)) == (over, under)


def test_some_are_drawn_without_repetition() -> None:
    drawn = some_of(np.arange(100, 150), 20, seed=3)
    assert len(set(drawn)) == 20
    assert (np.diff(drawn) > 0).all()
    assert (some_of(np.arange(5), 20, seed=3) == np.arange(5)).all()
    assert (some_of(np.arange(100, 150), 20, seed=4) != drawn).any()
