"""The kinds of bad or unusual input: how each is made, and the expected handling."""

import gzip
import os
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image
from pydicom import dcmread
from pydicom.fileset import FileSet

from dicom_faults import FAULTS, write_faulty_dicom
from groundglass.phantom import Lesion, Phantom, make_phantom
from groundglass.phantom.dicom import write_phantom_dicom
from groundglass.phantom.volumes import write_phantom_nifti
from phantom_nifti import write_nifti

ALL, SOME, NONE = 0, 3, 1
"""Exit codes: everything was read, some of it failed, nothing could be used."""


@dataclass(frozen=True)
class Expected:
    """The expected result of a kind of input.

    ``slices`` are those of each volume that can be read, ``damaged`` how many of them give an error; ``says``
    is a part of the message, "" if there is none.
    """

    slices: tuple[int, ...]
    says: str
    code: int
    damaged: int = 0


@cache
def phantom(tall: bool = False) -> Phantom:
    """Twelve slices; or a volume that is large enough to be cut along any axis."""
    if tall:
        return make_phantom(7, shape=(34, 40, 40))
    return make_phantom(7, shape=(12, 64, 64), spacing=(5.0, 5.6, 5.6), lesions=[Lesion("ground glass", 20)])


def faulty(fault: str, folder: Path) -> Path:
    write_faulty_dicom(phantom(fault in ("coronal", "sagittal")), folder, fault)
    return folder


def empty_folder(folder: Path) -> Path:
    return folder


def missing_path(folder: Path) -> Path:
    return folder / "nowhere"


def zipped(folder: Path) -> Path:
    path = folder / "scan.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in write_phantom_dicom(phantom(), folder / "series"):
            archive.write(file, f"series/{file.name}")
            file.unlink()
    (folder / "series").rmdir()
    return path


