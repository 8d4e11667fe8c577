"""GG204 and GG205: whether a detector's heatmap is on the lungs, and whether it explains the answer."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.integrate import trapezoid

from groundglass.audit.check import Check, NotApplicable, Result
from groundglass.audit.measures import estimated, mean, surely_over, surely_under
from groundglass.audit.trial import Picture, Trial, some_of
from groundglass.bundle.evaluation import Estimate
from groundglass.detect.findings import SliceFinding
from groundglass.detect.heatmap import evidence_map
from groundglass.errors import count_of
from groundglass.evaluation.bootstrap import Floats, ratio
from groundglass.preprocess import Preprocessing
from groundglass.segment.masks import Segmentation

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Place:
    """The amount of heat that is on a region, as shares in [0, 1], each of shape (slices,).

    Attributes
    ----------
    evidence
        Share of the positive evidence.
    area
        Share of the area that the model saw: what an even map has there.
    best
        Share in a map of the same grid that is only on the region, as far as its coarse cells allow.
    """

    evidence: Floats
    area: Floats
    best: Floats

    def aim(self, units: NDArray[np.intp], seed: int = 0) -> Estimate:
        """How well the evidence is focused on the region: 0 if it is even, 1 if it is there as far as possible.

        Negative if it avoids the region. From the means over slices, with an interval by a bootstrap of
        ``units``, shape (slices,).
        """

        def figure(weights: Floats) -> Floats:
            evidence, area, best = (weights @ share for share in (self.evidence, self.area, self.best))
            return ratio(evidence - area, best - area)

        return estimated(figure, units, seed)


def called_covid(trial: Trial) -> NDArray[np.intp]:
    """Sorted indices in the sample of the slices that are called covid and whose heatmap has any colour."""
    called = np.flatnonzero(trial.probability >= trial.threshold)
    coloured = [_positive(trial.findings[place]).any() for place in called]
    return called[np.array(coloured, dtype=bool)]


def heat_on(trial: Trial, places: NDArray[np.intp], where: Callable[[Segmentation], Mask]) -> Place:
    """How much of the heatmaps is on a region.

    Parameters
    ----------
    places
        Indices in the sample of slices whose heatmap has any colour.
    where
        Maps a slice's segmentation to the region: bool, the slice's shape, not all False.
    """
    preprocessing = trial.detector.bundle.facts.preprocessing
    shares = []
    for place in places:
        finding, mask = trial.findings[place], where(trial.segmentations[place])
        aimed = finding.with_evidence(_on_grid(finding, preprocessing, mask))
        evidence, best = (_share(_positive(one), mask) for one in (finding, aimed))
        shares.append((evidence, float(mask[finding.region.slices].mean()), best))
    return Place(*np.array(shares).T)


def _positive(finding: SliceFinding) -> NDArray[np.float32]:
    """Evidence for COVID-19 at each pixel of a slice: float32, the slice's shape, not negative."""
    return np.maximum(evidence_map(finding), 0)


def _share(heat: NDArray[np.float32], mask: Mask) -> float:
    return float(heat[mask].sum(dtype=float) / heat.sum(dtype=float))


def _on_grid(finding: SliceFinding, preprocessing: Preprocessing, mask: Mask) -> NDArray[np.float32]:
    """The share of each cell of the heatmap's grid that is on the mask."""
    plain = preprocessing.model_copy(update={"clahe": None, "pad_value": 0.0})
    laid = plain.place(mask[finding.region.slices].astype(np.float32)).astype(np.float32)
    return np.asarray(cv2.resize(laid, finding.evidence.shape[::-1], interpolation=cv2.INTER_AREA))


SHARES = (0.05, 0.10, 0.20, 0.40)
"""Shares of the area that the model sees that are blacked out."""


def fading(picture: Picture, order: NDArray[np.intp]) -> Iterator[Picture]:
    """A slice with increasingly many pixels blacked out.

    Black is air; RISE's alternatives, a blurred slice or its mean grey, look like ground glass in a lung.

    Parameters
    ----------
    picture
        The slice.
    order
        Flat indices of pixels, shape (pixels,), in the order of blacking out.

    Yields
    ------
    A picture for each of ``SHARES``, with that share of ``order`` blacked out.
    """
    for share in SHARES:
        changed = picture.copy()
        changed.flat[order[: round(share * len(order))]] = 0
        yield changed


