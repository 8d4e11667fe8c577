"""The slice viewer in a real browser: sides, values, positions, windows, zoom, overlays and the strip."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from browsing import EDGE, WIDE, Visit
from numpy.typing import NDArray
from serving import Served, write_stored

from groundglass.phantom import Phantom
from groundglass.phantom.phantom import phantom_geometry

Open = Callable[..., Visit]


@pytest.fixture(scope="module")
def seen(
    served: Served, browser: object, address: str, marked: Phantom, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Visit]:
    """A window that shows a study."""
    folder = tmp_path_factory.mktemp("viewed") / "ct"
    study = served.answered(served.send(*write_stored(marked, folder, "rows")))["id"]
    visit = Visit(browser, address, served, **WIDE)
    visit.see(study)
    yield visit
    visit.clean()


@pytest.fixture(autouse=True)
def _reset(seen: Visit) -> None:
    """Each test begins with the whole slice 12, its overlays hidden, in the lung window."""
    page = seen.page
    page.locator(".stage").focus()
    page.keyboard.press("Escape")
    page.keyboard.press("0")
    page.keyboard.press("1")
    page.get_by_label("Slice", exact=True).fill("12")
    for box in page.locator("[data-overlay]").all():
        box.uncheck()
    page.get_by_label("Drag").select_option("window")
    page.locator(".stage").focus()
    page.mouse.move(2, 2)
    seen.drawn(12)


def point(seen: Visit, row: float, column: float) -> tuple[float, float]:
    """Where the middle of a voxel is in the window; the slice of 128 x 128 fills the stage's height."""
    box = seen.page.locator(".stage").bounding_box()
    side = min(box["width"], box["height"])
    left, top = box["x"] + (box["width"] - side) / 2, box["y"] + (box["height"] - side) / 2
    return left + (column + 0.5) * side / 128, top + (row + 0.5) * side / 128


def reading(seen: Visit) -> str:
    seen.page.wait_for_timeout(60)
    return str(seen.page.locator(".reading").inner_text()).replace("\N{MINUS SIGN}", "-")


def bright_columns(picture: NDArray[np.uint8]) -> float:
    """Where, from 0 at the left to 1 at the right, the mark in the upper quarter is."""
    top = picture[: picture.shape[0] // 4, :, 0]
    return float(np.median(np.nonzero(top > 240)[1]) / picture.shape[1])


@pytest.mark.parametrize("turned", ["not", "columns", "rows", "slices"])
def test_right_is_never_mirrored(
    visit: Open, served: Served, marked: Phantom, tmp_path: Path, turned: str
) -> None:
    study = served.answered(served.send(*write_stored(marked, tmp_path / "ct", turned)))["id"]
    one = visit(**WIDE)
    one.see(study)
    one.page.get_by_label("Slice", exact=True).fill("14")  # nearest to the head
    one.drawn(14)
    assert bright_columns(one.stage()) < 0.4
    sides = [one.page.locator(f".side.{side}") for side in ("at-left", "at-right")]
    assert [side.inner_text() for side in sides] == ["R", "L"]
    assert sides[0].bounding_box()["x"] < sides[1].bounding_box()["x"]


def test_values_and_positions_are_those_of_the_scan(seen: Visit, marked: Phantom) -> None:
    geometry = phantom_geometry(marked)
    for row, column in ((10, 14), (70, 40), (90, 100)):
        seen.page.mouse.move(*point(seen, row, column))
        text = reading(seen)
        assert text.startswith(f"{marked.scan.pixels[11, row, column]:.0f} HU"), text
        x, y, z = geometry.positions[11] + row * geometry.row_step + column * geometry.column_step
        for value, (more, less) in zip((x, y, z), ("LR", "PA", "HF"), strict=True):
            assert f"{more if value > 0 else less} {abs(value):.1f}" in text, text
        assert f"row {row + 1}, column {column + 1}" in text
    seen.page.keyboard.press("Shift+ArrowRight")
    assert f"{marked.scan.pixels[11, 90, 101]:.0f} HU" in reading(seen)


def test_wheel_keys_strip_and_telling_slices_move_through_the_volume(seen: Visit) -> None:
    page = seen.page
    page.mouse.move(*point(seen, 60, 60))
    page.mouse.wheel(0, 80)
    seen.drawn(10)
    page.mouse.wheel(0, -40)
    seen.drawn(11)
    for key, number in (("ArrowDown", 10), ("ArrowUp", 11), ("Home", 14), ("End", 1), ("PageUp", 11)):
        page.keyboard.press(key)
        seen.drawn(number)
    box = page.locator(".strip").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 4.5 / 14, box["y"] + 20)
    seen.drawn(5)
    slices = seen.served.get(f"/studies/{page.url.rpartition('/')[2]}")["findings"]["slices"]
    most = max(slices, key=lambda one: sum(one["lesions_px"].values()))["number"]
    page.locator(".telling").first.click()
    seen.drawn(most)
    assert page.locator(".telling").first.get_attribute("aria-pressed") == "true"
    page.get_by_text(f"Slice {most} of 14").wait_for()
    page.get_by_text("All slices loaded").wait_for()


