"""The chest wall, the mediastinum and the lungs as shapes, in the frame of :mod:`geometry`.

``anatomy.yaml`` holds the outlines and paths, which are this project's own.
"""

from dataclasses import dataclass
from importlib.resources import files

import numpy as np
import yaml
from numpy.typing import NDArray

from groundglass.phantom.geometry import (
    FAR,
    AnatomyFrame,
    Field,
    add_tube,
    along,
    at_heights,
    ellipsoid,
    intersection,
    superellipse,
    to_surface,
    union,
)

RIGHT, LEFT = 1, 2
"""Labels of the lungs in a mask, by the patient's side."""
SIDES = {RIGHT: -1.0, LEFT: 1.0}
"""Sign of the frame's x on each side."""

_TABLES = yaml.safe_load((files("groundglass.phantom") / "anatomy.yaml").read_text(encoding="utf-8"))
CAVITY, BODY, CORE = (np.array(_TABLES[name], dtype=np.float64) for name in ("cavity", "body", "core"))
BLOOD, GULLET, AIR, COLLARBONE = (
    [np.array(path, dtype=np.float64) for path in _TABLES[name].values()]
    for name in ("blood", "gullet", "air", "collarbone")
)
"""Paths of z, y, x and radius, each of shape (points, 4)."""
WALL_POWER = 2.35
"""Power of the superellipse of the cavity."""
HILUM = {RIGHT: (0.0, 4.0, -46.0), LEFT: (4.0, 4.0, 48.0)}
"""Where the vessels and bronchi enter each lung."""
SPINE_Y = 47.0


@dataclass(frozen=True)
class Build:
    """Individual anatomy, drawn from the seed; lengths in mm, factors around 1."""

    scale: tuple[float, float, float]
    heart: float
    dome: dict[int, float]
    fat: float
    breast: float
    lung_hu: float
    bone: float
    shift: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Build":
        """Draw a person."""
        size = rng.uniform(0.93, 1.02)
        scale = (rng.uniform(0.93, 1.05), size * rng.uniform(0.94, 1.04), size)
        dome = rng.uniform(48, 66)
        return cls(
            scale=scale,
            heart=rng.uniform(0.9, 1.1),
            dome={RIGHT: dome, LEFT: dome - rng.uniform(4, 16)},
            fat=rng.uniform(5, 15),
            breast=rng.uniform(16, 30) if rng.random() < 0.5 else 0.0,
            lung_hu=rng.uniform(-865, -815),
            bone=rng.uniform(0.8, 1.15),
            shift=rng.uniform(-3, 3),
        )


@dataclass(frozen=True)
class Chest:
    """Signed distances in mm to the organs, float32, each of the frame's shape.

    ``cavity`` is the inside of the rib cage, ``mediastinum`` the tissue between the lungs with its fat,
    ``blood`` the blood in the heart and the great vessels, ``airways`` the air of trachea and main bronchi,
    ``domes`` the room below each half of the diaphragm and ``lungs`` each lung.
    """

    body: Field
    cavity: Field
    heart: Field
    blood: Field
    gullet: Field
    airways: Field
    mediastinum: Field
    domes: dict[int, Field]
    lungs: dict[int, Field]

    def lung_labels(self) -> NDArray[np.uint8]:
        """Label each voxel whose centre is in a lung with ``RIGHT`` or ``LEFT``, 0 elsewhere."""
        labels = np.zeros(self.body.shape, np.uint8)
        for side, lung in self.lungs.items():
            labels[lung < 0] = side
        return labels


