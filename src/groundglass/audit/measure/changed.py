"""What a detector answers where the lungs of its slices were changed, beside what it answers to the slices."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from groundglass.audit.check import NotApplicable
from groundglass.audit.measure.auc import auc
from groundglass.audit.measure.changes import LungChange, Picture, on_background_of, without_lungs
from groundglass.audit.measure.figures import renumbered
from groundglass.audit.trial import Trial, grey_scans
from groundglass.evaluate.evaluation import Estimate

LEAST_UNITS = 5
"""Groups of each class on which an AUC is worth telling."""
COMPOSED = 200
"""Slices whose lungs are put on other backgrounds, half of them of each class; each is answered twice."""


@dataclass(frozen=True)
class Changed:
    """Answers before and after a change of the lungs.

    Attributes
    ----------
    places
        Of the slices in the trial's sample, those on which lungs were found.
    truth
        Whether each is labelled COVID-19, bool, shape (slices,).
    units
        The group of each, numbered from 0, shape (slices,).
    before, after
        Calibrated probability of COVID-19 of the whole slice and of the changed one, shape (slices,).
    """

    places: NDArray[np.intp]
    truth: NDArray[np.bool_]
    units: NDArray[np.intp]
    before: NDArray[np.float64]
    after: NDArray[np.float64]

    def aucs(self, seed: int = 0) -> tuple[Estimate, Estimate]:
        """AUC before and after, with intervals by a bootstrap of that seed."""
        whole, changed = (auc(self.truth, score, self.units, seed) for score in (self.before, self.after))
        return whole, changed


@dataclass(frozen=True)
class Composed:
    """Answers to lungs on other slices' backgrounds, each lungs once on one of either class.

    Attributes
    ----------
    lungs, backgrounds
        Places in the trial's sample of the slices composed, shape (composed,).
    probability
        Calibrated, of COVID-19, shape (composed,).
    """

    lungs: NDArray[np.intp]
    backgrounds: NDArray[np.intp]
    probability: NDArray[np.float64]


def answers(trial: Trial, pictures: Iterable[Picture]) -> NDArray[np.float64]:
    """Calibrated probability of COVID-19 of pictures, of which few are held at a time."""
    return trial.answer(scan for picture in pictures for scan in grey_scans([picture]))


def some_of(places: NDArray[np.intp], at_most: int, seed: int) -> NDArray[np.intp]:
    """At most so many of some places, drawn by the seed, in rising order."""
    return np.sort(np.random.default_rng(seed).permutation(places)[:at_most])


def places_with_lungs(trial: Trial) -> NDArray[np.intp]:
    """Places in the sample of the slices on which lungs were found, rising.

    Raises
    ------
    NotApplicable
        If they come from fewer than ``LEAST_UNITS`` groups of a class.
    """
    places = np.flatnonzero([segmentation.found for segmentation in trial.segmentations])
    truth, units = trial.truth[places], trial.units[places]
    fewest = min(len(np.unique(units[of])) for of in (truth, ~truth))
    if fewest < LEAST_UNITS:
        raise NotApplicable(
            f"Lungs were found in slices of {fewest} groups of a class; at least {LEAST_UNITS} are needed."
        )
    return places


def with_lungs_changed(trial: Trial, change: LungChange) -> Changed:
    """Change the lungs of every slice of the sample on which they were found, and answer it anew.

    Raises
    ------
    NotApplicable
        As :func:`places_with_lungs`.
    """
    places = places_with_lungs(trial)
    after = answers(
        trial, (change(trial.scans[place].pixels, trial.segmentations[place]) for place in places)
    )
    units = renumbered(trial.units[places])
    return Changed(places, trial.truth[places], units, trial.probability[places], after)


def with_lungs_removed(trial: Trial) -> Changed:
    """Black out the lungs (:func:`~groundglass.audit.measure.changes.without_lungs`).

    Raises
    ------
    NotApplicable
        As :func:`places_with_lungs`, and of a detector that sees nothing else.
    """
    if trial.detector.bundle.facts.preprocessing.lungs != "none":
        raise NotApplicable(
            "The detector looks at the lungs alone: without them it has nothing to answer to."
        )
    return with_lungs_changed(trial, without_lungs)


def lungs_removed_auc(trial: Trial) -> tuple[Estimate, Estimate]:
    """AUC of the whole slices, and of the same slices with the lungs blacked out.

    After Maguolo & Nanni 2021, doi 10.1016/j.inffus.2021.04.008: a detector that looks at lungs cannot tell
    the classes without them.

    Raises
    ------
    NotApplicable
        As :func:`with_lungs_removed`.
    """
    return with_lungs_removed(trial).aucs(trial.material.seed)


def with_backgrounds_swapped(trial: Trial) -> Composed:
    """Put lungs on a background of their own class and on one of the other class, both of another group.

    Raises
    ------
    NotApplicable
        As :func:`places_with_lungs`.
    """
    generator = np.random.default_rng(trial.material.seed)
    places = places_with_lungs(trial)
    halves = [
        some_of(places[trial.truth[places] == label], COMPOSED // 2, trial.material.seed)
        for label in (True, False)
    ]
    lungs = np.repeat(np.concatenate(halves), 2)
    wanted = np.tile([True, False], len(lungs) // 2)
    backgrounds = np.array(
        [
            generator.choice(
                places[(trial.truth[places] == label) & (trial.units[places] != trial.units[own])]
            )
            for own, label in zip(lungs, wanted, strict=True)
        ]
    )
    pairs = zip(lungs, backgrounds, strict=True)
    pictures = (
        on_background_of(
            trial.scans[own].pixels,
            trial.segmentations[own],
            trial.scans[other].pixels,
            trial.segmentations[other],
        )
        for own, other in pairs
    )
    return Composed(lungs, backgrounds, answers(trial, pictures))
