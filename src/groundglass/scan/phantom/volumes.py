"""Sets of phantoms as volumes: DICOM series or NIfTI files, with their exact masks and volumes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from groundglass.errors import GroundglassError
from groundglass.files import write_json
from groundglass.scan.phantom.dicom import Form, write_phantom_dicom
from groundglass.scan.phantom.nifti import write_phantom_nifti
from groundglass.scan.phantom.phantom import Phantom
from groundglass.scan.phantom.placing import SIDE_LABELS
from groundglass.scan.phantom.write import phantoms
from groundglass.scan.results import mark_results

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
    fault: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Write phantoms of seeds ``seed``, ``seed + 1``, ... as volumes.

    ``scans/NAME/`` holds a DICOM series, or ``scans/NAME.nii.gz`` the volume; ``truth/NAME_lungs.nii.gz`` (1 right,
    2 left) and ``truth/NAME_lesions.nii.gz`` its exact masks, and ``truth/NAME.json`` its volumes in ml.

    Parameters
    ----------
    folder
        Where to.
    count
        How many phantoms.
    disease
        ``"covid"``, ``"other"``, ``"none"``, or ``"mixed"`` for these three in turn.
    shape
        (slices, height, width) of each volume, over which a whole chest is spread.
    form
        ``nifti``, or a form of groundglass.scan.phantom.dicom.write_phantom_dicom.
    syntax, fault
        As there; of DICOM alone.
    progress
        Called after each phantom with the number done and ``count``.

    Returns
    -------
    The series' folders, or the files.

    Raises
    ------
    GroundglassError
        If an argument is out of range or a file cannot be written.
    """
    if form == NIFTI and fault is not None:
        raise GroundglassError("faults are of DICOM: leave out the fault, or take another form than nifti")
    written = []
    for this, phantom in phantoms(count, disease, seed, shape):
        name = phantom.scan.scan_id
        if form == NIFTI:
            written.append(write_phantom_nifti(phantom, folder / "scans" / f"{name}.nii.gz"))
        else:
            series = folder / "scans" / name
            write_phantom_dicom(phantom, series, form=form, syntax=syntax, fault=fault)  # type: ignore[arg-type]
            written.append(series)
        _write_truth(phantom, folder / "truth", name, this)
        if progress is not None:
            progress(len(written), count)
    mark_results(folder / "truth")
    return written


def _write_truth(phantom: Phantom, folder: Path, name: str, disease: str) -> None:
    for content in ("lungs", "lesions"):
        write_phantom_nifti(phantom, folder / f"{name}_{content}.nii.gz", content=content)
    write_json(folder / f"{name}.json", {"disease": disease, "seed": phantom.seed, **_volumes(phantom)})


def _volumes(phantom: Phantom) -> dict[str, Any]:
    lesions = phantom.lesions > 0
    sides = {name: phantom.lungs == label for name, label in SIDE_LABELS.items()}
    return {
        "lung_ml": {name: int(np.count_nonzero(lung)) * phantom.voxel_ml for name, lung in sides.items()},
        "lesion_ml": {
            name: int(np.count_nonzero(lung & lesions)) * phantom.voxel_ml for name, lung in sides.items()
        },
        "spacing_mm": phantom.scan.spacing,
    }
