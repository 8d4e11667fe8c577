"""Changes of a slice: some that no detector of a lung disease can bear, and some that every one must bear."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from groundglass.audit.check import NotApplicable
from groundglass.audit.measures import auc, renumbered
from groundglass.audit.trial import Trial, grey_scans
from groundglass.evaluate.evaluation import Estimate
from groundglass.preprocess import Box, Preprocessing
from groundglass.scan.scan import apply_window
from groundglass.segment.masks import Segmentation

Picture = NDArray[np.float32]
"""Grey in [0, 1], float32, shape (height, width)."""
Change = Callable[[Picture], Picture]
LungChange = Callable[[Picture, Segmentation], Picture]

MARGIN = 0.05
"""Of the black box around the lungs, as a share of its longer side."""
RIM = 0.03
"""Width of the ring around the lungs whose grey fills them, as a share of the longer side of their box."""
ANGLE, SHIFT, WIDENING, CROP = 5.0, 0.07, 1.2, 0.05
"""Degrees; share of the grey scale, of the lung window's 1500 HU about 100; factor of the window's width; share
of each side."""
GAMMAS, QUALITY, NOISE = (0.8, 1.25), 50, 0.02
"""Exponents of the grey; JPEG quality of 100; standard deviation as a share of the grey scale, in the lung
window 30 HU."""


def without_lungs(picture: Picture, segmentation: Segmentation) -> Picture:
    """A black box over both lungs and a small margin, so that not even their shape is left.

    After Maguolo & Nanni 2021, doi 10.1016/j.inffus.2021.04.008. Where no lungs were found, nothing is changed.
    """
    changed = picture.copy()
    if segmentation.found:
        changed[_box(segmentation, MARGIN).slices] = 0
    return changed


def only_lungs(picture: Picture, segmentation: Segmentation) -> Picture:
    """Black outside the lungs; everything where none were found."""
    return np.where(segmentation.trusted_lungs, picture, np.float32(0))


def on_background_of(
    picture: Picture, segmentation: Segmentation, other: Picture, other_segmentation: Segmentation
) -> Picture:
    """The lungs of one slice on the background of another.

    The lungs are stretched so that the box around them fills the box around the other's. What is seen of the
    other's own lungs beside them becomes grey like the tissue around these.

    Parameters
    ----------
    picture, segmentation
        Of the slice whose lungs are seen.
    other, other_segmentation
        Of the slice whose background is seen.

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
    """The middle grey of a ring around the lungs; of the slice where they leave no room for one."""
    lungs, box = segmentation.trusted_lungs, _box(segmentation)
    side = 2 * round(RIM * max(box.height, box.width)) + 3
    ring = cv2.dilate(lungs.astype(np.uint8), np.ones((side, side), np.uint8)).astype(bool) & ~lungs
    return np.float32(np.median(picture[ring] if ring.any() else picture))


def _rotated(picture: Picture, degrees: float) -> Picture:
    height, width = picture.shape
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    # Reflected at the border: black corners would be something new.
    turned = cv2.warpAffine(picture, turn, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(turned, dtype=np.float32)


def _mirrored(picture: Picture) -> Picture:
    return np.ascontiguousarray(picture[:, ::-1])


def _with_gamma(picture: Picture, gamma: float) -> Picture:
    return np.asarray(picture**gamma, dtype=np.float32)


def _as_jpeg(picture: Picture) -> Picture:
    _, encoded = cv2.imencode(
        ".jpg", np.rint(picture * 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    )
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE), dtype=np.float32) / np.float32(255)


def _at_half_resolution(picture: Picture) -> Picture:
    height, width = picture.shape
    half = cv2.resize(picture, (max(1, width // 2), max(1, height // 2)), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(half, (width, height), interpolation=cv2.INTER_LINEAR))


def _with_noise(picture: Picture) -> Picture:
    noise = np.random.default_rng(0).standard_normal(picture.shape, dtype=np.float32)
    return (picture + np.float32(NOISE) * noise).clip(0, 1)


def _cropped(picture: Picture) -> Picture:
    rows, columns = (round(CROP * side) for side in picture.shape)
    return np.ascontiguousarray(picture[rows : picture.shape[0] - rows, columns : picture.shape[1] - columns])


ROBUSTNESS: Mapping[str, Change] = {
    f"turned by {ANGLE:g} degrees to the left": partial(_rotated, degrees=ANGLE),
    f"turned by {ANGLE:g} degrees to the right": partial(_rotated, degrees=-ANGLE),
    "mirrored": _mirrored,
    f"made darker by {SHIFT:.0%} of the grey scale": partial(apply_window, level=0.5 + SHIFT, width=1),
    f"made brighter by {SHIFT:.0%} of the grey scale": partial(apply_window, level=0.5 - SHIFT, width=1),
    f"seen through a window wider by {WIDENING - 1:.0%}": partial(apply_window, level=0.5, width=WIDENING),
    f"seen through a window narrower by {1 - 1 / WIDENING:.0%}": partial(
        apply_window, level=0.5, width=1 / WIDENING
    ),
    **{f"given a gamma of {gamma:g}": partial(_with_gamma, gamma=gamma) for gamma in GAMMAS},
    f"saved as JPEG of quality {QUALITY}": _as_jpeg,
    "brought to half its resolution": _at_half_resolution,
    f"given noise of {NOISE:.0%} of the grey scale": _with_noise,
    f"cropped by {CROP:.0%} a side": _cropped,
}
"""Small changes that leave the diagnosis as it is, by what is done; each from a picture to a picture.

A window of level 0.5 and width 1 in shares of the grey scale would change nothing.
"""


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
    """Black out the lungs (:func:`~groundglass.audit.changes.without_lungs`).

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
