"""Compare systems on the same slices: which is best, and which are indistinguishable from it.

A system is trained several times, by seeds and folds, and each training is a member of it. Its metric is the
mean over its members. Intervals come from a bootstrap by patient, with the same resamples for all members of
all systems.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, combinations_with_replacement, product

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score

from groundglass.bundle.evaluation import METRICS, Estimate, Evaluation, ResampledBy, Unit
from groundglass.detect.patient_rule import PatientRule
from groundglass.errors import GroundglassError
from groundglass.evaluation.bootstrap import Floats, WeightedMetrics, estimates, resample
from groundglass.evaluation.metrics import (
    aggregation_notes,
    by_patient,
    evaluate,
    patients_with_areas,
    resampling_groups,
)
from groundglass.evaluation.paired import PairedTest, delong, holm, mcnemar
from groundglass.evaluation.predictions import COLUMNS, check_predictions, refuse_rows, truth_of, unit_codes
from groundglass.labels import NEGATIVE, NOT_A_CHEST_CT, POSITIVE, UNCERTAIN

ENSEMBLE = "ensemble"
BEST = "best"
INDISTINGUISHABLE = "indistinguishable from the best"
WORSE = "worse than the best"
BETTER = "better than the best"
UNTESTED = "not tested"

Verdicts = NDArray[np.object_]


@dataclass(frozen=True, eq=False)
class System:
    """A system and the answers of its members.

    Attributes
    ----------
    name
        Its name.
    members
        Each member's predictions, as :func:`~groundglass.evaluation.predictions.read_predictions` returns
        them, all for the same slices, with rows in any order.
    thresholds
        For each member, the probability from which the answer is POSITIVE.
    rules
        For each member, how it answers for patients; None if that is not known.
    """

    name: str
    members: tuple[pd.DataFrame, ...]
    thresholds: tuple[float, ...]
    rules: tuple[PatientRule | None, ...] = ()

    def of_patients(self) -> tuple["System", list[str]]:
        """The same system with a row for each patient, and notes on how patients are answered.

        A member answers by its own patient rule if its predictions have the lung areas that the rule needs, else by
        the mean over slices; see :func:`~groundglass.evaluation.metrics.by_patient`.

        Raises
        ------
        GroundglassError
            If no slice names its patient.
        """
        rules = self.rules or (None,) * len(self.members)
        answers = list(zip(self.members, self.thresholds, rules, strict=True))
        thresholds = tuple(
            rule.threshold if rule is not None and patients_with_areas(member) else threshold
            for member, threshold, rule in answers
        )
        system = System(self.name, tuple(by_patient(*answer) for answer in answers), thresholds)
        told = [aggregation_notes(member, rule) for member, _, rule in answers]
        how = dict.fromkeys(f"{self.name} answers for patients by the {note}." for note, *_ in told)
        return system, list(how | dict.fromkeys(f"{self.name}: {note}" for _, *rest in told for note in rest))


@dataclass(frozen=True)
class SystemResult:
    """The result of one system.

    Attributes
    ----------
    members, member_aucs
        The number of members, and the ROC AUC of each; the ensemble gives one answer and has 1.
    metrics
        By their name in ``METRICS``: the mean over the members, and the interval of that mean, which reflects
        the sampling of patients but not the seed.
    auc_test, accuracy_test
        The best system's mean minus this one's; None for the best itself and if no test is possible.
    auc_p, accuracy_p
        Their p-values after Holm's correction over all systems that are compared with the best.
    verdict
        ``BEST``, ``INDISTINGUISHABLE``, ``WORSE``, ``BETTER`` (the ensemble alone) or ``UNTESTED``, by ``auc_p``.
    """

    name: str
    members: int
    metrics: dict[str, Estimate]
    member_aucs: tuple[float, ...]
    auc_test: PairedTest | None
    accuracy_test: PairedTest | None
    auc_p: float | None
    accuracy_p: float | None
    verdict: str

    @property
    def auc_spread(self) -> tuple[float, float]:
        """The lowest and highest AUC among the members."""
        return min(self.member_aucs), max(self.member_aucs)


@dataclass(frozen=True, eq=False)
class Comparison:
    """The results of several systems.

    Attributes
    ----------
    standings
        In descending order of AUC; if there are several systems, their ensemble follows, which is not ranked.
    best
        Name of the system with the highest AUC.
    unit, count, positives, groups, resampled_by, resamples, confidence, seed
        As in :class:`~groundglass.bundle.evaluation.Evaluation`.
    alpha
        A system differs from the best if its corrected p-value is below this.
    agreement, kappa
        Systems by systems, in the order of the standings: the share of slices with the same verdict, and
        Cohen's kappa (1960, doi 10.1177/001316446002000104), NaN if all verdicts are the same. Means over
        pairs of members; on the diagonal, pairs of different members, 1 if there is only one.
    all_wrong
        The slices that most members of every system get wrong: ``path``, ``label``, and a column per system
        with its mean probability.
    notes
        Sentences that readers of the numbers need to know.
    """

    standings: tuple[SystemResult, ...]
    best: str
    unit: Unit
    count: int
    positives: int
    groups: int
    resampled_by: ResampledBy
    resamples: int
    confidence: float
    seed: int
    alpha: float
    agreement: pd.DataFrame
    kappa: pd.DataFrame
    all_wrong: pd.DataFrame
    notes: tuple[str, ...]

    @property
    def ranked(self) -> tuple[SystemResult, ...]:
        """The standings without the ensemble's."""
        return tuple(standing for standing in self.standings if standing.name != ENSEMBLE)


