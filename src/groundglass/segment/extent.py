"""The extent of disease in a volume by region (lungs and zones), in ml and as shares."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain, pairwise

import numpy as np
from numpy.typing import NDArray

from groundglass.segment.shares import TYPE_COLUMNS, TYPE_NAMES, percent, type_shares

SIDES = ("right", "left", "both")
THIRDS = ("upper", "middle", "lower")
ZONES = tuple(f"{side}_{third}" for side in SIDES[:2] for third in THIRDS)
REGIONS = ("both", "right", *ZONES[:3], "left", *ZONES[3:])
"""Both lungs, and each lung followed by its zones."""
AMOUNTS = ("lung_ml", "lesion_ml", "lesion_share")
TYPE_AMOUNTS = ("ground_glass_ml", "consolidation_ml", *TYPE_COLUMNS)
"""Further amounts of a region, if the segmenter distinguishes lesion types."""
CUT_AREA = 0.35
"""If the outermost slice shows at least this share of the largest lung area, the lungs continue beyond it."""


@dataclass(frozen=True)
class DiseaseExtent:
    """The amounts of lung and lesion in one region of a volume: one lung, both lungs, or a zone of a lung.

    Attributes
    ----------
    lung, lesion
        Sums of pixels, each slice weighted by its thickness; lesions are part of the lung. ``lesion`` is None
        if lesions must not be reported.
    consolidation
        The part of ``lesion`` that is consolidation; the rest is ground glass. None if the segmenter does not
        distinguish them.
    unit_ml
        The volume in ml of one unit of these sums; None if the spacing is unknown.
    """

    lung: float
    lesion: float | None
    consolidation: float | None = None
    unit_ml: float | None = None

    @property
    def ground_glass(self) -> float | None:
        """The part of ``lesion`` that is not consolidation."""
        if self.lesion is None or self.consolidation is None:
            return None
        return self.lesion - self.consolidation

    @property
    def lung_ml(self) -> float | None:
        """The volume of the lung in ml; None if the spacing is unknown."""
        return self._ml(self.lung)

    @property
    def lesion_ml(self) -> float | None:
        """The volume of the lesions in ml."""
        return self._ml(self.lesion)

    @property
    def ground_glass_ml(self) -> float | None:
        """The volume of ground glass in ml."""
        return self._ml(self.ground_glass)

    @property
    def consolidation_ml(self) -> float | None:
        """The volume of consolidation in ml."""
        return self._ml(self.consolidation)

    @property
    def lesion_share(self) -> float | None:
        """The share of the lung that is lesion, in [0, 1]; None if there is no lung."""
        return self._share(self.lesion)

    @property
    def ground_glass_share(self) -> float | None:
        """The share of the lung that is ground glass, in [0, 1]."""
        return self._share(self.ground_glass)

    @property
    def consolidation_share(self) -> float | None:
        """The share of the lung that is consolidation, in [0, 1]."""
        return self._share(self.consolidation)

    @property
    def typed(self) -> bool:
        """Whether the lesions' types are known."""
        return self.consolidation is not None

    @property
    def type_shares(self) -> dict[str, float]:
        """See groundglass.segment.shares.type_shares."""
        return type_shares(self.lung, self.lesion or 0.0, self.consolidation)

    def figures(self) -> dict[str, float | None]:
        """All amounts by name: :data:`AMOUNTS` and, if the types are known, :data:`TYPE_AMOUNTS`."""
        return {name: getattr(self, name) for name in (*AMOUNTS, *(TYPE_AMOUNTS if self.typed else ()))}

    def _ml(self, amount: float | None) -> float | None:
        return None if amount is None or self.unit_ml is None else amount * self.unit_ml

    def _share(self, amount: float | None) -> float | None:
        return None if amount is None or not self.lung else amount / self.lung


def extent_columns(types: bool) -> tuple[str, ...]:
    """The columns of tables of volumes, such as ``right_upper_lesion_ml``: every amount of every region."""
    names = (*AMOUNTS, *(TYPE_AMOUNTS if types else ()))
    return tuple(f"{region}_{name}" for region in REGIONS for name in names)


def extent_cells(figures: Mapping[str, Mapping[str, float | None]]) -> dict[str, float | None]:
    """The cells of :func:`extent_columns`, from the figures of each region that is known."""
    return {f"{region}_{name}": value for region, one in figures.items() for name, value in one.items()}


