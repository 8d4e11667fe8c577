"""Pictures of segmentations for visual inspection: one slice, or a sheet of many."""

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

# From the palette by M. Okabe and K. Ito, "Color Universal Design" (2008), which colour-blind readers can
# distinguish.
RIGHT_COLOUR = (86, 180, 233)
"""Sky blue."""
LEFT_COLOUR = (240, 228, 66)
"""Yellow."""
LESION_COLOUR = (213, 94, 0)
"""Vermillion; also used for ground glass, if the types are distinguished."""
CONSOLIDATION_COLOUR = (204, 121, 167)
"""Reddish purple."""
LESION_OPACITY = 0.45
THIN = 300
"""Contours are one pixel wide in pictures whose longer side has up to this many pixels."""
FONT_SIZE = 12
CAPTION = 18
"""Height of a caption in pixels."""
CAPTION_COLOUR = (230, 230, 230)
PICTURE_SIDE = 320
"""Longest side in pixels of slices in reports."""
TILES, COLUMNS, TILE = 20, 5, 256
"""Number of slices in a montage and per row, and their side in pixels."""
BAND = 44
"""Height in pixels of the text above a montage."""


def legend(typed: bool, *, sides: bool = True) -> str:
    """The meaning of the colours, in words.

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
    return f"The two lungs outlined in blue and yellow (right and left are not known), {lesions}."


def overlay(grey8: NDArray[np.uint8], segmentation: Segmentation, line: int | None = None) -> Image.Image:
    """A slice with the contours of its lungs and its lesions in colour.

    Parameters
    ----------
    grey8
        uint8, shape (height, width).
    segmentation
        A segmentation of the same shape, see :func:`groundglass.segment.masks.resize`.
    line
        Width of the contours in pixels; by default it grows with the picture.

    Returns
    -------
    The picture in RGB: the right lung outlined in sky blue, the left one in yellow, lesions in translucent
    vermillion and consolidation in translucent pink.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if grey8.shape != segmentation.lungs.shape:
        raise ValueError(
            f"the slice has shape {grey8.shape}, but the segmentation has {segmentation.lungs.shape}"
        )
    rgb = np.repeat(grey8[..., None], 3, axis=2)
    for lesions, colour in _fillings(segmentation):
        tint = np.repeat(grey8[lesions, None], 3, axis=1) * (1 - LESION_OPACITY)
        rgb[lesions] = np.rint(tint + np.array(colour) * LESION_OPACITY).astype(np.uint8)
    for contours, colour, width in _contours(segmentation, line):
        cv2.drawContours(rgb, contours, -1, colour, thickness=width)
    return Image.fromarray(rgb)


def layer(segmentation: Segmentation) -> bytes:
    """Only the drawing of :func:`overlay`, as a palette PNG that is transparent elsewhere."""
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
    """The lesions with their colour; later ones are drawn on top."""
    yield segmentation.lesions, LESION_COLOUR
    if segmentation.consolidation is not None:
        yield segmentation.consolidation, CONSOLIDATION_COLOUR


def _contours(
    segmentation: Segmentation, line: int | None
) -> Iterator[tuple[Sequence[Any], tuple[int, int, int], int]]:
    """The outlines of each lung, with colour and width."""
    width = line or max(1, round(max(segmentation.lungs.shape) / THIN))
    for side, colour in ((RIGHT, RIGHT_COLOUR), (LEFT, LEFT_COLOUR)):
        lung = (segmentation.lungs == side).astype(np.uint8)
        contours, _ = cv2.findContours(lung, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        yield contours, colour, width


def contact_sheet(
    pictures: Sequence[tuple[Image.Image, str]], columns: int = 10, tile: int = 256, *, numbered: bool = True
) -> Image.Image:
    """Many pictures side by side on black, with their names below.

    Parameters
    ----------
    pictures
        Pictures with their names; long names are shortened in the middle.
    columns
        Pictures in a row.
    tile
        Side in pixels of the square that each picture is fitted into.
    numbered
        Put numbers, from 1 on, before the names.

    Raises
    ------
    ValueError
        If there are no pictures, or if ``columns`` or ``tile`` is not positive.
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
    """Evenly spaced slices with lungs from a volume, from the head to the feet, with their masks.

    Parameters
    ----------
    thumbnails
        Each slice as a small grey picture, uint8, from the feet to the head; None for slices that were not read.
    labels
        uint8, shape (slices, height, width), as in groundglass.segment.volume.VolumeMasks.
    words
        Two lines of text above the slices.
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
    """A slice's masks at the size of its thumbnail, by nearest neighbour, which is fast and fine enough here."""
    resized = cv2.resize(labels, shape[::-1], interpolation=cv2.INTER_NEAREST)
    return segmentation_of(np.asarray(resized, dtype=np.uint8))


def thumbnail(scan: Scan, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """A slice as a small grey picture: uint8, with a longer side of PICTURE_SIDE pixels and HU shown in the
    window."""
    height, width = scan.pixels.shape
    scale = PICTURE_SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = np.asarray(cv2.resize(scan.pixels, size, interpolation=method), dtype=np.float32)
    return preprocessing.picture(replace(scan, pixels=small))


def _shortened(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """``text`` shortened in the middle to fit into ``width`` pixels."""
    # The built-in font has only Latin letters.
    text = text.encode("ascii", "replace").decode("ascii")
    short = text
    for kept in range(len(text) - 1, 0, -1):
        if font.getlength(short) <= width:
            break
        short = text[: (kept + 1) // 2] + "..." + text[len(text) - kept // 2 :]
    return short
