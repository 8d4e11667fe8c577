"""GG201 to GG203: whether the detector still separates the classes when the lungs or their surroundings change."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from groundglass.audit.check import Check, NotApplicable, Result
from groundglass.audit.measures import TELLING, auc, auc_drop, renumbered, severity_of, surely_over
from groundglass.audit.trial import Picture, Trial, some_of
from groundglass.bundle.evaluation import Estimate
from groundglass.labels import NEGATIVE, POSITIVE
from groundglass.preprocess import Box, Preprocessing
from groundglass.segment.masks import Segmentation

LungChange = Callable[[Picture, Segmentation], Picture]

MARGIN = 0.05
"""Margin of the black box around the lungs, as a share of its longer side."""
RIM = 0.03
"""Width of the ring around the lungs whose grey fills them, as a share of the longer side of their box."""
LEAST_UNITS = 5
"""An AUC is reported only with at least this many groups of each class."""
COMPOSED = 200
"""Slices whose lungs are put on other backgrounds, half of each class; each is answered twice."""


def without_lungs(picture: Picture, segmentation: Segmentation) -> Picture:
    """A black box over both lungs and a small margin, so that not even their shape is left.

    After Maguolo & Nanni 2021, doi 10.1016/j.inffus.2021.04.008. If no lungs were found, nothing is changed.
    """
    changed = picture.copy()
    if segmentation.found:
        changed[_box(segmentation, MARGIN).slices] = 0
    return changed


def only_lungs(picture: Picture, segmentation: Segmentation) -> Picture:
    """Black outside the lungs; unchanged if none were found."""
    return np.where(segmentation.trusted_lungs, picture, np.float32(0))


def on_background_of(
    picture: Picture, segmentation: Segmentation, other: Picture, other_segmentation: Segmentation
) -> Picture:
    """The lungs of one slice on the background of another.

    The lungs are stretched so that the box around them fills the box around the other's. The visible rest of
    the other's own lungs becomes grey like the tissue around them.

    Parameters
    ----------
    picture, segmentation
        The slice whose lungs are used.
    other, other_segmentation
        The slice whose background is used.

    Returns
    -------
    float32 in [0, 1], the shape of ``other``.

    Raises
    ------
    ValueError
        If no lungs were found on one of them.
    """
    if not (segmentation.found and other_segmentation.found):
        raise ValueError("lungs are swapped between slices on which they were found")
    source, target = _box(segmentation), _box(other_segmentation)

    shrinks = target.width <= source.width and target.height <= source.height
    way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR

    def stretched(content: Picture) -> Picture:
        shape = (target.width, target.height)
        return np.asarray(cv2.resize(content[source.slices], shape, interpolation=way))

    changed = np.where(other_segmentation.trusted_lungs, _grey_around(other, other_segmentation), other)
    opacity = stretched(segmentation.trusted_lungs.astype(np.float32))
    changed[target.slices] += opacity * (stretched(picture) - changed[target.slices])
    return changed.clip(0, 1)


def _box(segmentation: Segmentation, margin: float = 0) -> Box:
    """The box around both lungs."""
    lungs = segmentation.trusted_lungs
    if margin:
        height, width = lungs.shape
        return Preprocessing(lungs="crop", margin=margin).region(height, width, lungs)
    left, top, width, height = cv2.boundingRect(lungs.astype(np.uint8))
    return Box(top=top, left=left, height=height, width=width)


def _grey_around(picture: Picture, segmentation: Segmentation) -> np.float32:
    """The median grey of a ring around the lungs, or of the slice if there is no room for a ring."""
    lungs, box = segmentation.trusted_lungs, _box(segmentation)
    side = 2 * round(RIM * max(box.height, box.width)) + 3
    ring = cv2.dilate(lungs.astype(np.uint8), np.ones((side, side), np.uint8)).astype(bool) & ~lungs
    return np.float32(np.median(picture[ring] if ring.any() else picture))


@dataclass(frozen=True)
class Changed:
    """Answers before and after a change of the lungs.

    Attributes
    ----------
    places
        Indices in the trial's sample of the slices on which lungs were found.
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
        """AUC before and after, with intervals by a bootstrap with this seed."""
        whole, changed = (auc(self.truth, score, self.units, seed) for score in (self.before, self.after))
        return whole, changed


@dataclass(frozen=True)
class Composed:
    """Answers to lungs on other slices' backgrounds, each once on one of either class.

    Attributes
    ----------
    lungs, backgrounds
        Indices in the trial's sample of the composed slices, shape (composed,).
    probability
        Calibrated, of COVID-19, shape (composed,).
    """

    lungs: NDArray[np.intp]
    backgrounds: NDArray[np.intp]
    probability: NDArray[np.float64]