def disease_extent(
    lungs: NDArray[np.float64],
    lesions: NDArray[np.float64],
    thickness_mm: NDArray[np.float64] | None,
    pixel_mm2: float | None,
    consolidation: NDArray[np.float64] | None = None,
    *,
    oriented: bool = True,
) -> dict[str, DiseaseExtent]:
    """Volumes of lung and lesion by region: both lungs and, if known, each lung and its zones.

    The zones are thirds of the height of the lungs, from the lowest slice that shows lung to the highest, and
    are the same for both lungs [1]_. They are neither lobes nor the zones of visual scores, which are
    separated at the carina and the inferior pulmonary veins. A slice on the border of two thirds is divided
    between them, so the zones of a lung add up to the lung. If the lungs continue beyond the volume, there
    are no zones, see :func:`cut_off`.

    Parameters
    ----------
    lungs, lesions
        Shape (slices, 2): pixels in the right and the left lung, from the feet to the head.
    thickness_mm
        The thickness that each slice represents, shape (slices,); None if unknown.
    pixel_mm2
        The area of a pixel; None if unknown.
    consolidation
        Pixels of consolidation within the lesions, in the same form; None if the segmenter does not
        distinguish lesion types.
    oriented
        Whether the volume's orientation is known; otherwise there is only ``both``.

    References
    ----------
    .. [1] Radiology Masterclass, Salisbury NHS Foundation Trust: Chest X-ray Anatomy, Lung zones ("each of these
       zones occupies approximately one third of the height of the lungs").
       https://www.radiologymasterclass.co.uk/tutorials/chest/chest_home_anatomy/chest_anatomy_page3
    """
    weights = np.ones(len(lungs)) if thickness_mm is None else thickness_mm
    unit_ml = None if thickness_mm is None or pixel_mm2 is None else pixel_mm2 / 1000
    pixels = np.stack([lungs, lesions, *([] if consolidation is None else [consolidation])])
    right, left = (weights @ pixels).T
    sums = {"both": right + left}
    if oriented:
        sums |= {"right": right, "left": left}
    if oriented and not cut_off(lungs):
        for third, within in zip(THIRDS, _thirds(lungs, weights), strict=True):
            sums |= dict(zip((f"right_{third}", f"left_{third}"), (within @ pixels).T, strict=True))
    return {
        region: replace(DiseaseExtent(*map(float, sums[region])), unit_ml=unit_ml)
        for region in REGIONS
        if region in sums
    }


def cut_off(lungs: NDArray[np.float64]) -> list[str]:
    """Where the lungs continue beyond the volume: ``below``, ``above``, both or neither; ``lungs`` as above."""
    areas = lungs.sum(axis=1)
    ends = zip((areas[0], areas[-1]), ("below", "above"), strict=True)
    return [name for area, name in ends if area > CUT_AREA * areas.max()]


def _thirds(lungs: NDArray[np.float64], weights: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """How much of each slice's thickness lies in each of :data:`THIRDS` of the lungs' height, shape (slices,)."""
    tops = np.cumsum(weights)
    bottoms = tops - weights
    shown = np.flatnonzero(lungs.any(axis=1))
    if not shown.size:
        return [np.zeros(len(lungs))] * len(THIRDS)
    ends = np.linspace(tops[shown[-1]], bottoms[shown[0]], len(THIRDS) + 1)
    return [
        np.clip(np.minimum(tops, high) - np.maximum(bottoms, low), 0, None) for high, low in pairwise(ends)
    ]


def extent_table(extent: Mapping[str, DiseaseExtent]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """A header and a row per region with volumes and shares of lung, lesions and lesion types, as text."""
    kinds = ("lesion", "ground_glass", "consolidation") if extent["both"].typed else ("lesion",)
    header = ["", "lung", "lesions", "share of the lung"]
    header += [title for name in TYPE_NAMES[: len(kinds) - 1] for title in (name, "share")]
    rows = []
    for region, one in extent.items():
        figures = one.figures()
        cells = [(_ml(figures[f"{kind}_ml"]), percent(figures[f"{kind}_share"], "")) for kind in kinds]
        rows.append((region_name(region), _ml(one.lung_ml), *chain.from_iterable(cells)))
    return tuple(header), rows


def region_name(region: str) -> str:
    """A region in words, such as ``right upper third``."""
    whole = {"both": "both lungs", "right": "right lung", "left": "left lung"}
    return whole.get(region) or f"{region.replace('_', ' ')} third"


def _ml(volume: float | None) -> str:
    return "spacing not known" if volume is None else f"{volume:.0f} ml"
