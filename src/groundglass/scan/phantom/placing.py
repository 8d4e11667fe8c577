"""Growing lesions in the lungs to the very volume that was asked for.

Each kind has a score that is smallest where it grows first; a lesion is the voxels of least score, as many as
make up its volume.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from groundglass.errors import GroundglassError
from groundglass.scan.phantom.anatomy import HILUM, LEFT, RIGHT, Chest, label_lobes
from groundglass.scan.phantom.geometry import Box, Field, Frame, texture
from groundglass.scan.phantom.lesions import Kind, Lesion, LesionRecord, Side

SIDE_LABELS: dict[Side, int] = {"right": RIGHT, "left": LEFT}
SIDE_NAMES: dict[int, Side] = {label: name for name, label in SIDE_LABELS.items()}
VOLUME_TOLERANCE = 0.1
"""Largest relative difference between the volume asked for and the volume made."""
CANDIDATES = 4000
"""Voxels from among which a lesion's place is drawn."""
GRAIN_MM = 9.0
"""Size of the lumps in a lesion's outline, and of the holes of emphysema."""

Indices = tuple[NDArray[np.intp], ...]
Voxel = tuple[int, int, int]


@dataclass(frozen=True)
class Opacity:
    """How a lesion is painted: its share in each voxel's density within a box of the volume.

    ``share`` is float32 of the box's shape; ``empties`` says that it destroys the vessels it meets.
    """

    box: Box
    share: Field
    density_hu: float
    empties: bool


@dataclass(frozen=True)
class _Room:
    """The lungs as a lesion finds them; ``wall`` and ``depth`` are mm below the chest wall and any pleura."""

    frame: Frame
    lobes: NDArray[np.uint8]
    wall: Field
    depth: Field
    lumps: Field
    free: NDArray[np.uint8]
    """Lung labels where no lesion has grown yet, else 0."""


@dataclass(frozen=True)
class _Germ:
    """Where a lesion starts and the radius in mm of a ball of its volume."""

    voxel: Voxel
    radius: float


@dataclass(frozen=True)
class _Style:
    """What sets a kind of lesion apart.

    ``odds`` says how likely each of some voxels is to be its centre, ``score`` where it grows first within a
    box. It spreads to ``reach`` radii, and farther only if it must; ``edge_mm`` is the standard deviation of
    its soft edge, ``mottle`` how uneven its density is.
    """

    odds: Callable[[_Room, Indices, float], NDArray[np.float64]]
    score: Callable[[_Room, Box, _Germ], Field]
    edge_mm: float
    reach: float
    mottle: float = 0.0
    empties: bool = False


def place_lesions(
    frame: Frame, chest: Chest, lungs: NDArray[np.uint8], lesions: Sequence[Lesion], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], list[Opacity], tuple[LesionRecord, ...]]:
    """Grow lesions, which never overlap.

    Returns
    -------
    A uint8 mask that holds n where the n-th lesion lies, how to paint each, and their records.

    Raises
    ------
    GroundglassError
        If a lesion's place is not in a lung, or the lung cannot hold it, or voxels are too coarse for it.
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
    germ = _Germ(_start(room, lesion, style, radius, rng), radius)
    side = room.free[germ.voxel]
    for reach in (style.reach, np.inf):
        box = _box_around(room.frame, germ.voxel, reach * radius + 5)
        allowed = room.free[box] == side
        if lesion.kind == "lobar consolidation":
            allowed &= room.lobes[box] == room.lobes[germ.voxel]
        count = int(allowed.sum())
        if count >= wanted:
            score = style.score(room, box, germ)[allowed]
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
                f"{lesion.kind}: its centre {lesion.centre} mm is not in a free place of {where}"
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


def _box_around(frame: Frame, voxel: Voxel, reach: float) -> Box:
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
    """The lesion with a soft edge, which the pleura does not soften: only lung counts in the average."""
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


def _distance(room: _Room, box: Box, germ: _Germ) -> Field:
    """Distance to the germ in units of its radius."""
    squares = [
        ((np.arange(part.start, part.stop) - index) * step / germ.radius) ** 2
        for part, index, step in zip(box, germ.voxel, room.frame.spacing, strict=True)
    ]
    z, y, x = (square.astype(np.float32) for square in squares)
    return np.sqrt(z[:, None, None] + y[None, :, None] + x[None, None, :])


def _odds_pleural(room: _Room, at: Indices, radius: float) -> NDArray[np.float64]:
    """By the chest wall, mostly at the back and low, as COVID-19 is."""
    back = np.clip((room.frame.y[at] + 50) / 110, 0.06, 1)
    low = np.clip((80 - room.frame.z[at[0], 0, 0]) / 130, 0.12, 1)
    return np.exp(-np.maximum(room.wall[at], 0).astype(np.float64) / 8) * back * low


def _odds_inner(room: _Room, at: Indices, radius: float) -> NDArray[np.float64]:
    """Anywhere a ball of this radius finds room, else as deep as can be."""
    return np.exp(-np.maximum(radius + 2 - room.depth[at], 0).astype(np.float64))


def _odds_upper(room: _Room, at: Indices, radius: float) -> NDArray[np.float64]:
    high = np.clip((room.frame.z[at[0], 0, 0] + 50) / 120, 0.05, 1)
    return _odds_inner(room, at, 0.7 * radius) * high


def _odds_lobar(room: _Room, at: Indices, radius: float) -> NDArray[np.float64]:
    """Near the pleura of a lobe that can hold it."""
    free_mm3 = np.bincount(room.lobes[room.free > 0], minlength=6) * room.frame.voxel_ml * 1000
    holds = free_mm3[room.lobes[at]] >= 4 / 3 * np.pi * radius**3
    return holds.astype(np.float64) * np.exp(-np.maximum(room.wall[at], 0).astype(np.float64) / 10)


def _score_pleural(room: _Room, box: Box, germ: _Germ) -> Field:
    below = np.maximum(room.wall[box], 0) / np.float32(germ.radius)
    return _distance(room, box, germ) + np.float32(0.55) * below + np.float32(0.22) * room.lumps[box]


def _score_round(room: _Room, box: Box, germ: _Germ) -> Field:
    return _distance(room, box, germ) + np.float32(0.04) * room.lumps[box]


def _score_holes(room: _Room, box: Box, germ: _Germ) -> Field:
    return room.lumps[box] + 6 * np.maximum(_distance(room, box, germ) - np.float32(1.45), 0)


def _score_wedge(room: _Room, box: Box, germ: _Germ) -> Field:
    """The angle at the hilum, so that the lesion is a cone with its base on the pleura."""
    frame = room.frame
    hilum = HILUM[int(room.free[germ.voxel])]
    away = [
        part - np.float32(mm)
        for part, mm in zip((frame.z[box[0]], frame.y[box], frame.x[box]), hilum, strict=True)
    ]
    axis = np.array((frame.z[germ.voxel[0], 0, 0], frame.y[germ.voxel], frame.x[germ.voxel])) - np.array(
        hilum
    )
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
