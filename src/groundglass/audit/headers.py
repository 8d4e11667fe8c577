"""The headers of picture files, read without decoding a pixel."""

from collections.abc import Sequence
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from groundglass.scan.image import FORMATS

NUMBER, TEXT, FLAG = "float64", "str", "boolean"
COLUMNS = {
    "width": NUMBER,
    "height": NUMBER,
    "aspect": NUMBER,
    "area": NUMBER,
    "bytes": NUMBER,
    "bytes_per_pixel": NUMBER,
    "ending": TEXT,
    "format": TEXT,
    "mode": TEXT,
    "channels": NUMBER,
    "bit_depth": NUMBER,
    "jpeg_quality": NUMBER,
    "has_alpha": FLAG,
    "has_icc": FLAG,
    "has_exif": FLAG,
    "dpi": NUMBER,
    "has_text": FLAG,
    "progressive": FLAG,
}
"""The columns read from a header, with their types."""
MISSING = -1.0
"""Replaces values that a header lacks; every number in a header is at least 0."""
PNG_DEPTH_AT = 24
"""Byte of a PNG file that holds its bits per sample (ISO/IEC 15948, chunk IHDR)."""
TIFF_DEPTH = 258
"""Tag of a TIFF file that holds the bits per sample of each channel (TIFF 6.0, BitsPerSample)."""
QUALITIES = np.arange(1, 101)


@cache
def _luma_tables() -> NDArray[np.intp]:
    """The luma quantisation steps that libjpeg writes for each of ``QUALITIES``, shape (100, 64)."""
    tables = []
    for quality in QUALITIES.tolist():
        file = BytesIO()
        Image.new("L", (1, 1)).save(file, "JPEG", quality=quality)
        with Image.open(file, formats=["JPEG"]) as image:
            tables.append(list(image.quantization[0]))  # type: ignore[attr-defined]
    return np.array(tables)


def read_headers(paths: Sequence[Path]) -> pd.DataFrame:
    """Read headers; a damaged one gives a row without values instead of an error.

    Parameters
    ----------
    paths
        Picture files.

    Returns
    -------
    A row per file, in their order, index 0, 1, ... Columns of float64, NaN if unknown: ``width`` and
    ``height`` in pixels as stored, ``aspect`` (width divided by height), ``area`` in pixels, ``bytes`` of the
    file, ``bytes_per_pixel``, ``channels``, ``bit_depth`` (bits of a channel), ``jpeg_quality`` (see
    :func:`jpeg_quality`; NaN in other formats) and ``dpi`` (horizontal). Columns of text, blank if unknown:
    ``ending`` (of the file's name, lower case, without the dot), ``format`` (by the content, such as ``PNG``)
    and ``mode`` (Pillow's name, such as ``RGBA``). Columns of nullable booleans: ``has_alpha``, ``has_icc``,
    ``has_exif``, ``has_text`` (a PNG's text before the pixels, a JPEG's comment) and ``progressive`` (an
    interlaced PNG, a progressive JPEG).
    """
    return pd.DataFrame([_header(path) for path in paths], columns=list(COLUMNS)).astype(COLUMNS)


def _header(path: Path) -> dict[str, Any]:
    known: dict[str, Any] = {name: "" for name, kind in COLUMNS.items() if kind == TEXT}
    known["ending"] = path.suffix.lower().removeprefix(".")
    try:
        known["bytes"] = path.stat().st_size
        with Image.open(path, formats=FORMATS) as image:
            return {**known, **_of_image(image, known["bytes"])}
    except Exception:  # Pillow's plugins raise almost any exception on damaged bytes
        return known


def _of_image(image: Image.Image, size: int) -> dict[str, Any]:
    (width, height), bands, info = image.size, image.getbands(), image.info
    texts = image.png.im_text if isinstance(image, PngImageFile) and image.png else info.get("comment")
    tables = getattr(image, "quantization", None)
    return {
        "width": width,
        "height": height,
        "aspect": width / height,
        "area": width * height,
        "bytes_per_pixel": size / (width * height),
        "format": image.format,
        "mode": image.mode,
        "channels": len(bands),
        "bit_depth": _bit_depth(image),
        "jpeg_quality": jpeg_quality(tables[min(tables)]) if tables else None,
        "has_alpha": "transparency" in info or bool({"A", "a"} & set(bands)),
        "has_icc": bool(info.get("icc_profile")),
        "has_exif": bool(info.get("exif")),
        "dpi": float(info["dpi"][0]) if "dpi" in info else None,
        "has_text": bool(texts),
        "progressive": bool(info.get("progressive") or info.get("interlace")),
    }


def _bit_depth(image: Image.Image) -> int:
    # Pillow's mode hides the 16 bits of colour.
    if isinstance(image, PngImageFile) and image.fp:
        image.fp.seek(PNG_DEPTH_AT)
        return image.fp.read(1)[0]
    if isinstance(image, TiffImageFile):
        return int(image.tag_v2.get(TIFF_DEPTH, (1,))[0])
    return 1 if image.mode == "1" else 8


def jpeg_quality(luma: Sequence[int]) -> int:
    """Estimate the quality, 1 to 100, at which the Independent JPEG Group's encoder writes a table.

    The quality scales one standard table. The result is the quality whose table has the smallest sum of absolute
    differences; it is exact if that encoder wrote the file.

    Parameters
    ----------
    luma
        The 64 steps of the luma quantisation table, row by row.
    """
    return int(QUALITIES[np.abs(_luma_tables() - np.asarray(luma)).sum(axis=1).argmin()])


def header_features(headers: pd.DataFrame) -> tuple[NDArray[np.float64], list[str]]:
    """Turn headers into numbers for a model.

    Parameters
    ----------
    headers
        As :func:`read_headers` gives them, or some of its columns.

    Returns
    -------
    Finite values, float64, shape (files, features), -1 if a header lacks a value, texts one-hot encoded; and
    the column of each feature.
    """
    features, origins = [], []
    for name in headers.columns:
        column = headers[name]
        kinds = pd.get_dummies(column) if COLUMNS[name] == TEXT else column.to_frame()
        features.append(kinds.astype("Float64").fillna(MISSING).to_numpy(dtype=np.float64))
        origins += [name] * kinds.shape[1]
    return np.hstack(features), origins
