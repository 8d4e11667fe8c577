from functools import cache

import cv2
import numpy as np
import pytest

from groundglass.audit.marks import find_marks
from groundglass.phantom import make_phantom
from groundglass.scan.scan import LUNG_WINDOW, apply_window

SOFT_TISSUE = (40, 400)
ARROW = np.array(
    [(72, 130), (65, 140), (69, 140), (69, 154), (75, 154), (75, 140), (79, 140)], dtype=np.int32
)


@cache
def phantom(seed):
    return make_phantom(seed, shape=(6, 320, 320)).scan.pixels


def chest(seed=0, place=3, window=LUNG_WINDOW):
    """A phantom's slice, uint8 (320, 320); its chest leaves about 40 columns of air on either side."""
    return np.rint(255 * apply_window(phantom(seed)[place], *window)).astype(np.uint8)


def drawing(height=200, width=300, air=40, soft=190):
    """A grey body without noise on air."""
    picture = np.full((height, width), air, dtype=np.uint8)
    cv2.ellipse(picture, (width // 2, height // 2), (width // 3, height // 3), 0, 0, 360, soft, -1)
    return picture


def counts(marks):
    return marks.text, marks.arrows, marks.rulers, marks.bars


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("window", [LUNG_WINDOW, SOFT_TISSUE])
def test_a_clean_chest_has_no_marks(seed, window):
    for place in range(len(phantom(seed))):
        marks = find_marks(chest(seed, place, window))
        assert counts(marks) == (0, 0, 0, 0)
        assert not marks.found
        assert marks.share == 0


@pytest.mark.parametrize("scale", [0.6, 1, 2])
def test_a_side_marker_is_text_at_any_size(scale):
    picture = cv2.resize(chest(), None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    cv2.putText(
        picture, "R", (round(10 * scale), round(40 * scale)), cv2.FONT_HERSHEY_SIMPLEX, 0.8 * scale, 255, 2
    )
    marks = find_marks(picture)
    assert counts(marks) == (1, 0, 0, 0)
    assert 0.001 < marks.share < 0.01


def test_a_word_counts_its_letters():
    picture = chest()
    cv2.putText(picture, "CT 123", (8, 22), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 200, 1, cv2.LINE_AA)
    assert find_marks(picture).text >= 4


def test_a_black_letter_on_a_white_body_is_text():
    picture = np.full((240, 320), 240, dtype=np.uint8)
    cv2.circle(picture, (160, 120), 60, 60, -1)
    assert find_marks(picture).text == 0
    cv2.putText(picture, "B", (12, 40), cv2.FONT_HERSHEY_SIMPLEX, 1, 0, 3)
    assert find_marks(picture).text == 1


def test_round_leads_and_the_table_are_not_text():
    picture = drawing()
    for x in (60, 90, 120):
        cv2.circle(picture, (x, 12), 5, 255, -1)
    cv2.ellipse(picture, (150, 130), (140, 60), 0, 20, 160, 220, 2)
    assert find_marks(picture).text == 0


@pytest.mark.parametrize(("grey", "lung"), [(0, 140), (255, 95)])
def test_an_arrow_in_the_lung_is_found(grey, lung):
    picture = chest()
    picture[126:158, 61:84] = lung  # removes the vessels
    cv2.fillPoly(picture, [ARROW], grey)
    marks = find_marks(picture)
    assert counts(marks) == (0, 1, 0, 0)


def test_a_soft_blob_of_the_same_size_is_not_an_arrow():
    picture = chest().astype(np.float32)
    blob = np.zeros_like(picture)
    cv2.ellipse(blob, (72, 142), (6, 12), 0, 0, 360, 1, -1)
    blob = cv2.GaussianBlur(blob, (0, 0), 3)
    picture = np.rint(picture + blob / blob.max() * (255 - picture)).astype(np.uint8)
    assert find_marks(picture).arrows == 0


@pytest.mark.parametrize("turned", [False, True])
def test_a_ruler_needs_ticks_at_equal_distances(turned):
    even, uneven = drawing(), drawing()
    distances = np.array([0, 9, 15, 31, 36, 58, 63, 82])
    for tick in range(8):
        even[40 + 12 * tick, 285:293] = 255
        uneven[40 + distances[tick], 285:293] = 255
    rulers = [find_marks(picture.T if turned else picture).rulers for picture in (even, uneven)]
    assert rulers == [1, 0]
    assert find_marks(even[:100]).rulers == 0  # 5 ticks are left


def test_a_frame_counts_its_sides_and_its_share():
    picture = drawing()
    picture[:6] = picture[-6:] = 255
    picture[:, :8] = 255
    marks = find_marks(picture)
    assert counts(marks) == (0, 0, 0, 3)
    # A row or column at each edge, which may be blended, counts with it.
    assert marks.share == pytest.approx(1 - 186 * 291 / (200 * 300))


def test_a_grey_scale_beside_the_body_is_a_bar():
    picture = drawing()
    picture[50:150, 280:288] = np.linspace(120, 255, 100, dtype=np.uint8)[:, None]
    assert counts(find_marks(picture)) == (0, 0, 0, 1)


def test_levels_are_those_that_were_drawn():
    picture = drawing(air=40, soft=190)
    picture[0, :30] = 0
    picture[-1, :60] = 255
    marks = find_marks(picture)
    assert (marks.air, marks.soft) == (40, 190)
    assert marks.black == pytest.approx(30 / picture.size)
    assert marks.white == pytest.approx(60 / picture.size)


def test_levels_follow_the_window():
    narrow, wide = (find_marks(chest(window=window)) for window in (LUNG_WINDOW, (-600, 2500)))
    # Air is -1000 HU, soft tissue between fat and blood.
    assert narrow.air == pytest.approx(255 * (-1000 + 1350) / 1500, abs=1)
    assert wide.air == pytest.approx(255 * (-1000 + 1850) / 2500, abs=1)
    assert 255 * (-100 + 1350) / 1500 < narrow.soft < 255 * (60 + 1350) / 1500
    assert 255 * (-100 + 1850) / 2500 < wide.soft < 255 * (60 + 1850) / 2500


def test_a_body_that_fills_the_slice_has_no_air():
    picture = np.full((120, 160), 190, dtype=np.uint8)
    for x in (50, 110):
        cv2.ellipse(picture, (x, 60), (22, 40), 0, 0, 360, 60, -1)
    marks = find_marks(picture)
    assert np.isnan(marks.air)
    assert marks.soft == 190


def test_without_a_body_there_are_no_levels():
    marks = find_marks(np.random.default_rng(0).integers(180, 200, (100, 120), dtype=np.uint8))
    assert np.isnan([marks.air, marks.soft]).all()


def test_large_pictures_are_looked_at_smaller():
    picture = drawing(1200, 1800)
    cv2.putText(picture, "A", (40, 160), cv2.FONT_HERSHEY_SIMPLEX, 5, 255, 12)
    assert counts(find_marks(picture)) == (1, 0, 0, 0)


@pytest.mark.parametrize(
    "picture", [np.zeros((9, 9)), np.zeros((9, 9, 3), np.uint8), np.zeros((0, 4), np.uint8)]
)
def test_only_grey_bytes_are_accepted(picture):
    with pytest.raises(ValueError, match="uint8"):
        find_marks(picture)


@pytest.mark.parametrize("shape", [(1, 1), (2, 40), (40, 2), (32, 32)])
def test_tiny_and_flat_pictures_have_no_marks(shape):
    for grey in (0, 90, 255):
        assert not find_marks(np.full(shape, grey, dtype=np.uint8)).found
