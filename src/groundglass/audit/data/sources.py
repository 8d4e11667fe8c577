"""GG112: whether the source of a scan gives its label away, and whether the picture shows the source."""

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats.contingency import association
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, cross_val_predict

from groundglass.audit.bonds import share_of
from groundglass.audit.check import Check, NotApplicable, Result
from groundglass.audit.hidden_groups import SIDE, contrast_normalised
from groundglass.audit.material import Material
from groundglass.audit.measures import CONFIDENCE, RESAMPLES, auc, severity_of
from groundglass.audit.regions import grey_statistics, thumbnail
from groundglass.audit.telling import FOLDS, LEAF, Told, measure_name, told
from groundglass.data.splits import named_groups
from groundglass.evaluate.bootstrap import Floats, ratio
from groundglass.evaluate.evaluation import Estimate, format_estimate
from groundglass.evaluate.metrics import estimate, resample
from groundglass.evaluate.paired import mcnemar
from groundglass.evaluate.predictions import unit_codes
from groundglass.labels import POSITIVE

TREES = 50
"""Grown for each fold: enough to tell whether sources look different, and quick with many of them."""
NO_NAME = "not named"


class SourceAndLabel(Check[Material]):
    """Tells the label from the source, and the source from the picture."""

    code = "GG112"
    title = "Source against label"
    severity = "error"
    needs = ("two classes", "two sources")
    remedy = (
        "Take scans of both classes from every source, in like shares, or give figures within each source and for "
        "a source that was not trained on."
    )

    def run(self, material: Material) -> Result:
        """Tell the label from the source, the source from the picture."""
        sources = material.manifest["source"].replace("", NO_NAME)
        label_told = told(
            pd.get_dummies(sources, dtype=float).to_numpy(),
            material.truth,
            material.units,
            seed=material.seed,
            trees=TREES,
        )
        counts = _counts(sources, material.truth)
        cramer = association(counts.assign(rest=counts["slices"] - counts["covid"])[["covid", "rest"]])
        picture = _picture(material, sources.to_numpy(dtype=str))
        return Result(
            severity_of(label_told.crossed),
            f"{_label(label_told, cramer)} {picture} {_pure(counts)}".rstrip(),
            label_told.crossed,
            measure_name(label_told),
            header=("Source", "Slices", POSITIVE.capitalize(), "Share"),
            rows=tuple(
                (str(source), str(slices), str(covid), f"{covid / slices:.0%}")
                for source, slices, covid in counts.itertuples()
            ),
        )


def _counts(sources: "pd.Series[str]", truth: NDArray[np.bool_]) -> pd.DataFrame:
    """Slices of each source, and those of COVID-19; the largest source first."""
    grouped = pd.Series(truth, index=sources.index).groupby(sources)
    counts = pd.DataFrame({"slices": grouped.size(), "covid": grouped.sum()})
    return counts.sort_values("slices", ascending=False, kind="stable")


def _label(label_told: Told, cramer: float) -> str:
    verdict = "is told" if severity_of(label_told.crossed) else "is not surely told"
    return (
        f"From the source alone, without the picture, the label {verdict}: AUC "
        f"{format_estimate(label_told.crossed)}, Cramer's V {cramer:.2f}."
    )


def _pure(counts: pd.DataFrame) -> str:
    one_sided = counts["covid"].isin([0]) | (counts["covid"] == counts["slices"])
    if one_sided.all():
        return (
            "Every source holds one class only: the label is the source, and no figure on these scans can tell "
            "the disease from the place that the picture comes from."
        )
    return f"{one_sided.sum()} of {len(counts)} sources hold one class only." if one_sided.any() else ""


