"""Lesions: their specification, plausible random sets, growing them in the lungs, and records of the result."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from groundglass.errors import GroundglassError
from groundglass.phantom.anatomy import HILUM, LEFT, RIGHT, Chest, label_lobes
from groundglass.phantom.geometry import AnatomyFrame, Box, Field, Point, texture

Kind = Literal["ground glass", "consolidation", "lobar consolidation", "nodule", "emphysema"]
Side = Literal["right", "left"]
Disease = Literal["covid", "other", "none"]
Range = tuple[float, float]

USUAL_HU: dict[Kind, float] = {
    "ground glass": -480.0,
    "consolidation": 0.0,
    "lobar consolidation": 25.0,
    "nodule": 35.0,
    "emphysema": -970.0,
}
"""Default density of each kind."""


@dataclass(frozen=True)
class Lesion:
    """A lesion to put into a phantom.

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
        Where it starts to grow: (z, y, x) in mm from the centre of the volume's first voxel, in a lung. None
        draws a typical location for the kind.
    side
        Which of the patient's lungs; None draws one, or takes the lung that contains ``centre``.

    Raises
    ------
    GroundglassError
        If the kind or the side is unknown, the volume is not positive or the density is out of range.
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
            raise GroundglassError(f"a lesion's density must be in [-1000, 3000] HU, got {self.hu:g}")

    @property
    def hu(self) -> float:
        """The requested density, in HU."""
        return USUAL_HU[self.kind] if self.density_hu is None else self.density_hu


@dataclass(frozen=True)
class LesionRecord:
    """A lesion as it was placed in a phantom.

    Attributes
    ----------
    kind, side
        As in :class:`Lesion`.
    density_hu
        The requested density, to which vessels, blur and noise are added.
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
    """Draw a plausible set of lesions; the phantom chooses their locations.

    Parameters
    ----------
    seed
        A seed, or a generator to draw from.
    disease
        ``"covid"``: four to eight patches of ground glass in both lungs, usually with some consolidation.
        ``"other"``: a lobar consolidation, nodules or emphysema. ``"none"``: nothing.

    Returns
    -------
    The lesions, the largest first so that there is room for each.

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
    """Alternating sides, starting with a random one."""
    names: tuple[Side, Side] = ("right", "left")
    first = int(rng.integers(2))
    return [names[(first + number) % 2] for number in range(count)]


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    return round(float(rng.uniform(low, high)), 1)


def _patches(
    rng: np.random.Generator, kind: Kind, counts: tuple[int, int], ml: Range, hu: Range
) -> list[Lesion]:
    """Lesions of a kind in both lungs, fewer than ``counts[1]``, with volumes and densities in a range."""
    count = int(rng.integers(*counts))
    return [Lesion(kind, _between(rng, *ml), _between(rng, *hu), side=side) for side in _sides(rng, count)]


def _covid(rng: np.random.Generator) -> list[Lesion]:
    glass = _patches(rng, "ground glass", (4, 9), (8, 45), (-600, -350))
    return glass + _patches(rng, "consolidation", (0, 4), (3, 16), (-50, 40))


def _lobar(rng: np.random.Generator) -> list[Lesion]:
    return [Lesion("lobar consolidation", _between(rng, 60, 180), _between(rng, 10, 40))]


def _nodules(rng: np.random.Generator) -> list[Lesion]:
    count = int(rng.integers(3, 11))
    return [Lesion("nodule", _between(rng, 1.5, 8), _between(rng, 10, 60)) for _ in range(count)]


def _emphysema(rng: np.random.Generator) -> list[Lesion]:
    return _patches(rng, "emphysema", (4, 9), (20, 70), (-985, -955))


SIDE_LABELS: dict[Side, int] = {"right": RIGHT, "left": LEFT}
SIDE_NAMES: dict[int, Side] = {label: name for name, label in SIDE_LABELS.items()}
VOLUME_TOLERANCE = 0.1
"""Largest relative difference between the requested and the actual volume."""
CANDIDATES = 4000
"""Number of voxels from which a lesion's location is drawn."""
GRAIN_MM = 9.0
"""Size of the lumps in a lesion's outline, and of the holes of emphysema."""

