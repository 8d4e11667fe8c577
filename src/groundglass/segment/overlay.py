"""Pictures of segmentations, for people to look through: one slice, or a sheet of many."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from groundglass.preprocess import Preprocessing
from groundglass.scan.scan import Scan
from groundglass.segment.masks import LEFT, RIGHT, Segmentation
from groundglass.segment.shares import segmentation_of

# Of the palette by M. Okabe and K. Ito, "Color Universal Design" (2008), which the colour-blind can tell apart.
RIGHT_COLOUR = (86, 180, 233)
"""Sky blue."""
LEFT_COLOUR = (240, 228, 66)
"""Yellow."""
LESION_COLOUR = (213, 94, 0)
"""Vermillion; also of ground glass, if the types are distinguished."""
CONSOLIDATION_COLOUR = (204, 121, 167)
"""Reddish purple."""
LESION_OPACITY = 0.45
THIN = 300
"""Longer side of a picture, in pixels, up to which contours are one pixel wide."""
FONT_SIZE = 12
CAPTION = 18
"""Height of a caption in pixels."""
CAPTION_COLOUR = (230, 230, 230)
PICTURE_SIDE = 320
"""Longest side in pixels at which reports show slices."""
TILES, COLUMNS, TILE = 20, 5, 256
"""Slices of a montage, in a row, and their side in pixels."""
BAND = 44
"""Height in pixels of the words above a montage."""


def legend(typed: bool, *, sides: bool = True) -> str:
    """What the colours mean.

    Parameters
    ----------
    typed
        Whether the segmenter distinguishes lesion types.
    sides
        Whether it is known which lung is the right one.
    """
    lesions = "ground glass in orange, consolidation in pink" if typed else "lesions in orange"
    if sides:
        return f"Right lung, at the left, outlined in blue, left lung in yellow, {lesions}."
    return f"Outlined in blue and yellow the two lungs, whose sides are not known, {lesions}."


def overlay(grey8: NDArray[np.uint8], segmentation: Segmentation, line: int | None = None) -> Image.Image:
    """A slice with the contours of its lungs and its lesions in colour.

    Parameters
    ----------
    grey8
        uint8, shape (height, width).
    segmentation
        Of the same shape, see :func:`groundglass.segment.masks.resize`.
    line
        Width of the contours in pixels; by default it grows with the picture.

    Returns
    -------
    The picture in RGB: the right lung outlined in sky blue, the left one in yellow, lesions filled in vermillion,
    consolidation in pink, which let the slice through.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if grey8.shape != segmentation.lungs.shape:
        raise ValueError(
            f"a slice of {grey8.shape} and a segmentation of {segmentation.lungs.shape} differ in shape"
        )
    rgb = np.repeat(grey8[..., None], 3, axis=2)
    for lesions, colour in _fillings(segmentation):
        tint = np.repeat(grey8[lesions, None], 3, axis=1) * (1 - LESION_OPACITY)
        rgb[lesions] = np.rint(tint + np.array(colour) * LESION_OPACITY).astype(np.uint8)
    for contours, colour, width in _contours(segmentation, line):
        cv2.drawContours(rgb, contours, -1, colour, thickness=width)
    return Image.fromarray(rgb)


def layer(segmentation: Segmentation) -> bytes:
    """What :func:`overlay` draws, alone, as a PNG of few colours that lets the rest of a slice through."""
    drawn = np.zeros(segmentation.lungs.shape, dtype=np.uint8)
    for number, (lesions, _) in enumerate(_fillings(segmentation), start=3):
        drawn[lesions] = number
    for number, (contours, _, width) in enumerate(_contours(segmentation, 1), start=1):
        cv2.drawContours(drawn, contours, -1, number, thickness=width)
    picture = Image.fromarray(drawn, "P")
    picture.putpalette(bytes((0, 0, 0, *RIGHT_COLOUR, *LEFT_COLOUR, *LESION_COLOUR, *CONSOLIDATION_COLOUR)))
    buffer = io.BytesIO()
    opacity = bytes((0, 255, 255, *[round(255 * LESION_OPACITY)] * 2))
    picture.save(buffer, "PNG", bits=4, transparency=opacity, compress_level=3)
    return buffer.getvalue()


def _fillings(
    segmentation: Segmentation,
) -> Iterator[tuple[NDArray[np.bool_], tuple[int, int, int]]]:
    """Where lesions are, with their colour; what comes later lies above."""
    yield segmentation.lesions, LESION_COLOUR
    if segmentation.consolidation is not None:
        yield segmentation.consolidation, CONSOLIDATION_COLOUR


