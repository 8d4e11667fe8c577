"""Read one slice from a PNG, JPEG, WebP, TIFF, BMP, GIF or JPEG 2000 file.

The rule, the same for every file mode:

1. EXIF orientation is applied.
2. Palettes are applied. Colour is converted to luma (ITU-R BT.601, as Pillow computes it), so a grey picture
gives exactly the same values whether it is stored as RGB or as L.
3. Transparent pixels are shown on black, the grey of air.
4. 8-bit values are divided by 255. 16-bit and floating-point values are read as Hounsfield units if they look like
   HU, HU + 1024, HU + 8192 or HU + 32768 (:mod:`groundglass.scan.units`); else 16-bit values are divided by 65535
   (by 255 if none is larger), and floating-point values must be in [0, 1]. 16-bit colour is read with 8 bits.

The following are refused, each with its own message: pictures with colour in over a quarter of their area,
with only one grey, under 32 pixels wide or high, of over 64 megapixels or with several pages; 16-bit values
of unknown meaning; and files that are truncated or not pictures.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from groundglass.errors import ScanError
from groundglass.scan.scan import Scan
from groundglass.scan.units import AIR_HU, Meaning, hounsfield

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "JPEG2000")
SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".jp2", ".j2k"}
)
MIN_SIDE = 32
MAX_PIXELS = 64_000_000
COLOURED = 30
"""A pixel counts as coloured if its largest and smallest channel differ by at least this much, of 255."""
LEAST_RANGE = 1 / 8
"""Grey values use at least this share of 16 bits; otherwise they are raw scanner values, often of 12 bits."""
MAX_COLOURED_SHARE = 0.25
"""The largest share among the slices of covid-ct, taken from papers with coloured arrows and marks, is 0.09."""

Image.init()


def read_image(path: Path) -> Scan:
    """Read one slice as grey in [0, 1], or in Hounsfield units if the picture contains these.

    Parameters
    ----------
    path
        The picture.

    Returns
    -------
    A Scan with pixels of shape (height, width); if they are HU, a warning states how they were recognised.

    Raises
    ------
    ScanError
        If the file is missing, truncated, not a picture, too small, too large, of a single grey, coloured or
        has several pages, or if its 16-bit values are neither HU nor grey.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            _check_header(path, image)
            deep = any("16" in str(tile[3]) for tile in image.tile)
            image.load()
            upright = ImageOps.exif_transpose(image)
            numbers = upright.mode.startswith("I") or upright.mode == "F"
            pixels, meaning = _numbers(path, upright) if numbers else (_grey(path, upright), GREY)
    except ScanError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(path) from error
    except UnidentifiedImageError as error:
        raise _unidentified(path) from error
    except FileNotFoundError as error:
        raise ScanError(path, "there is no such file") from error
    except PermissionError as error:
        raise ScanError(path, "is not readable", "change its permissions") from error
    except Exception as error:  # Pillow's decoders raise almost any exception on damaged bytes
        remedy = "the file is truncated or damaged: get a new copy"
        raise ScanError(path, f"cannot be decoded ({error})", remedy) from error
    if meaning is GREY and deep and float(pixels.max()) < LEAST_RANGE:
        problem = "has 16-bit values with colour or transparency and uses less than an eighth of their range"
        raise ScanError(path, problem, "save it as 16-bit grey without transparency")
    if float(pixels.min()) == float(pixels.max()):
        raise ScanError(path, "every pixel has the same grey", "it does not show a slice")
    warnings = (meaning.warning,) if meaning.warning else ()
    return Scan(pixels, is_hu=meaning.is_hu, scan_id=path.stem, source=path, warnings=warnings)