Indices = tuple[NDArray[np.intp], ...]
Voxel = tuple[int, int, int]


@dataclass(frozen=True)
class Opacity:
    """How a lesion is painted: its share in each voxel's density within a box of the volume.

    ``share`` is float32 of the box's shape; ``empties`` means that it destroys the vessels inside.
    """

    box: Box
    share: Field
    density_hu: float
    empties: bool


@dataclass(frozen=True)
class _Room:
    """The lungs in which lesions grow; ``wall`` and ``depth`` are mm below the chest wall and below any pleura."""

    frame: AnatomyFrame
    lobes: NDArray[np.uint8]
    wall: Field
    depth: Field
    lumps: Field
    free: NDArray[np.uint8]
    """Lung labels where no lesion has grown yet, else 0."""


@dataclass(frozen=True)
class _Style:
    """The properties of a kind of lesion.

    ``odds`` gives the probability of each of some voxels to be its centre, ``score`` where it grows first
    within a box. It spreads to ``reach`` radii, and farther only if necessary; ``edge_mm`` is the standard
    deviation of its soft edge, ``mottle`` how uneven its density is.
    """

    odds: Callable[[_Room, Indices, float], NDArray[np.float64]]
    score: Callable[[_Room, Box, Voxel, float], Field]
    edge_mm: float
    reach: float
    mottle: float = 0.0
    empties: bool = False


def place_lesions(
    frame: AnatomyFrame,
    chest: Chest,
    lungs: NDArray[np.uint8],
    lesions: Sequence[Lesion],
    rng: np.random.Generator,
) -> tuple[NDArray[np.uint8], list[Opacity], tuple[LesionRecord, ...]]:
    """Grow lesions that never overlap.

    Returns
    -------
    A uint8 mask with value n in the n-th lesion, how to paint each lesion, and their records.

    Raises
    ------
    GroundglassError
        If a lesion's centre is not in a lung, the lung has no room for it, or the voxels are too coarse.
    """
    mask = np.zeros(frame.shape, np.uint8)
    if not lesions:
        return mask, [], ()
    if len(lesions) > np.iinfo(np.uint8).max:
        raise GroundglassError(f"a phantom holds at most 255 lesions, got {len(lesions)}")
    depth = np.maximum(-np.minimum(chest.lungs[RIGHT], chest.lungs[LEFT]), 0)
    room = _Room(
        frame, label_lobes(frame, lungs), -chest.cavity, depth, texture(rng, frame, GRAIN_MM), lungs.copy()
    )
    opacities, records = [], []
    for number, lesion in enumerate(lesions, 1):
        grown = _grow(room, lesion, rng)
        records.append(_record(room, lesion, grown))
        room.free.ravel()[grown] = 0
        mask.ravel()[grown] = number
        opacities.append(_opacity(room, lungs, grown, lesion))
    return mask, opacities, tuple(records)


def _grow(room: _Room, lesion: Lesion, rng: np.random.Generator) -> NDArray[np.intp]:
    """The flat indices of the lesion's voxels."""
    wanted = round(lesion.volume_ml / room.frame.voxel_ml)
    if abs(wanted * room.frame.voxel_ml - lesion.volume_ml) > VOLUME_TOLERANCE * lesion.volume_ml:
        raise GroundglassError(
            f"a {lesion.kind} of {lesion.volume_ml:g} ml is too small for voxels of {room.frame.voxel_ml:.3g} ml; "
            "ask for a larger one or for smaller voxels"
        )
    style = STYLES[lesion.kind]
    radius = (lesion.volume_ml * 1000 * 3 / (4 * np.pi)) ** (1 / 3)
    start = _start(room, lesion, style, radius, rng)
    for reach in (style.reach, np.inf):
        box = _box_around(room.frame, start, reach * radius + 5)
        allowed = room.free[box] == room.free[start]
        if lesion.kind == "lobar consolidation":
            allowed &= room.lobes[box] == room.lobes[start]
        count = int(allowed.sum())
        if count >= wanted:
            score = style.score(room, box, start, radius)[allowed]
            chosen = np.argpartition(score, wanted - 1)[:wanted]
            offset = [part.start for part in box]
            place = [index[chosen] + first for index, first in zip(np.nonzero(allowed), offset, strict=True)]
            return np.ravel_multi_index(place, room.frame.shape)
    raise _no_room(lesion, count * room.frame.voxel_ml)