def compare(
    systems: Sequence[System],
    *,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
    alpha: float = 0.05,
    unit: Unit = "slice",
) -> Comparison:
    """Rank systems by their mean AUC, and test each against the best.

    AUC is tested by DeLong's method and accuracy by McNemar's, both for clustered slices
    (:mod:`groundglass.evaluation.paired`). Tests of accuracy leave out slices that some member does not
    answer.

    Parameters
    ----------
    systems
        At least one; with one there is nothing to test.
    resamples, confidence, seed, alpha
        Settings of the bootstrap and the tests, as in :class:`Comparison`.
    unit
        What is compared: the answers for slices, or those for patients (:meth:`System.of_patients`).

    Raises
    ------
    GroundglassError
        If two systems have the same name, members differ in their slices, all are of one class, a value is
        invalid, or patients are to be compared and no slice names its patient.
    """
    if not 0 < alpha < 1:
        raise GroundglassError(f"alpha must be between 0 and 1 (got {alpha:g}); 0.05 is usual")
    aligned, notes = _align(systems), list[str]()
    if unit == "patient":
        converted = [system.of_patients() for system in systems]
        aligned, notes = (
            _align([system for system, _ in converted]),
            [n for _, told in converted for n in told],
        )
    slices = aligned[0].members[0]
    truth = truth_of(slices)
    # Results that do not depend on a system are taken from perfect answers.
    faultless = slices.assign(probability=truth.astype(float), verdict=np.where(truth, POSITIVE, NEGATIVE))
    basis = evaluate(faultless, resamples=resamples, confidence=confidence, seed=seed, unit=unit)
    ranked = [_SystemMetrics(system, truth) for system in aligned]
    ranked.sort(key=lambda system: system.metrics["roc_auc"], reverse=True)
    ensemble = [_SystemMetrics(_ensemble(aligned), truth)] if len(ranked) > 1 else []
    units = unit_codes(resampling_groups(slices))
    standings, untested = _standings([*ranked, *ensemble], units, basis, alpha)
    shared = {"unit", "count", "positives", "groups", "resampled_by", "resamples", "confidence", "seed"}
    return Comparison(
        standings=standings,
        best=ranked[0].name,
        alpha=alpha,
        agreement=_by_pairs(ranked, lambda one, other: float((one == other).mean())),
        kappa=_by_pairs(ranked, _kappa),
        all_wrong=_all_wrong(slices, ranked),
        notes=(*notes, *basis.notes, *untested, *_notes(standings, ranked, basis)),
        **basis.model_dump(include=shared),
    )


def ensemble_of(systems: Sequence[System]) -> pd.DataFrame:
    """Predictions of the ensemble of all systems with equal weights.

    Score, probability and threshold are means over the systems of the means over their members. The verdict
    is POSITIVE at or above the threshold, else NEGATIVE; NOT_A_CHEST_CT if all members say so, and otherwise
    UNCERTAIN if no member is positive or negative.

    Returns
    -------
    Predictions in the order of the first member's rows.

    Raises
    ------
    GroundglassError
        As :func:`compare`.
    """
    return _ensemble(_align(systems)).members[0]


def _ensemble(aligned: Sequence[System]) -> System:
    threshold = float(np.mean([np.mean(system.thresholds) for system in aligned]))
    means = {
        name: np.mean([_stacked(system, name).astype(float).mean(axis=0) for system in aligned], axis=0)
        for name in ("score", "probability")
    }
    verdict = np.where(means["probability"] >= threshold, POSITIVE, NEGATIVE)
    said = np.concatenate([_stacked(system, "verdict") for system in aligned])
    verdict = np.where(((said == POSITIVE) | (said == NEGATIVE)).any(axis=0), verdict, UNCERTAIN)
    verdict = np.where((said == NOT_A_CHEST_CT).all(axis=0), NOT_A_CHEST_CT, verdict)
    return System(ENSEMBLE, (aligned[0].members[0].assign(**means, verdict=verdict),), (threshold,))


