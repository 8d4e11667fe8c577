"""Bones as shapes: spine, ribs with their cartilage, breastbone, collarbones and shoulder blades."""

import numpy as np
from numpy.typing import NDArray

from groundglass.scan.phantom.anatomy import CAVITY, SIDES, SPINE_Y, WALL_POWER, Chest
from groundglass.scan.phantom.geometry import FAR, Field, Frame, add_tube, along, ellipsoid

RIBS = 11
VERTEBRA_MM = 23.0
FIRST_RIB_Z = 118.0
RIB_TO_PLEURA = 6.5
"""From the cavity's wall to the middle of a rib."""
CORTEX_MM = 1.6
CORTEX_HU, SPONGY_HU, CARTILAGE_HU, DISC_HU, CANAL_HU = 520.0, 210.0, 110.0, 85.0, 30.0


def paint_skeleton(volume: Field, frame: Frame, chest: Chest, density: float) -> None:
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


def _ribs(frame: Frame) -> tuple[Field, Field]:
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
    """The course of one rib and its cartilage: z, y, x and radius in mm, float64, shape (25, 4).

    From the vertebra around the cavity's wall, sinking towards the front; the cartilage of all but the
    uppermost ribs climbs again to the breastbone.
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


def _add_girdle(bone: Field, frame: Frame) -> None:
    """Collarbones: an S from the breastbone outwards, up and back, thicker towards the middle."""
    for sign in SIDES.values():
        path = [
            (84, -50, 20, 8),
            (90, -56, 40, 6.5),
            (98, -50, 70, 5.5),
            (108, -30, 100, 5.5),
            (114, -8, 128, 6),
        ]
        add_tube(bone, frame, np.array(path) * (1, 1, sign, 1), reach=0)


def _breastbone(frame: Frame) -> Field:
    front = along(frame.z, CAVITY[:, 0], CAVITY[:, 2] - 7)
    half_width = along(frame.z, (-62, -50, 30, 50, 70, 84), (3, 13, 16, 20, 28, 24))
    y, x = (frame.y - front) / np.float32(6.5), frame.x / half_width
    plate = (np.sqrt(np.hypot(x * x, y * y)) - 1) * np.float32(6.5)
    return np.maximum(plate, np.maximum(frame.z - 84, -62 - frame.z))


def _shoulder_blades(frame: Frame, chest: Chest) -> Field:
    """Thin plates that follow the wall at the back, wider towards the shoulder, and the ridge on them."""
    out = np.abs(frame.x)
    heights = (-5, 20, 90, 130)
    inner, outer = along(frame.z, heights, (92, 66, 58, 70)), along(frame.z, heights, (98, 112, 132, 140))
    plate = np.abs(chest.cavity - 22 - np.maximum(out - 100, 0) * np.float32(0.25)) - 2
    plate = np.maximum(plate, np.maximum(inner - out, out - outer))
    edge = np.sqrt((out - outer) ** 2 + (chest.cavity - 24) ** 2) - 5
    plate = np.maximum(np.minimum(plate, edge), 12 - frame.y)
    return np.maximum(plate, np.maximum(-5 - frame.z, chest.body + 4))


def _paint_spine(volume: Field, frame: Frame, density: float) -> None:
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
