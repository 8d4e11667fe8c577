"""Read one scan from a file or folder, an array, or another library's image."""

import io
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from groundglass.errors import ScanError
from groundglass.scan.find import by_name, find_series
from groundglass.scan.image import MIN_SIDE, read_image
from groundglass.scan.members import found
from groundglass.scan.scan import Scan
from groundglass.scan.studies import find_studies
from groundglass.scan.units import AIR_HU, judge_values
from groundglass.scan.volume import Geometry, Listing, Member, Series, Volume, spacing_warnings

if TYPE_CHECKING:
    from nibabel.spatialimages import SpatialImage
    from pydicom import Dataset


class SimpleItkImage(Protocol):
    """The part of ``SimpleITK.Image`` that is used."""

    def GetSpacing(self) -> tuple[float, ...]: ...  # noqa: N802, D102
    def GetOrigin(self) -> tuple[float, ...]: ...  # noqa: N802, D102
    def GetDirection(self) -> tuple[float, ...]: ...  # noqa: N802, D102


ScanLike: TypeAlias = (
    "Scan | Volume | str | os.PathLike[str] | NDArray[Any] | SpatialImage | Dataset | Sequence[Dataset] "
    "| SimpleItkImage"
)
"""Everything that :func:`read` accepts."""
ARRAY = Path("array")
"""Name of an array in messages."""


def read(source: ScanLike, *, spacing: Sequence[float] | None = None) -> Scan | Volume:
    """Read one scan: a slice as a Scan, several slices as a Volume.

    Parameters
    ----------
    source
        One of these:

        - a path: a picture (PNG, JPEG, WebP, TIFF, BMP), a DICOM file of one frame or more, a NIfTI file, a ZIP or
          DICOMDIR, or a folder that holds one study. If a study has several series, the one with the best
          coverage of the chest and the finest slices is read, as in ``groundglass predict``.
        - a NumPy array, shape (height, width) or (slices, height, width): slices from the feet to the head, rows
          from front to back, columns from the patient's right to the left. Its values are read as Hounsfield
          units if they look like a chest in HU (at least 1% of them from -1100 to -500, the largest above 0),
          or in HU with a common offset such as 1024, which is then subtracted; and as grey if all lie in [0,
          1] or [0, 255]. Anything else is refused. Assumptions are listed in ``warnings``; see
          groundglass.scan.units.
        - an image of nibabel or SimpleITK in HU or grey, which states its own geometry.
        - a pydicom Dataset with pixels, or a sequence of datasets from one study.
        - a Scan or Volume, which is returned unchanged; a Scan of several slices becomes a Volume.
    spacing
        Only for arrays: distance between neighbouring samples along each axis, in mm. Without it, volumes in
        ml are unknown.

    Raises
    ------
    ScanError
        If the source cannot be read, or holds several studies or pictures; the message names the remedy.
    GroundglassError
        If the path does not exist.
    TypeError
        If the source is of another type, or ``spacing`` is given for something other than an array.
    """
    if isinstance(source, np.ndarray):
        return _read_array(source, spacing)
    if spacing is not None:
        raise TypeError("spacing is only for arrays: any other scan states its own")
    if isinstance(source, Scan):
        return _volume_of_scan(source) if source.is_volume else source
    if isinstance(source, Volume):
        return source
    if isinstance(source, (str, os.PathLike)):
        chosen = _chosen(Path(source))
        return chosen if isinstance(chosen, Scan) else _opened(chosen)
    return _read_image_of_library(source)


def read_scan(path: Path | str) -> Scan:
    """Read one slice: a picture, or a DICOM or NIfTI file with a single slice in Hounsfield units.

    Raises
    ------
    ScanError
        If the file cannot be read as a slice; the message names the file and the remedy.
    """
    chosen = _chosen(Path(path))
    if isinstance(chosen, Scan):
        return chosen
    if chosen.slices != 1:
        raise ScanError(
            path, f"holds {chosen.slices} slices", f"read it as a volume: groundglass predict {path}"
        )
    return slice_of(chosen)


def slice_of(series: Series) -> Scan:
    """The slice of a single-slice series; errors as in ``Series.load``."""
    volume = series.load()
    return replace(volume.slice(0), warnings=volume.warnings)


def _chosen(path: Path) -> Scan | Series:
    """The picture that a path names, or the one series to read."""
    if by_name(path.name) == "picture" and not path.is_dir():
        return read_image(path)
    return _only(find_series([path]), path)


def _only(listing: Listing, path: Path) -> Scan | Series:
    """The one picture or the one study of a listing; ``path`` names it in messages."""
    studies = find_studies(listing, b"")
    usable = [study for study in studies if study.series is not None]
    count = len(usable) + len(listing.pictures)
    if count > 1:
        studies_or_pictures = " and ".join(
            f"{len(of_kind)} {name}"
            for name, of_kind in (("studies", usable), ("pictures", listing.pictures))
            if of_kind
        )
        raise ScanError(
            path,
            f"holds {studies_or_pictures}, and only one is read at a time",
            "name the file or folder of one, load one of  groundglass.find_series(path).series,  or get an answer "
            f"for each with  groundglass predict {path}",
        )
    if not count:
        raise listing.failures[0] if listing.failures else studies[0].error()
    if not usable:
        return read_image(listing.pictures[0])
    series = usable[0].series
    assert series is not None
    notes = [f"not read: {error}" for error in listing.failures]
    left = len(listing.series) - 1
    if left:
        notes.append(
            f"this series covers the chest more completely or in finer slices than {left} other series, which "
            "were not read"
        )
    return replace(series, warnings=(*series.warnings, *notes))


