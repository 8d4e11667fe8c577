"""Write phantoms as volumes: DICOM series or NIfTI, with exact masks and volumes in ml.

This module loads pydicom and nibabel, so the package does not import it.
"""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from groundglass.errors import GroundglassError
from groundglass.files import write_bytes, write_json
from groundglass.phantom.dicom import Form, write_phantom_dicom
from groundglass.phantom.phantom import Phantom, phantom_geometry
from groundglass.phantom.write import ml_by_side, phantoms
from groundglass.scan.volume import mark_results

NIFTI = "nifti"
Content = Literal["hu", "lungs", "lesions"]


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
        Number of phantoms.
    disease
        ``"covid"``, ``"other"``, ``"none"``, or ``"mixed"``, which alternates between them.
    shape
        (slices, height, width) of each volume, over which a whole chest is spread.
    form
        ``nifti``, or a form of groundglass.phantom.dicom.write_phantom_dicom.
    syntax
        The DICOM transfer syntax, see the same function.
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
            write_phantom_dicom(phantom, series, form=form, syntax=syntax)
            written.append(series)
        _write_truth(phantom, folder / "truth", name, this)
        if progress is not None:
            progress(len(written), count)
    mark_results(folder / "truth")
    return written


def _write_truth(phantom: Phantom, folder: Path, name: str, disease: str) -> None:
    write_phantom_nifti(phantom, folder / f"{name}_lungs.nii.gz", content="lungs")
    write_phantom_nifti(phantom, folder / f"{name}_lesions.nii.gz", content="lesions")
    truth = {
        "disease": disease,
        "seed": phantom.seed,
        "lung_ml": ml_by_side(phantom, phantom.lungs > 0),
        "lesion_ml": ml_by_side(phantom, phantom.lesions > 0),
        "spacing_mm": phantom.scan.spacing,
    }
    write_json(folder / f"{name}.json", truth)


def write_phantom_nifti(phantom: Phantom, path: Path, *, content: Content = "hu") -> Path:
    """Write a phantom's volume or one of its masks, as int16 in the orientation RAS.

    Parameters
    ----------
    phantom
        What to write.
    path
        Ends in ``.nii``, or in ``.nii.gz`` to be compressed.
    content
        ``hu``, or the mask ``lungs`` or ``lesions``.

    Returns
    -------
    ``path``.

    Raises
    ------
    GroundglassError
        If the path has another ending or the file cannot be written.
    """
    if not path.name.endswith((".nii", ".nii.gz")):
        raise GroundglassError(f"{path}: a NIfTI file ends in .nii or .nii.gz")
    values = phantom.scan.pixels if content == "hu" else getattr(phantom, content)
    image = nib.Nifti1Image(np.rint(values).astype(np.int16), affine(phantom))
    image.header.set_xyzt_units("mm")
    image.set_qform(image.affine, code="scanner")
    image.set_sform(image.affine, code="scanner")
    plain = nib.as_closest_canonical(image).to_bytes()
    write_bytes(path, gzip.compress(plain, mtime=0) if path.suffix == ".gz" else plain)
    return path


def affine(phantom: Phantom) -> NDArray[np.float64]:
    """Affine from a voxel's (slice, row, column) to NIfTI's x, y, z in mm (towards right, front, head)."""
    geometry = phantom_geometry(phantom)
    spacing = np.array(phantom.scan.spacing, dtype=np.float64)
    steps = spacing[0] * geometry.normal, geometry.row_step, geometry.column_step
    matrix = np.eye(4)
    matrix[:3] = np.column_stack([*steps, geometry.positions[0]])
    return np.asarray(np.diag([-1.0, -1.0, 1.0, 1.0]) @ matrix)