def _no_room(lesion: Lesion, left_ml: float) -> GroundglassError:
    return GroundglassError(
        f"the lung cannot hold a {lesion.kind} of {lesion.volume_ml:g} ml: {left_ml:.0f} ml are free there; "
        "ask for less"
    )


def _start(room: _Room, lesion: Lesion, style: _Style, radius: float, rng: np.random.Generator) -> Voxel:
    wanted_side = SIDE_LABELS[lesion.side] if lesion.side else None
    if lesion.centre is not None:
        voxel = tuple(round(mm / step) for mm, step in zip(lesion.centre, room.frame.spacing, strict=True))
        inside = all(0 <= index < n for index, n in zip(voxel, room.frame.shape, strict=True))
        if not inside or not room.free[voxel] or wanted_side not in (None, room.free[voxel]):
            where = f"the {lesion.side} lung" if lesion.side else "a lung"
            raise GroundglassError(
                f"{lesion.kind}: its centre {lesion.centre} mm is not in a free part of {where}"
            )
        return voxel[0], voxel[1], voxel[2]
    places = np.flatnonzero(room.free == wanted_side if wanted_side else room.free)
    if not places.size:
        raise _no_room(lesion, 0)
    at = np.unravel_index(rng.choice(places, CANDIDATES), room.frame.shape)
    odds = style.odds(room, at, radius)
    if not odds.sum() > 0:
        raise _no_room(lesion, places.size * room.frame.voxel_ml)
    pick = rng.choice(CANDIDATES, p=odds / odds.sum())
    return int(at[0][pick]), int(at[1][pick]), int(at[2][pick])


def _box_around(frame: AnatomyFrame, voxel: Voxel, reach: float) -> Box:
    low, high = [], []
    for index, n, step in zip(voxel, frame.shape, frame.spacing, strict=True):
        steps = n if np.isinf(reach) else int(np.ceil(reach / step))
        low.append(max(index - steps, 0))
        high.append(min(index + steps + 1, n))
    return slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])


def _record(room: _Room, lesion: Lesion, grown: NDArray[np.intp]) -> LesionRecord:
    indices = np.unravel_index(grown, room.frame.shape)
    centre = [float(index.mean()) for index in indices]
    z, y, x = (place * step for place, step in zip(centre, room.frame.spacing, strict=True))
    return LesionRecord(
        kind=lesion.kind,
        side=SIDE_NAMES[int(room.free.ravel()[grown[0]])],
        density_hu=lesion.hu,
        volume_ml=grown.size * room.frame.voxel_ml,
        centre_mm=(z, y, x),
        centre_voxel=(round(centre[0]), round(centre[1]), round(centre[2])),
    )


def _opacity(room: _Room, lungs: NDArray[np.uint8], grown: NDArray[np.intp], lesion: Lesion) -> Opacity:
    """The lesion with a soft edge, except at the pleura: only lung counts in the average."""
    style = STYLES[lesion.kind]
    indices = np.unravel_index(grown, lungs.shape)
    sigmas = [style.edge_mm / step for step in room.frame.spacing]
    margins = [int(np.ceil(3 * sigma)) for sigma in sigmas]
    low = [max(int(index.min()) - margin, 0) for index, margin in zip(indices, margins, strict=True)]
    high = [int(index.max()) + margin + 1 for index, margin in zip(indices, margins, strict=True)]
    box = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
    lung = (lungs[box] > 0).astype(np.float32)
    inside = np.zeros_like(lung)
    inside[tuple(index - first for index, first in zip(indices, low, strict=True))] = 1
    share = ndimage.gaussian_filter(inside, sigmas)
    share /= np.maximum(ndimage.gaussian_filter(lung, sigmas), np.float32(1e-3))
    share *= 1 + np.float32(style.mottle) * room.lumps[box]
    return Opacity(box, np.clip(share, 0, 1.2), lesion.hu, style.empties)


