"""A phantom as a stack of slices that lies in the patient, cut in any direction."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from groundglass.scan.phantom.phantom import Phantom
from groundglass.scan.volume import Geometry

MIDDLE = (0.0, -20.0, -200.0)
"""Where the middle of the volume lies, in DICOM's x, y, z in mm: not at the origin, as with a real table."""
AIR_HU = -1000


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices and where they lie.

    Attributes
    ----------
    hu
        int16, shape (slices, rows, columns).
    geometry
        Of the slices in the order of ``hu``, whatever that is.
    position
        DICOM's Patient Position (PS3.3 C.7.3.1.1.2).
    """

    hu: NDArray[np.int16]
    geometry: Geometry
    position: str = "HFS"

    def keep(self, chosen: NDArray[np.intp]) -> "Stack":
        """The slices of these numbers, in their order."""
        places = self.geometry
        geometry = Geometry(places.positions[chosen], places.row_step, places.column_step)
        return Stack(self.hu[chosen], geometry, self.position)


def phantom_geometry(phantom: Phantom) -> Geometry:
    """Where a phantom's voxels lie once it is written as DICOM or NIfTI."""
    shape = np.array(phantom.lungs.shape)
    spacing = np.array(phantom.scan.spacing, dtype=np.float64)
    first = np.array(MIDDLE) - ((shape - 1) * spacing / 2)[::-1]
    heights = first[2] + spacing[0] * np.arange(shape[0])
    positions = np.stack([np.full(shape[0], first[0]), np.full(shape[0], first[1]), heights], axis=1)
    return Geometry(positions, np.array([0.0, spacing[1], 0.0]), np.array([spacing[2], 0.0, 0.0]))


def phantom_stack(phantom: Phantom) -> Stack:
    """A phantom as it is."""
    return Stack(np.rint(phantom.scan.pixels).astype(np.int16), phantom_geometry(phantom))


def recut(stack: Stack, geometry: Geometry, size: tuple[int, int], position: str = "HFS") -> Stack:
    """Cut a stack anew, with linear interpolation and air around it.

    Parameters
    ----------
    stack
        Evenly spaced, straight slices.
    geometry
        Where the new voxels lie.
    size
        Rows and columns of the new slices.
    position
        The new stack's Patient Position.
    """
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
    return Stack(np.rint(hu).astype(np.int16), geometry, position)
