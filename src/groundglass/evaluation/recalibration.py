"""Choose again, on labelled answers, how a detector's logits become probabilities and verdicts."""

import math
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.model_selection import StratifiedGroupKFold

from groundglass.bundle.facts import Choice, replaced
from groundglass.detect.abstention import Abstention, choose_abstention
from groundglass.detect.bundle import BundleFacts
from groundglass.detect.patient_rule import LEAST_SHARE, LESION_FEATURES
from groundglass.detect.setting import CONTROLS, Setting
from groundglass.errors import GroundglassError
from groundglass.evaluation.calibration import TEMPERATURES, balanced_weights, fit_scaling, fit_weights
from groundglass.evaluation.metrics import resampling_groups
from groundglass.evaluation.operating_point import choose_threshold
from groundglass.evaluation.predictions import truth_of, unit_codes
from groundglass.labels import LESION_PROBABILITY, NEGATIVE, POSITIVE, UNCERTAIN

DRAWS = 200
"""Bootstrap resamples for the interval of a likelihood ratio."""
FOLDS = 5
"""Folds of the groups if no source can be left out."""
HALF_A_DIGIT = 5e-7
"""Scores are kept this far from 0 and 1, since a predictions.csv has six digits."""
NO_SIGNAL = 0.99 * TEMPERATURES[1]
"""A temperature above this reached its upper bound."""

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Scaling = tuple[float, ...]
"""The bias, and the weights of the logit and of the logarithm of the lesion probability."""


@dataclass(frozen=True, eq=False)
class LabelledAnswers:
    """A detector's answers to labelled slices or patients: arrays of shape (answers,).

    Attributes
    ----------
    truth
        Whether each is COVID-19.
    probability
        Calibrated.
    units
        The number of each one's patient or group.
    sources
        The source of each; "" if unknown.
    logits
        Logits of COVID-19 before calibration; with None the temperature and the bias are kept.
    shares
        The logarithm of the mean lesion probability, as in groundglass.detect.setting; None leaves it out.
    """

    truth: Bools
    probability: Floats
    units: NDArray[np.intp]
    sources: NDArray[np.object_]
    logits: Floats | None = None
    shares: Floats | None = None

    @classmethod
    def of_predictions(
        cls, predictions: pd.DataFrame, *, with_logits: bool, with_shares: bool = False
    ) -> Self:
        """The answers in a table of labelled predictions, with the logits of their scores, and their lesion
        probabilities, if asked for."""
        source = predictions["source"] if "source" in predictions else pd.Series("", index=predictions.index)
        groups = resampling_groups(predictions)
        # Two hospitals may use the same patient numbers.
        names = (source + "/" + groups).where(groups != "", "")
        score = predictions["score"].clip(HALF_A_DIGIT, 1 - HALF_A_DIGIT).to_numpy(dtype=float)
        return cls(
            truth_of(predictions),
            predictions["probability"].to_numpy(dtype=float),
            unit_codes(names),
            source.to_numpy(dtype=object),
            np.asarray(logit(score)) if with_logits else None,
            _log_shares(predictions) if with_shares else None,
        )

    @property
    def both_classes(self) -> bool:
        """Whether some are COVID-19 and some are not."""
        return bool(self.truth.any() and not self.truth.all())

    def describe(self) -> str:
        """The numbers of slices and patients, and their sources, in words."""
        sources = ", ".join(sorted(set(self.sources) - {""})) or "an unnamed source"
        return (
            f"{len(self.truth)} slices of {len(np.unique(self.units))} patients or groups "
            f"({int(self.truth.sum())} slices with COVID-19) from {sources}"
        )

    def subset(self, rows: Bools) -> "LabelledAnswers":
        """The answers in these rows."""
        known = {name: values[rows] for name, values in vars(self).items() if values is not None}
        return LabelledAnswers(**known)

    def fit_scaling(self) -> Scaling | None:
        """Bias and weight of the logit, and of the logarithm of the lesion probability if it is known.

        None without logits. Both classes have equal weight, and so have the sources within a class: the
        probability is that at even odds, and its odds are a likelihood ratio.
        """
        return self._fit(np.ones(len(self.truth)))

    def draws(self, seed: int) -> tuple[Scaling, ...]:
        """The weights by bootstrap resamples of the patients or groups, within each source and class."""
        random = np.random.default_rng(seed)
        strata = pd.DataFrame({"unit": self.units, "source": self.sources, "truth": self.truth})
        units = [np.unique(rows["unit"]) for _, rows in strata.groupby(["source", "truth"])]
        found = []
        for _ in range(DRAWS):
            drawn = np.concatenate([random.choice(one, len(one)) for one in units])
            times = np.bincount(drawn, minlength=self.units.max() + 1)[self.units]
            if (scaling := self._fit(times.astype(float))) is not None:
                found.append(tuple(round(weight, 4) for weight in scaling))
        return tuple(found)

    def _fit(self, times: Floats) -> Scaling | None:
        """The weights when each answer counts this many times, shape (answers,)."""
        if self.logits is None:
            return None
        weights = balanced_weights(self.sources, self.truth, times)
        if self.shares is None:
            temperature, bias = fit_scaling(self.logits, self.truth, weights)
            return bias, 1 / temperature
        # A larger lesion must not speak against COVID-19, whatever diseases a source's controls have.
        return tuple(fit_weights(self._inputs(), self.truth, weights, [(0.05, 20), (0, 20)]))

    def _inputs(self) -> Floats:
        known = [values for values in (self.logits, self.shares) if values is not None]
        return np.column_stack(known)

    def scaled(self, scaling: Scaling | None) -> "LabelledAnswers":
        """The answers with probabilities by these weights; unchanged if None."""
        if scaling is None or self.logits is None:
            return self
        return replace(self, probability=np.asarray(expit(scaling[0] + self._inputs() @ scaling[1:])))

    def choose_abstention(self, coverage: float) -> Abstention:
        """Choose when to answer ``uncertain``; see :func:`~groundglass.detect.abstention.choose_abstention`."""
        return choose_abstention(self.truth, self.probability, self.units, coverage=coverage)