def build_chest(frame: AnatomyFrame, build: Build) -> Chest:
    """Shape the chest of one person."""
    cavity = superellipse(frame.y, frame.x, at_heights(frame.z, CAVITY), WALL_POWER)
    body = _body(frame, build)
    heart = _heart(frame, build)
    blood = _tubes(frame, BLOOD)
    gullet = _tubes(frame, GULLET)
    airways = _tubes(frame, AIR)
    mediastinum = _mediastinum(frame, build, heart, np.minimum(np.minimum(blood, gullet), airways - 1))
    domes = {side: _dome(frame, build, side) for side in SIDES}
    lungs = {}
    for side, sign in SIDES.items():
        lung = intersection(cavity + 2, _top(frame, sign), 14)
        lung = intersection(lung, -mediastinum, 9)
        lung = intersection(lung, 2 - domes[side], 5)
        lungs[side] = np.maximum(lung, np.float32(-sign) * frame.x)
    return Chest(body, cavity, heart, blood, gullet, airways, mediastinum, domes, lungs)


def _body(frame: AnatomyFrame, build: Build) -> Field:
    half_width, front, back = at_heights(frame.z, BODY)
    extra = np.float32(build.fat - 10)
    body = superellipse(frame.y, frame.x, (half_width + extra / 2, front - extra, back + extra / 2), 2.6)
    if build.breast:
        for x in (-72.0, 72.0):
            axes = (50.0, build.breast + 26, 58.0)
            body = union(body, ellipsoid(frame.z, frame.y, frame.x, (-14, -92, x), axes), 20)
    return body


def _heart(frame: AnatomyFrame, build: Build) -> Field:
    """The ventricles, whose long axis points left, anterior and caudal, and the atria behind them."""
    z, y, x = frame.z + 50, frame.y + 36, frame.x - np.float32(26 + build.shift)
    along = -0.42 * z - 0.52 * y + 0.74 * x
    square = z * z + y * y + x * x
    long, short = (np.float32((build.heart * axis) ** -2) for axis in (60, 45))
    size = np.sqrt(along * along * (long - short) + square * short)
    ventricles = to_surface(np.sqrt(square), size)
    high, deep, wide = (build.heart * axis for axis in (34, 32, 45))
    atria = ellipsoid(frame.z, frame.y, frame.x, (-24, -8, -3), (high, deep, wide))
    return union(ventricles, atria, 16)


def _tubes(frame: AnatomyFrame, paths: list[NDArray[np.float64]]) -> Field:
    field = np.full(frame.shape, FAR)
    for path in paths:
        add_tube(field, frame, path, reach=14)
    return field


def _mediastinum(frame: AnatomyFrame, build: Build, heart: Field, tubes: Field) -> Field:
    half_width, shift = at_heights(frame.z, CORE)
    # Narrow behind the sternum, where the lungs nearly meet, and in front of the spine.
    front = np.clip((frame.y + 78) / 50, 0.16, 1)
    behind = np.clip((70 - frame.y) / 55, 0.5, 1)
    core = np.abs(frame.x - shift - np.float32(build.shift)) - half_width * front * behind
    spine = ellipsoid(np.zeros_like(frame.z), frame.y, frame.x, (0, SPINE_Y, 0), (1, 20, 22))
    arch = ellipsoid(np.zeros_like(frame.z), frame.y, frame.x, (0, 80, 0), (1, 22, 25))
    field = union(core, union(spine, arch, 10), 10)
    return union(union(field, heart - 3, 8), tubes - 2.5, 10)


def _top(frame: AnatomyFrame, sign: float) -> Field:
    """The dome of the pleura: round at the top, and as wide as the cavity further down."""
    middle = np.float32(sign) * (np.float32(40) + np.clip((112 - frame.z) * np.float32(0.35), 0, 30))
    return ellipsoid(frame.z, frame.y - 12, frame.x - middle, (-30, 0, 0), (142, 125, 92))


def _dome(frame: AnatomyFrame, build: Build, side: int) -> Field:
    """The room below one half of the diaphragm: a dome that falls towards the wall, deepest at the back."""
    x, y = frame.x - np.float32(62 * SIDES[side]), frame.y + 18
    away = np.square(x * np.float32(1 / 84)) + np.square(y * np.float32(1 / 98))
    height = np.float32(build.dome[side])
    top = height - 104 - (height + 4) * away - np.float32(0.18) * np.maximum(frame.y, 0)
    # Its slope makes the vertical distance too long by about this factor.
    return np.float32(0.7) * (frame.z - top)


