"""``groundglass calibrate``: choose from labelled predictions where a detector says ``uncertain``."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.model_selection import StratifiedGroupKFold

from groundglass.bundle.facts import Choice, replaced
from groundglass.detect.abstention import COVERAGE, Abstention, choose_abstention
from groundglass.detect.bundle import Bundle, BundleFacts
from groundglass.detect.patient_rule import LESION_FEATURES
from groundglass.errors import GroundglassError
from groundglass.evaluate.calibration import TEMPERATURES, fit_scaling
from groundglass.evaluate.metrics import resampling_groups
from groundglass.evaluate.operating_point import choose_threshold
from groundglass.evaluate.predictions import read_predictions, truth_of, unit_codes
from groundglass.files import sha256
from groundglass.labels import NEGATIVE, NOT_A_CHEST_CT, POSITIVE, UNCERTAIN

FOLDS = 5
"""Parts that the groups are dealt into where there are no sources to leave out."""
HALF_A_DIGIT = 5e-7
"""A score is kept this far from 0 and 1: a predictions.csv has six digits."""
NO_SIGNAL = 0.99 * TEMPERATURES[1]
"""A higher temperature was held back by its bound."""
COLUMNS = ("left out", "cases", "answered", "accuracy of these", "covid covered", "not covid covered")

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Codes = NDArray[np.intp]


@dataclass(frozen=True)
class Held:
    """What an abstention is worth on cases that did not choose it.

    Attributes
    ----------
    left_out
        Which cases: of the source of this name, or all together.
    cases
        How many.
    answered, accuracy
        The share that gets an answer, and the share of these that is right; None where none gets one.
    covid, other
        The share of each class whose right answer is possible, to hold against the coverage; None without the
        class.
    """

    left_out: str
    cases: int
    answered: float
    accuracy: float | None
    covid: float | None
    other: float | None

    def row(self) -> tuple[str, ...]:
        """As :data:`COLUMNS` has it."""
        shares = (self.answered, self.accuracy, self.covid, self.other)
        return (
            self.left_out,
            str(self.cases),
            *("" if share is None else f"{share:.1%}" for share in shares),
        )

    def choice(self) -> Choice:
        """As a bundle stores it."""
        shares = {
            "answered": self.answered,
            "of these right": self.accuracy,
            f"right answer possible for {POSITIVE}": self.covid,
            f"for {NEGATIVE}": self.other,
        }
        known = {name: share for name, share in shares.items() if share is not None}
        return Choice(what=f"left out when choosing: {self.left_out}", values={"cases": self.cases, **known})


@dataclass(frozen=True)
class Calibrated:
    """What was entered into the bundle, what it is worth where it was not chosen, and what has to be known."""

    facts: BundleFacts
    held: list[Held]
    notes: list[str]


@dataclass(frozen=True, eq=False)
class Cases:
    """Labelled answers: arrays of the shape (cases,).

    Attributes
    ----------
    truth
        Whether each is COVID-19.
    probability
        Calibrated.
    units
        The number of each one's patient or group.
    sources
        Where it is from; "" where that is not known.
    logits
        Of COVID-19, before calibration; None where they are not needed.
    """

    truth: Bools
    probability: Floats
    units: Codes
    sources: NDArray[np.object_]
    logits: Floats | None = None

    def only(self, chosen: Bools) -> "Cases":
        """Some of them."""
        logits = None if self.logits is None else self.logits[chosen]
        return Cases(
            self.truth[chosen], self.probability[chosen], self.units[chosen], self.sources[chosen], logits
        )

    def both_classes(self) -> bool:
        """Whether there are cases with COVID-19 and without."""
        return bool(self.truth.any() and not self.truth.all())

    def rescaled(self, temperature: float, bias: float) -> "Cases":
        """With the probabilities that temperature and bias make of the logits."""
        if self.logits is None:
            return self
        probability = np.asarray(expit(self.logits / temperature + bias))
        return Cases(self.truth, probability, self.units, self.sources, self.logits)


def calibrate(
    bundle: Bundle, predictions: Path, *, coverage: float = COVERAGE, refit: bool = False, seed: int = 0
) -> Calibrated:
    """Choose where a detector says ``uncertain``, and enter that into its bundle and model card.

    What it is worth is measured on what did not choose it: each source is left out in turn, or each fifth of the
    groups where all are of one source.

    Parameters
    ----------
    bundle
        A folder's; a zip is not rewritten.
    predictions
        A predictions.csv of labelled slices that its network, or networks trained in the same way on other sources,
        were not trained on. Slices that are no chest CT are left out.
    coverage
        The share of each class whose right answer shall stay possible.
    refit
        Fit temperature and bias anew to the scores, sources counting alike, and choose the threshold anew by
        balanced accuracy.
    seed
        Draws the resamples that choose the threshold, and the folds.

    Raises
    ------
    GroundglassError
        If the file is no predictions.csv, a label is blank, a class is absent, the bundle is a zip, or ``refit`` is
        asked of a detector of several classes.
    """
    bundle.check_enterable()
    if refit and bundle.facts.classes:
        raise GroundglassError(
            f"{bundle.source}: knows several classes, and a predictions.csv holds no score of each; leave out "
            "--refit"
        )
    frame = read_predictions(predictions)
    kept = frame[frame["verdict"] != NOT_A_CHEST_CT]
    cases = _cases(kept, refit)
    if not cases.both_classes():
        raise GroundglassError(
            f"{predictions}: its slices are all labelled alike; slices with and without COVID-19 are needed"
        )
    entered, held, notes = _entered(bundle.facts, cases, coverage, _origin(cases, predictions), seed)
    bundle.enter(**entered)
    left_out = len(frame) - len(kept)
    if left_out:
        notes.insert(0, f"{left_out} of {len(frame)} slices are {NOT_A_CHEST_CT} and were left out")
    return Calibrated(bundle.facts, held, notes)


def choose_judged(cases: Cases, coverage: float, origin: str, seed: int = 0) -> tuple[Abstention, list[Held]]:
    """Choose an abstention, and measure what it is worth where it was not chosen; its ``chosen`` says both.

    Parameters
    ----------
    cases
        Of both classes.
    coverage
        In (0, 1).
    origin
        What it is chosen on, in words.
    seed
        Draws the folds.
    """
    abstention = _choose(cases, coverage)
    held, notes = held_out(cases, coverage, seed)
    sentences = [*notes, *_never(abstention, cases)]
    chosen = (
        Choice(what="chosen", data=origin),
        *(one.choice() for one in held),
        *(Choice(what="note", criterion=sentence) for sentence in sentences),
    )
    return abstention.model_copy(update={"chosen": chosen}), held


def _choose(cases: Cases, coverage: float) -> Abstention:
    return choose_abstention(cases.truth, cases.probability, cases.units, coverage=coverage)


def _never(abstention: Abstention, cases: Cases) -> list[str]:
    """Which verdicts it never gives, and why."""
    coverage = abstention.coverage
    needed = math.ceil(coverage / (1 - coverage) - 1e-9)
    notes = []
    for verdict, label, rows, extreme in (
        (POSITIVE, NEGATIVE, ~cases.truth, 1),
        (NEGATIVE, POSITIVE, cases.truth, 0),
    ):
        if verdict not in abstention.never:
            continue
        groups = len(np.unique(cases.units[rows]))
        few = f"only {groups} patients or groups labelled {label} chose, and {coverage:.0%} coverage needs {needed}"
        many = f"too many of those labelled {label} have a probability of {extreme}"
        notes.append(f"{verdict} is never answered: {few if groups < needed else many}")
    return notes


def _doubts(abstention: Abstention, cases: Cases) -> list[str]:
    doubts = _never(abstention, cases)
    if not abstention.both_possible:
        wrong = 1 - abstention.coverage
        doubts.append(
            f"were all of them answered, at most {wrong:.0%} of each class would be wrong here: a higher "
            "--coverage promises more"
        )
    return doubts


def held_out(cases: Cases, coverage: float, seed: int = 0) -> tuple[list[Held], list[str]]:
    """What an abstention is worth on cases that did not choose it, by source and all together.

    Returns
    -------
    The figures, and what has to be said of how they were come by. None where the groups are too few.
    """
    folds = [(str(name) or "not stated", cases.sources == name) for name in sorted(set(cases.sources))]
    notes = []
    if len(folds) < 2 or not all(cases.only(~fold).both_classes() for _, fold in folds):
        folds = _group_folds(cases, seed)
        notes = ["left out in turn were parts of the patients or groups, as no source could be"]
    if not folds:
        return [], [
            "what it is worth where it was not chosen is not known: the patients or groups are too few"
        ]
    covered, verdicts = np.zeros(len(cases.truth), dtype=bool), np.full(len(cases.truth), "", dtype=object)
    for _, fold in folds:
        rest, judged = cases.only(~fold), cases.only(fold)
        if (scaling := _scaling(rest)) is not None:
            rest, judged = rest.rescaled(*scaling), judged.rescaled(*scaling)
        chosen = _choose(rest, coverage)
        verdicts[fold] = [chosen.verdict(probability) for probability in judged.probability]
        possible = judged.probability >= chosen.covid_from, judged.probability <= chosen.other_to
        covered[fold] = np.where(judged.truth, *possible)
    by_source = [] if notes else folds
    shown = [*by_source, ("all", np.ones(len(covered), dtype=bool))]
    return [_held(name, cases.truth[of], verdicts[of], covered[of]) for name, of in shown], notes


def _held(name: str, truth: Bools, verdicts: NDArray[np.object_], covered: Bools) -> Held:
    answered = verdicts != UNCERTAIN
    right = (verdicts == POSITIVE) == truth
    return Held(
        name,
        len(truth),
        float(answered.mean()),
        _share(right[answered]),
        _share(covered[truth]),
        _share(covered[~truth]),
    )


def _share(of: Bools) -> float | None:
    return float(of.mean()) if len(of) else None


def _group_folds(cases: Cases, seed: int) -> list[tuple[str, Bools]]:
    fewest = min(len(np.unique(cases.units[of])) for of in (cases.truth, ~cases.truth))
    if fewest < 2:
        return []
    dealt = StratifiedGroupKFold(min(FOLDS, fewest), shuffle=True, random_state=seed)
    parts = dealt.split(cases.probability, cases.truth, cases.units)
    folds = [np.isin(np.arange(len(cases.truth)), held) for _, held in parts]
    return [("", fold) for fold in folds] if all(cases.only(~fold).both_classes() for fold in folds) else []


def _cases(frame: pd.DataFrame, with_logits: bool) -> Cases:
    source = frame["source"] if "source" in frame else pd.Series("", index=frame.index)
    groups = resampling_groups(frame)
    # Two hospitals may number their patients alike.
    names = (source + "/" + groups).where(groups != "", "")
    score = frame["score"].clip(HALF_A_DIGIT, 1 - HALF_A_DIGIT).to_numpy(dtype=float)
    return Cases(
        truth_of(frame),
        frame["probability"].to_numpy(dtype=float),
        unit_codes(names),
        source.to_numpy(dtype=object),
        np.asarray(logit(score)) if with_logits else None,
    )


def _origin(cases: Cases, path: Path) -> str:
    sources = ", ".join(sorted(set(cases.sources) - {""})) or "a source that is not stated"
    groups = len(np.unique(cases.units))
    return (
        f"{len(cases.truth)} slices of {groups} patients or groups ({int(cases.truth.sum())} slices with COVID-19) "
        f"from {sources}: {path.name}, fingerprint {sha256(path)}"
    )


def _scaling(cases: Cases) -> tuple[float, float] | None:
    """Temperature and bias, every source counting alike; None where there are no logits to fit them to."""
    if cases.logits is None:
        return None
    _, source, counts = np.unique(cases.sources.astype(str), return_inverse=True, return_counts=True)
    return fit_scaling(cases.logits, cases.truth, 1 / counts[source])


def _entered(
    facts: BundleFacts, cases: Cases, coverage: float, origin: str, seed: int
) -> tuple[dict[str, Any], list[Held], list[str]]:
    """What is entered into the bundle, what the abstention is worth, and what has to be said of it."""
    scaling = _scaling(cases)
    entered, choices, notes = (
        ({}, [], []) if scaling is None else _refitted(facts, cases, scaling, origin, seed)
    )
    abstention, held = choose_judged(
        cases if scaling is None else cases.rescaled(*scaling), coverage, origin, seed
    )
    choices.append(
        Choice(
            what="uncertain",
            values={"from": abstention.lowest, "to": abstention.highest},
            criterion=f"class-conditional conformal prediction with {coverage:.0%} coverage",
            data="the same slices" if choices else origin,
        )
    )
    entered |= {
        "abstention": abstention,
        "chosen": replaced(facts.chosen, choices),
        "evaluations": tuple(one.model_copy(update={"superseded": True}) for one in facts.evaluations),
        "validation_superseded": True,
    }
    return entered, held, [*notes, *_doubts(abstention, cases)]


def _refitted(
    facts: BundleFacts, cases: Cases, scaling: tuple[float, float], origin: str, seed: int
) -> tuple[dict[str, Any], list[Choice], list[str]]:
    """Temperature, bias and threshold as facts and as choices, and notes."""
    temperature, bias = scaling
    threshold = choose_threshold(
        cases.truth,
        cases.rescaled(temperature, bias).probability,
        [str(unit) for unit in cases.units],
        criterion="balanced_accuracy",
        seed=seed,
    )
    entered: dict[str, Any] = {"temperature": temperature, "bias": bias, "threshold": threshold}
    choices = [
        Choice(
            what="calibration",
            values={"temperature": temperature, "bias": bias},
            criterion="least log loss, each source weighted alike",
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
            "the scores tell next to nothing on these sources: the temperature is as high as it may be"
        )
    if facts.patient is not None and not set(facts.patient.weights) <= LESION_FEATURES:
        entered["patient"] = None
        notes.append(
            "the rule for patients weighed the earlier probabilities and was taken out: choose one with  "
            "groundglass aggregate"
        )
    return entered, choices, notes
