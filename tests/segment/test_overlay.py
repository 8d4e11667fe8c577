import numpy as np
import pytest
from PIL import Image

from groundglass.segment.masks import LEFT, RIGHT, Segmentation
from groundglass.segment.overlay import (
    CAPTION,
    LEFT_COLOUR,
    LESION_COLOUR,
    RIGHT_COLOUR,
    contact_sheet,
    overlay,
)


def made(side: int) -> Segmentation:
    """Two square lungs of 3/8 of ``side``, a square lesion in the right one."""
    eighth = side // 8
    lungs, lesions = np.zeros((side, side), np.uint8), np.zeros((side, side), bool)
    lungs[2 * eighth : 5 * eighth, eighth : 4 * eighth] = RIGHT
    lungs[2 * eighth : 5 * eighth, 5 * eighth : 8 * eighth] = LEFT
    lesions[3 * eighth : 4 * eighth, 2 * eighth : 3 * eighth] = True
    return Segmentation(lungs, lesions, 1.0)


def test_contours_and_lesions_are_drawn_where_they_are() -> None:
    grey = np.full((80, 80), 100, np.uint8)
    picture = overlay(grey, made(80))
    rgb = np.asarray(picture)
    assert picture.mode == "RGB"
    assert tuple(rgb[30, 10]) == RIGHT_COLOUR
    assert tuple(rgb[20, 60]) == LEFT_COLOUR
    assert tuple(rgb[10, 10]) == tuple(rgb[45, 25]) == (100, 100, 100)
    tinted = rgb[35, 25].astype(int)
    assert ((tinted - 100) * (np.array(LESION_COLOUR) - 100) > 0).all()
    assert (tinted != LESION_COLOUR).all()
    assert (grey == 100).all()


@pytest.mark.parametrize(("side", "width"), [(80, 1), (296, 1), (1200, 4)])
def test_lines_grow_with_the_picture(side: int, width: int) -> None:
    rgb = np.asarray(overlay(np.zeros((side, side), np.uint8), made(side)))
    across = (rgb[round(side * 0.3)] == RIGHT_COLOUR).all(axis=-1)[: side // 4]
    assert width <= across.sum() <= width + 1


def test_no_lungs_leave_the_slice_as_it_is() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    none = Segmentation(np.zeros((16, 16), np.uint8), np.zeros((16, 16), bool), 0.0, "no lungs found")
    assert (np.asarray(overlay(grey, none)) == grey[..., None]).all()
    with pytest.raises(ValueError, match="but the segmentation has"):
        overlay(grey[:8], none)


def test_a_contact_sheet_holds_every_picture_in_its_place() -> None:
    reds = [Image.new("RGB", (30, 60), (100 + number, 0, 0)) for number in range(5)]
    named = [
        (picture, "a-name-far-too-long-for-a-tile-Ω.png" * number) for number, picture in enumerate(reds)
    ]
    sheet = contact_sheet(named, columns=3, tile=64)
    assert sheet.size == (3 * 64, 2 * (64 + CAPTION))
    pixels = np.asarray(sheet)
    for number in range(5):
        left, top = number % 3 * 64, number // 3 * (64 + CAPTION)
        tile = pixels[top : top + 64, left : left + 64]
        caption = pixels[top + 64 : top + 64 + CAPTION, left : left + 64]
        assert (tile[:, 16:48] == (100 + number, 0, 0)).all()
        assert (tile[:, :15] == 0).all()
        assert caption.any()
        assert not caption[:, -2:].any()  # it does not run into the neighbour's
    assert not pixels[64 + CAPTION :, 128:].any()


def test_a_sheet_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a picture"):
        contact_sheet([])