def _distance(room: _Room, box: Box, start: Voxel, radius: float) -> Field:
    """Distance to a lesion's start in units of the radius of a ball of its volume."""
    squares = [
        ((np.arange(part.start, part.stop) - index) * step / radius) ** 2
        for part, index, step in zip(box, start, room.frame.spacing, strict=True)
    ]
    z, y, x = (square.astype(np.float32) for square in squares)
    return np.sqrt(z[:, None, None] + y[None, :, None] + x[None, None, :])


def _odds_pleural(room: _Room, at: Indices, radius: float) -> NDArray[np.float64]:
    """Along the chest wall, mostly posterior and basal, as in COVID-19."""
    back = np.clip((room.frame.y[at] + 50) / 110, 0.06, 1)
    low = np.clip((80 - room.frame.z[at[0], 0, 0]) / 130, 0.12, 1)
    return np.exp(-np.maximum(room.wall[at], 0).astype(np.float64) / 8) * back * low


def _odds_inner(room: _Room, at: Indices, radius: float) -> NDArray[np.float64]:
    """Anywhere that a ball of this radius fits, otherwise as deep as possible."""
    return np.exp(-np.maximum(radius + 2 - room.depth[at], 0).astype(np.float64))


def _odds_upper(room: _Room, at: Indices, radius: float) -> NDArray[np.float64]:
    high = np.clip((room.frame.z[at[0], 0, 0] + 50) / 120, 0.05, 1)
    return _odds_inner(room, at, 0.7 * radius) * high


def _odds_lobar(room: _Room, at: Indices, radius: float) -> NDArray[np.float64]:
    """Near the pleura of a lobe that can hold it."""
    free_mm3 = np.bincount(room.lobes[room.free > 0], minlength=6) * room.frame.voxel_ml * 1000
    holds = free_mm3[room.lobes[at]] >= 4 / 3 * np.pi * radius**3
    return holds.astype(np.float64) * np.exp(-np.maximum(room.wall[at], 0).astype(np.float64) / 10)


def _score_pleural(room: _Room, box: Box, start: Voxel, radius: float) -> Field:
    below = np.maximum(room.wall[box], 0) / np.float32(radius)
    return _distance(room, box, start, radius) + np.float32(0.55) * below + np.float32(0.22) * room.lumps[box]


def _score_round(room: _Room, box: Box, start: Voxel, radius: float) -> Field:
    return _distance(room, box, start, radius) + np.float32(0.04) * room.lumps[box]


def _score_holes(room: _Room, box: Box, start: Voxel, radius: float) -> Field:
    return room.lumps[box] + 6 * np.maximum(_distance(room, box, start, radius) - np.float32(1.45), 0)


def _score_wedge(room: _Room, box: Box, start: Voxel, radius: float) -> Field:
    """The angle at the hilum, so that the lesion is a cone with its base on the pleura."""
    frame = room.frame
    hilum = HILUM[int(room.free[start])]
    away = [
        part - np.float32(mm)
        for part, mm in zip((frame.z[box[0]], frame.y[box], frame.x[box]), hilum, strict=True)
    ]
    axis = np.array((frame.z[start[0], 0, 0], frame.y[start], frame.x[start])) - np.array(hilum)
    axis = (axis / np.linalg.norm(axis)).astype(np.float32)
    along = away[0] * axis[0] + away[1] * axis[1] + away[2] * axis[2]
    reach = np.sqrt(away[0] ** 2 + away[1] ** 2 + away[2] ** 2)
    return np.float32(0.03) * room.lumps[box] - along / np.maximum(reach, 1)


STYLES: dict[Kind, _Style] = {
    "ground glass": _Style(_odds_pleural, _score_pleural, edge_mm=2.2, reach=3.0, mottle=0.1),
    "consolidation": _Style(_odds_pleural, _score_pleural, edge_mm=1.2, reach=3.0, mottle=0.02),
    "lobar consolidation": _Style(_odds_lobar, _score_wedge, edge_mm=0.9, reach=np.inf),
    "nodule": _Style(_odds_inner, _score_round, edge_mm=0.6, reach=2.0),
    "emphysema": _Style(_odds_upper, _score_holes, edge_mm=0.8, reach=2.2, empties=True),
}