def _log_shares(predictions: pd.DataFrame) -> Floats:
    """The logarithm of the mean lesion probability, as settings weigh it.

    Raises
    ------
    GroundglassError
        If lungs were not looked for.
    """
    found = predictions.get(LESION_PROBABILITY)
    if found is None or found.isna().any():
        raise GroundglassError(
            f"the predictions lack the column {LESION_PROBABILITY}, which a setting needs; write them again with "
            "groundglass evaluate"
        )
    return np.asarray(np.log(found.to_numpy(dtype=float) + LEAST_SHARE))


@dataclass(frozen=True)
class HeldOutPerformance:
    """Performance of an abstention on answers that it was not chosen on.

    Attributes
    ----------
    left_out
        The source that was left out, or ``all``.
    cases
        Number of slices or patients.
    answered, accuracy
        The share that is answered, and the share of these that is right (None if none is answered).
    covid, other
        The share of each class whose right answer is possible, to compare with the coverage; None if the
        class is absent.
    """

    left_out: str
    cases: int
    answered: float
    accuracy: float | None
    covid: float | None
    other: float | None

    @classmethod
    def of(cls, left_out: str, truth: Bools, verdicts: NDArray[np.object_], covered: Bools) -> Self:
        """Count verdicts and the possible correct answers; arrays of shape (cases,)."""
        answered = verdicts != UNCERTAIN
        shares = (((verdicts == POSITIVE) == truth)[answered], covered[truth], covered[~truth])
        accuracy, covid, other = (float(share.mean()) if len(share) else None for share in shares)
        return cls(left_out, len(truth), float(answered.mean()), accuracy, covid, other)

    def choice(self) -> Choice:
        """The performance in the form that a bundle stores."""
        shares = {
            "answered": self.answered,
            "of these right": self.accuracy,
            f"right answer possible for {POSITIVE}": self.covid,
            f"for {NEGATIVE}": self.other,
        }
        known = {name: share for name, share in shares.items() if share is not None}
        return Choice(what=f"left out when choosing: {self.left_out}", values={"cases": self.cases, **known})


@dataclass(frozen=True)
class Recalibration:
    """Changes of a bundle's facts, performance on held-out answers, and notes for the reader."""

    updates: dict[str, Any]
    held_out: list[HeldOutPerformance]
    notes: list[str]


