"""Convert datasets from their published form to the form that Groundglass reads."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from groundglass.data.layouts import pictures
from groundglass.data.registry import find
from groundglass.errors import GroundglassError
from groundglass.files import write_text
from groundglass.scan.nifti import nifti_series
from groundglass.scan.scan import LUNG_WINDOW, apply_window

Turn = Literal["none", "left", "right", "transpose"]
Mask = NDArray[np.uint8]

GROUND_GLASS, CONSOLIDATION = 127, 254
"""Values in a mask of lesion types."""
INF_NET = {38: GROUND_GLASS, 75: CONSOLIDATION, 127: GROUND_GLASS, 254: CONSOLIDATION}
"""Grey values of Inf-Net's masks (red for ground glass, green for consolidation) and of copies of them."""
RADIOPAEDIA_LESIONS = (1, 2)
"""Ground glass and consolidation in the volumes' masks; other values, such as 3, are not lesions."""
IQ_OTHNCCD_FOLDERS = {"normal": "normal", "benign": "bengin", "malignant": "malignant"}
TURNS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "none": lambda pixels: pixels,
    "left": np.rot90,
    "right": lambda pixels: np.rot90(pixels, -1),
    "transpose": lambda pixels: pixels.T,
}


def convert(name: str, published: Path, folder: Path, *, turn: Turn = "none") -> int:
    """Convert a published, unpacked dataset to the form that Groundglass reads.

    - ``medseg``: Inf-Net's MultiClassInfection-Train and MultiClassInfection-Test, each with the folders Imgs and
      GT. Masks become 0, 127 (ground glass) and 254 (consolidation).
    - ``radiopaedia-volumes``: rp_im, rp_lung_msk and rp_msk, each with 1.nii.gz to 9.nii.gz. Slices are
      written upright in the lung window, from the feet upwards.
    - ``iq-othnccd``: Normal cases, Bengin cases and Malignant cases. Files are copied unchanged.
    - ``emphysema-slices``: one folder for each class, upper or lower case. Files are copied unchanged.

    Parameters
    ----------
    name
        The dataset.
    published
        The folder with the unpacked files.
    folder
        Where to write; it must not exist yet, and appears only once it is complete.
    turn
        How to turn the slices of medseg upright, with the patient's back at the bottom: a quarter turn to the left
        or right, or rows and columns swapped.

    Returns
    -------
    The number of slices.

    Raises
    ------
    GroundglassError
        If there is no converter for the dataset, ``folder`` exists, or a file or folder is missing or unreadable.
    """
    find(name)
    if name not in CONVERTERS:
        raise GroundglassError(f"{name}: no converter for this dataset; there are {', '.join(CONVERTERS)}")
    if folder.exists():
        raise GroundglassError(f"{folder}: already exists; remove it to convert {name} again")
    staging = folder.with_name(f".{folder.name}.converting")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        count = CONVERTERS[name](_Job(published, staging, turn))
        staging.replace(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return count


@dataclass(frozen=True)
class _Job:
    """One conversion: source and target folders, and how pictures are turned."""

    published: Path
    folder: Path
    turn: Turn

    def find(self, name: str) -> Path:
        """The subfolder of the published folder with this in its name, ignoring case."""
        folders = sorted(path for path in self.published.rglob("*") if path.is_dir())
        found = [path for path in folders if name.lower() in path.name.lower()]
        if not found:
            raise GroundglassError(f"{self.published}: has no folder {name}; unpack the dataset here")
        return found[0]

    def save(self, sub: str, stem: str, pixels: NDArray[np.uint8]) -> None:
        path = self.folder / sub / f"{stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(pixels)).save(path)

    def table(self, rows: list[dict[str, Any]]) -> int:
        if not rows:
            raise GroundglassError(f"{self.published}: holds no slices; unpack the dataset here")
        write_text(self.folder / "slices.csv", pd.DataFrame(rows).to_csv(index=False))
        return len(rows)


def _medseg(job: _Job) -> int:
    rows = []
    for part in ("train", "test"):
        half = job.find(f"MultiClassInfection-{part}")
        truth = {file.stem: file for file in pictures(half / "GT")}
        for file in pictures(half / "Imgs"):
            if file.stem not in truth:
                raise GroundglassError(f"{file}: has no mask in {half / 'GT'}; unpack the dataset again")
            grey, marked = TURNS[job.turn](_grey(file)), TURNS[job.turn](_grey(truth[file.stem]))
            if grey.shape != marked.shape:
                raise GroundglassError(f"{truth[file.stem]}: differs in size from its slice")
            types = _recoded(truth[file.stem], marked)
            stem = f"{part}-{file.stem}"
            job.save("ct", stem, grey)
            job.save("lesions", stem, types)
            shares = {"ground_glass": GROUND_GLASS, "consolidation": CONSOLIDATION}
            rows.append(
                {"file": stem, "split": part}
                | {kind: round(float((types == value).mean()), 4) for kind, value in shares.items()}
            )
    return job.table(rows)


def _recoded(path: Path, marked: Mask) -> Mask:
    unknown = set(np.unique(marked).tolist()) - {0, *INF_NET}
    if unknown:
        raise GroundglassError(
            f"{path}: its values {sorted(unknown)[:3]} are neither ground glass nor consolidation; "
            "the masks have greys of 38 and 75, or 127 and 254"
        )
    table = np.zeros(256, dtype=np.uint8)
    table[list(INF_NET)] = list(INF_NET.values())
    return table[marked]


def _grey(path: Path) -> Mask:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("L"))
    except Exception as error:  # Pillow's decoders raise almost any exception on damaged bytes
        raise GroundglassError(f"{path}: cannot be read ({error}); download it again") from error


