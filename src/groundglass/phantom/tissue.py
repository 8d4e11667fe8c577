"""Tissue: the branching vessels and bronchi of the lungs, densities, and the scanner's blur and noise."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from groundglass.phantom.anatomy import (
    HILUM,
    LEFT,
    RIGHT,
    SIDES,
    Build,
    Chest,
    oblique_fissure,
    paint_skeleton,
)
from groundglass.phantom.geometry import FAR, AnatomyFrame, Field, add_tube, along, ellipsoid, texture
from groundglass.phantom.lesions import Opacity

ARTERIES, VEINS, BRONCHI = 520, 400, 22
"""Points that the trees of one lung grow towards."""
TALL = 1.8
"""A slice is thicker than a small vessel; with taller vessels it shows more of those that run along it."""


@dataclass(frozen=True)
class Trees:
    """Signed distances in mm, each of the frame's shape, to the vessels, the bronchi's walls and their air."""

    vessels: Field
    walls: Field
    air: Field


def grow_trees(frame: AnatomyFrame, chest: Chest, rng: np.random.Generator) -> Trees:
    """Grow arteries, veins and bronchi from the hilum of each lung into it."""
    vessels, walls, air = (np.full(frame.shape, FAR) for _ in range(3))
    for side, sign in SIDES.items():
        hilum = np.array(HILUM[side])
        lung = chest.lungs[side]
        vein_root = np.array((-16.0, -6.0, 38.0 * sign))
        for root, count in ((hilum, ARTERIES), (vein_root, VEINS)):
            targets = _scatter(frame, lung, count, 3.0, rng)
            for path in _branches(root, targets, twig=0.62, power=0.43):
                add_tube(vessels, frame, path, reach=1.5, tall=TALL)
        start = np.array((-12.0, 12.0, 46.0 * sign))
        targets = _scatter(frame, lung, BRONCHI, 22.0, rng)
        for path in _branches(start, targets, twig=0.9, power=0.55):
            add_tube(air, frame, path, reach=1.5, tall=1.2)
            add_tube(walls, frame, path * (1, 1, 1, 1.1) + (0, 0, 0, 0.6), reach=1.5, tall=1.2)
    return Trees(vessels, walls, air)


def _scatter(
    frame: AnatomyFrame, lung: Field, count: int, depth: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Draw points (z, y, x) at least ``depth`` mm inside a lung, shape (at most count, 3)."""
    inside = np.flatnonzero(lung < -depth)
    if not inside.size:
        return np.empty((0, 3))
    chosen = rng.choice(inside, count)
    z, _, _ = np.unravel_index(chosen, frame.shape)
    place = np.stack([frame.z.ravel()[z], frame.y.ravel()[chosen], frame.x.ravel()[chosen]], axis=1)
    # Positions between slices as well as on them.
    place[:, 0] += rng.uniform(-0.5, 0.5, count) * frame.spacing[0] / frame.scale[0]
    return place.astype(np.float64)


def connect(points: NDArray[np.float64], balance: float = 0.8) -> NDArray[np.intp]:
    """Join points to a tree with short branches and short paths to the root.

    Parameters
    ----------
    points
        float64, shape (points, 3); the first is the root.
    balance
        Weight of the path to the root against the total length.

    Returns
    -------
    For each point, in the order in which it was joined, a pair (point, its parent): shape (points - 1, 2).

    Notes
    -----
    Cuntz and others, One rule to grow them all, PLoS Comput Biol 6(8), 2010: Prim's spanning tree with a
    cost that adds the path length.
    """
    count = len(points)
    way = np.zeros(count)
    parent = np.zeros(count, np.intp)
    reach = np.linalg.norm(points - points[0], axis=1)
    cost = reach.copy()
    cost[0] = np.inf
    edges = np.empty((count - 1, 2), np.intp)
    for step in range(count - 1):
        new = int(np.argmin(cost))
        edges[step] = new, parent[new]
        way[new] = way[parent[new]] + reach[new]
        cost[new] = np.inf
        distance = np.linalg.norm(points - points[new], axis=1)
        nearer = (distance + balance * way[new] < cost) & np.isfinite(cost)
        parent[nearer], reach[nearer] = new, distance[nearer]
        cost[nearer] = distance[nearer] + balance * way[new]
    return edges


def _branches(
    root: NDArray[np.float64], targets: NDArray[np.float64], twig: float, power: float
) -> list[NDArray[np.float64]]:
    """The tree's branches as smooth paths of z, y, x and radius: each of shape (4, 4).

    A branch that feeds n twigs has the radius ``twig * n ** power`` (Murray's law has a power of 1/3; lung
    vessels are wider at the root).
    """
    points = np.concatenate([root[None], targets])
    edges = connect(points)
    twigs = np.zeros(len(points))
    up, down = np.zeros(len(points), np.intp), np.arange(len(points))
    for point, parent in edges[::-1]:
        twigs[point] = max(twigs[point], 1)
        # The path continues into the widest branch.
        if twigs[point] > twigs[down[parent]] or down[parent] == parent:
            down[parent] = point
        twigs[parent] += twigs[point]
        up[point] = parent
    radius = twig * np.maximum(twigs, 1) ** power
    start, end = edges[:, 1], edges[:, 0]
    before, after = points[up[start]], points[down[end]]
    paths = [_spline(before, points[start], points[end], after, t) for t in (0, 1 / 3, 2 / 3, 1)]
    mouth = np.minimum(radius[start], radius[end] * 1.25)
    widths = [mouth + (radius[end] - mouth) * t for t in (0, 1 / 3, 2 / 3, 1)]
    return list(np.concatenate([np.stack(paths, 1), np.stack(widths, 1)[..., None]], axis=2))


