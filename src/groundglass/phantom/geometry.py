"""The position of each voxel in the anatomy, and the shapes that make up the anatomy.

Shapes are signed distances in mm, negative inside, approximate away from the surface.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
Point = tuple[float, float, float]
Floats = Sequence[float] | NDArray[np.float64]
Box = tuple[slice, slice, slice]

WARP_MM = 2.5
"""Largest displacement of a smooth deformation that makes the shapes look less geometric."""
FAR = np.float32(1e3)


@dataclass(frozen=True)
class AnatomyFrame:
    """The position of every voxel, in mm, in the anatomy's frame of reference.

    The origin is the middle of the chest; ``z`` points to the head, ``y`` to the back, ``x`` to the patient's
    left. A person's size and a smooth deformation map this frame to the voxels.

    Attributes
    ----------
    spacing
        Voxel spacing in mm along (z, y, x).
    scale
        Size of this person relative to the reference anatomy, along (z, y, x).
    z, y, x
        float32; ``z`` of shape (slices, 1, 1), the others of the volume's shape.
    """

    spacing: Point
    scale: Point
    z: Field
    y: Field
    x: Field

    @classmethod
    def of(
        cls, shape: tuple[int, int, int], spacing: Point, scale: Point, rng: np.random.Generator
    ) -> "AnatomyFrame":
        """Centre the anatomy in a volume and apply a deformation drawn from ``rng``."""
        z, y, x = (
            ((np.arange(n) - (n - 1) / 2) * step / size).astype(np.float32)
            for n, step, size in zip(shape, spacing, scale, strict=True)
        )
        z, y, x = z[:, None, None], y[None, :, None], x[None, None, :]
        bent_y, bent_x = y, x
        for amplitude in (0.65, 0.35):
            phase, (waves, turns) = rng.uniform(0, 2 * np.pi, 2), rng.uniform(0.01, 0.04, (2, 2)) / amplitude
            bent_x = bent_x + np.float32(WARP_MM * amplitude) * _wave(y, z, waves, phase[0])
            bent_y = bent_y + np.float32(WARP_MM * amplitude) * _wave(x, z, turns, phase[1])
        return cls(spacing, scale, z, np.broadcast_to(bent_y, shape), np.broadcast_to(bent_x, shape))

    @property
    def shape(self) -> tuple[int, int, int]:
        """The volume's shape, (slices, height, width)."""
        slices, height, width = self.x.shape
        return slices, height, width

    @property
    def voxel_ml(self) -> float:
        """The volume of one voxel in ml."""
        return float(np.prod(self.spacing)) / 1000

    def box(self, low: Iterable[float], high: Iterable[float]) -> Box:
        """Slices of the voxels that hold all positions between ``low`` and ``high``, as (z, y, x) in mm."""
        slack = (0.0, WARP_MM, WARP_MM)
        first, last = [], []
        for bottom, top, extra, n, step, size in zip(
            low, high, slack, self.shape, self.spacing, self.scale, strict=True
        ):
            middle = (n - 1) / 2
            first.append(min(max(int(np.ceil((bottom - extra) * size / step + middle)), 0), n))
            last.append(min(max(int((top + extra) * size / step + middle + 1), 0), n))
        return slice(first[0], last[0]), slice(first[1], last[1]), slice(first[2], last[2])


def _wave(along: Field, z: Field, rates: NDArray[np.float64], phase: float) -> Field:
    return np.sin(np.float32(rates[0]) * along + np.float32(rates[1]) * z + np.float32(phase))


def along(values: Field, points: Floats, heights: Floats) -> Field:
    """Interpolate linearly between ``points``, as float32."""
    return np.asarray(np.interp(values, points, heights), dtype=np.float32)


def at_heights(z: Field, table: NDArray[np.float64]) -> list[Field]:
    """Look up the columns of a table whose first column is the height z, linearly between its rows."""
    return [along(z, table[:, 0], column) for column in table.T[1:]]


def superellipse(y: Field, x: Field, outline: Sequence[Field], power: float) -> Field:
    """Distance along the ray from the middle of a superellipse.

    ``outline`` holds its half-width along x and its front and back along y.
    """
    half_width, front, back = outline
    half = np.float32(0.5)
    y = y - half * (front + back)
    size = np.abs(x / half_width) ** np.float32(power) + np.abs(y / (half * (back - front))) ** np.float32(
        power
    )
    return to_surface(np.sqrt(x * x + y * y), size ** np.float32(1 / power))


