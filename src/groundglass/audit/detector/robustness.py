"""GG206: whether the verdict is stable under changes of a slice that do not affect the diagnosis."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from groundglass.audit.check import Check, Result, Severity
from groundglass.audit.measures import mean, surely_over
from groundglass.audit.trial import Picture, Trial, some_of
from groundglass.bundle.evaluation import Estimate, format_estimate
from groundglass.scan.scan import apply_window

PictureChange = Callable[[Picture], Picture]
ANGLE, SHIFT, WIDENING, CROP = 5.0, 0.07, 1.2, 0.05
"""Degrees; share of the grey scale, of the lung window's 1500 HU about 100; factor of the window's width; share
of each side."""
GAMMAS, QUALITY, NOISE = (0.8, 1.25), 50, 0.02
"""Exponents of the grey; JPEG quality of 100; standard deviation as a share of the grey scale, in the lung
window 30 HU."""


def _rotated(picture: Picture, degrees: float) -> Picture:
    height, width = picture.shape
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    # Reflected at the border: black corners would be unfamiliar.
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


ROBUSTNESS: Mapping[str, PictureChange] = {
    f"turned by {ANGLE:g} degrees to the left": partial(_rotated, degrees=ANGLE),
    f"turned by {ANGLE:g} degrees to the right": partial(_rotated, degrees=-ANGLE),
    "mirrored": _mirrored,
    f"made darker by {SHIFT:.0%} of the grey scale": partial(apply_window, level=0.5 + SHIFT, width=1),
    f"made brighter by {SHIFT:.0%} of the grey scale": partial(apply_window, level=0.5 - SHIFT, width=1),
    f"shown in a window wider by {WIDENING - 1:.0%}": partial(apply_window, level=0.5, width=WIDENING),
    f"shown in a window narrower by {1 - 1 / WIDENING:.0%}": partial(
        apply_window, level=0.5, width=1 / WIDENING
    ),
    **{f"given a gamma of {gamma:g}": partial(_with_gamma, gamma=gamma) for gamma in GAMMAS},
    f"saved as JPEG of quality {QUALITY}": _as_jpeg,
    "reduced to half its resolution": _at_half_resolution,
    f"given noise of {NOISE:.0%} of the grey scale": _with_noise,
    f"cropped by {CROP:.0%} a side": _cropped,
}
"""Small changes that do not affect the diagnosis, by name; each from a picture to a picture.

A window of level 0.5 and width 1 in shares of the grey scale would change nothing.
"""


MOST_SLICES = 200
NOTED, TELLING = 5.0, 10.0
"""A note and a warning are given above these numbers of flips in a hundred verdicts."""


@dataclass(frozen=True)
class _Effect:
    """The effect of a change: flips in a hundred verdicts, change of the probability, and which slices flip."""

    name: str
    flips: Estimate
    shift: Estimate
    flipped: NDArray[np.bool_]


class Robustness(Check[Trial]):
    """Flips in a hundred verdicts under harmless changes.

    A note if the whole interval for the worst change is above 5 in a hundred, a warning if it is above 10.
    """

    code = "GG206"

    def run(self, subject: Trial) -> Result:
        """Change a sample of the slices in every way and answer them again."""
        places = some_of(np.arange(len(subject.paths)), MOST_SLICES, subject.material.seed)
        effects = [_effect(subject, places, name, change) for name, change in ROBUSTNESS.items()]
        effects.sort(key=lambda one: one.flips.value or 0, reverse=True)
        worst = effects[0]
        return self.result(
            _severity(worst.flips),
            worst.flips,
            files=[subject.paths[place] for place in places[worst.flipped]],
            rows=[(one.name, format_estimate(one.flips, 1), one.shift) for one in effects],
            worst=worst.name,
            changes=len(effects),
            slices=len(places),
            median=np.median([one.flips.value or 0 for one in effects]),
        )


def _effect(trial: Trial, places: NDArray[np.intp], name: str, change: PictureChange) -> _Effect:
    before = trial.probability[places]
    after = trial.answer(change(trial.scans[place].pixels) for place in places)
    flipped = (before >= trial.threshold) != (after >= trial.threshold)
    units, seed = trial.units[places], trial.material.seed
    return _Effect(name, mean(100.0 * flipped, units, seed), mean(after - before, units, seed), flipped)


def _severity(flips: Estimate) -> Severity | None:
    if surely_over(flips, TELLING):
        return "warning"
    return "note" if surely_over(flips, NOTED) else None