def encrypted_zip(folder: Path) -> Path:
    path = zipped(folder)
    content = bytearray(path.read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.find(mark)
        while at >= 0:
            content[at + flags] |= 1
            at = content.find(mark, at + 4)
    path.write_bytes(content)
    return path


def cut(path: Path, share: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def truncated_zip(folder: Path) -> Path:
    return cut(zipped(folder), 0.7)


def corrupt_zip(folder: Path) -> Path:
    """The bytes of its fourth file differ from those that were packed."""
    path = zipped(folder)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        entry = archive.infolist()[3]
    start = entry.header_offset + 30 + len(entry.filename)
    middle = start + entry.compress_size // 2
    content[middle : middle + 400] = bytes(400)
    path.write_bytes(content)
    return path


def zip_without_scans(folder: Path) -> Path:
    path = folder / "notes.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "nothing to see")
    return path


def dicomdir_without_files(folder: Path) -> Path:
    files = FileSet()
    for path in write_phantom_dicom(phantom(), folder / "series"):
        files.add(path)
    files.write(folder / "disc")
    for path in (folder / "disc").rglob("*"):
        if path.is_file() and path.name != "DICOMDIR":
            path.unlink()
    return folder / "disc" / "DICOMDIR"


def dicomdir_renamed(folder: Path) -> Path:
    """A directory file with the name that some vendors use, next to its files."""
    files = FileSet()
    for path in write_phantom_dicom(phantom(), folder / "series"):
        files.add(path)
    files.write(folder / "disc")
    shutil.rmtree(folder / "series")
    return (folder / "disc" / "DICOMDIR").rename(folder / "disc" / "DIRFILE")


def disc_with_dirfile(folder: Path) -> Path:
    return dicomdir_renamed(folder).parent


def linked_folder(folder: Path) -> Path:
    write_phantom_dicom(phantom(), folder / "store" / "series")
    (folder / "cohort").mkdir()
    (folder / "cohort" / "patient").symlink_to(folder / "store", target_is_directory=True)
    (folder / "store" / "loop").symlink_to(folder / "cohort", target_is_directory=True)
    return folder / "cohort"


def broken_link(folder: Path) -> Path:
    write_phantom_dicom(phantom(), folder)
    (folder / "slice.dcm").symlink_to(folder / "nowhere.dcm")
    return folder


def picture_named_dcm(folder: Path) -> Path:
    Image.fromarray(np.arange(4096, dtype=np.uint8).reshape(64, 64)).save(folder / "slice.png")
    (folder / "slice.png").rename(folder / "slice.dcm")
    return folder


def truncated_nifti(folder: Path) -> Path:
    return cut(write_phantom_nifti(phantom(), folder / "scan.nii.gz"), 0.6)


def short_nifti(folder: Path) -> Path:
    return cut(write_phantom_nifti(phantom(), folder / "scan.nii"), 0.6)


def nifti_of_text(folder: Path) -> Path:
    (folder / "scan.nii").write_text("These are the notes of the synthetic study.\n" * 20)
    return folder / "scan.nii"


def gzip_of_text(folder: Path) -> Path:
    (folder / "scan.nii.gz").write_bytes(gzip.compress(b"These are the notes of the synthetic study.\n" * 20))
    return folder / "scan.nii.gz"


def nifti_of(change: Callable[[np.ndarray], np.ndarray], folder: Path) -> Path:
    image = nib.load(write_nifti(phantom(), folder / "sound.nii", dtype=np.float32))
    values = change(np.asarray(image.dataobj).copy())
    nib.save(nib.Nifti1Image(values, image.affine), folder / "scan.nii")
    (folder / "sound.nii").unlink()
    return folder / "scan.nii"


def four_volumes(values: np.ndarray) -> np.ndarray:
    return np.stack([values] * 4, axis=-1)


def some_nan(values: np.ndarray) -> np.ndarray:
    values[:5, :5] = np.nan
    return values


def most_nan(values: np.ndarray) -> np.ndarray:
    values[:50] = np.nan
    return values


def one_value(values: np.ndarray) -> np.ndarray:
    return np.full_like(values, 40)


def attenuation(values: np.ndarray) -> np.ndarray:
    """Values per mm, as in nuclear medicine."""
    return (values / 1000 + 1) * np.float32(0.0096) - np.float32(0.02)


def overflowed(values: np.ndarray) -> np.ndarray:
    """Air became the largest value that 16 bits hold."""
    return np.where(values < -950, 32767, values).astype(np.int16)


def unsigned(values: np.ndarray) -> np.ndarray:
    """Negative values without their sign."""
    return np.rint(values).astype(np.int16).view(np.uint16)


def picture_of(change: Callable[[np.ndarray], np.ndarray], folder: Path) -> Path:
    """A 16-bit PNG of the middle slice, whose HU are changed first."""
    Image.fromarray(change(np.rint(phantom().scan.pixels[6])).astype(np.uint16)).save(folder / "slice.png")
    return folder / "slice.png"


def nifti_without_affine(folder: Path) -> Path:
    path = write_phantom_nifti(phantom(), folder / "scan.nii")
    content = bytearray(path.read_bytes())
    content[252:256] = struct.pack("<hh", 0, 0)
    path.write_bytes(content)
    return path


def nifti_under(affine: list[float], folder: Path) -> Path:
    """NIfTI of valid values under a diagonal affine."""
    image = nib.load(write_phantom_nifti(phantom(), folder / "sound.nii"))
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), np.diag(affine)), folder / "scan.nii")
    (folder / "sound.nii").unlink()
    return folder / "scan.nii"


def metaimage(folder: Path) -> Path:
    """A MetaImage of valid values, written by hand."""
    values = np.rint(phantom().scan.pixels).astype("<i2")
    size = " ".join(map(str, values.shape[::-1]))
    head = f"NDims = 3\nDimSize = {size}\nElementSpacing = 2.5 2.5 5\nOffset = 0 0 -300\n"
    head += "TransformMatrix = 1 0 0 0 1 0 0 0 1\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    (folder / "scan.mha").write_bytes(head.encode() + values.tobytes())
    return folder


def analyze(folder: Path) -> Path:
    values = np.rint(phantom().scan.pixels).astype(np.int16)
    nib.save(nib.AnalyzeImage(values.transpose(2, 1, 0)[:, ::-1], None), folder / "scan.img")
    return folder