def _stacked(system: System, column: str) -> NDArray[np.object_]:
    """A column of all members, shape (members, slices)."""
    return np.stack([member[column].to_numpy(dtype=object) for member in system.members])


def _align(systems: Sequence[System]) -> list[System]:
    """The systems with checked members, all in the order of the first member's slices."""
    if not systems:
        raise GroundglassError("there is no system to compare; give at least one")
    # The tables use these next to the systems' names.
    taken = {ENSEMBLE, "path", "label"}
    for system in systems:
        if system.name in taken:
            raise GroundglassError(f"two systems have the name {system.name!r}; give each a different name")
        taken.add(system.name)
        if not 0 < len(system.members) == len(system.thresholds):
            raise GroundglassError(f"{system.name}: needs predictions, and a threshold for each table")
    first = _checked(systems[0], 0)
    if len(np.unique(truth_of(first))) < 2:
        raise GroundglassError("the predictions are of one class only: a comparison needs both")
    return [
        replace(system, members=tuple(_in_order(system, n, first) for n in range(len(system.members))))
        for system in systems
    ]


def _checked(system: System, number: int) -> pd.DataFrame:
    source, frame = f"{system.name}, member {number + 1}", system.members[number]
    checked = check_predictions(frame, source)[list(COLUMNS)]
    twice = checked["path"].duplicated()
    refuse_rows(source, frame, "path", twice, "occurs twice", "keep one row per slice")
    return checked.reset_index(drop=True)


def _in_order(system: System, number: int, first: pd.DataFrame) -> pd.DataFrame:
    """A member's rows in the order of the first member's, which must have the same slices."""
    source, frame = f"{system.name}, member {number + 1}", _checked(system, number)
    remedy = "run every member on the same slices of the same dataset"
    apart = sorted(set(frame["path"]) ^ set(first["path"]))
    if apart:
        raise GroundglassError(
            f"{source}: answers different slices than the first member: {len(apart)} are only in one of the "
            "two, "
            f"such as {apart[0]}; {remedy}"
        )
    expected = first.set_index("path")
    ordered = frame.set_index("path").loc[expected.index]
    for name in ("label", "patient", "group"):
        differs = ordered[name] != expected[name]
        refuse_rows(source, ordered, name, differs, "differs from the first member's", remedy)
    return ordered.reset_index()


class _SystemMetrics:
    """A system's answers as arrays, (members, slices), and its metrics."""

    def __init__(self, system: System, truth: NDArray[np.bool_]) -> None:
        self.name = system.name
        self.truth = truth
        self.probability: Floats = _stacked(system, "probability").astype(float)
        self.verdict: Verdicts = _stacked(system, "verdict")
        self.answered = (self.verdict == POSITIVE) | (self.verdict == NEGATIVE)
        self.right = self.answered & ((self.verdict == POSITIVE) == truth)
        answers = zip(self.probability, self.verdict, strict=True)
        self._members = [WeightedMetrics(truth, probability, verdict) for probability, verdict in answers]
        once = np.ones((1, len(truth)))
        self.member_aucs = tuple(float(member(once)["roc_auc"][0]) for member in self._members)
        self.metrics = {name: float(value[0]) for name, value in self._weighted(once).items()}

    def _weighted(self, weights: Floats) -> dict[str, Floats]:
        """The mean over the members of each metric, shape (weightings,); NaN if one of them is undefined."""
        members = [member(weights) for member in self._members]
        return {name: np.mean([member[name] for member in members], axis=0) for name in METRICS}

    def estimates(self, units: NDArray[np.intp], basis: Evaluation) -> dict[str, Estimate]:
        resampled = resample(self._weighted, units, basis.resamples, basis.seed)
        return estimates(self.metrics, self.metrics, resampled, basis.confidence)


def _standings(
    entrants: Sequence[_SystemMetrics], units: NDArray[np.intp], basis: Evaluation, alpha: float
) -> tuple[tuple[SystemResult, ...], list[str]]:
    """The standings of the entrants, best first, and why tests are impossible."""
    best = entrants[0]
    kept = np.all([entrant.answered.all(axis=0) for entrant in entrants], axis=0)

    def auc(other: _SystemMetrics) -> PairedTest:
        return delong(best.truth, best.probability, other.probability, units, basis.confidence)

    def accuracy(other: _SystemMetrics) -> PairedTest:
        return mcnemar(best.right[:, kept], other.right[:, kept], units[kept], basis.confidence)

    (auc_tests, no_auc), (accuracy_tests, no_accuracy) = _tests(auc, entrants), _tests(accuracy, entrants)
    standings = tuple(
        SystemResult(
            name=entrant.name,
            members=len(entrant.probability),
            metrics=entrant.estimates(units, basis),
            member_aucs=entrant.member_aucs,
            auc_test=auc_tests[row][0],
            accuracy_test=accuracy_tests[row][0],
            auc_p=auc_tests[row][1],
            accuracy_p=accuracy_tests[row][1],
            verdict=BEST if entrant is best else _verdict(*auc_tests[row], alpha),
        )
        for row, entrant in enumerate(entrants)
    )
    return standings, [*no_auc, *no_accuracy]