def recalibrate(
    facts: BundleFacts, answers: LabelledAnswers, coverage: float, origin: str, seed: int = 0
) -> Recalibration:
    """Choose when a detector answers ``uncertain``; if there are logits, also temperature, bias and threshold.

    Parameters
    ----------
    facts
        The facts of the detector's bundle.
    answers
        Answers of both classes. Each source has the same weight for temperature and bias.
    coverage
        The share of each class whose right answer should stay possible, in (0, 1).
    origin
        The data, in words.
    seed
        Of the resamples that choose the threshold, and of the folds.
    """
    scaling = answers.fit_scaling()
    choices: list[Choice] = []
    updates: dict[str, Any] = {}
    notes: list[str] = []
    if scaling is not None:
        updates, choices, notes = _refit(facts, answers.scaled(scaling), scaling, origin, seed)
    abstention, held_out = choose_and_validate(answers.scaled(scaling), coverage, origin, seed)
    choices.append(
        Choice(
            what="uncertain",
            values={"from": abstention.lowest, "to": abstention.highest},
            criterion=f"class-conditional conformal prediction with {coverage:.0%} coverage",
            data="the same slices" if choices else origin,
        )
    )
    updates |= {
        "abstention": abstention,
        "chosen": replaced(facts.chosen, choices),
        "evaluations": tuple(one.model_copy(update={"superseded": True}) for one in facts.evaluations),
        "validation_superseded": True,
    }
    notes += _silent_verdicts(abstention, answers)
    if not abstention.both_possible:
        notes.append(
            f"if all of them were answered, at most {1 - coverage:.0%} of each class would be wrong here; a higher "
            "--coverage promises more"
        )
    return Recalibration(updates, held_out, notes)


def choose_setting(
    facts: BundleFacts, answers: LabelledAnswers, name: str, coverage: float, origin: str, seed: int = 0
) -> Recalibration:
    """Choose how a detector answers in one setting: the likelihood ratio and the limits of the verdicts.

    Parameters are those of :func:`recalibrate`; ``name`` is the setting's. The answers need lesion probabilities,
    and logits of a network that was not trained on their source.
    """
    scaling = answers.fit_scaling()
    if scaling is None or len(scaling) < 3:
        raise ValueError("a setting is chosen on logits and lesion probabilities")
    scaled = answers.scaled(scaling)
    abstention, held_out = choose_and_validate(scaled, coverage, origin, seed)
    both = [one for one in np.unique(answers.sources) if answers.subset(answers.sources == one).both_classes]
    setting = Setting(
        weights=(scaling[0], scaling[1], scaling[2]),
        draws=answers.draws(seed),
        abstention=abstention,
        patient=facts.settings[name].patient if name in facts.settings else None,
        sources=tuple(both),
        chosen=(
            Choice(
                what="likelihood ratio",
                values=dict(zip(("bias", "logit", "log lesion probability"), scaling, strict=True)),
                criterion="least log loss, equal weight for both classes, and for the sources within a class",
                data=origin,
            ),
        ),
    )
    order = [one for one in CONTROLS if one in {*facts.settings, name}]
    settings = {one: setting if one == name else facts.settings[one] for one in order}
    updated = facts.model_copy(update={"settings": settings}).in_setting(order[0])
    changed = ("settings", "setting", "threshold", "abstention", "patient")
    updates = {one: getattr(updated, one) for one in changed}
    notes = _silent_verdicts(abstention, answers)
    if not both:
        notes.append("no source has both classes: the setting is not validated")
    return Recalibration(updates, held_out, notes)


def choose_and_validate(
    answers: LabelledAnswers, coverage: float, origin: str, seed: int = 0
) -> tuple[Abstention, list[HeldOutPerformance]]:
    """Choose an abstention, and measure it on answers that it was not chosen on; its ``chosen`` records both.

    Parameters are those of :func:`recalibrate`.
    """
    abstention = answers.choose_abstention(coverage)
    held_out, notes = cross_validate(answers, coverage, seed)
    chosen = (
        Choice(what="chosen", data=origin),
        *(one.choice() for one in held_out),
        *(Choice(what="note", criterion=note) for note in (*notes, *_silent_verdicts(abstention, answers))),
    )
    return abstention.model_copy(update={"chosen": chosen}), held_out


