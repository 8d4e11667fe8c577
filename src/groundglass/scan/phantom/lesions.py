"""What a lesion is: the wish, the record of what was made, and plausible sets of wishes."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from groundglass.errors import GroundglassError
from groundglass.scan.phantom.geometry import Point

Kind = Literal["ground glass", "consolidation", "lobar consolidation", "nodule", "emphysema"]
Side = Literal["right", "left"]
Disease = Literal["covid", "other", "none"]

USUAL_HU: dict[Kind, float] = {
    "ground glass": -480.0,
    "consolidation": 0.0,
    "lobar consolidation": 25.0,
    "nodule": 35.0,
    "emphysema": -970.0,
}
"""Density of each kind where none is asked for."""


@dataclass(frozen=True)
class Lesion:
    """A lesion to be put into a phantom.

    Attributes
    ----------
    kind
        Ground glass and consolidation spread along the pleura as in COVID-19; a lobar consolidation is a wedge
        from the hilum to the pleura that stops at the fissures; a nodule is round; emphysema is a cluster of
        holes.
    volume_ml
        Volume in ml.
    density_hu
        Density in HU; None takes ``USUAL_HU``.
    centre
        Where it begins to grow: (z, y, x) in mm from the centre of the volume's first voxel, in a lung. None
        draws a place usual for the kind.
    side
        Which of the patient's lungs; None draws one, or takes the one in which ``centre`` lies.

    Raises
    ------
    GroundglassError
        If the kind or the side is unknown, the volume is not positive or the density is no lung density.
    """

    kind: Kind
    volume_ml: float
    density_hu: float | None = None
    centre: Point | None = None
    side: Side | None = None

    def __post_init__(self) -> None:
        if self.kind not in USUAL_HU:
            raise GroundglassError(
                f"there is no lesion kind {self.kind!r}; choose from {', '.join(USUAL_HU)}"
            )
        if self.side not in (None, *get_args(Side)):
            raise GroundglassError(f"a lesion's side is 'right' or 'left', not {self.side!r}")
        if not 0 < self.volume_ml < np.inf:
            raise GroundglassError(f"a lesion's volume must be positive, got {self.volume_ml:g} ml")
        if not -1000 <= self.hu <= 3000:
            raise GroundglassError(f"a lesion's density must lie in [-1000, 3000] HU, got {self.hu:g}")

    @property
    def hu(self) -> float:
        """The density asked for, in HU."""
        return USUAL_HU[self.kind] if self.density_hu is None else self.density_hu


@dataclass(frozen=True)
class LesionRecord:
    """A lesion as it came to lie in a phantom.

    Attributes
    ----------
    kind, side
        As in :class:`Lesion`.
    density_hu
        The density asked for. Vessels, blur and noise come on top of it.
    volume_ml
        The true volume: the lesion's voxels in the mask times the volume of a voxel.
    centre_mm, centre_voxel
        The centre of its mask: (z, y, x) in mm from the centre of the first voxel, and the nearest voxel.
    """

    kind: Kind
    side: Side
    density_hu: float
    volume_ml: float
    centre_mm: Point
    centre_voxel: tuple[int, int, int]


def random_lesions(seed: int | np.random.Generator, disease: str) -> tuple[Lesion, ...]:
    """Draw a plausible set of lesions, their places left to the phantom.

    Parameters
    ----------
    seed
        A seed, or a generator to draw from.
    disease
        ``"covid"``: four to eight patches of ground glass in both lungs, in most people with some
        consolidation. ``"other"``: a lobar consolidation, nodules or emphysema. ``"none"``: nothing.

    Returns
    -------
    The lesions, the largest first so that each finds room.

    Raises
    ------
    GroundglassError
        If the disease is unknown.
    """
    rng = np.random.default_rng(seed)
    if disease == "none":
        return ()
    if disease == "covid":
        lesions = _covid(rng)
    elif disease == "other":
        lesions = [_lobar, _nodules, _emphysema][rng.integers(3)](rng)
    else:
        raise GroundglassError(f"there is no disease {disease!r}; choose from {', '.join(get_args(Disease))}")
    return tuple(sorted(lesions, key=lambda lesion: -lesion.volume_ml))


def _sides(rng: np.random.Generator, count: int) -> list[Side]:
    """Both sides in turn, from a random one."""
    names: tuple[Side, Side] = ("right", "left")
    first = int(rng.integers(2))
    return [names[(first + number) % 2] for number in range(count)]


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    return round(float(rng.uniform(low, high)), 1)


def _covid(rng: np.random.Generator) -> list[Lesion]:
    glass = [
        Lesion("ground glass", _between(rng, 8, 45), _between(rng, -600, -350), side=side)
        for side in _sides(rng, int(rng.integers(4, 9)))
    ]
    dense = [
        Lesion("consolidation", _between(rng, 3, 16), _between(rng, -50, 40), side=side)
        for side in _sides(rng, int(rng.integers(0, 4)))
    ]
    return glass + dense


def _lobar(rng: np.random.Generator) -> list[Lesion]:
    return [Lesion("lobar consolidation", _between(rng, 60, 180), _between(rng, 10, 40))]


def _nodules(rng: np.random.Generator) -> list[Lesion]:
    count = int(rng.integers(3, 11))
    return [Lesion("nodule", _between(rng, 1.5, 8), _between(rng, 10, 60)) for _ in range(count)]


def _emphysema(rng: np.random.Generator) -> list[Lesion]:
    return [
        Lesion("emphysema", _between(rng, 20, 70), _between(rng, -985, -955), side=side)
        for side in _sides(rng, int(rng.integers(4, 9)))
    ]