def _check_header(path: Path, image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _too_large(path, width, height)
    if min(width, height) < MIN_SIDE:
        raise ScanError(
            path,
            f"{width} x {height} pixels are too few for a slice",
            f"at least {MIN_SIDE} a side are needed",
        )
    pages = getattr(image, "n_frames", 1)
    if pages > 1:
        raise ScanError(path, f"holds {pages} pages", "save each slice as a separate file")


def _too_large(path: Path, width: int = 0, height: int = 0) -> ScanError:
    size = f"{width} x {height} pixels" if width else "the size in its header"
    return ScanError(
        path, f"{size} would take too much memory", f"at most {MAX_PIXELS // 1_000_000} megapixels are read"
    )


def _unidentified(path: Path) -> ScanError:
    with path.open("rb") as handle:
        head = handle.read(352)
    if not head:
        return ScanError(path, "the file is empty")
    if head[128:132] == b"DICM":
        return ScanError(path, "is a DICOM file, not a picture", f"read it with  groundglass predict {path}")
    if head[:2] == b"\x1f\x8b" or head[344:348] in (b"n+1\0", b"ni1\0"):
        remedy = "if it is NIfTI, give it a name that ends in .nii or .nii.gz"
        return ScanError(path, "looks like a NIfTI or gzip file, not a picture", remedy)
    return ScanError(path, "is not a picture that can be read", f"{', '.join(FORMATS)} can")


GREY = Meaning(is_hu=False)
_SAVE_AGAIN = "save it as 8-bit grey, or as HU + 1024 or HU + 32768 in 16 bits"


def _numbers(path: Path, image: Image.Image) -> tuple[NDArray[np.float32], Meaning]:
    """The pixels of a picture with more than 8-bit grey, and their meaning, by the module's rule."""
    values = np.asarray(image, dtype=np.float32)
    if not np.isfinite(values).all():
        raise ScanError(path, "some of its floating-point values are not numbers", _SAVE_AGAIN)
    low, high = float(values.min()), float(values.max())
    meaning = hounsfield(path, values, high) or _grey_levels(path, image.mode == "F", low, high)
    pixels = (values / np.float32(meaning.divisor) - np.float32(meaning.offset)).astype(np.float32)
    return np.maximum(pixels, np.float32(AIR_HU)) if meaning.is_hu else pixels, meaning


def _grey_levels(path: Path, floating: bool, low: float, high: float) -> Meaning:
    """Convert values that are not HU to grey in [0, 1]."""
    if floating and low >= 0 and high <= 1:
        return GREY
    if not floating and low >= 0 and high <= 255:
        return Meaning(False, 255, warning="a 16-bit picture of 8-bit grey: its values were divided by 255")
    if floating or low < 0 or not 65535 * LEAST_RANGE <= high <= 65535:
        kind = "floating-point values" if floating else "values"
        problem = f"its {kind}, from {low:g} to {high:g}, are neither Hounsfield units of a chest nor grey"
        raise ScanError(path, problem, _SAVE_AGAIN)
    return Meaning(is_hu=False, divisor=65535)


def _grey(path: Path, image: Image.Image) -> NDArray[np.float32]:
    """Grey float32 in [0, 1], shape (height, width), by the module's rule."""
    mode = image.mode
    transparent = "transparency" in image.info or mode in ("LA", "La", "PA", "RGBA", "RGBa")
    if mode in ("1", "L", "LA", "La"):
        image = image.convert("LA" if transparent else "L")
    else:
        image = image.convert("RGBA" if transparent else "RGB")
        _refuse_colour(path, image)
    grey = np.asarray(image.convert("L"), dtype=np.float32) / np.float32(255)
    if transparent:
        grey = grey * (np.asarray(image.getchannel("A"), dtype=np.float32) / np.float32(255))
    return grey.astype(np.float32, copy=False)


def _refuse_colour(path: Path, image: Image.Image) -> None:
    step = max(1, min(image.size) // 256)
    red, green, blue, *alpha = (channel[::step, ::step] for channel in np.moveaxis(np.asarray(image), -1, 0))
    # A reduction along an axis of length three would take twenty times as long.
    brightest, darkest = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    coloured = brightest - darkest > COLOURED
    if alpha:
        coloured &= alpha[0] > 0
    share = float(coloured.mean())
    if share > MAX_COLOURED_SHARE:
        raise ScanError(path, f"is a colour picture ({share:.0%} of its area), not a CT slice")
