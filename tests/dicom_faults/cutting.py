"""Faults and oddities of slice geometry."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from groundglass.phantom.dicom import PhantomStack
from groundglass.scan.volume import Geometry

TURN_DEGREES = 15.0
SOFT_TISSUE_HU = 40
AIR_HU = -1000
X, Y, Z = 0, 1, 2

Vector = NDArray[np.float64]


def missing_slices(stack: PhantomStack) -> PhantomStack:
    """Without two slices in the middle."""
    middle = len(stack.hu) // 2
    return _keep(stack, np.delete(np.arange(len(stack.hu)), [middle, middle + 1]))


def uneven_spacing(stack: PhantomStack) -> PhantomStack:
    """Only every second slice in the upper half."""
    count = len(stack.hu)
    return _keep(stack, np.concatenate([np.arange(count // 2), np.arange(count // 2, count, 2)]))


def one_slice(stack: PhantomStack) -> PhantomStack:
    """Only the middle slice."""
    return _keep(stack, np.array([len(stack.hu) // 2]))


def one_position(stack: PhantomStack) -> PhantomStack:
    """All slices at the position of the first."""
    old = stack.geometry
    positions = np.repeat(old.positions[:1], len(stack.hu), axis=0)
    return replace(stack, geometry=Geometry(positions, old.row_step, old.column_step))


def coronal(stack: PhantomStack) -> PhantomStack:
    """Slices from front to back."""
    return _grid(stack, (Y, 1), (Z, -1), (X, 1))


def sagittal(stack: PhantomStack) -> PhantomStack:
    """Slices from the patient's right to the left."""
    return _grid(stack, (X, 1), (Z, -1), (Y, 1))


def prone(stack: PhantomStack) -> PhantomStack:
    """The patient lies face down: rows run from back to front, columns from left to right."""
    return _grid(stack, (Z, 1), (Y, -1), (X, -1))


def feet_first(stack: PhantomStack) -> PhantomStack:
    """The patient lies feet first: columns run from left to right."""
    return _grid(stack, (Z, 1), (Y, 1), (X, -1))


def quarter_turn(stack: PhantomStack) -> PhantomStack:
    """Rows run from right to left, columns from front to back."""
    return _grid(stack, (Z, 1), (X, 1), (Y, 1))


def turned_in_plane(stack: PhantomStack) -> PhantomStack:
    """Each slice is rotated around its centre."""
    return _turned(stack, Z)


def oblique(stack: PhantomStack) -> PhantomStack:
    """The whole stack is rotated around the axis from right to left."""
    return _turned(stack, X)


def gantry_tilt(stack: PhantomStack) -> PhantomStack:
    """Tilted slices, one above the other along the table, so that the stack is sheared."""
    old = stack.geometry
    turn = _rotation(X)
    middle = old.positions + _to_middle(stack)
    positions = middle - _to_middle(stack) @ turn.T
    return recut(stack, Geometry(positions, turn @ old.row_step, old.column_step), _size(stack))


def flat(stack: PhantomStack) -> PhantomStack:
    """All pixels have one value."""
    return replace(stack, hu=np.full_like(stack.hu, SOFT_TISSUE_HU))


def no_lungs(stack: PhantomStack) -> PhantomStack:
    """A cylinder of soft tissue in air, similar to a head."""
    rows, columns = _size(stack)
    y, x = np.ogrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    hu = np.where(y * y + x * x < 0.5, SOFT_TISSUE_HU, np.minimum(stack.hu, -990)).astype(np.int16)
    return replace(stack, hu=hu)


def _keep(stack: PhantomStack, chosen: NDArray[np.intp]) -> PhantomStack:
    """The slices with these indices, in that order."""
    places = stack.geometry
    geometry = Geometry(places.positions[chosen], places.row_step, places.column_step)
    return replace(stack, hu=stack.hu[chosen], geometry=geometry)


def recut(stack: PhantomStack, geometry: Geometry, size: tuple[int, int]) -> PhantomStack:
    """Resample even, straight slices linearly to other positions and a size of (rows, columns), with air around."""
    old = stack.geometry
    steps = np.stack(
        [(old.positions[-1] - old.positions[0]) / (len(old.positions) - 1), old.row_step, old.column_step]
    )
    within = (
        np.arange(size[0])[:, None, None] * geometry.row_step
        + np.arange(size[1])[None, :, None] * geometry.column_step
    )
    points = geometry.positions[:, None, None] + within - old.positions[0]
    indices = np.moveaxis(points @ np.linalg.inv(steps), -1, 0)
    hu = ndimage.map_coordinates(stack.hu.astype(np.float32), indices, order=1, cval=AIR_HU)
    return replace(stack, hu=np.rint(hu).astype(np.int16), geometry=geometry)


def _grid(
    stack: PhantomStack,
    across: tuple[int, int],
    down: tuple[int, int],
    along: tuple[int, int],
) -> PhantomStack:
    """The same voxels in other slices: ``across`` the slices, ``down`` the rows and ``along`` the columns.

    Each is an axis of the patient and its direction.
    """
    old = stack.geometry
    height = (old.positions[-1, Z] - old.positions[0, Z]) / (len(stack.hu) - 1)
    spacing = np.array([old.column_step[X], old.row_step[Y], height])
    counts = np.array(stack.hu.shape[::-1])
    start = old.positions[0].copy()
    steps = []
    for axis, sign in (across, down, along):
        if sign < 0:
            start[axis] += (counts[axis] - 1) * spacing[axis]
        steps.append(np.eye(3)[axis] * spacing[axis] * sign)
    positions = start + np.arange(counts[across[0]])[:, None] * steps[0]
    size = int(counts[down[0]]), int(counts[along[0]])
    return recut(stack, Geometry(positions, steps[1], steps[2]), size)


def _turned(stack: PhantomStack, axis: int) -> PhantomStack:
    old = stack.geometry
    turn = _rotation(axis)
    middle = (old.positions[0] + old.positions[-1]) / 2 + _to_middle(stack)
    positions = (old.positions - middle) @ turn.T + middle
    return recut(stack, Geometry(positions, turn @ old.row_step, turn @ old.column_step), _size(stack))


def _rotation(axis: int) -> Vector:
    cosine, sine = np.cos(np.radians(TURN_DEGREES)), np.sin(np.radians(TURN_DEGREES))
    matrix = np.eye(3)
    first, second = (other for other in (X, Y, Z) if other != axis)
    matrix[first, first] = matrix[second, second] = cosine
    matrix[first, second], matrix[second, first] = -sine, sine
    return matrix


def _to_middle(stack: PhantomStack) -> Vector:
    """From a slice's first voxel to its centre."""
    rows, columns = _size(stack)
    return (rows - 1) / 2 * stack.geometry.row_step + (columns - 1) / 2 * stack.geometry.column_step


def _size(stack: PhantomStack) -> tuple[int, int]:
    return stack.hu.shape[1], stack.hu.shape[2]