def _radiopaedia(job: _Job) -> int:
    rows = []
    for path in sorted(job.find("rp_im").glob("*.nii*")):
        number = path.name.split(".")[0]
        volume = nifti_series(path).load()
        lungs = _mask_beside(job.find("rp_lung_msk"), path) > 0
        lesions = np.isin(_mask_beside(job.find("rp_msk"), path), RADIOPAEDIA_LESIONS)
        grid = volume.grid
        if grid is None or lungs.shape != grid.stored(np.zeros(volume.shape, np.uint8)).shape:
            raise GroundglassError(f"{path}: its masks differ in size from the volume")
        masks = {"lungs": grid.upright(lungs), "lesions": grid.upright(lesions)}
        for index, scan in enumerate(volume.slices()):
            if isinstance(scan, Exception):
                raise scan
            stem = f"{number}_{index + 1:03d}"
            grey = apply_window(scan.pixels, *LUNG_WINDOW) if scan.is_hu else scan.pixels
            job.save("ct", stem, np.rint(grey * 255).astype(np.uint8))
            for kind, mask in masks.items():
                job.save(kind, stem, mask[index].astype(np.uint8) * np.uint8(255))
            areas = {f"{kind[:-1]}_area": round(float(mask[index].mean()), 4) for kind, mask in masks.items()}
            rows.append({"file": stem, "volume": number, "slice": index + 1, **areas})
    return job.table(rows)


def _mask_beside(folder: Path, scan: Path) -> NDArray[Any]:
    for path in (folder / scan.name, *sorted(folder.glob(f"{scan.name.split('.')[0]}.nii*"))):
        if path.is_file():
            try:
                return np.asarray(nib.nifti1.load(path).dataobj)
            except Exception as error:  # nibabel and gzip raise many exceptions
                raise GroundglassError(f"{path}: cannot be read ({error}); download it again") from error
    raise GroundglassError(f"{folder}: has no mask for {scan.name}; unpack the dataset again")


def _iq_othnccd(job: _Job) -> int:
    return sum(_copied(job, job.find(part), label) for label, part in IQ_OTHNCCD_FOLDERS.items())


def _emphysema(job: _Job) -> int:
    return sum(_copied(job, job.find(label), label) for label in find("emphysema-slices").classes)


def _copied(job: _Job, source: Path, label: str) -> int:
    target = job.folder / label
    target.mkdir(parents=True)
    files = pictures(source)
    for file in files:
        shutil.copyfile(file, target / file.name)
    return len(files)


CONVERTERS: dict[str, Callable[[_Job], int]] = {
    "medseg": _medseg,
    "radiopaedia-volumes": _radiopaedia,
    "iq-othnccd": _iq_othnccd,
    "emphysema-slices": _emphysema,
}