def _picture(material: Material, sources: NDArray[np.str_]) -> str:
    """How well the source is told from the picture, of the sources that have two groups."""
    groups = {source: len(np.unique(material.units[sources == source])) for source in np.unique(sources)}
    known = [source for source, count in groups.items() if count > 1]
    if len(known) < 2:
        return "Whether pictures show their source cannot be told: fewer than two sources have two groups."
    kept = np.isin(sources, known)
    folds = min(FOLDS, *(groups[source] for source in known))
    accuracy = _told_apart(
        material.looks.grey[kept],
        sources[kept],
        unit_codes(material.units[kept].astype(str)),
        folds,
        material.seed,
    )
    return (
        f"From a thumbnail and grey levels the source is told with balanced accuracy {format_estimate(accuracy)}, "
        f"where chance is {1 / len(known):.2f}."
    )


def _told_apart(
    grey: NDArray[np.uint8], sources: NDArray[np.str_], units: NDArray[np.intp], folds: int, seed: int
) -> Estimate:
    """Balanced accuracy of sources told by trees that were grown without a slice's group."""
    answers = cross_val_predict(
        ExtraTreesClassifier(
            TREES, min_samples_leaf=LEAF, class_weight="balanced", random_state=seed, n_jobs=-1
        ),
        np.hstack([thumbnail(grey), grey_statistics(grey)]),
        sources,
        groups=units,
        cv=StratifiedGroupKFold(folds, shuffle=True, random_state=seed),
    )
    return _balanced_accuracy(sources, answers, units, seed)


def _balanced_accuracy(
    sources: NDArray[np.str_], answers: NDArray[np.str_], units: NDArray[np.intp], seed: int
) -> Estimate:
    """The mean of each source's share of right answers, with its interval by a bootstrap of whole units."""
    of_source = (sources[:, None] == np.unique(sources)).astype(float)
    right = of_source * (sources == answers)[:, None]

    def mean_share(weights: Floats) -> dict[str, Floats]:
        return {"accuracy": np.nanmean(ratio(weights @ right, weights @ of_source), axis=1)}

    value = float(mean_share(np.ones((1, len(sources))))["accuracy"][0])
    return estimate(value, resample(mean_share, units, RESAMPLES, seed)["accuracy"], CONFIDENCE)


REPEATS = 5
"""Divisions into folds whose answers are averaged: a single one depends on its seed by some percent."""
LIMIT = 5000
"""Slices; of more, whole groups are drawn until there are about so many."""
ADDED = 0.05
"""Accuracy that a random split must surely add, by the lower end of the interval, for the check to speak."""
BY_NAMED, BY_GUESS = "the manifest's groups", "guessed groups"

Bools = NDArray[np.bool_]
Places = NDArray[np.intp]


@dataclass(frozen=True)
class _Told:
    """What the nearest neighbour answers: ``right``, shape (repeats, slices), and its mean score by slice."""

    right: Bools
    score: NDArray[np.float64]


class RandomSplit(Check[Material]):
    """Compares the nearest neighbour across random folds with that across folds of whole groups."""

    code = "GG120"
    title = "What a random split would add"
    severity = "warning"
    needs = ("two classes",)
    remedy = (
        "Never divide these slices at random: keep patients, or guessed groups in the column group, together, and "
        "do not compare with published figures from random splits."
    )

    def run(self, material: Material) -> Result:
        """Cross-validate one nearest neighbour three ways."""
        groupings = _groupings(material)
        kept = _sample(next(reversed(groupings.values())), material.seed)
        truth = material.truth[kept]
        units = {name: np.unique(codes[kept], return_inverse=True)[1] for name, codes in groupings.items()}
        pixels = contrast_normalised(material.looks.grey[kept], SIDE)
        likeness = pixels @ pixels.T
        random = _nearest(likeness, truth, None, material.seed)
        told = {name: _nearest(likeness, truth, codes, material.seed) for name, codes in units.items()}
        added = {name: _added(random, told[name], codes) for name, codes in units.items()}
        worst = max(added, key=lambda name: _sure(added[name]))
        rows = {"random": _figures(random, truth, units[worst], material.seed)}
        rows |= {name: _figures(told[name], truth, codes, material.seed) for name, codes in units.items()}
        return Result(
            "warning" if _sure(added[worst]) >= ADDED else None,
            f"{_sentence(rows)} A random split adds {format_estimate(added[worst])} over folds by {worst}."
            f"{_of_sample(len(kept), len(material.truth))}",
            added[worst],
            f"accuracy of 1 nearest neighbour, random less by {worst}",
            header=("Folds", "Groups", "Accuracy", "AUC"),
            rows=tuple(
                (
                    name,
                    str(len(np.unique(units[name]))) if name in units else "",
                    *map(format_estimate, figures),
                )
                for name, figures in rows.items()
            ),
        )