def ellipsoid(z: Field, y: Field, x: Field, centre: Point, axes: Point) -> Field:
    """Distance along the ray from the centre of an ellipsoid with semi-axes along (z, y, x)."""
    z, y, x = z - np.float32(centre[0]), y - np.float32(centre[1]), x - np.float32(centre[2])
    z2, y2, x2 = z * z, y * y, x * x
    flat = [np.float32(1 / axis**2) for axis in axes]
    return to_surface(np.sqrt(z2 + y2 + x2), np.sqrt(z2 * flat[0] + y2 * flat[1] + x2 * flat[2]))


def to_surface(reach: Field, size: Field) -> Field:
    """Distance of a point to a surface along the ray from its centre.

    ``reach`` is the point's distance to the centre; scaled by ``size``, the surface would contain the point.
    """
    surface = np.divide(np.maximum(reach, np.float32(1e-3)), np.maximum(size, np.float32(1e-4)))
    return reach - surface


def union(first: Field, second: Field, rounding: float) -> Field:
    """Unite two shapes, the seam filled with a fillet of about ``rounding`` mm (Quilez, smooth minimum)."""
    seam = np.maximum(np.float32(rounding) - np.abs(first - second), 0)
    return np.minimum(first, second) - seam * seam * np.float32(0.25 / rounding)


def intersection(first: Field, second: Field, rounding: float) -> Field:
    """The intersection of two shapes, with edges rounded by about ``rounding`` mm."""
    return -union(-first, -second, rounding)


def add_tube(
    field: Field, frame: AnatomyFrame, path: NDArray[np.float64], reach: float = 4.0, tall: float = 1.0
) -> None:
    """Unite ``field`` in place with a tube along a path.

    Parameters
    ----------
    field
        Signed distances, of the frame's shape.
    path
        float64, shape (points, 4): z, y, x and radius in mm; straight and conical between points.
    reach
        Distance in mm from the tube's surface up to which ``field`` is changed.
    tall
        How much taller (along z) than wide the tube is.
    """
    for start, end in pairwise(path):
        span = max(start[3], end[3]) + reach
        margin = np.array((span * tall, span, span))
        box = frame.box(np.minimum(start, end)[:3] - margin, np.maximum(start, end)[:3] + margin)
        target = field[box]
        if target.size:
            np.minimum(target, _cone(frame, box, start, end, tall), out=target)


def _cone(
    frame: AnatomyFrame,
    box: Box,
    start: NDArray[np.float64],
    end: NDArray[np.float64],
    tall: float,
) -> Field:
    z0, y0, x0, r0 = start.astype(np.float32)
    dz, dy, dx, dr = (end - start).astype(np.float32)
    dz /= np.float32(tall)
    z, y, x = (frame.z[box[0]] - z0) / np.float32(tall), frame.y[box] - y0, frame.x[box] - x0
    part = (z * dz + y * dy + x * dx) / max(dz * dz + dy * dy + dx * dx, np.float32(1e-6))
    part = np.clip(part, 0, 1)
    return np.sqrt((z - part * dz) ** 2 + (y - part * dy) ** 2 + (x - part * dx) ** 2) - (r0 + part * dr)


def texture(rng: np.random.Generator, frame: AnatomyFrame, grain: float) -> Field:
    """Smooth random values of standard deviation about 1, with lumps of about ``grain`` mm."""
    counts = [int(n * step / grain) + 3 for n, step in zip(frame.shape, frame.spacing, strict=True)]
    values = rng.standard_normal(counts, dtype=np.float32)
    for axis, (n, step) in enumerate(zip(frame.shape, frame.spacing, strict=True)):
        place = np.arange(n) * step / grain + rng.uniform()
        left = place.astype(np.intp)
        part = place - left
        # A weight with zero slope at its ends, so that no grid of creases appears.
        weight = (part * part * (3 - 2 * part)).astype(np.float32)
        weight = weight.reshape([-1 if other == axis else 1 for other in range(3)])
        low, high = np.take(values, left, axis), np.take(values, left + 1, axis)
        values = low + (high - low) * weight
    return values * np.float32(1.6)
