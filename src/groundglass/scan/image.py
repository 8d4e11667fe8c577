"""Reading one slice from a PNG, JPEG, WebP, TIFF or BMP file.

The rule, the same for every file mode:

1. EXIF orientation is applied.
2. A palette is looked up. Colour becomes luma (ITU-R BT.601, as Pillow computes it), so a grey picture that
   is stored as RGB gives the very values that it gives stored as L.
3. Transparency is laid over black, the grey of air.
4. 8-bit values are divided by 255, 16-bit values by 65535. 16-bit colour is read with 8 bits.

A picture with colour in over a quarter of its area, a flat one, one under 32 pixels wide or high, one of over
64 megapixels, one with several pages, and a file that is truncated or no picture are refused by name.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from groundglass.errors import ScanError
from groundglass.scan.scan import Scan

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"})
MIN_SIDE = 32
MAX_PIXELS = 64_000_000
COLOURED = 30
"""Difference of a pixel's largest and smallest channel, of 255, from which it counts as coloured."""
MAX_COLOURED_SHARE = 0.25
"""Of covid-ct's slices, cut from papers with coloured arrows and marks, the worst has 0.09."""

Image.init()


def read_image(path: Path) -> Scan:
    """Read one slice as grey in [0, 1].

    Parameters
    ----------
    path
        The picture.

    Returns
    -------
    A Scan with pixels of shape (height, width), ``is_hu`` False.

    Raises
    ------
    ScanError
        If the file is missing, truncated, no picture, too small, too large, flat, coloured or has pages.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            _check_header(path, image)
            image.load()
            pixels = _grey(path, ImageOps.exif_transpose(image))
    except ScanError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(path) from error
    except UnidentifiedImageError as error:
        raise _unidentified(path) from error
    except FileNotFoundError as error:
        raise ScanError(path, "there is no such file") from error
    except PermissionError as error:
        raise ScanError(path, "may not be read", "change its permissions") from error
    except Exception as error:  # on damaged bytes Pillow's decoders raise nearly any kind
        remedy = "the file is truncated or damaged: get a new copy"
        raise ScanError(path, f"cannot be decoded ({error})", remedy) from error
    if float(pixels.min()) == float(pixels.max()):
        raise ScanError(path, "every pixel has the same grey", "this holds no slice")
    return Scan(pixels, is_hu=False, scan_id=path.stem, source=path, warnings=_doubts(image.mode, pixels))


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
        raise ScanError(path, f"holds {pages} pages", "save each slice as a file of its own")


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
    return ScanError(path, "is no picture that can be read", f"{', '.join(FORMATS)} are")


def _grey(path: Path, image: Image.Image) -> NDArray[np.float32]:
    """Grey float32 in [0, 1], shape (height, width), by the module's rule."""
    mode = image.mode
    if mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ScanError(
                path, f"its values span {values.min()} to {values.max()}", "8 or 16 bits are read"
            )
        return (values.astype(np.float32) / np.float32(65535)).astype(np.float32)
    if mode == "F":
        values = np.asarray(image, dtype=np.float32)
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise ScanError(
                path, "its floating-point values are not all in [0, 1]", "save it with 8 or 16 bits"
            )
        return values
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
    pixels = np.asarray(image)[::step, ::step]
    channels = pixels[..., :3]
    coloured = np.ptp(channels, axis=-1) > COLOURED
    if pixels.shape[-1] == 4:
        coloured &= pixels[..., 3] > 0
    share = float(coloured.mean())
    if share > MAX_COLOURED_SHARE:
        raise ScanError(path, f"is a colour picture ({share:.0%} of its area), not a CT slice")


def _doubts(mode: str, pixels: NDArray[np.float32]) -> tuple[str, ...]:
    if mode.startswith("I") and float(pixels.max()) < 1 / 8:
        return ("a 16-bit picture that uses less than an eighth of its range: it will look nearly black",)
    return ()