def _spline(
    before: NDArray[np.float64],
    start: NDArray[np.float64],
    end: NDArray[np.float64],
    after: NDArray[np.float64],
    t: float,
) -> NDArray[np.float64]:
    """Catmull-Rom spline from ``start`` (t = 0) to ``end`` (t = 1)."""
    leave, arrive = (end - before) / 2, (after - start) / 2
    return (
        (2 * t**3 - 3 * t**2 + 1) * start
        + (t**3 - 2 * t**2 + t) * leave
        + (3 * t**2 - 2 * t**3) * end
        + (t**3 - t**2) * arrive
    )


AIR_HU, SKIN_HU, FAT_HU, MUSCLE_HU = -1000.0, 10.0, -102.0, 48.0
BLOOD_HU, HEART_HU, GULLET_HU, WALL_HU = 44.0, 40.0, 32.0, 20.0
LIVER_HU, SPLEEN_HU, STOMACH_HU = 58.0, 48.0, 18.0
BRONCHUS_HU, TABLE_HU, FISSURE_HU = -960.0, -180.0, 130.0
GRAVITY_HU = 38.0
"""How much denser the posterior lung is than its middle, with the patient supine."""
HU_RANGE = (-1024.0, 3071.0)
"""Range of a CT stored in 12 bits."""


def paint_body(frame: AnatomyFrame, chest: Chest, build: Build, rng: np.random.Generator) -> Field:
    """Everything but the lungs, in HU, float32."""
    volume = np.full(frame.shape, np.float32(AIR_HU))
    _paint_table(volume, frame)
    lumps = texture(rng, frame, 14)
    np.copyto(volume, np.float32(SKIN_HU), where=chest.body < 0)
    np.copyto(volume, FAT_HU + 5 * lumps, where=chest.body < -2)
    muscle = _muscle(frame, chest, build, lumps)
    np.copyto(volume, MUSCLE_HU + 4 * lumps, where=muscle)
    if build.breast:
        _paint_glands(volume, frame, chest, lumps)
    np.copyto(volume, FAT_HU + 6 * lumps, where=(chest.mediastinum < 0) & (chest.cavity < 0))
    _paint_abdomen(volume, frame, chest, lumps)
    np.copyto(volume, HEART_HU + 3 * lumps, where=chest.heart < -2.5 - np.maximum(1.5 * lumps, 0))
    np.copyto(volume, np.float32(WALL_HU), where=chest.airways < 1.2)
    np.copyto(volume, np.float32(GULLET_HU), where=chest.gullet < 0)
    np.copyto(volume, np.float32(BLOOD_HU), where=chest.blood < 0)
    paint_skeleton(volume, frame, chest, build.bone)
    np.copyto(volume, np.float32(AIR_HU + 10), where=chest.airways < 0)
    return volume


def paint_lungs(
    volume: Field,
    frame: AnatomyFrame,
    lungs: NDArray[np.uint8],
    build: Build,
    trees: Trees,
    opacities: list[Opacity],
    rng: np.random.Generator,
) -> None:
    """Paint lung tissue, lesions, vessels and bronchi into ``volume`` where ``lungs`` is set."""
    tissue = build.lung_hu + np.float32(GRAVITY_HU / 80) * frame.y + 9 * texture(rng, frame, 16)
    for side in SIDES:
        line = np.exp(-((oblique_fissure(frame, side) / np.float32(0.9)) ** 2))
        tissue += np.where(lungs == side, np.float32(FISSURE_HU) * line, 0)
    pixel = np.float32(min(frame.spacing[1:]))
    vessels = np.clip(0.5 - trees.vessels / pixel, 0, 1)
    walls = np.clip(0.5 - trees.walls / pixel, 0, 1)
    for opacity in opacities:
        part = tissue[opacity.box]
        part += (np.float32(opacity.density_hu) - part) * opacity.share
        if opacity.empties:
            vessels[opacity.box] *= 1 - opacity.share
            walls[opacity.box] *= 1 - opacity.share
    # A lesion denser than blood hides its vessels.
    tissue += np.maximum(BLOOD_HU - tissue, 0) * vessels
    tissue += np.maximum(WALL_HU - tissue, 0) * walls
    tissue += (BRONCHUS_HU - tissue) * np.clip(0.5 - trees.air / pixel, 0, 1)
    np.copyto(volume, tissue, where=lungs > 0)