def test_windows_change_the_greys(seen: Visit, marked: Phantom) -> None:
    page = seen.page
    row, column = 64, 30
    value = marked.scan.pixels[11, row, column]

    def grey() -> float:
        x, y = point(seen, row, column)
        box = page.locator(".stage canvas").bounding_box()
        return float(seen.stage()[int(y - box["y"]) - EDGE, int(x - box["x"]) - EDGE, 0])

    for key, (level, width) in {"1": (-600, 1500), "2": (40, 400), "3": (500, 2000)}.items():
        page.keyboard.press(key)
        wanted = 255 * np.clip((value - level) / width + 0.5, 0, 1)
        assert abs(grey() - wanted) < 40, key  # the picture is smoothed
        assert page.get_by_label("Level").input_value() == str(level)
        assert page.get_by_label("Width").input_value() == str(width)
    page.get_by_role("button", name="Lung", exact=True).click()
    before = seen.stage().mean()
    page.mouse.move(*point(seen, 60, 60))
    page.mouse.down()
    page.mouse.move(*point(seen, 90, 60), steps=4)
    page.mouse.up()
    assert int(page.get_by_label("Level").input_value()) > -600
    assert seen.stage().mean() < before
    page.get_by_label("Width").fill("-5")
    page.keyboard.press("Enter")
    assert int(page.get_by_label("Width").input_value()) > 0


def test_zoom_keeps_what_is_under_the_pointer_and_moves(seen: Visit) -> None:
    page = seen.page
    whole = seen.stage()
    page.mouse.move(*point(seen, 30, 90))
    text = reading(seen)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -300)
    page.keyboard.up("Control")
    page.mouse.move(*(place + 0.5 for place in point(seen, 30, 90)))
    assert reading(seen) == text
    near = seen.stage()
    assert np.abs(near.astype(int) - whole).mean() > 5
    page.get_by_label("Drag").select_option("pan")
    page.mouse.down()
    page.mouse.move(*point(seen, 50, 90))
    page.mouse.up()
    assert np.abs(seen.stage().astype(int) - near).mean() > 2
    page.get_by_role("button", name="Whole slice").click()
    page.mouse.move(2, 2)
    assert (seen.stage() == whole).mean() > 0.999


def test_overlays_are_drawn_over_what_they_mark(seen: Visit) -> None:
    page = seen.page
    page.locator(".telling").first.click()
    plain = seen.stage().astype(int)
    half = plain.shape[1] // 2

    def changed() -> NDArray[np.bool_]:
        return np.abs(seen.stage().astype(int) - plain).max(axis=2) > 8

    for kind in ("ground_glass", "consolidation"):
        page.locator(f"[data-overlay={kind}]").check()
    lesions = changed()
    assert lesions[:, :half].sum() > 20 * lesions[:, half:].sum()  # they are in the right lung
    strong = np.abs(seen.stage().astype(int) - plain).mean()
    page.get_by_label("Opacity").fill("10")
    assert 0 < np.abs(seen.stage().astype(int) - plain).mean() < strong
    page.get_by_label("Opacity").fill("45")
    for kind in ("ground_glass", "consolidation"):
        page.locator(f"[data-overlay={kind}]").uncheck()
    page.locator("[data-overlay=lungs]").check()
    lungs = changed()
    assert lungs[:, :half].sum() > 100 < lungs[:, half:].sum()
    page.locator(".stage").focus()
    page.keyboard.press("o")
    assert not page.locator("[data-overlay=lungs]").is_checked()
    assert not changed().any()
    page.locator("[data-overlay=heat]").check()
    assert changed().any()


def test_a_length_is_measured_in_mm(seen: Visit, marked: Phantom) -> None:
    page = seen.page
    page.get_by_label("Drag").select_option("length")
    page.mouse.move(*point(seen, 40, 20))
    page.mouse.down()
    page.mouse.move(*point(seen, 40, 80), steps=3)
    page.mouse.up()
    found = re.search(r"Length ([\d.]+) mm", reading(seen))
    assert found
    assert float(found[1]) == pytest.approx(60 * marked.scan.spacing[2], abs=0.6)
    page.locator(".stage").focus()
    page.keyboard.press("Escape")
    assert "Length" not in reading(seen)
    page.keyboard.press("m")
    for _ in range(4):
        page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("m")
    assert f"Length {4 * marked.scan.spacing[1]:.1f} mm" in reading(seen)
    page.keyboard.press("ArrowUp")
    assert "Length" not in reading(seen)
