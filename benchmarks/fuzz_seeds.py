"""Valid files of every kind that Groundglass reads, made from a phantom, for fuzz_readers.py to damage."""

import gzip
import io
import tempfile
import warnings
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from PIL import Image
from pydicom import dcmread
from pydicom.fileset import FileSet

from groundglass.phantom import Phantom, make_phantom
from groundglass.phantom.dicom import write_phantom_dicom
from groundglass.phantom.dicom_syntax import SYNTAXES
from groundglass.phantom.volumes import write_phantom_nifti
from groundglass.scan.scan import LUNG_WINDOW, apply_window

Files = dict[str, bytes]
SHAPE = (4, 48, 48)
PICTURES = {
    "png": {"format": "PNG"},
    "jpeg": {"format": "JPEG"},
    "tiff": {"format": "TIFF"},
    "tiff-lzw": {"format": "TIFF", "compression": "tiff_lzw"},
    "tiff-deflate": {"format": "TIFF", "compression": "tiff_adobe_deflate"},
    "webp": {"format": "WEBP"},
    "bmp": {"format": "BMP"},
}


@dataclass(frozen=True)
class Seed:
    """Valid input.

    Attributes
    ----------
    name
        What it is.
    reader
        ``dicom``, ``nifti``, ``zip`` or ``picture``.
    files
        Content by name, before any packing.
    packing
        How the files are packed after damage: "", ``gzip`` or ``zip``.
    """

    name: str
    reader: str
    files: Files
    packing: str = ""


def packed(files: Files, packing: str) -> Files:
    """The files as stored on disk."""
    if packing == "gzip":
        return {f"{name}.gz": gzip.compress(content, 1, mtime=0) for name, content in files.items()}
    if packing == "zip":
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(zipfile.ZipInfo(name), content)
        return {"scan.zip": out.getvalue()}
    return files


def make_seeds() -> list[Seed]:
    """All seeds, identical on each call."""
    phantom = make_phantom(0, shape=SHAPE)
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dicom = _dicom(phantom, Path(name))
        nifti = _nifti(phantom, Path(name))
    loose = [replace(seed, packing="gzip", name=f"{seed.name} gz") for seed in nifti]
    zipped = [
        Seed(f"zip of {seed.name}", "zip", seed.files, "zip") for seed in (dicom[0], dicom[-1], nifti[0])
    ]
    return [*dicom, *nifti, *loose, *zipped, *_raw_volumes(phantom), *_pictures(phantom)]


def _read(folder: Path) -> Files:
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def _dicom(phantom: Phantom, root: Path) -> list[Seed]:
    seeds = []
    for syntax in SYNTAXES:
        write_phantom_dicom(phantom, root / syntax, syntax=syntax)
        seeds.append(Seed(f"dicom {syntax}", "dicom", _read(root / syntax)))
    for form in ("enhanced", "legacy-enhanced"):
        for syntax in ("explicit-little", "jpeg-ls", "rle"):
            folder = root / f"{form}-{syntax}"
            write_phantom_dicom(phantom, folder, form=form, syntax=syntax)
            seeds.append(Seed(f"dicom {form} {syntax}", "dicom", _read(folder)))
    catalogue = FileSet()
    for path in sorted((root / "explicit-little").iterdir()):
        catalogue.add(dcmread(path))
    catalogue.write(root / "dicomdir")
    seeds.append(Seed("dicomdir", "dicom", _read(root / "dicomdir")))
    return seeds


def _nifti(phantom: Phantom, root: Path) -> list[Seed]:
    sound = nib.load(write_phantom_nifti(phantom, root / "ct.nii"))
    hu = np.asarray(sound.dataobj)
    scaled = nib.Nifti1Image(((hu + 1024) / 0.5).astype(np.uint16), sound.affine)
    scaled.header.set_slope_inter(0.5, -1024.0)
    turn = ornt_transform(io_orientation(sound.affine), axcodes2ornt("PIR"))
    kinds = {
        "int16": sound,
        "uint8 grey": nib.Nifti1Image(
            np.rint(apply_window(hu, *LUNG_WINDOW) * 255).astype(np.uint8), sound.affine
        ),
        "float32": nib.Nifti1Image(hu.astype(np.float32), sound.affine),
        "float64 PIR": nib.Nifti1Image(hu.astype(np.float64), sound.affine).as_reoriented(turn),
        "scaled": scaled,
    }
    return [Seed(f"nifti {name}", "nifti", {"ct.nii": image.to_bytes()}) for name, image in kinds.items()]


def _raw_volumes(phantom: Phantom) -> list[Seed]:
    """MetaImage, NRRD and Analyze, plain and compressed, in one file and in two."""
    values = np.rint(phantom.scan.pixels).astype("<i2")
    size = " ".join(map(str, SHAPE[::-1]))
    meta = f"NDims = 3\nDimSize = {size}\nElementSpacing = 2 2 5\nOffset = 1 2 3\nElementType = MET_SHORT\n"
    meta += "TransformMatrix = 1 0 0 0 1 0 0 0 1\n"
    nrrd = f"NRRD0004\ntype: short\ndimension: 3\nsizes: {size}\nspace: left-posterior-superior\nendian: little\n"
    nrrd += "space directions: (2,0,0) (0,2,0) (0,0,5)\nspace origin: (1,2,3)\n"
    data = values.tobytes()
    analyze = nib.AnalyzeImage(values.transpose(2, 1, 0), None)
    pair = {ending: io.BytesIO() for ending in ("header", "image")}
    analyze.to_file_map({name: nib.FileHolder(fileobj=file) for name, file in pair.items()})
    files = {
        "mha": {"ct.mha": f"{meta}ElementDataFile = LOCAL\n".encode() + data},
        "mha packed": {
            "ct.mha": f"{meta}CompressedData = True\nElementDataFile = LOCAL\n".encode() + zlib.compress(data)
        },
        "mhd": {"ct.mhd": f"{meta}ElementDataFile = ct.raw\n".encode(), "ct.raw": data},
        "nrrd": {"ct.nrrd": f"{nrrd}encoding: raw\n\n".encode() + data},
        "nrrd packed": {"ct.nrrd": f"{nrrd}encoding: gzip\n\n".encode() + gzip.compress(data, mtime=0)},
        "analyze": {"ct.hdr": pair["header"].getvalue(), "ct.img": pair["image"].getvalue()},
    }
    return [Seed(name, "nifti", content) for name, content in files.items()]


def _pictures(phantom: Phantom) -> list[Seed]:
    grey = np.rint(apply_window(phantom.scan.pixels[2], *LUNG_WINDOW) * 255).astype(np.uint8)
    images = {"L": Image.fromarray(grey)}
    images["RGBA"] = images["L"].convert("RGBA")
    images["P"] = images["L"].convert("P")
    images["I;16"] = Image.fromarray(grey.astype(np.uint16) * 257)
    images["HU"] = Image.fromarray(np.rint(phantom.scan.pixels[2] + 32768).astype(np.uint16))
    seeds = []
    for ending, options in PICTURES.items():
        for mode, image in images.items():
            if mode != "L" and ending not in ("png", "tiff", "tiff-lzw"):
                continue
            out = io.BytesIO()
            image.save(out, **options)  # type: ignore[arg-type]
            suffix = ending.partition("-")[0]
            seeds.append(Seed(f"picture {ending} {mode}", "picture", {f"slice.{suffix}": out.getvalue()}))
    return seeds