def oblique_fissure(frame: AnatomyFrame, side: int) -> Field:
    """Distance in mm above a lung's oblique fissure, which is high at the back and low at the front."""
    tilt, height = (0.85, -6.0) if side == RIGHT else (0.95, -2.0)
    wave = 3 * np.sin(frame.x / 17 + side)
    return (frame.z - np.float32(tilt) * frame.y - np.float32(height) - wave) / np.float32(np.hypot(1, tilt))


def label_lobes(frame: AnatomyFrame, lungs: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Label the lobes: right upper 1, middle 2, lower 3; left upper 4, lower 5; 0 outside the lungs."""
    upper = {side: oblique_fissure(frame, side) > 0 for side in SIDES}
    right = np.where(upper[RIGHT], np.where(frame.z > 2, 1, 2), 3)
    left = np.where(upper[LEFT], 4, 5)
    return np.where(lungs == RIGHT, right, np.where(lungs == LEFT, left, 0)).astype(np.uint8)


RIBS = 11
VERTEBRA_MM = 23.0
FIRST_RIB_Z = 118.0
RIB_TO_PLEURA = 6.5
"""From the cavity's wall to the middle of a rib."""
CORTEX_MM = 1.6
CORTEX_HU, SPONGY_HU, CARTILAGE_HU, DISC_HU, CANAL_HU = 520.0, 210.0, 110.0, 85.0, 30.0


def paint_skeleton(volume: Field, frame: AnatomyFrame, chest: Chest, density: float) -> None:
    """Paint the bones into ``volume``, in HU; ``density`` scales bone around 1."""
    bone, cartilage = _ribs(frame)
    _add_girdle(bone, frame)
    np.copyto(volume, np.float32(CARTILAGE_HU), where=cartilage < 0)
    np.minimum(bone, _breastbone(frame), out=bone)
    np.minimum(bone, _shoulder_blades(frame, chest), out=bone)
    _paint_bone(volume, bone, density)
    _paint_spine(volume, frame, density)


def _paint_bone(volume: Field, bone: Field, density: float) -> None:
    inside = bone < 0
    volume[inside] = np.where(bone[inside] > -CORTEX_MM, CORTEX_HU * density, SPONGY_HU * density)


def _ribs(frame: AnatomyFrame) -> tuple[Field, Field]:
    bone, cartilage = np.full(frame.shape, FAR), np.full(frame.shape, FAR)
    for number in range(RIBS):
        for sign in SIDES.values():
            path = rib_path(number, sign)
            bony = 14 if number == 0 else 19
            add_tube(bone, frame, path[: bony + 1], reach=0, tall=1.5)
            if number < 8:
                add_tube(cartilage, frame, path[bony:], reach=0, tall=1.3)
    return bone, cartilage


def rib_path(number: int, sign: float) -> NDArray[np.float64]:
    """The path of one rib and its cartilage: z, y, x and radius in mm, float64, shape (25, 4).

    From the vertebra around the cavity's wall, sinking towards the front; the cartilage of all but the
    uppermost ribs rises again to the sternum.
    """
    turn = np.linspace(0.2, 0.97, 25) * np.pi
    part = np.linspace(0, 1, 25)
    fall = np.interp(number, (0, 3, 7, 10), (34, 62, 82, 86))
    climb = np.interp(number, (0, 4, 7, 10), (0, 12, 44, 0))
    z = FIRST_RIB_Z - VERTEBRA_MM * number - fall * part**1.15 + climb * np.clip(part - 0.75, 0, 1) / 0.25
    half_width, front, back = (np.interp(z, CAVITY[:, 0], column) for column in CAVITY.T[1:])
    depth, middle = (back - front) / 2 + RIB_TO_PLEURA, (back + front) / 2
    # A point of the wall's superellipse for each turn.
    bend = 2 / WALL_POWER
    x = (half_width + RIB_TO_PLEURA) * np.abs(np.sin(turn)) ** bend
    y = middle + depth * np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** bend
    # The head of the rib leaves the wall for the side of the vertebra.
    head = np.clip(1 - part / 0.12, 0, 1) ** 1.5
    x, y = x + (20 - x) * head, y + (SPINE_Y + 16 - y) * head
    radius = np.interp(part, (0, 0.1, 0.5, 1), (3.6, 4.0, 4.4, 4.8))
    return np.stack([z, y, sign * x, radius], axis=1)


def _add_girdle(bone: Field, frame: AnatomyFrame) -> None:
    """Clavicles: an S from the sternum lateral, cranial and posterior, thicker towards the middle."""
    for sign in SIDES.values():
        add_tube(bone, frame, COLLARBONE[0] * (1, 1, sign, 1), reach=0)


def _breastbone(frame: AnatomyFrame) -> Field:
    front = along(frame.z, CAVITY[:, 0], CAVITY[:, 2] - 7)
    half_width = along(frame.z, (-62, -50, 30, 50, 70, 84), (3, 13, 16, 20, 28, 24))
    y, x = (frame.y - front) / np.float32(6.5), frame.x / half_width
    plate = (np.sqrt(np.hypot(x * x, y * y)) - 1) * np.float32(6.5)
    return np.maximum(plate, np.maximum(frame.z - 84, -62 - frame.z))


def _shoulder_blades(frame: AnatomyFrame, chest: Chest) -> Field:
    """Scapulae: thin plates along the posterior wall, wider towards the shoulder, with their spine."""
    out = np.abs(frame.x)
    heights = (-5, 20, 90, 130)
    inner, outer = along(frame.z, heights, (92, 66, 58, 70)), along(frame.z, heights, (98, 112, 132, 140))
    plate = np.abs(chest.cavity - 22 - np.maximum(out - 100, 0) * np.float32(0.25)) - 2
    plate = np.maximum(plate, np.maximum(inner - out, out - outer))
    edge = np.sqrt((out - outer) ** 2 + (chest.cavity - 24) ** 2) - 5
    plate = np.maximum(np.minimum(plate, edge), 12 - frame.y)
    return np.maximum(plate, np.maximum(-5 - frame.z, chest.body + 4))


def _paint_spine(volume: Field, frame: AnatomyFrame, density: float) -> None:
    box = frame.box((-1e4, 15, -50), (1e4, 125, 50))
    z, y, x = frame.z[box[0]], frame.y[box] - SPINE_Y, frame.x[box]
    level = (z - FIRST_RIB_Z) / VERTEBRA_MM
    # 0 in the middle of a vertebra, 0.5 in the middle of a disc.
    phase = np.abs(level - np.round(level))
    flat = np.zeros_like(z)
    body = ellipsoid(flat, y, x, (0, 0, 0), (1, 15, 18))
    target = volume[box]
    # Behind the body: the arch around the canal, the transverse processes and the spinous process.
    canal = ellipsoid(flat, y, x, (0, 23, 0), (1, 8.5, 9.5))
    arch = np.abs(canal - 3.5) - 3.5
    back = along(phase, (0, 0.25, 0.5), (34, 42, 55))
    spinous = np.maximum(np.abs(x) - 3.2, np.abs(y - back) - 11)
    reach = along(phase, (0, 0.2, 0.35), (34, 30, 8))
    transverse = np.maximum(np.abs(y - 24 - np.abs(x) * np.float32(0.35)) - 4, np.abs(x) - reach)
    arch = np.where((phase > 0.42) & (np.abs(x) > 8), FAR, arch)
    bone = np.minimum(np.minimum(arch, spinous), transverse)
    _paint_bone(target, np.maximum(bone, -canal), density)
    body = np.maximum(body, 1.5 - canal)
    _paint_bone(target, body, density)
    np.copyto(target, np.float32(DISC_HU), where=(body < 0) & (phase > 0.38))
    np.copyto(target, np.float32(CANAL_HU), where=canal < 0)
