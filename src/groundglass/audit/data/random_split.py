"""GG120: how much better a detector looks if slices are divided at random instead of by patient."""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from groundglass.audit.check import Check, NotApplicable, Result
from groundglass.audit.hidden_groups import SIDE
from groundglass.audit.label_prediction import fold_count
from groundglass.audit.material import Material
from groundglass.audit.measures import auc, mean, renumbered
from groundglass.bundle.evaluation import Estimate
from groundglass.data.splits import named_groups
from groundglass.evaluation.paired import mcnemar
from groundglass.similarity import small_pictures, unit_vectors

REPEATS = 5
"""Number of divisions into folds that are averaged, since a single one varies by a few percent with its seed."""
LIMIT = 5000
"""If there are more slices, whole groups are drawn until there are about this many."""
ADDED = 0.05
"""The check reports something if a random split adds at least this accuracy, by the interval's lower end."""
BY_NAMED, BY_GUESS, AT_RANDOM = "the manifest's groups", "guessed groups", "random"

Bools = NDArray[np.bool_]
Places = NDArray[np.intp]


@dataclass(frozen=True)
class _Answers:
    """The nearest neighbour's answers: ``right``, shape (repeats, slices), and its mean score by slice."""

    right: Bools
    score: NDArray[np.float64]

    def figures(self, truth: Bools, units: Places, seed: int) -> tuple[Estimate, Estimate]:
        """Accuracy and AUC, with intervals by a bootstrap of whole units."""
        return mean(self.right.mean(axis=0), units, seed), auc(truth, self.score, units, seed)


class RandomSplit(Check[Material]):
    """Compares the nearest neighbour across random folds with that across folds of whole groups."""

    code = "GG120"

    def run(self, material: Material) -> Result:
        """Cross-validate one nearest neighbour in up to three ways."""
        groupings, seed = _groupings(material), material.seed
        kept = _sample(next(reversed(groupings.values())), seed)
        truth = material.truth[kept]
        units = {name: renumbered(codes[kept]) for name, codes in groupings.items()}
        pixels = unit_vectors(small_pictures(material.pictures.grey[kept], SIDE))
        likeness = pixels @ pixels.T
        random = _nearest(likeness, truth, None, seed)
        grouped = {name: _nearest(likeness, truth, codes, seed) for name, codes in units.items()}
        added = {name: _added(random, grouped[name], codes) for name, codes in units.items()}
        worst = max(added, key=lambda name: added[name].low or 0.0)
        figures = {AT_RANDOM: random.figures(truth, units[worst], seed)}
        figures |= {name: answers.figures(truth, units[name], seed) for name, answers in grouped.items()}
        return self.result(
            "warning" if (added[worst].low or 0.0) >= ADDED else None,
            added[worst],
            rows=[
                (name, len(np.unique(units[name])) if name in units else "", *cells)
                for name, cells in figures.items()
            ],
            accuracy={name: accuracy for name, (accuracy, _) in figures.items()},
            worst=worst,
            kept=len(kept),
            count=len(material.truth),
        )


def _groupings(material: Material) -> dict[str, Places]:
    """Codes of the groups that folds can keep together; also guessed ones if patients are missing."""
    found = {BY_NAMED: material.units}
    if (named_groups(material.manifest) == "").any():
        found[BY_GUESS] = material.hidden.groups
    usable = {name: codes for name, codes in found.items() if np.bincount(codes).max() > 1}
    if not usable:
        raise NotApplicable("No groups are known or can be guessed that a random split would separate.")
    return usable


def _sample(groups: Places, seed: int) -> Places:
    """Indices of all slices, or of whole groups with at most ``LIMIT`` slices."""
    if len(groups) <= LIMIT:
        return np.arange(len(groups))
    drawn = np.random.default_rng(seed).permutation(int(groups.max()) + 1)
    enough = np.cumsum(np.bincount(groups)[drawn]) <= LIMIT
    return np.flatnonzero(np.isin(groups, drawn[enough]))


def _nearest(likeness: NDArray[np.float32], truth: Bools, units: Places | None, seed: int) -> _Answers:
    """Answer each slice by its nearest neighbour outside its fold; folds keep ``units`` together, if given."""
    whole = np.arange(len(truth)) if units is None else units
    folds = fold_count(truth, whole)
    kind = StratifiedKFold if units is None else StratifiedGroupKFold
    scores = np.empty((REPEATS, len(truth)))
    for repeat in range(REPEATS):
        splitter = kind(folds, shuffle=True, random_state=seed + repeat)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about unequal classes: groups come first
            for fitted, scored in splitter.split(likeness, truth, whole):
                positive, negative = (
                    likeness[np.ix_(scored, fitted[truth[fitted] == label])].max(axis=1, initial=-1)
                    for label in (True, False)
                )
                scores[repeat, scored] = positive - negative
    return _Answers((scores > 0) == truth, scores.mean(axis=0))


def _added(random: _Answers, grouped: _Answers, units: Places) -> Estimate:
    test = mcnemar(random.right, grouped.right, units)
    if np.isnan(test.low):
        return Estimate(value=test.difference)
    return Estimate(value=test.difference, low=test.low, high=test.high)