def pixel_order(
    finding: SliceFinding, preprocessing: Preprocessing, heat: NDArray[np.float32]
) -> NDArray[np.intp]:
    """The pixels that the model saw, sorted by the heat of their cell of the heatmap, hottest first.

    Parameters
    ----------
    finding
        Its region and the shape of its evidence give the position of the grid.
    preprocessing
        The detector's preprocessing.
    heat
        The heat of each cell, shape (rows, columns).

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
    # Ranks: small integers are sorted much faster than floats.
    ranks = np.empty(heat.size, dtype=np.uint16 if heat.size < 2**16 else np.uint32)
    ranks[np.argsort(-heat, axis=None, kind="stable")] = np.arange(heat.size)
    falling = np.argsort(ranks.reshape(heat.shape)[np.ix_(*cells)], axis=None, kind="stable")
    shape = finding.scan.pixels.shape
    return np.arange(shape[0] * shape[1]).reshape(shape)[region.slices].ravel()[falling]


def deletion_curves(
    trial: Trial, places: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Probability as increasingly much is blacked out, hottest first, and in random order on the same grid.

    Parameters
    ----------
    places
        Indices in the trial's sample.

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

    answered = trial.answer(pictures()).reshape(len(places), 2, len(SHARES))
    whole = np.repeat(trial.probability[places, None, None], 2, axis=1)
    curves = np.concatenate([whole, answered], axis=2)
    return curves[:, 0], curves[:, 1]


def area_under(curves: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean probability between 0 and 40% of the area, by trapezoids: curves (slices, 5) to (slices,)."""
    shares = np.array((0.0, *SHARES))
    return np.asarray(trapezoid(curves, shares, axis=1) / shares[-1])


LEAST_AIM = 0.25
"""A focus on the lungs below this, between 0 for an even map and 1 for one on the lungs, is a finding. A map
on lesions at the lungs' border extends outside, so values well below 1 are acceptable."""
LEAST_SLICES = 10


class HeatmapPlace(Check[Trial]):
    """Evidence inside the lungs.

    A warning if the whole interval is below a quarter of the way from an even map to one only on the lungs.
    """

    code = "GG204"

    def run(self, subject: Trial) -> Result:
        """Raises NotApplicable if too few slices with lungs are called covid."""
        called = called_covid(subject)
        places = called[np.array([subject.segmentations[place].found for place in called], dtype=bool)]
        if len(places) < LEAST_SLICES:
            raise NotApplicable(
                f"The detector calls {len(places)} slices with lungs covid; at least {LEAST_SLICES} are needed."
            )
        lungs = heat_on(subject, places, lambda segmentation: segmentation.trusted_lungs)
        aim = lungs.aim(subject.units[places], subject.material.seed)
        found = surely_under(aim, LEAST_AIM)
        return self.result(
            "warning" if found else None,
            aim,
            files=_least_inside(subject, places, lungs) if found else (),
            rows=(_row(subject, "lungs", places, lungs), *_lesion_rows(subject, places)),
            slices=len(places),
            lungs=lungs,
            grid=subject.findings[0].evidence.shape,
        )


def _least_inside(trial: Trial, places: NDArray[np.intp], lungs: Place) -> tuple[str, ...]:
    """The files, sorted by how much of their evidence is inside the lungs, least first."""
    return tuple(trial.paths[places[row]] for row in np.argsort(lungs.evidence, kind="stable"))


def _lesion_rows(trial: Trial, places: NDArray[np.intp]) -> list[tuple[object, ...]]:
    shown = np.array([trial.segmentations[place].trusted_lesions.any() for place in places], dtype=bool)
    if not shown.any():
        return []
    lesions = heat_on(trial, places[shown], lambda segmentation: segmentation.trusted_lesions)
    return [_row(trial, "lesions", places[shown], lesions)]


def _row(trial: Trial, name: str, places: NDArray[np.intp], on: Place) -> tuple[object, ...]:
    shares = (f"{share.mean():.0%}" for share in (on.evidence, on.area, on.best))
    return name, len(places), *shares, on.aim(trial.units[places], trial.material.seed)


LEAST_DELETION_SLICES, MOST_SLICES = 10, 100


class Deletion(Check[Trial]):
    """The deletion test (Petsiuk and others 2018, RISE, arXiv 1806.07421) against random deletion.

    A warning unless blacking out the hottest areas lowers the probability more than blacking out as much of the
    slice at random: the whole interval of the difference must be above 0.
    """

    code = "GG205"

    def run(self, subject: Trial) -> Result:
        """Raises NotApplicable if too few slices are called covid."""
        seed = subject.material.seed
        places = some_of(called_covid(subject), MOST_SLICES, seed)
        if len(places) < LEAST_DELETION_SLICES:
            raise NotApplicable(
                f"The detector calls {count_of(len(places), 'slice')} covid; at least {LEAST_DELETION_SLICES} are "
                "needed."
            )
        hottest, random = deletion_curves(subject, places)
        units = subject.units[places]
        gain = mean(area_under(random) - area_under(hottest), units, seed)
        hot, chance = (curves.mean(axis=0) for curves in (hottest, random))
        return self.result(
            None if surely_over(gain, 0) else "warning",
            gain,
            rows=[
                (f"{share:.0%}", f"{hot[step]:.2f}", f"{chance[step]:.2f}")
                for step, share in enumerate((0.0, *SHARES))
            ],
            slices=len(places),
            share=SHARES[-1],
            hottest=hot,
            random=chance,
        )