def cross_validate(
    answers: LabelledAnswers, coverage: float, seed: int = 0
) -> tuple[list[HeldOutPerformance], list[str]]:
    """Performance of an abstention on answers that it was not chosen on: by left-out source, and overall.

    If no source can be left out, fifths of the patients or groups are.

    Returns
    -------
    The figures, and notes on how they were obtained. No figures if there are too few groups.
    """
    names = sorted(set(answers.sources))
    folds = [answers.sources == name for name in names]
    notes = []
    if len(folds) < 2 or not all(answers.subset(~fold).both_classes for fold in folds):
        names, folds = [], _group_folds(answers, seed)
        notes = ["no source could be left out, so parts of the patients or groups were left out in turn"]
    if not folds:
        return [], ["its performance on held-out answers is not known: there are too few patients or groups"]
    covered = np.zeros(len(answers.truth), dtype=bool)
    verdicts = np.full(len(answers.truth), "", dtype=object)
    for fold in folds:
        scaling = answers.subset(~fold).fit_scaling()
        held_out = answers.subset(fold).scaled(scaling)
        abstention = answers.subset(~fold).scaled(scaling).choose_abstention(coverage)
        verdicts[fold] = [abstention.verdict(probability) for probability in held_out.probability]
        possible = held_out.probability >= abstention.covid_from, held_out.probability <= abstention.other_to
        covered[fold] = np.where(held_out.truth, *possible)
    shown = [(str(name) or "not stated", fold) for name, fold in zip(names, folds, strict=bool(names))]
    shown.append(("all", np.ones(len(covered), dtype=bool)))
    return [
        HeldOutPerformance.of(name, answers.truth[rows], verdicts[rows], covered[rows])
        for name, rows in shown
    ], notes


def _group_folds(answers: LabelledAnswers, seed: int) -> list[Bools]:
    fewest = min(len(np.unique(answers.units[rows])) for rows in (answers.truth, ~answers.truth))
    if fewest < 2:
        return []
    splitter = StratifiedGroupKFold(min(FOLDS, fewest), shuffle=True, random_state=seed)
    places = np.arange(len(answers.truth))
    folds = [
        np.isin(places, held_out) for _, held_out in splitter.split(places, answers.truth, answers.units)
    ]
    return folds if all(answers.subset(~fold).both_classes for fold in folds) else []


def _silent_verdicts(abstention: Abstention, answers: LabelledAnswers) -> list[str]:
    """The verdicts that an abstention never gives, and why."""
    coverage = abstention.coverage
    needed = math.ceil(coverage / (1 - coverage) - 1e-9)
    notes = []
    for verdict, label, rows, extreme in (
        (POSITIVE, NEGATIVE, ~answers.truth, 1),
        (NEGATIVE, POSITIVE, answers.truth, 0),
    ):
        if verdict not in abstention.never:
            continue
        groups = len(np.unique(answers.units[rows]))
        few = (
            f"there are only {groups} patients or groups labelled {label}, and {coverage:.0%} coverage needs "
            f"{needed}"
        )
        many = f"too many of those labelled {label} have a probability of {extreme}"
        notes.append(f"{verdict} is never answered: {few if groups < needed else many}")
    return notes


def _refit(
    facts: BundleFacts, answers: LabelledAnswers, scaling: Scaling, origin: str, seed: int
) -> tuple[dict[str, Any], list[Choice], list[str]]:
    """Temperature, bias and threshold for scaled answers: updates of the facts, choices and notes."""
    bias, temperature = scaling[0], 1 / scaling[1]
    units = [str(unit) for unit in answers.units]
    threshold = choose_threshold(
        answers.truth, answers.probability, units, criterion="balanced_accuracy", seed=seed
    )
    updates: dict[str, Any] = {"temperature": temperature, "bias": bias, "threshold": threshold}
    choices = [
        Choice(
            what="calibration",
            values={"temperature": temperature, "bias": bias},
            criterion="least log loss, equal weight for both classes, and for the sources within a class",
            data=origin,
        ),
        Choice(
            what="threshold",
            values={"probability": threshold},
            criterion="balanced accuracy",
            data="the same slices",
        ),
    ]
    notes = []
    if temperature > NO_SIGNAL:
        notes.append(
            "the scores carry almost no information on these sources: the temperature reached its limit"
        )
    if facts.patient is not None and not set(facts.patient.weights) <= LESION_FEATURES:
        updates["patient"] = None
        notes.append(
            "the patient rule used the earlier probabilities and was removed: choose one with  "
            "groundglass aggregate"
        )
    return updates, choices, notes
