"""The deletion test: does the answer fall where the heatmap's hottest places are taken away?

Petsiuk and others 2018, RISE, arXiv 1806.07421.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import trapezoid

from groundglass.audit.measure.changed import answers
from groundglass.audit.measure.changes import Picture
from groundglass.audit.trial import Trial
from groundglass.detect.detector import SliceFinding
from groundglass.preprocess import Preprocessing

SHARES = (0.05, 0.10, 0.20, 0.40)
"""Of the area that the model sees, what is taken away."""


def fading(picture: Picture, order: NDArray[np.intp]) -> Iterator[Picture]:
    """A slice with more and more of its pixels made black.

    Black is air; what RISE also tries, a blurred slice or its mean grey, looks like ground glass in a lung.

    Parameters
    ----------
    picture
        The slice.
    order
        Flat indices of pixels, shape (pixels,), the first to go first.

    Yields
    ------
    A picture for each of ``SHARES``, that share of ``order`` made black.
    """
    for share in SHARES:
        changed = picture.copy()
        changed.flat[order[: round(share * len(order))]] = 0
        yield changed


def pixel_order(
    finding: SliceFinding, preprocessing: Preprocessing, heat: NDArray[np.float32]
) -> NDArray[np.intp]:
    """The pixels that the model saw, by the heat of the cell of the heatmap in which they lie, the hottest first.

    Parameters
    ----------
    finding
        Its region and the shape of its evidence say where the grid lies.
    preprocessing
        Of the detector.
    heat
        Of each cell, shape (rows, columns).

    Returns
    -------
    Flat indices into the slice, shape (pixels,).
    """
    region = finding.region
    box = preprocessing.box(region.height, region.width)
    rows, columns = (
        (np.arange(seen) + 0.5) / seen * inner + start
        for seen, inner, start in ((region.height, box.height, box.top), (region.width, box.width, box.left))
    )
    cells = [
        (inputs * count / side).astype(int)
        for inputs, count, side in zip((rows, columns), heat.shape, preprocessing.size, strict=True)
    ]
    # Ranks: whole numbers of few bits are sorted much faster than floats.
    ranks = np.empty(heat.size, dtype=np.uint16 if heat.size < 2**16 else np.uint32)
    ranks[np.argsort(-heat, axis=None, kind="stable")] = np.arange(heat.size)
    falling = np.argsort(ranks.reshape(heat.shape)[np.ix_(*cells)], axis=None, kind="stable")
    shape = finding.scan.pixels.shape
    return np.arange(shape[0] * shape[1]).reshape(shape)[region.slices].ravel()[falling]


def deletion_curves(
    trial: Trial, places: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Probability as more and more is taken away, the hottest first, and in random order of the same grid.

    Parameters
    ----------
    places
        In the trial's sample.

    Returns
    -------
    Two arrays, float64, shape (slices, 5): at 0, 5, 10, 20 and 40% of the area.
    """
    generator = np.random.default_rng(trial.material.seed)
    preprocessing = trial.detector.bundle.facts.preprocessing

    def pictures() -> Iterator[Picture]:
        for place in places:
            finding = trial.findings[place]
            random = generator.permutation(finding.evidence.size).reshape(finding.evidence.shape)
            for heat in (finding.evidence, random.astype(np.float32)):
                yield from fading(trial.scans[place].pixels, pixel_order(finding, preprocessing, heat))

    answered = answers(trial, pictures()).reshape(len(places), 2, len(SHARES))
    whole = np.repeat(trial.probability[places, None, None], 2, axis=1)
    curves = np.concatenate([whole, answered], axis=2)
    return curves[:, 0], curves[:, 1]


def area_under(curves: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean probability between 0 and 40% of the area, by trapezoids: curves (slices, 5) to (slices,)."""
    shares = np.array((0.0, *SHARES))
    return np.asarray(trapezoid(curves, shares, axis=1) / shares[-1])
