"""The page in a real browser: signing in, sending, the list, a study, follow-up, phone, keyboard and print."""

import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import PHONE, WIDE, Visit
from PIL import Image
from playwright.sync_api import Route
from serving import Served, write_stored

from groundglass.phantom import Lesion, Phantom, make_phantom
from groundglass.phantom.dicom import write_phantom_dicom
from groundglass.store.access import add_token

Open = Callable[..., Visit]


@pytest.fixture(scope="module")
def study(served: Served, marked: Phantom, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A volume that was answered."""
    folder = tmp_path_factory.mktemp("stored") / "ct"
    return str(served.answered(served.send(*write_stored(marked, folder, "columns")))["id"])


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A slice of a phantom as PNG."""
    phantom = make_phantom(9, shape=(12, 128, 128), lesions=[Lesion("ground glass", 200)])
    grey = np.clip((phantom.scan.pixels[6] + 1350) / 1500, 0, 1)
    path = tmp_path / "middle.png"
    Image.fromarray(np.rint(255 * grey).astype(np.uint8)).save(path)
    return path


def posts(route: Route) -> bool:
    return route.request.method == "POST"


def send(visit: Visit, path: Path | list[Path], picker: str = "files") -> str:
    """Choose files, wait until they are sent, and let the worker answer; returns the study's id."""
    visit.page.locator(f"[data-picker={picker}]").set_input_files(path)
    visit.page.wait_for_url(re.compile("#/study/"))
    study = visit.page.url.rpartition("/")[2]
    visit.page.get_by_role("heading", name="Study").first.wait_for()
    visit.served.answered(study)
    return study


def test_a_user_signs_in_sends_files_and_sees_the_answer(visit: Open, chest: list[Path]) -> None:
    one = visit(**WIDE)
    page = one.page
    page.goto(one.url)
    assert page.evaluate("() => document.createElement('canvas').getContext('webgl2')") is None
    page.get_by_label("Token").fill("gg_wrong")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text("the token is not valid").wait_for()
    one.accessible()
    page.get_by_label("Token").fill(one.served.token)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Studies").wait_for()
    page.get_by_text("Research use only. Not a medical device.").wait_for()
    one.accessible()
    study = send(one, chest[0].parent, "folder")
    one.drawn()
    page.locator(".headline", has_text=re.compile("COVID-19|No answer")).wait_for()
    for text in (
        "Lesions can have any cause",
        "Both lungs",
        "Severity band",
        "Masks (DICOM segmentation)",
        study,
    ):
        assert page.get_by_text(text).first.is_visible(), text
    one.accessible()
    with page.expect_popup() as report:
        page.get_by_role("link", name="Report, to read in a browser").click()
    report.value.get_by_role("heading", name="COVID-19 on chest CT").wait_for()
    report.value.close()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("Token").wait_for()
    page.goto(f"{one.url}/#/study/{study}")
    page.get_by_label("Token").wait_for()


def test_work_and_failures_are_shown_as_they_happen(visit: Open, served: Served, picture: Path) -> None:
    one = visit(**WIDE)
    one.sign_in()
    page = one.page
    damaged = picture.with_name("damaged.dcm")
    damaged.write_bytes(b"\0" * 128 + b"DICM" + b"damaged")
    page.locator("[data-picker=files]").set_input_files(damaged)
    page.get_by_text("Waiting for a free worker").wait_for()
    one.accessible()
    while served.worker.one():
        pass
    page.get_by_role("heading", name="The study was not answered").wait_for()
    one.accessible()
    page.get_by_role("button", name="Try again").click()
    page.get_by_text("Waiting for a free worker").wait_for()
    while served.worker.one():
        pass
    page.get_by_role("heading", name="The study was not answered").wait_for()
    page.get_by_role("link", name="All studies").click()
    bomb = picture.with_name("detached.mhd")
    bomb.write_text("ElementDataFile = x.raw")
    page.locator("[data-picker=files]").set_input_files(bomb)
    page.get_by_text(
        "The server did not accept the files: the voxels of a .mhd file are in another file"
    ).wait_for()
    one.accessible()


def test_a_study_is_followed_again_when_its_events_are_lost(
    visit: Open, served: Served, picture: Path
) -> None:
    one = visit(**WIDE)
    one.sign_in()
    page = one.page
    refused: list[str] = []

    def refuse_once(route: Route) -> None:
        refused.append(route.request.url)
        if len(refused) == 1:
            route.fulfill(status=503)
        else:
            route.continue_()

    page.route("**/events", refuse_once)
    page.locator("[data-picker=files]").set_input_files(picture)
    page.get_by_text("Waiting for a free worker").wait_for()
    while served.worker.one():
        pass
    page.locator("figure img").first.wait_for(timeout=20_000)
    assert refused
    assert all("503" in error for error in one.errors)
    one.errors.clear()


def test_an_upload_goes_on_while_its_user_looks_at_a_study(visit: Open, study: str, picture: Path) -> None:
    one = visit(**WIDE)
    one.sign_in()
    page = one.page
    held: list[Route] = []
    page.route("**/studies?*", lambda route: held.append(route) if posts(route) else route.continue_())
    page.locator("[data-picker=files]").set_input_files(picture)
    page.get_by_text(re.compile("Sending|storing", re.IGNORECASE)).first.wait_for()
    page.goto(page.url.partition("#")[0] + f"#/study/{study}")
    page.locator(".stage").first.wait_for()
    assert len(held) == 1
    with page.expect_response(lambda answer: answer.request.method == "POST"):
        held[0].continue_()
    page.get_by_role("link", name="All studies").click()
    page.get_by_role("status").get_by_role("link").click()
    page.wait_for_url(re.compile("#/study/"))
    assert not page.url.endswith(study)


def test_a_folder_can_be_dropped_and_pictures_show_beside_their_heatmaps(visit: Open, picture: Path) -> None:
    one = visit(**WIDE)
    one.sign_in()
    folder = picture.parent / "dropped"
    (folder / "inner").mkdir(parents=True)
    picture.rename(folder / "inner" / "middle.png")
    (folder / ".DS_Store").write_text("clutter")
    (folder / "inner" / "other.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    one.page.locator(".drop").wait_for()
    drag = one.context.new_cdp_session(one.page)
    for kind in ("dragEnter", "dragOver", "drop"):
        data = {"items": [], "files": [str(folder)], "dragOperationsMask": 1}
        drag.send("Input.dispatchDragEvent", {"type": kind, "x": 400, "y": 250, "data": data})
    one.page.wait_for_url(re.compile("#/study/"))
    study = one.served.answered(one.page.url.rpartition("/")[2])
    assert {file["name"] for file in study["sent"]} == {"dropped/inner/middle.png", "dropped/inner/other.png"}
    for name in ("Picture", "Heatmap of"):
        shown = one.page.get_by_role("img", name=name)
        shown.scroll_into_view_if_needed()
        assert shown.evaluate("image => image.decode().then(() => image.naturalWidth)") == 128
    one.page.get_by_role("heading", name="Not read").wait_for()
    one.accessible()


def test_the_list_is_searched_filtered_and_studies_are_deleted(
    visit: Open, served: Served, study: str, picture: Path
) -> None:
    gone = served.answered(served.send(picture))["id"]
    one = visit(**WIDE)
    one.sign_in()
    page = one.page
    page.locator(f"a[href='#/study/{gone}']").wait_for()
    page.get_by_label("Search").fill("phantom-0005")
    page.locator(f"a[href='#/study/{gone}']").wait_for(state="detached")
    assert page.locator(f"a[href='#/study/{study}']").is_visible()
    page.get_by_label("State").select_option("failed")
    page.get_by_text("No study matches.").wait_for()
    page.get_by_label("State").select_option("")
    page.get_by_label("Search").fill(gone)
    erase = page.get_by_role("button", name=re.compile("Delete the study "))
    page.locator(f"a[href='#/study/{study}']").wait_for(state="detached")
    erase.click()
    page.get_by_role("dialog").wait_for()
    one.accessible()
    page.get_by_role("button", name="Cancel").click()
    assert served.get(f"/studies/{gone}")["id"] == gone
    erase.click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.get_by_text("No study matches.").wait_for()
    assert served.client.get(f"/api/v1/studies/{gone}", headers=served.bearer).status_code == 404


def test_a_reader_sees_neither_sending_nor_deleting(visit: Open, served: Served, study: str) -> None:
    reader = Served(
        served.client, served.server, served.worker, add_token(served.server.database, "r", ["read"])
    )
    one = visit(**WIDE)
    one.served = reader
    one.sign_in()
    one.page.locator(f"a[href='#/study/{study}']").wait_for()
    assert one.page.get_by_role("button", name=re.compile("Delete|Choose")).count() == 0
    one.page.goto(f"{one.url}/#/study/{study}")
    one.drawn()
    assert one.page.get_by_role("button", name="Delete this study").count() == 0


def test_two_studies_are_compared_at_the_same_height_of_the_lungs(
    visit: Open, served: Served, study: str, tmp_path: Path
) -> None:
    later = make_phantom(5, shape=(20, 128, 128), lesions=[Lesion("ground glass", 500, side="right")])
    other = served.answered(served.send(*write_phantom_dicom(later, tmp_path / "later")))["id"]
    one = visit(**WIDE)
    one.see(study)
    page = one.page
    page.get_by_role("heading", name="Other studies of this patient").wait_for()
    page.locator(f"a[href='#/compare/{study}/{other}']").click()
    page.get_by_role("heading", name="Follow-up").wait_for()
    assert re.search(r"lesion rose by [\d.]+ percentage points", page.locator(".headline").inner_text())
    page.locator(".stage[data-drawn]").nth(1).wait_for()
    one.accessible()
    before, after = (served.get(f"/studies/{name}")["findings"] for name in (study, other))
    table = page.get_by_role("table").inner_text()
    assert f"{before['both']['lesion_ml']:.0f} ml" in table
    assert f"+{after['both']['lesion_ml'] - before['both']['lesion_ml']:.0f} ml" in table
    first, second = page.locator(".stage").all()
    first.focus()
    page.keyboard.press("End")
    page.keyboard.press("Home")
    lungs = [
        [n for n, one in enumerate(found["slices"]) if sum(one["lungs_px"].values())]
        for found in (before, after)
    ]
    way = (13 - lungs[0][0]) / (lungs[0][-1] - lungs[0][0])
    expected = min(19, round(lungs[1][0] + way * (lungs[1][-1] - lungs[1][0])))
    page.locator(f".stage[data-drawn='{expected + 1}']").wait_for()
    page.get_by_label("Move both").uncheck()
    first.focus()
    page.keyboard.press("End")
    page.locator(".stage[data-drawn='1']").wait_for()
    assert second.get_attribute("data-drawn") == f"{expected + 1}"
    page.get_by_role("button", name="Swap").click()
    page.get_by_text(re.compile(r"lesion fell by [\d.]+ percentage points")).wait_for()


def test_everything_works_on_a_phone(visit: Open, study: str, picture: Path) -> None:
    one = visit(**PHONE)
    one.sign_in()
    page = one.page
    page.locator(f"a[href='#/study/{study}']").wait_for()

    def fits() -> None:
        assert page.evaluate("() => document.documentElement.scrollWidth - innerWidth") <= 0
        one.accessible()

    fits()
    page.locator(f"a[href='#/study/{study}']").tap()
    one.drawn()
    fits()
    stage = page.locator(".stage")
    stage.scroll_into_view_if_needed()
    box, before = stage.bounding_box(), int(stage.get_attribute("data-drawn"))
    touch = one.context.new_cdp_session(page)
    x, y = box["x"] + 100, box["y"] + 150

    def finger(kind: str, *points: tuple[float, float]) -> None:
        touches = [{"x": a, "y": b, "id": number} for number, (a, b) in enumerate(points)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})

    finger("touchStart", (x, y))
    finger("touchMove", (x, y - 16))
    finger("touchEnd")
    one.drawn(before + 2)
    small = one.stage()
    finger("touchStart", (x, y), (x + 40, y))
    finger("touchMove", (x, y), (x + 120, y))
    finger("touchEnd")
    assert np.abs(one.stage().astype(int) - small).mean() > 5
    page.goto(f"{one.url}/#/")
    page.get_by_role("heading", name="Studies").wait_for()
    packed = picture.with_suffix(".zip")
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(picture, "folder/middle.png")
    send(one, packed)
    page.get_by_role("img", name="Picture").wait_for()
    fits()


def test_everything_works_with_the_keyboard_alone(visit: Open, study: str, picture: Path) -> None:
    one = visit(**WIDE)
    page = one.page
    choosers: list[Any] = []
    page.on("filechooser", lambda chooser: choosers.append(chooser))
    page.goto(one.url)
    page.get_by_label("Token").wait_for()
    page.keyboard.type(one.served.token)
    page.keyboard.press("Enter")
    page.locator(f"a[href='#/study/{study}']").wait_for()

    def until(selector: str) -> None:
        for _ in range(80):
            if page.locator(f"{selector}:focus").count():
                return
            page.keyboard.press("Tab")
        pytest.fail(f"{selector} is not reached with the tabulator")

    until("button.main")
    page.keyboard.press("Enter")
    while not choosers:
        page.wait_for_timeout(20)
    choosers[0].set_files(picture)
    page.wait_for_url(re.compile("#/study/"))
    one.served.answered(page.url.rpartition("/")[2])
    page.get_by_role("img", name="Picture").wait_for()
    until("button.danger")
    page.keyboard.press("Enter")
    page.get_by_role("dialog").wait_for()
    assert page.evaluate("() => document.activeElement.textContent") == "Cancel"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Studies").wait_for()
    page.locator(f"a[href='#/study/{study}']").wait_for()
    until(f"a[href='#/study/{study}']")
    page.keyboard.press("Enter")
    one.drawn()
    until(".stage")
    page.keyboard.press("End")
    one.drawn(1)
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    one.drawn(3)
    page.keyboard.press("PageUp")
    one.drawn(13)


def test_colours_follow_the_choice_and_a_print_has_no_controls(visit: Open, study: str) -> None:
    one = visit(**WIDE, color_scheme="light")
    one.see(study)
    page = one.page

    def back() -> str:
        return str(page.evaluate("() => getComputedStyle(document.body).backgroundColor"))

    light = back()
    page.get_by_label("Colours").select_option("dark")
    dark = back()
    assert dark != light
    one.accessible()
    page.reload()
    one.drawn()
    assert back() == dark
    page.get_by_label("Colours").select_option("light")
    page.emulate_media(color_scheme="dark")
    assert back() == light
    page.get_by_label("Colours").select_option("auto")
    assert back() == dark
    page.emulate_media(media="print")
    assert not page.locator(".controls").is_visible()
    assert page.locator(".headline").is_visible()
    assert page.get_by_text("Research use only.").first.is_visible()
    assert back() == "rgb(255, 255, 255)"
    assert page.pdf().startswith(b"%PDF")


def test_an_unknown_study_or_place_is_said_to_be_unknown(visit: Open) -> None:
    one = visit(**WIDE)
    one.sign_in("study/00000000000000000000")
    one.page.get_by_text("there is no such study").wait_for()
    one.page.goto(f"{one.url}/#/elsewhere")
    one.page.get_by_text("There is no such page.").wait_for()
    one.accessible()