def places_with_lungs(trial: Trial) -> NDArray[np.intp]:
    """Sorted indices in the sample of the slices on which lungs were found.

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
            f"One class has lungs on slices of only {fewest} groups; at least {LEAST_UNITS} are needed."
        )
    return places


def with_lungs_changed(trial: Trial, change: LungChange) -> Changed:
    """Change the lungs of every slice of the sample on which they were found, and answer it again.

    Raises
    ------
    NotApplicable
        As :func:`places_with_lungs`.
    """
    places = places_with_lungs(trial)
    after = trial.answer(change(trial.scans[place].pixels, trial.segmentations[place]) for place in places)
    units = renumbered(trial.units[places])
    return Changed(places, trial.truth[places], units, trial.probability[places], after)


def with_lungs_removed(trial: Trial) -> Changed:
    """Black out the lungs (:func:`without_lungs`).

    Raises
    ------
    NotApplicable
        As :func:`places_with_lungs`, and if the detector sees nothing but the lungs.
    """
    if trial.detector.bundle.facts.preprocessing.lungs != "none":
        raise NotApplicable("The detector looks only at the lungs and has no answer without them.")
    return with_lungs_changed(trial, without_lungs)


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
    return Composed(lungs, backgrounds, trial.answer(pictures))


class LungsRemoved(Check[Trial]):
    """AUC with a black box over both lungs (Maguolo & Nanni 2021, doi 10.1016/j.inffus.2021.04.008).

    A warning if the lower end of its interval is at least 0.60, an error if it is at least 0.75.
    """

    code = "GG201"

    def run(self, subject: Trial) -> Result:
        """Raises NotApplicable if too few slices show lungs, or the detector sees nothing else."""
        changed = with_lungs_removed(subject)
        whole, removed = changed.aucs(subject.material.seed)
        severity = severity_of(removed)
        still = np.flatnonzero(changed.truth & (changed.after >= subject.threshold))
        falling = still[np.argsort(-changed.after[still], kind="stable")]
        return self.result(
            severity,
            removed,
            files=[subject.paths[changed.places[row]] for row in falling] if severity else (),
            rows=(("whole", whole), ("lungs blacked out", removed)),
            slices=len(changed.places),
            whole=whole,
            telling=TELLING,
        )


TELLING_DROP = 0.10
"""If the whole interval of the drop is above this, the detector must have used what is outside the lungs."""


class OnlyLungs(Check[Trial]):
    """Loss of AUC if everything outside the lungs is black; a warning if its whole interval is above 0.10."""

    code = "GG202"

    def run(self, subject: Trial) -> Result:
        """Raises NotApplicable if too few slices show lungs."""
        changed, seed = with_lungs_changed(subject, only_lungs), subject.material.seed
        whole, only = changed.aucs(seed)
        drop = auc_drop(changed.truth, changed.before, changed.after, changed.units, seed)
        return self.result(
            "warning" if surely_over(drop, TELLING_DROP) else None,
            drop,
            rows=(("whole", whole), ("only the lungs", only)),
            slices=len(changed.places),
            whole=whole,
            only=only,
        )


class BackgroundsSwapped(Check[Trial]):
    """Lungs on backgrounds of both classes: AUC against the background's label.

    A warning if the lower end of its interval is at least 0.60, an error if it is at least 0.75.
    """

    code = "GG203"

    def run(self, subject: Trial) -> Result:
        """Raises NotApplicable if too few slices show lungs."""
        composed = with_backgrounds_swapped(subject)
        truth, units, seed = subject.truth, subject.units, subject.material.seed
        by_lungs, by_background = (
            auc(truth[of], composed.probability, renumbered(units[of]), seed)
            for of in (composed.lungs, composed.backgrounds)
        )
        return self.result(
            severity_of(by_background),
            by_background,
            rows=[_row(composed, truth, label) for label in (True, False)],
            slices=len(composed.lungs) // 2,
            by_lungs=by_lungs,
        )


def _row(composed: Composed, truth: NDArray[np.bool_], label: bool) -> tuple[str, str, str]:
    """Mean probabilities for lungs of one class, on a background of either class."""
    means = []
    for other in (True, False):
        chosen = (truth[composed.lungs] == label) & (truth[composed.backgrounds] == other)
        means.append(f"{composed.probability[chosen].mean():.2f}")
    return POSITIVE if label else NEGATIVE, means[0], means[1]