def _contours(
    segmentation: Segmentation, line: int | None
) -> Iterator[tuple[Sequence[Any], tuple[int, int, int], int]]:
    """The outlines of each lung, with their colour and width."""
    width = line or max(1, round(max(segmentation.lungs.shape) / THIN))
    for side, colour in ((RIGHT, RIGHT_COLOUR), (LEFT, LEFT_COLOUR)):
        lung = (segmentation.lungs == side).astype(np.uint8)
        contours, _ = cv2.findContours(lung, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        yield contours, colour, width


def contact_sheet(
    pictures: Sequence[tuple[Image.Image, str]], columns: int = 10, tile: int = 256, *, numbered: bool = True
) -> Image.Image:
    """Many pictures side by side on black, each with its name under it.

    Parameters
    ----------
    pictures
        Each with its name; a long name loses its middle.
    columns
        Pictures in a row.
    tile
        Side in pixels of the square into which each picture is fitted.
    numbered
        Put numbers, from 1 on, before the names.

    Raises
    ------
    ValueError
        If there is no picture, or ``columns`` or ``tile`` is not positive.
    """
    if not pictures or columns < 1 or tile < 1:
        raise ValueError("a contact sheet needs a picture, and at least one column and one pixel for each")
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * tile, rows * (tile + CAPTION)))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(FONT_SIZE)
    for index, (picture, name) in enumerate(pictures):
        left, top = index % columns * tile, index // columns * (tile + CAPTION)
        scale = tile / max(picture.size)
        size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
        fitted = picture.convert("RGB").resize(size, Image.Resampling.BILINEAR)
        sheet.paste(fitted, (left + (tile - size[0]) // 2, top + (tile - size[1]) // 2))
        caption = _shortened(f"{index + 1} {name}" if numbered else name, tile - 4, font)
        draw.text((left + 2, top + tile + 1), caption, fill=CAPTION_COLOUR, font=font)
    return sheet


def montage(
    thumbnails: Sequence[NDArray[np.uint8] | None], labels: NDArray[np.uint8], words: tuple[str, str]
) -> Image.Image:
    """Lung-bearing slices evenly spread over a volume, from the head to the feet, with their masks.

    Parameters
    ----------
    thumbnails
        Each slice as small grey picture, uint8, from the feet to the head; None for one that was not read.
    labels
        uint8, shape (slices, height, width), as groundglass.segment.volume.VolumeMasks has them.
    words
        Two lines to stand above the slices.
    """
    bearing = [number for number, plane in enumerate(labels) if plane.any()]
    numbers = bearing or [number for number, grey in enumerate(thumbnails) if grey is not None]
    chosen = sorted({numbers[round(at)] for at in np.linspace(0, len(numbers) - 1, TILES)})
    pictures = [
        (overlay(grey, small_masks(labels[number], grey.shape), line=1), f"slice {number + 1}")
        for number in reversed(chosen)
        if (grey := thumbnails[number]) is not None
    ]
    sheet = contact_sheet(pictures, COLUMNS, TILE, numbered=False)
    whole = Image.new("RGB", (sheet.width, sheet.height + BAND))
    whole.paste(sheet, (0, BAND))
    draw = ImageDraw.Draw(whole)
    font = ImageFont.load_default(15)
    for line, text in enumerate(words):
        draw.text((8, 4 + 19 * line), text, fill=(255, 255, 255), font=font)
    return whole


def small_masks(labels: NDArray[np.uint8], shape: tuple[int, ...]) -> Segmentation:
    """A slice's masks at the size of its thumbnail: by the nearest pixel, which is quick and fine enough here."""
    resized = cv2.resize(labels, shape[::-1], interpolation=cv2.INTER_NEAREST)
    return segmentation_of(np.asarray(resized, dtype=np.uint8))


def thumbnail(scan: Scan, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """A slice as small grey picture: uint8, its longer side of PICTURE_SIDE pixels, HU seen through the window."""
    height, width = scan.pixels.shape
    scale = PICTURE_SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = np.asarray(cv2.resize(scan.pixels, size, interpolation=method), dtype=np.float32)
    return preprocessing.picture(replace(scan, pixels=small))


def _shortened(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """``text`` with as much of its middle left out as it takes to fit into ``width`` pixels."""
    # The built-in font draws Latin letters only.
    text = text.encode("ascii", "replace").decode("ascii")
    short = text
    for kept in range(len(text) - 1, 0, -1):
        if font.getlength(short) <= width:
            break
        short = text[: (kept + 1) // 2] + "..." + text[len(text) - kept // 2 :]
    return short
