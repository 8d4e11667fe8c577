"""Writing phantoms as volumes: DICOM series or NIfTI, with exact masks and volumes in ml.

This module loads pydicom and nibabel, so the package does not import it.
"""

import gzip
from collections.abc import Callable
from itertools import permutations, product
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from numpy.typing import DTypeLike, NDArray

from groundglass.errors import GroundglassError
from groundglass.files import write_bytes, write_json
from groundglass.phantom.dicom import Form, write_phantom_dicom
from groundglass.phantom.phantom import Phantom, phantom_geometry
from groundglass.phantom.write import ml_by_side, phantoms
from groundglass.scan.scan import LUNG_WINDOW, apply_window
from groundglass.scan.volume import mark_results

NIFTI = "nifti"


def write_phantom_volumes(
    folder: Path,
    *,
    count: int,
    disease: str = "mixed",
    seed: int = 0,
    shape: tuple[int, int, int] = (40, 256, 256),
    form: Form | str = "classic",
    syntax: str = "explicit-little",
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Write phantoms of seeds ``seed``, ``seed + 1``, ... as volumes.

    ``scans/NAME/`` holds a DICOM series, or ``scans/NAME.nii.gz`` the volume; ``truth/NAME_lungs.nii.gz`` (1 right,
    2 left) and ``truth/NAME_lesions.nii.gz`` its exact masks, and ``truth/NAME.json`` its volumes in ml.

    Parameters
    ----------
    folder
        Output folder.
    count
        How many phantoms.
    disease
        ``"covid"``, ``"other"``, ``"none"``, or ``"mixed"``, which alternates between them.
    shape
        (slices, height, width) of each volume, over which a whole chest is spread.
    form
        ``nifti``, or a form of groundglass.phantom.dicom.write_phantom_dicom.
    syntax
        The DICOM transfer syntax, as there.
    progress
        Called after each phantom with the number done and ``count``.

    Returns
    -------
    The folders of the series, or the NIfTI files.

    Raises
    ------
    GroundglassError
        If an argument is out of range or a file cannot be written.
    """
    written = []
    for this, phantom in phantoms(count, disease, seed, shape):
        name = phantom.scan.scan_id
        if form == NIFTI:
            written.append(write_phantom_nifti(phantom, folder / "scans" / f"{name}.nii.gz"))
        else:
            series = folder / "scans" / name
            write_phantom_dicom(phantom, series, form=form, syntax=syntax)  # type: ignore[arg-type]
            written.append(series)
        _write_truth(phantom, folder / "truth", name, this)
        if progress is not None:
            progress(len(written), count)
    mark_results(folder / "truth")
    return written


def _write_truth(phantom: Phantom, folder: Path, name: str, disease: str) -> None:
    for content in ("lungs", "lesions"):
        write_phantom_nifti(phantom, folder / f"{name}_{content}.nii.gz", content=content)
    truth = {
        "disease": disease,
        "seed": phantom.seed,
        "lung_ml": ml_by_side(phantom, phantom.lungs > 0),
        "lesion_ml": ml_by_side(phantom, phantom.lesions > 0),
        "spacing_mm": phantom.scan.spacing,
    }
    write_json(folder / f"{name}.json", truth)


ORIENTATIONS = tuple(
    "".join(letters) for axes in permutations(("RL", "AP", "SI")) for letters in product(*axes)
)
"""The 48 possible orientations of the axes, in nibabel's letters."""

Content = Literal["hu", "grey", "lungs", "lesions"]


def write_phantom_nifti(
    phantom: Phantom,
    path: Path,
    *,
    content: Content = "hu",
    orientation: str = "RAS",
    dtype: DTypeLike = np.int16,
    slope: float | None = None,
    intercept: float = 0.0,
) -> Path:
    """Write a phantom's volume or one of its masks, positioned by :func:`phantom_geometry`.

    Parameters
    ----------
    phantom
        What to write.
    path
        Ends in ``.nii``, or in ``.nii.gz`` to be compressed.
    content
        ``hu``; ``grey``, the lung window as whole numbers from 0 to 255; or the mask ``lungs`` or ``lesions``.
    orientation
        Directions of the axes, one of :data:`ORIENTATIONS`.
    dtype
        How the values are stored.
    slope, intercept
        The header's scl_slope and scl_inter; the stored values are scaled to match. A slope of None sets neither.

    Returns
    -------
    ``path``.

    Raises
    ------
    GroundglassError
        If an argument is out of range or the file cannot be written.
    """
    if not path.name.endswith((".nii", ".nii.gz")):
        raise GroundglassError(f"{path}: a NIfTI file ends in .nii or .nii.gz")
    if orientation not in ORIENTATIONS:
        raise GroundglassError(f"no orientation is called {orientation}: RAS is one, in nibabel's letters")
    if slope == 0:
        raise GroundglassError("a slope of 0 would erase all values")
    values = _values(phantom, content)
    if slope is not None:
        values = (values - intercept) / slope
    image = nib.Nifti1Image(_stored(values, np.dtype(dtype)), affine(phantom))
    image.header.set_xyzt_units("mm")
    image.set_qform(image.affine, code="scanner")
    image.set_sform(image.affine, code="scanner")
    turn = ornt_transform(io_orientation(image.affine), axcodes2ornt(orientation))
    image = image.as_reoriented(turn)
    if slope is not None:
        image.header.set_slope_inter(slope, intercept)
    plain = image.to_bytes()
    write_bytes(path, gzip.compress(plain, mtime=0) if path.suffix == ".gz" else plain)
    return path


def affine(phantom: Phantom) -> NDArray[np.float64]:
    """From a voxel's (slice, row, column) to NIfTI's x, y, z in mm (right, front, head)."""
    geometry = phantom_geometry(phantom)
    spacing = np.array(phantom.scan.spacing, dtype=np.float64)
    steps = spacing[0] * geometry.normal, geometry.row_step, geometry.column_step
    matrix = np.eye(4)
    matrix[:3] = np.column_stack([*steps, geometry.positions[0]])
    return np.asarray(np.diag([-1.0, -1.0, 1.0, 1.0]) @ matrix)


def _values(phantom: Phantom, content: Content) -> NDArray[Any]:
    if content == "hu":
        return phantom.scan.pixels
    if content == "grey":
        return np.rint(apply_window(phantom.scan.pixels, *LUNG_WINDOW) * 255)
    if content == "lungs":
        return phantom.lungs
    if content == "lesions":
        return phantom.lesions
    raise GroundglassError(f"no content is called {content}: there are hu, grey, lungs, lesions")


def _stored(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Values in another type; integer types are rounded and clipped."""
    if dtype.kind not in "iu":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    return np.rint(values).clip(limits.min, limits.max).astype(dtype)