def _opened(series: Series) -> Scan | Volume:
    """The volume of a series with all warnings, or the slice of a single-slice series."""
    if series.slices == 1:
        return slice_of(series)
    volume = series.load()
    more = [warning for warning in series.warnings if warning not in volume.warnings]
    return replace(volume, warnings=(*volume.warnings, *more))


def _volume_of_scan(scan: Scan) -> Volume:
    slices, height, width = scan.pixels.shape
    geometry = None if scan.spacing is None else Geometry.even(slices, scan.spacing)
    return Volume(
        shape=(slices, height, width),
        is_hu=scan.is_hu,
        scan_id=scan.scan_id,
        source=scan.source or Path(scan.scan_id),
        read=scan.pixels.__getitem__,
        geometry=geometry,
        warnings=(*scan.warnings, *spacing_warnings(slices, geometry)),
    )


def _read_array(array: NDArray[Any], spacing: Sequence[float] | None) -> Scan | Volume:
    from groundglass.scan.nifti import sample  # loads nibabel, which pictures do not need

    if array.ndim not in (2, 3) or array.dtype.kind not in "biuf":
        raise ScanError(
            ARRAY,
            f"has the shape {array.shape} and the type {array.dtype}",
            "give numbers of shape (height, width) or (slices, height, width)",
        )
    if min(array.shape[-2:]) < MIN_SIDE:
        raise ScanError(
            ARRAY,
            f"has the shape {array.shape}: slices of at least {MIN_SIDE} x {MIN_SIDE} pixels are needed",
            "the axes are (height, width) or (slices, height, width); make a colour picture grey first",
        )
    if spacing is not None and (len(spacing) != array.ndim or not all(mm > 0 for mm in spacing)):
        raise ScanError(ARRAY, f"spacing {spacing} is not a length in mm for each axis of {array.shape}")
    pixels = array.astype(np.float32)
    low, high = float(pixels.min()), float(pixels.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ScanError(ARRAY, "holds values that are not finite", "replace them, for instance with -1024 HU")
    meaning = judge_values(ARRAY, sample(pixels.ravel()), low, high)
    pixels = pixels / np.float32(meaning.divisor) - np.float32(meaning.offset)
    scan = Scan(
        np.maximum(pixels, np.float32(AIR_HU)),
        is_hu=meaning.is_hu,
        scan_id=ARRAY.name,
        spacing=None if spacing is None else tuple(map(float, spacing)),
        warnings=(meaning.warning,) if meaning.warning else (),
    )
    return _volume_of_scan(scan) if scan.is_volume else scan


def _read_image_of_library(image: Any) -> Scan | Volume:
    """An in-memory scan from nibabel, SimpleITK or pydicom, recognised by its attributes to avoid imports."""
    if hasattr(image, "dataobj") and hasattr(image, "affine"):
        return _read_nibabel(image)
    if hasattr(image, "GetDirection") and hasattr(image, "GetSpacing"):
        return _read_simpleitk(image)
    datasets = [image] if hasattr(image, "file_meta") or hasattr(image, "PixelData") else image
    if isinstance(datasets, (list, tuple)) and datasets and all(hasattr(one, "save_as") for one in datasets):
        return _read_datasets(datasets)
    raise TypeError(
        f"a scan cannot be read from {type(image).__name__}: give a path, a NumPy array, or an image of nibabel, "
        "SimpleITK or pydicom"
    )


def _read_nibabel(image: Any) -> Scan | Volume:
    import nibabel

    from groundglass.scan.nifti import nifti_series

    name = Path(image.get_filename() or "image.nii")
    if not isinstance(image, nibabel.Nifti1Image):
        image = nibabel.Nifti1Image.from_image(image)
    return _opened(nifti_series(Member(name, content=image.to_bytes())))


def _read_simpleitk(image: Any) -> Scan | Volume:
    import nibabel

    # SimpleITK is already loaded, since such an image exists, and only its module gives the voxels.
    voxels = sys.modules[type(image).__module__.partition(".")[0]].GetArrayFromImage(image)
    spacing = image.GetSpacing()
    if voxels.ndim != 3 or len(spacing) != 3:
        return _read_array(voxels, None)  # a picture has no spacing, and SimpleITK states 1 mm for it
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * spacing
    affine[:3, 3] = image.GetOrigin()
    if voxels.dtype.itemsize == 8:  # nibabel writes no 64-bit integers
        voxels = voxels.astype(np.float32)
    return _read_nibabel(nibabel.Nifti1Image(voxels.T, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine))


def _read_datasets(datasets: Sequence[Any]) -> Scan | Volume:
    from groundglass.scan.dicom import dicom_series

    files = []
    for number, dataset in enumerate(datasets, start=1):
        buffer = io.BytesIO()
        try:
            dataset.save_as(buffer, enforce_file_format=True)
        except (
            Exception
        ) as error:  # pydicom raises almost any exception if elements are missing or of a wrong type
            problem = f"this pydicom dataset cannot be encoded ({type(error).__name__})"
            raise ScanError(f"dataset {number}", problem, "read it from a file") from error
        files.append(found(Member(Path(f"dataset {number}"), content=buffer.getvalue())))
    series, failures = dicom_series(files)
    chosen = _only(Listing(tuple(series), failures=tuple(failures)), Path("datasets"))
    assert isinstance(chosen, Series)  # there are no pictures
    return _opened(chosen)