def hdr_without_img(folder: Path) -> Path:
    analyze(folder)
    (folder / "scan.img").unlink()
    return folder


def numpy_beside(folder: Path) -> Path:
    metaimage(folder)
    np.save(folder / "scan.npy", np.zeros((4, 64, 64)))
    return folder


def nested_zip(folder: Path) -> Path:
    inner = zipped(folder)
    with zipfile.ZipFile(folder / "all.zip", "w") as archive:
        archive.write(inner, "patient/scan.zip")
    inner.unlink()
    return folder / "all.zip"


def packed_slices(folder: Path) -> Path:
    for path in write_phantom_dicom(phantom(), folder):
        path.with_suffix(".dcm.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    return folder


def copied_folder(folder: Path) -> Path:
    write_phantom_dicom(phantom(), folder / "disc")
    shutil.copytree(folder / "disc", folder / "backup")
    return folder


def companions(folder: Path) -> Path:
    """Other files next to scans on discs: a viewer, system thumbnails, a named pipe."""
    write_phantom_dicom(phantom(), folder)
    (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (folder / "viewer.exe").write_bytes(b"MZ")
    os.mkfifo(folder / "pipe.dcm")
    return folder


def concatenation(folder: Path) -> Path:
    """An enhanced CT in two files, as long ones are split."""
    (whole,) = write_phantom_dicom(phantom(), folder, form="enhanced")
    for name, start in (("a", 0), ("b", 6)):
        image = dcmread(whole)
        size = len(image.PixelData) // 12
        image.PerFrameFunctionalGroupsSequence = image.PerFrameFunctionalGroupsSequence[start : start + 6]
        image.PixelData = image.PixelData[start * size : (start + 6) * size]
        image.NumberOfFrames = 6
        image.SOPInstanceUID = f"2.25.{start + 1}"
        image.save_as(folder / f"{name}.dcm")
    whole.unlink()
    return folder


def numpy_order(affine: np.ndarray | None, folder: Path) -> Path:
    """An array of slices, rows and columns, saved without turning its axes."""
    nib.save(nib.Nifti1Image(np.rint(phantom().scan.pixels).astype(np.int16), affine), folder / "scan.nii")
    return folder / "scan.nii"


def empty_nifti(folder: Path) -> Path:
    (folder / "scan.nii.gz").write_bytes(b"")
    return folder / "scan.nii.gz"


def transparent_picture(folder: Path) -> Path:
    """A PNG of HU + 1024 in 16 bits with an alpha channel, which Pillow cuts to 8 bits."""
    values = np.rint(phantom().scan.pixels[6] + 1024).clip(0).astype(np.uint16)
    both = np.stack([values, np.full_like(values, 65535)], axis=-1).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in both)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 64, 64, 16, 4, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    ]  # fmt: skip
    content = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    ]
    (folder / "slice.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(content))
    return folder / "slice.png"


def mask(folder: Path) -> Path:
    return write_nifti(phantom(), folder / "scan.nii", content="lungs", dtype=np.uint8)


def grey_nifti(folder: Path) -> Path:
    return write_nifti(phantom(), folder / "scan.nii", content="grey", dtype=np.uint8)


FILES: dict[str, Callable[[Path], Path]] = {
    "empty-folder": empty_folder,
    "missing-path": missing_path,
    "encrypted-zip": encrypted_zip,
    "truncated-zip": truncated_zip,
    "corrupt-zip": corrupt_zip,
    "zip-without-scans": zip_without_scans,
    "dicomdir-without-files": dicomdir_without_files,
    "dirfile": dicomdir_renamed,
    "disc-with-dirfile": disc_with_dirfile,
    "linked-folder": linked_folder,
    "broken-link": broken_link,
    "picture-named-dcm": picture_named_dcm,
    "picture-hu-32768": partial(picture_of, lambda hu: hu + 32768),
    "picture-hu-1024": partial(picture_of, lambda hu: (hu + 1024).clip(0)),
    "picture-12-bits": partial(picture_of, lambda hu: ((hu + 1350) / 1500).clip(0, 1) * 4095),
    "picture-wrapped": partial(picture_of, unsigned),
    "nifti-truncated-gz": truncated_nifti,
    "nifti-truncated": short_nifti,
    "nifti-of-text": nifti_of_text,
    "nifti-gzip-of-text": gzip_of_text,
    "nifti-4d": partial(nifti_of, four_volumes),
    "nifti-some-nan": partial(nifti_of, some_nan),
    "nifti-most-nan": partial(nifti_of, most_nan),
    "nifti-one-value": partial(nifti_of, one_value),
    "nifti-no-hu": partial(nifti_of, attenuation),
    "nifti-overflowed": partial(nifti_of, overflowed),
    "nifti-wrapped": partial(nifti_of, unsigned),
    "nifti-no-affine": nifti_without_affine,
    "nifti-identity": partial(nifti_under, [1, 1, 1, 1]),
    "nifti-itk-identity": partial(nifti_under, [-1, -1, 1, 1]),
    "nifti-no-origin": partial(nifti_under, [5.6, 5.6, 5, 1]),
    "metaimage": metaimage,
    "analyze": analyze,
    "hdr-without-img": hdr_without_img,
    "numpy-beside": numpy_beside,
    "nested-zip": nested_zip,
    "packed-slices": packed_slices,
    "copied-folder": copied_folder,
    "companions": companions,
    "concatenation": concatenation,
    "nifti-numpy-order": partial(numpy_order, None),
    "nifti-numpy-identity": partial(numpy_order, np.eye(4)),
    "nifti-empty": empty_nifti,
    "picture-16-bit-alpha": transparent_picture,
    "nifti-mask": mask,
    "nifti-grey": grey_nifti,
}
"""Kinds other than faults of a DICOM series; each creates its files in a folder and returns the path to name."""
MAKERS = {**{name: partial(faulty, name) for name in FAULTS}, **FILES}

EXPECTED = {
    "missing-slices": Expected((10,), "2 slices missing, between", ALL),
    "uneven-spacing": Expected(
        (9,), "uneven spacing, 5.00 to 10.00 mm: each slice is weighted by its own extent", ALL
    ),
    "one-position": Expected((), "all 12 slices are at the same position", NONE),
    "one-slice": Expected((1,), "only 1 slice: a chest has more", ALL),
    "gantry-tilt": Expected((12,), "gantry tilt of 15 degrees", ALL),
    "coronal": Expected((), "its slices are coronal", NONE),
    "sagittal": Expected((), "its slices are sagittal", NONE),
    "oblique": Expected((12,), "slightly oblique: 15 degrees off axial", ALL),
    "prone": Expected((12,), "the patient lay face down (prone)", ALL),
    "feet-first": Expected((12,), "the stored slices are mirrored: turned upright", ALL),
    "quarter-turn": Expected((12,), "the stored slices are turned by a quarter", ALL),
    "turned-in-plane": Expected((12,), "rotated in their plane by 15 degrees and are read as they are", ALL),
    "flat": Expected((12,), "", ALL),
    "no-lungs": Expected((12,), "", ALL),
    "same-places": Expected((12,), "2 slices left out: at the position of another slice", ALL),
    "same-images": Expected((12,), "2 slices left out: the same image again", ALL),
    "one-uid": Expected((12,), "share one SOPInstanceUID, or have none", ALL),
    "two-acquisitions": Expected((12, 12), "one of 2 stacks under one series UID", ALL),
    "shared-seam": Expected((12,), "1 slice left out: at the position of another slice", ALL),
    "offset-passes": Expected((12, 12), "one of 2 stacks under one series UID", ALL),
    "later-pass": Expected((12, 12), "one of 2 stacks under one series UID", ALL),
    "alternating-phases": Expected((6, 6), "one of 2 stacks under one series UID", ALL),
    "two-series": Expected((12, 12), "", ALL),
    "two-patients": Expected((12, 12), "", ALL),
    "two-patients-one-series": Expected((6, 6), "only 6 slices", ALL),
    "minimal-header": Expected((12,), "no modality in the header: taken as CT", ALL),
    "no-position": Expected((12,), "no positions: ordered by InstanceNumber", ALL),
    "no-pixel-spacing": Expected((12,), "volumes in ml are unknown", ALL),
    "no-rescale": Expected((12,), "the values look like HU + 1024 and are read as such", ALL),
    "zero-slope": Expected((), "its RescaleSlope is 0", NONE),
    "nan-slope": Expected((), "its RescaleSlope or RescaleIntercept is not a number", NONE),
    "text-intercept": Expected((), "its RescaleSlope or RescaleIntercept is not a number", NONE),
    "infinite-spacing": Expected((12,), "volumes in ml are unknown", ALL),
    "text-position": Expected((11,), "1 slice left out: no position in the header", ALL),
    "zero-spacing": Expected((12,), "volumes in ml are unknown", ALL),
    "mixed-pixel-spacing": Expected((6, 6), "one of 2 stacks under one series UID", ALL),
    "head": Expected((12,), "BodyPartExamined says HEAD, not the chest", ALL),
    "control-characters": Expected((12,), "", ALL),
    "other-script": Expected((12,), "", ALL),
    "absurd-frames": Expected((), "its header claims 2000000000 frames", NONE),
    "mixed-sizes": Expected((6, 6), "one of 2 stacks under one series UID", ALL),
    "wrong-size": Expected((), "every file is cut short within its pixels", NONE),
    "no-pixels": Expected((), "holds no pixels", NONE),
    "eight-bits": Expected((12,), "", ALL),
    "eight-bit-window": Expected((), "its 8-bit values are grey levels of a window", NONE),
    "monochrome1": Expected((12,), "", ALL),
    "header-only": Expected((), "holds the header of a CT image without its pixels", NONE),
    "float-pixels": Expected((), "has floating-point pixels", NONE),
    "wrapped": Expected((), "wrapped around: negative values were stored without their sign", NONE),
    "overflowed": Expected((), "lie above 4000 HU, so they have overflowed", NONE),
    "modality-lut": Expected((12,), "the values look like HU + 1024 and are read as such", ALL),
    "padding-range": Expected((12,), "", ALL),
    "overlay-bits": Expected((12,), "", ALL),
    "localizer-in-series": Expected((12,), "is a localizer (scout)", ALL),
    "localizer-alone": Expected((), "is a localizer (scout)", NONE),
    "secondary-capture": Expected((), "not CT", NONE),
    "mr": Expected((), "holds magnetic resonance images (modality MR), not CT", NONE),
    "pet": Expected((), "holds PET images (modality PT), not CT", NONE),
    "radiograph": Expected((), "holds a computed radiograph (modality CR), not CT", NONE),
    "report": Expected((), "holds a structured report (modality SR), not CT", NONE),
    "segmentation": Expected((), "holds a segmentation (modality SEG), not CT", NONE),
    "truncated-pixels": Expected((11,), "1 slice left out: cut short within the pixels", SOME),
    "all-truncated": Expected((), "every file is cut short within its pixels", NONE),
    "truncated-header": Expected((11,), "its DICOM header is cut short or damaged", SOME),
    "empty-file": Expected((11,), "the file is empty", SOME),
    "text-file": Expected((11,), "is not a DICOM file, although its name says so", SOME),
    "all-text": Expected((), "is not a DICOM file, although its name says so", NONE),
    "no-preamble": Expected((12,), "", ALL),
    "no-meta": Expected((12,), "", ALL),
    "no-meta-big-endian": Expected((12,), "", ALL),
    "called-implicit": Expected((12,), "", ALL),
    "called-explicit": Expected((12,), "", ALL),
    "called-big-endian": Expected((12,), "", ALL),
    "unknown-syntax": Expected((), "its transfer syntax cannot be read", NONE),
    "wrong-syntax": Expected((), "its pixels are not stored as its transfer syntax says", NONE),
    "corrupt-jpeg": Expected((12,), "its pixels are damaged", SOME, damaged=1),
    "corrupt-jpeg-ls": Expected((12,), "its pixels are damaged", SOME, damaged=1),
    "corrupt-jpeg-2000": Expected((12,), "", ALL),
    "corrupt-rle": Expected((12,), "its pixels are damaged", SOME, damaged=1),
    "empty-folder": Expected((), "there is no DICOM, NIfTI or picture", NONE),
    "missing-path": Expected((), "there is no such file or folder", NONE),
    "encrypted-zip": Expected((), "is encrypted; unpack it with its password", NONE),
    "truncated-zip": Expected((), "is not a ZIP file, or is damaged", NONE),
    "corrupt-zip": Expected((11,), "the ZIP is damaged", SOME),
    "zip-without-scans": Expected((), "the ZIP holds no DICOM", NONE),
    "dicomdir-without-files": Expected((), "lists 12 files not found on the disc", NONE),
    "dirfile": Expected((12,), "", ALL),
    "disc-with-dirfile": Expected((12,), "", ALL),
    "linked-folder": Expected((12,), "", ALL),
    "broken-link": Expected((12,), "is a link to a file that does not exist", SOME),
    "picture-named-dcm": Expected((), "is not a DICOM file, although its name says so", NONE),
    "picture-hu-32768": Expected((1,), "its values look like HU + 32768, so 32768 was subtracted", ALL),
    "picture-hu-1024": Expected((1,), "its values look like HU + 1024, so 1024 was subtracted", ALL),
    "picture-12-bits": Expected((), "are neither Hounsfield units of a chest nor grey", NONE),
    "picture-wrapped": Expected((), "wrapped around: negative values were stored without their sign", NONE),
    "nifti-truncated-gz": Expected((), "the file is truncated or damaged: get a new copy", NONE),
    "nifti-truncated": Expected((), "holds fewer voxels than its header says", NONE),
    "nifti-of-text": Expected((), "is not a NIfTI file", NONE),
    "nifti-gzip-of-text": Expected((), "is not a NIfTI file", NONE),
    "nifti-4d": Expected((), "holds 4 volumes", NONE),
    "nifti-some-nan": Expected((12,), "300 voxels without a number, read as air", ALL),
    "nifti-most-nan": Expected((), "most of its voxels hold no number", NONE),
    "nifti-one-value": Expected((), "every voxel has the same value", NONE),
    "nifti-no-hu": Expected((), "neither Hounsfield units of a chest nor grey", NONE),
    "nifti-overflowed": Expected((), "lie above 4000 HU, so they have overflowed", NONE),
    "nifti-wrapped": Expected((), "wrapped around: negative values were stored without their sign", NONE),
    "nifti-no-affine": Expected((12,), "it does not say which way its axes point", ALL),
    "nifti-identity": Expected((12,), "its affine is the identity", ALL),
    "nifti-itk-identity": Expected((12,), "its affine is the identity", ALL),
    "nifti-no-origin": Expected((12,), "its affine has no origin", ALL),
    "metaimage": Expected((12,), "", ALL),
    "analyze": Expected((12,), "it does not say which way its axes point", ALL),
    "hdr-without-img": Expected((), "its voxels, scan.img, are not beside it", NONE),
    "numpy-beside": Expected((12,), "files that end in .npy are not read", SOME),
    "nested-zip": Expected((), "is a ZIP within a ZIP", NONE),
    "packed-slices": Expected((), "files that end in .dcm.gz are not read", NONE),
    "copied-folder": Expected((12,), "12 slices left out: the same image again", ALL),
    "companions": Expected((12,), "", ALL),
    "concatenation": Expected((12,), "", ALL),
    "nifti-numpy-order": Expected((12,), "its first axis was read as the slices", ALL),
    "nifti-numpy-identity": Expected((12,), "its first axis was read as the slices", ALL),
    "nifti-empty": Expected((), "the file is empty", NONE),
    "picture-16-bit-alpha": Expected((), "uses less than an eighth of their range", NONE),
    "zeroed-position": Expected((12,), "no usable positions: ordered by SliceLocation", ALL),
    "table-shift": Expected((12,), "the slices are shifted irregularly within their plane", ALL),
    "changing-intercept": Expected((12,), "", ALL),
    "trailing-bytes": Expected((12,), "", ALL),
    "nifti-mask": Expected((), "looks like a mask, not a CT", NONE),
    "nifti-grey": Expected((12,), "holds grey from 0 to 255, not Hounsfield units", ALL),
}