def _groupings(material: Material) -> dict[str, Places]:
    """Codes of the groups that folds can keep together, by what they are; the guess where patients are missing."""
    found = {BY_NAMED: material.units}
    if (named_groups(material.manifest) == "").any():
        found[BY_GUESS] = material.hidden.groups
    usable = {name: codes for name, codes in found.items() if np.bincount(codes).max() > 1}
    if not usable:
        raise NotApplicable("No groups are known or can be guessed that a random split would tear.")
    return usable


def _sample(groups: Places, seed: int) -> Places:
    """Places of all slices, or of whole groups with at most ``LIMIT`` slices."""
    if len(groups) <= LIMIT:
        return np.arange(len(groups))
    drawn = np.random.default_rng(seed).permutation(int(groups.max()) + 1)
    enough = np.cumsum(np.bincount(groups)[drawn]) <= LIMIT
    return np.flatnonzero(np.isin(groups, drawn[enough]))


def _nearest(likeness: NDArray[np.float32], truth: Bools, units: Places | None, seed: int) -> _Told:
    """Answer each slice by its nearest neighbour outside its fold; folds keep ``units`` together, if given."""
    whole = np.arange(len(truth)) if units is None else units
    folds = min(FOLDS, *(len(np.unique(whole[truth == label])) for label in (True, False)))
    if folds < 2:
        raise NotApplicable("A class has fewer than two groups: nothing can be cross-validated.")
    scores = np.empty((REPEATS, len(truth)))
    for repeat in range(REPEATS):
        kind = StratifiedKFold if units is None else StratifiedGroupKFold
        splitter = kind(folds, shuffle=True, random_state=seed + repeat)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # folds of unequal classes: the groups come first
            for fitted, scored in splitter.split(likeness, truth, whole):
                positive, negative = (
                    likeness[np.ix_(scored, fitted[truth[fitted] == label])].max(axis=1, initial=-1)
                    for label in (True, False)
                )
                scores[repeat, scored] = positive - negative
    return _Told((scores > 0) == truth, scores.mean(axis=0))


def _added(random: _Told, grouped: _Told, units: Places) -> Estimate:
    test = mcnemar(random.right, grouped.right, units)
    if np.isnan(test.low):
        return Estimate(value=test.difference)
    return Estimate(value=test.difference, low=test.low, high=test.high)


def _sure(added: Estimate) -> float:
    """What is surely added; nothing where no interval can be given."""
    return 0.0 if added.low is None else added.low


def _figures(told: _Told, truth: Bools, units: Places, seed: int) -> tuple[Estimate, Estimate]:
    """Accuracy and AUC, with intervals by a bootstrap of whole units."""
    return share_of(told.right.mean(axis=0), units, seed), auc(truth, told.score, units, seed)


def _sentence(rows: dict[str, tuple[Estimate, Estimate]]) -> str:
    grouped = " and ".join(
        f"{format_estimate(accuracy)} where folds keep {name} together"
        for name, (accuracy, _) in rows.items()
        if name != "random"
    )
    return (
        f"Answering each slice with the label of its nearest neighbour on {SIDE} x {SIDE} pixels is right for a "
        f"share of {format_estimate(rows['random'][0])} in random folds, but of {grouped}."
    )


def _of_sample(kept: int, count: int) -> str:
    return "" if kept == count else f" Measured on whole groups with {kept} of the {count} slices."
