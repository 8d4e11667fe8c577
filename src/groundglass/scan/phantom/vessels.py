"""The branching vessels and bronchi of the lungs."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from groundglass.scan.phantom.anatomy import HILUM, SIDES, Chest
from groundglass.scan.phantom.geometry import FAR, Field, Frame, add_tube

ARTERIES, VEINS, BRONCHI = 520, 400, 22
"""Points that the trees of one lung grow towards."""
TALL = 1.8
"""A slice is thicker than a small vessel; taller vessels let a slice show more of those that run along it."""


@dataclass(frozen=True)
class Trees:
    """Signed distances in mm, each of the frame's shape, to the vessels, the bronchi's walls and their air."""

    vessels: Field
    walls: Field
    air: Field


def grow_trees(frame: Frame, chest: Chest, rng: np.random.Generator) -> Trees:
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
    frame: Frame, lung: Field, count: int, depth: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Draw points (z, y, x) that lie at least ``depth`` mm inside a lung, shape (at most count, 3)."""
    inside = np.flatnonzero(lung < -depth)
    if not inside.size:
        return np.empty((0, 3))
    chosen = rng.choice(inside, count)
    z, _, _ = np.unravel_index(chosen, frame.shape)
    place = np.stack([frame.z.ravel()[z], frame.y.ravel()[chosen], frame.x.ravel()[chosen]], axis=1)
    # Between the slices as well as on them.
    place[:, 0] += rng.uniform(-0.5, 0.5, count) * frame.spacing[0] / frame.scale[0]
    return place.astype(np.float64)


def connect(points: NDArray[np.float64], balance: float = 0.8) -> NDArray[np.intp]:
    """Join points to a tree that keeps both the wire and the way to the root short.

    Parameters
    ----------
    points
        float64, shape (points, 3); the first is the root.
    balance
        Weight of the way to the root against the length of wire.

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
        # The path goes on into the widest branch.
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
