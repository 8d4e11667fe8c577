"""Small NIfTI files for tests of the reader, valid ones and ones with a changed header."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from groundglass.errors import ScanError
from groundglass.scan.nifti import nifti_series
from groundglass.scan.volume import Volume

SHAPE = (33, 40, 36)
SPACING = (2.5, 0.9, 0.7)


def chest() -> NDArray[np.int16]:
    """Noisy air with an asymmetric body, unlike any mirror image of itself; HU, shape SHAPE, SPL."""
    rng = np.random.default_rng(5)
    hu = rng.normal(-1000, 8, SHAPE)
    body = hu[:, 6:37, 4:34]
    body += 1040
    hu[4:20, 12:22, 6:14] -= 850
    hu[10:30, 26:30, 20:28] += 700
    return np.clip(np.rint(hu), -1024, 3000).astype(np.int16)


HU = chest()


def spl_affine(tilt: float = 0.0) -> NDArray[np.float64]:
    """RAS mm of (slice, row, column), turned by ``tilt`` degrees about the left-right axis."""
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, -1], [0, -1, 0], [1, 0, 0]]) * SPACING
    angle = np.radians(tilt)
    turn = [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
    affine[:3, :3] = np.array(turn) @ affine[:3, :3]
    affine[:3, 3] = (101.5, 142.25, -310.0)
    return affine


def image(codes: Any = "LPS", values: NDArray[Any] = HU, tilt: float = 0.0) -> Any:
    """A NIfTI of ``values``, SPL, stored in the orientation ``codes``."""
    spl = nib.Nifti1Image(values, spl_affine(tilt))
    change = nib.orientations.ornt_transform(
        nib.io_orientation(spl.affine), nib.orientations.axcodes2ornt(tuple(codes))
    )
    made = spl.as_reoriented(change)
    made.set_sform(made.affine, 1)
    made.set_qform(made.affine, 1)
    return made


def load(path: Path) -> Volume:
    return nifti_series(path).load()


def pixels(volume: Volume) -> NDArray[np.float32]:
    return np.stack([volume.read(number) for number in range(volume.shape[0])])


def saved(made: Any, path: Path) -> Path:
    nib.save(made, path)
    return path


def edited(path: Path, **fields: Any) -> Path:
    """Change fields of the header of an uncompressed NIfTI-1 in place; ``dim__4=2`` sets one element."""
    content = bytearray(path.read_bytes())
    header = nib.Nifti1Header(bytes(content[:348]), check=False)
    for name, value in fields.items():
        field, _, index = name.partition("__")
        if index:
            header[field][int(index)] = value
        else:
            header[field] = value
    path.write_bytes(header.binaryblock + content[348:])
    return path


def refusal(path: Path) -> str:
    """The message when the file is refused, by the listing or by ``load``."""
    with pytest.raises(ScanError) as caught:
        load(path)
    assert caught.value.remedy
    return str(caught.value)