def _tests(
    against_best: Callable[[_SystemMetrics], PairedTest], entrants: Sequence[_SystemMetrics]
) -> tuple[list[tuple[PairedTest | None, float | None]], list[str]]:
    """A test and its corrected p-value for each entrant but the first, or why there is none."""
    try:
        tests = [against_best(entrant) for entrant in entrants[1:]]
    except GroundglassError as error:
        return [(None, None)] * len(entrants), [f"Not tested: {error}."]
    corrected = [None if np.isnan(p) else float(p) for p in holm([test.p_value for test in tests])]
    return [(None, None), *zip(tests, corrected, strict=True)], []


def _verdict(test: PairedTest | None, corrected: float | None, alpha: float) -> str:
    if test is None or corrected is None:
        return UNTESTED
    if corrected >= alpha:
        return INDISTINGUISHABLE
    return WORSE if test.difference > 0 else BETTER


def _by_pairs(ranked: Sequence[_SystemMetrics], alike: Callable[[Verdicts, Verdicts], float]) -> pd.DataFrame:
    """Systems by systems, the mean over pairs of members, NaN left out."""
    names = [system.name for system in ranked]
    table = pd.DataFrame(index=names, columns=names, dtype=float)
    for one, other in combinations_with_replacement(ranked, 2):
        pairs = combinations(one.verdict, 2) if one is other else product(one.verdict, other.verdict)
        # A single member has only itself to agree with.
        mean = pd.Series([alike(*pair) for pair in pairs] or [1.0]).mean()
        table.loc[one.name, other.name] = table.loc[other.name, one.name] = mean
    return table


def _kappa(one: Verdicts, other: Verdicts) -> float:
    return float("nan") if len({*one, *other}) == 1 else float(cohen_kappa_score(one, other))


def _all_wrong(slices: pd.DataFrame, ranked: Sequence[_SystemMetrics]) -> pd.DataFrame:
    wrong = [(system.answered & ~system.right).mean(axis=0) > 0.5 for system in ranked]
    means = {system.name: system.probability.mean(axis=0) for system in ranked}
    return slices[["path", "label"]].assign(**means)[np.all(wrong, axis=0)].reset_index(drop=True)


def _notes(
    standings: Sequence[SystemResult], ranked: Sequence[_SystemMetrics], basis: Evaluation
) -> list[str]:
    notes = []
    unanswered = {system.name: (~system.answered).any(axis=0) for system in ranked}
    left_out = int(np.any(list(unanswered.values()), axis=0).sum())
    if left_out:
        told = ", ".join(f"{name} {rows.sum()}" for name, rows in unanswered.items() if rows.any())
        notes.append(
            f"Without a positive or negative verdict from some member: {left_out} of {basis.count} {basis.unit}s "
            f"({told}). Tests of accuracy leave out all of these, and the metrics from accuracy to F1 of a member "
            "those that it does not answer."
        )
    for standing in standings:
        undefined = [name for name, metric in standing.metrics.items() if metric.value is None]
        whose = standing.name if standing.members == 1 else f"some member of {standing.name}"
        notes += [f"{METRICS[n].title} of {whose} is undefined: {METRICS[n].undefined}." for n in undefined]
    once = [standing.name for standing in standings[: len(ranked)] if standing.members == 1]
    if once:
        notes.append(f"Trained only once, so the variation between seeds is not measured: {', '.join(once)}.")
    if len(once) < len(ranked):
        notes.append(
            "Values are means over a system's members. Their intervals reflect the sampling of "
            f"{basis.resampled_by}s; variation between seeds shows in the spread over the members."
        )
    tests = [standing.auc_test for standing in standings[1 : len(ranked)] if standing.auc_test]
    half_widths = [(test.high - test.low) / 2 for test in tests if test.low < test.high]
    if half_widths:
        notes.append(
            f"{standings[0].name} was chosen as the best on these same {basis.unit}s: its figures are slightly "
            "optimistic. Indistinguishable does not mean equal: with "
            f"{basis.groups} {basis.resampled_by}s, differences in AUC below about {np.median(half_widths):.2g} "
            "go undetected. The p-values are corrected for the number of tests by Holm's method; the intervals of "
            "the differences are not."
        )
    return notes
