"""Make a phantom: anatomy, lesions, densities, and the scanner's blur and noise, all from one seed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from groundglass.errors import GroundglassError
from groundglass.phantom.anatomy import Build, build_chest
from groundglass.phantom.geometry import AnatomyFrame, Point
from groundglass.phantom.lesions import Lesion, LesionRecord, place_lesions
from groundglass.phantom.tissue import grow_trees, paint_body, paint_lungs, scan_volume
from groundglass.scan.scan import Scan
from groundglass.scan.volume import Geometry

FIELD_MM = (256.0, 358.4, 358.4)
"""The extent along (z, y, x) that holds a whole chest."""
MAX_STEP_MM = 32.0
"""Largest distance between slices if no spacing is given."""
ORIENTATION = "SPL"


@dataclass(frozen=True)
class Phantom:
    """A synthetic chest CT and its ground truth.

    Attributes
    ----------
    scan
        The volume in whole HU, float32, shape (slices, height, width), orientation ``"SPL"``: slices run from
        the feet to the head, rows from front to back, columns from the patient's right to the left, so that
        each slice is oriented as radiologists view it.
    lungs
        uint8, the volume's shape: 1 in the right lung, 2 in the left, 0 elsewhere; their vessels and lesions
        count as lung. A voxel is lung if its centre is inside the shape from which the volume was painted, before
        blur and noise.
    lesions
        uint8, the volume's shape: n in the n-th lesion, else 0; each lesion is entirely in one lung. These are
        exactly the painted voxels, before the edges were softened and before blur and noise.
    lesion_records
        Kinds and positions of the lesions, in the order of their numbers.
    seed
        The seed it was made from.
    voxel_ml
        The volume of one voxel in ml.
    """

    scan: Scan
    lungs: NDArray[np.uint8]
    lesions: NDArray[np.uint8]
    lesion_records: tuple[LesionRecord, ...]
    seed: int
    voxel_ml: float


def make_phantom(
    seed: int = 0,
    *,
    shape: tuple[int, int, int] = (32, 256, 256),
    spacing: Point | None = None,
    lesions: Sequence[Lesion] = (),
    noise_hu: float = 14.0,
    psf_mm: float = 0.8,
) -> Phantom:
    """Make a synthetic chest CT.

    The same arguments give the same bytes with the same versions of numpy and scipy. A person's anatomy
    depends only on the seed: the same seed with other lesions or less noise is the same person. It needs
    about 120 bytes of memory per voxel.

    Parameters
    ----------
    seed
        At least 0; determines the person's build, the vessels, the positions of lesions and the noise.
    shape
        (slices, height, width) of the volume.
    spacing
        Voxel spacing in mm along (z, y, x). The middle of the chest is in the middle of the volume, whose
        borders may cut it off. None spreads a whole chest over ``shape``, with slices at most 32 mm apart.
    lesions
        Lesions to put into the lungs; see :class:`Lesion` and :func:`random_lesions`.
    noise_hu
        Standard deviation of the noise, in HU.
    psf_mm
        Standard deviation of the Gaussian blur, in mm.

    Raises
    ------
    GroundglassError
        If an argument is out of range, or a lesion cannot be placed.
    """
    spacing = _check(seed, shape, spacing, noise_hu, psf_mm)
    # Each part has its own random stream, so that changing one does not affect the rest.
    person, tissue, trees, places, noise = (np.random.default_rng((seed, part)) for part in range(1, 6))
    build = Build.draw(person)
    frame = AnatomyFrame.of(shape, spacing, build.scale, person)
    chest = build_chest(frame, build)
    lungs = chest.lung_labels()
    mask, opacities, records = place_lesions(frame, chest, lungs, lesions, places)
    volume = paint_body(frame, chest, build, tissue)
    paint_lungs(volume, frame, lungs, build, grow_trees(frame, chest, trees), opacities, tissue)
    name = f"phantom-{seed:04d}"
    scan = Scan(
        scan_volume(volume, spacing, psf_mm, noise_hu, noise),
        is_hu=True,
        scan_id=name,
        spacing=spacing,
        orientation=ORIENTATION,
        patient=name,
    )
    return Phantom(scan, lungs, mask, records, seed, frame.voxel_ml)


def _check(
    seed: int, shape: tuple[int, int, int], spacing: Point | None, noise_hu: float, psf_mm: float
) -> Point:
    if seed < 0:
        raise GroundglassError(f"a phantom's seed must be at least 0, got {seed}")
    if len(shape) != 3 or min(shape) < 1 or min(shape[1:]) < 32:
        raise GroundglassError(f"a phantom has at least one slice of 32 x 32 pixels, got {shape}")
    if min(noise_hu, psf_mm) < 0:
        raise GroundglassError("a phantom's noise_hu and psf_mm must be at least 0")
    if spacing is None:
        step, height, width = (mm / n for mm, n in zip(FIELD_MM, shape, strict=True))
        return min(step, MAX_STEP_MM), height, width
    if len(spacing) != 3 or not min(spacing) > 0:
        raise GroundglassError(f"a phantom's spacing is three positive lengths in mm, got {spacing}")
    z, y, x = (float(mm) for mm in spacing)
    return z, y, x


MIDDLE = (0.0, -20.0, -200.0)
"""Centre of the volume in DICOM's x, y, z, in mm; as on a real scanner, it is not the origin."""


def phantom_geometry(phantom: Phantom) -> Geometry:
    """The positions of a phantom's voxels when it is written as DICOM or NIfTI."""
    shape = np.array(phantom.lungs.shape)
    spacing = np.array(phantom.scan.spacing, dtype=np.float64)
    first = np.array(MIDDLE) - ((shape - 1) * spacing / 2)[::-1]
    heights = first[2] + spacing[0] * np.arange(shape[0])
    positions = np.stack([np.full(shape[0], first[0]), np.full(shape[0], first[1]), heights], axis=1)
    return Geometry(positions, np.array([0.0, spacing[1], 0.0]), np.array([spacing[2], 0.0, 0.0]))