def scan_volume(
    volume: Field,
    spacing: tuple[float, float, float],
    psf_mm: float,
    noise_hu: float,
    rng: np.random.Generator,
) -> Field:
    """Simulate a scanner's image of the true densities: blurred, with the noise of filtered back-projection.

    Parameters
    ----------
    psf_mm
        Standard deviation of the Gaussian point spread, in mm.
    noise_hu
        Standard deviation of the noise, in HU. White noise is filtered within each slice to remove its coarse
        and finest parts, as the reconstruction's ramp filter and kernel do.

    Returns
    -------
    float32 in whole HU, clipped to the range of 12 bits.
    """
    seen = ndimage.gaussian_filter(volume, [psf_mm / step for step in spacing], mode="nearest")
    if noise_hu:
        noise = rng.standard_normal(volume.shape, dtype=np.float32)
        fine, coarse = ([0, *(width / step for step in spacing[1:])] for width in (0.7, 2.1))
        noise = ndimage.gaussian_filter(noise, fine) - ndimage.gaussian_filter(noise, coarse)
        seen += noise * np.float32(noise_hu / noise.std())
    return np.clip(np.rint(seen), *HU_RANGE, dtype=np.float32)


def _muscle(frame: AnatomyFrame, chest: Chest, build: Build, lumps: Field) -> NDArray[np.bool_]:
    """Muscle around the rib cage: pectorals, shoulder and back, with planes of fat between the layers."""
    out, y, wall = np.abs(frame.x), frame.y, chest.cavity
    high = along(frame.z, (-60, 40, 90), (0, 1, 1.2))
    shoulder = along(frame.z, (-90, 20, 80, 120), (0.3, 1, 1.5, 2.6))
    breast_muscle = np.exp(-(((out - 62) / 38) ** 2)) * (y < 0) * high
    blade = np.exp(-(((out - 105) / 45) ** 2)) * np.clip((y + 20) / 40, 0, 1) * shoulder
    back = np.exp(-(((out - 26) / 24) ** 2)) * (y > 0)
    thickness = 13 + 14 * breast_muscle + 20 * blade + 24 * back + lumps
    muscle = (wall < thickness) & (chest.body < -np.float32(4 + 0.35 * build.fat) - lumps)
    first = np.abs(wall - 14.5 - 0.8 * lumps) < 0.5 + 0.9 * np.clip(lumps + 0.6, 0, 1)
    second = np.abs(wall - 28 - 2 * lumps) < 0.5 + np.clip(lumps + 0.3, 0, 1)
    return muscle & ~(first & (out > 30)) & ~(second & (out > 20))


def _paint_glands(volume: Field, frame: AnatomyFrame, chest: Chest, lumps: Field) -> None:
    for x in (-72.0, 72.0):
        gland = ellipsoid(frame.z, frame.y, frame.x, (-14, -112, x), (32, 20, 30)) + 5 * lumps
        np.copyto(volume, np.float32(20), where=(gland < 0) & (chest.body < -6) & (chest.cavity > 18))


def _paint_abdomen(volume: Field, frame: AnatomyFrame, chest: Chest, lumps: Field) -> None:
    """Below the diaphragm: liver on the right, stomach with an air bubble and spleen on the left, fat."""
    z, y, x = frame.z, frame.y, frame.x
    inside = chest.cavity < 0
    right, left = chest.domes[RIGHT], chest.domes[LEFT]
    below = np.where(x < 0, right, left)
    np.copyto(volume, np.float32(MUSCLE_HU), where=inside & (below < 1))
    np.copyto(volume, FAT_HU + 6 * lumps, where=inside & (below < -2.5))
    room = inside & (below < -2.5)
    liver = np.where(x < 0, y - 62, np.maximum(y + 22, x - 62))
    liver = np.maximum(liver, 16 - np.hypot(x - 8, y - 36))
    np.copyto(volume, LIVER_HU + 3 * lumps, where=room & (liver < 0))
    stomach = ellipsoid(z, y, x, (-118, -18, 62), (46, 44, 42))
    spleen = ellipsoid(z, y, x, (-118, 40, 84), (46, 30, 38))
    np.copyto(volume, np.float32(SPLEEN_HU), where=room & (spleen < 0) & (x > 0))
    np.copyto(volume, np.float32(MUSCLE_HU), where=room & (stomach < 0) & (x > 0))
    np.copyto(volume, np.float32(STOMACH_HU), where=room & (stomach < -3) & (x > 0))
    np.copyto(volume, np.float32(AIR_HU + 20), where=room & (stomach < -3) & (x > 0) & (y < -34))


def _paint_table(volume: Field, frame: AnatomyFrame) -> None:
    """The curved couch: a thin shell with foam inside."""
    sag = frame.y - np.float32(133) + (frame.x / 38) ** 2
    shell = np.abs(np.abs(sag - 12) - 12) < 1.2
    np.copyto(volume, np.float32(-960), where=(np.abs(sag - 12) < 12))
    np.copyto(volume, np.float32(TABLE_HU), where=shell)
