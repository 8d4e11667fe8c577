"""The web page in Chromium: its size, times until it can be used and until the first slice, and time per frame.

.venv/bin/python benchmarks/page.py
.venv/bin/python benchmarks/page.py --pictures ../pictures     # pictures of each screen, made from phantoms
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import numpy as np
import pydicom
from PIL import Image
from playwright.sync_api import sync_playwright

from common import machine, show, spread
from groundglass.phantom import Lesion, Phantom, make_phantom, random_lesions
from groundglass.phantom.dicom import write_phantom_dicom
from server import Running, server

NO_GPU = ["--no-sandbox", "--disable-gpu", "--disable-software-rasterizer"]
WIDE = {"viewport": {"width": 1280, "height": 900}}
PHONE = {
    "viewport": {"width": 390, "height": 844},
    "is_mobile": True,
    "has_touch": True,
    "device_scale_factor": 2,
}
SCRIPT = """
  window.drawing = [];
  const frame = window.requestAnimationFrame.bind(window);
  window.requestAnimationFrame = action => frame(time => {
    const began = performance.now();
    action(time);
    window.drawing.push(performance.now() - began);
  });
  new MutationObserver(() => {
    window.usable ??= document.querySelector("main h1") && performance.now();
    window.drawn ??= document.querySelector(".stage[data-drawn]:not([data-drawn=''])") && Date.now();
  }).observe(document, { subtree: true, childList: true, attributes: true });
"""
"""Notes when the page can be used, when the first slice is drawn, and how long each frame's script takes."""
SIZES = """() => performance.getEntries().filter(one => !one.name.includes("/api/"))
  .map(one => one.encodedBodySize || 0)"""
FRAMES = """async ([act, count]) => {
  const stage = document.querySelector(".stage"), box = stage.getBoundingClientRect();
  const key = name => stage.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true }));
  const pointer = (kind, x) => stage.dispatchEvent(new PointerEvent(kind, {
    pointerId: 1, bubbles: true, clientX: box.x + x, clientY: box.y + 200, buttons: 1 }));
  stage.setPointerCapture = () => {};
  if (act === "window") pointer("pointerdown", 200);
  window.drawing.length = 0;
  const intervals = [];
  let before = performance.now();
  for (let number = 0; number < count; number++) {
    if (act === "scroll") key(number % 60 < 30 ? "ArrowUp" : "ArrowDown");
    else pointer("pointermove", 200 + (number % 50));
    await new Promise(resolve => requestAnimationFrame(resolve));
    intervals.push(performance.now() - before);
    before = performance.now();
  }
  if (act === "window") pointer("pointerup", 200);
  return { intervals: intervals.slice(1), drawing: window.drawing.filter(time => time > 0.05) };
}"""
FOLLOW_UP = (("20261102", 420.0), ("20261116", 150.0))
"""Dates of two studies of one phantom, and the ml of ground glass."""


@contextmanager
def chromium() -> Iterator[Any]:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        sys.exit("Chromium is not installed; with Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=NO_GPU)
        yield browser
        browser.close()


def opened(browser: Any, running: Running, place: str = "", **how: Any) -> Any:
    """A window of somebody who has signed in."""
    page = browser.new_context(**how).new_page()
    page.add_init_script(SCRIPT)
    page.set_default_timeout(120_000)
    page.goto(f"{running.url}/#/{place}")
    page.get_by_label("Token").fill(running.token)
    page.keyboard.press("Enter")
    page.locator("main h1:not(form h1)").wait_for()
    return page


def measure(slices: int, frames: int, repetitions: int) -> None:
    with tempfile.TemporaryDirectory() as made, server() as (running, _), chromium() as browser:
        folder = Path(made) / "ct"
        write_phantom_dicom(
            make_phantom(1, shape=(slices, 512, 512), lesions=random_lesions(1, "covid")), folder
        )
        usable, listed, first, size, outside = [], [], [], 0, []
        for number in range(repetitions):
            page = browser.new_context(**WIDE).new_page()
            page.add_init_script(SCRIPT)
            page.on("request", lambda one: one.url.startswith(running.url) or outside.append(one.url))
            page.goto(running.url)
            page.get_by_label("Token").wait_for()
            usable.append(page.evaluate("() => window.usable"))
            size = sum(page.evaluate(SIZES))
            page.get_by_label("Token").fill(running.token)
            page.keyboard.press("Enter")
            page.get_by_role("heading", name="Studies").wait_for()
            page.reload()
            page.get_by_role("heading", name="Studies").wait_for()
            listed.append(page.evaluate("() => window.usable"))
            changed = Path(made) / f"ct-{number}"
            shutil.copytree(folder, changed)
            (changed / "more").write_text(str(number))  # other bytes make it another study
            page.locator("[data-picker=folder]").set_input_files(changed)
            page.locator(".stage[data-drawn]:not([data-drawn=''])").wait_for(timeout=600_000)
            with running.client() as client:
                study = client.study(page.url.rpartition("/")[2])
            first.append(
                page.evaluate("() => window.drawn") / 1000
                - datetime.fromisoformat(study["finished"]).timestamp()
            )
            if number < repetitions - 1:
                page.context.close()
        page.get_by_text("All slices loaded").wait_for()
        rows = [
            ("page, compressed", f"{size / 1000:.1f} kB", "150 kB"),
            ("requests to elsewhere", str(len(outside)), "0"),
            ("until the page can be used, ms", spread(usable), "1000"),
            ("until the list can be used, ms", spread(listed), "1000"),
            ("from the answer to the first slice, s", spread(first, ".2f"), "1.5"),
        ]
        for name, boxes in (("", []), (" with all overlays", ["heat"])):
            for box in boxes:
                page.locator(f"[data-overlay={box}]").check()
            for act in ("scroll", "window"):
                found = page.evaluate(FRAMES, [act, frames])
                for what in ("drawing", "intervals"):
                    rows.append((f"{act}{name}, {WORDS[what]}, ms", _percentiles(found[what]), "16"))
    for line in machine():
        print(line)
    show(
        f"The page; {slices} slices of 512 x 512, {frames} frames",
        ("what", "result", "aim"),
        rows,
        markdown=True,
    )


WORDS = {"drawing": "script of a frame", "intervals": "from frame to frame"}


def _percentiles(times: list[float]) -> str:
    return f"median {median(times):.1f}, 95% {quantiles(times, n=20)[18]:.1f}, most {max(times):.1f}"


def pictures(folder: Path) -> None:
    """Pictures of each screen, from phantoms."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as made, server() as (running, _), chromium() as browser:
        before, after, slices = _send(running, Path(made))
        failed = Path(made) / "damaged.dcm"
        failed.write_bytes(b"\0" * 128 + b"DICM" + b"damaged")
        with running.client() as client:
            damaged = client.wait(client.send([failed]))["id"]
        places = {
            "list": "",
            "study": f"study/{after}",
            "pictures": f"study/{slices}",
            "failed": f"study/{damaged}",
            "follow-up": f"compare/{before}/{after}",
        }
        looks = {
            "light": {**WIDE, "color_scheme": "light"},
            "dark": {**WIDE, "color_scheme": "dark"},
            "phone": {**PHONE, "color_scheme": "light"},
        }
        for look, how in looks.items():
            page = browser.new_context(**how).new_page()
            page.goto(running.url)
            page.get_by_label("Token").wait_for()
            page.screenshot(path=folder / f"sign-in-{look}.png")
            page.context.close()
            page = opened(browser, running, **how)
            for name, place in places.items():
                page.goto(f"{running.url}/#/{place}")
                page.locator("main h1").wait_for()
                if name in ("study", "follow-up"):
                    page.locator(".stage[data-drawn]:not([data-drawn=''])").first.wait_for()
                page.wait_for_timeout(700)
                page.screenshot(path=folder / f"{name}-{look}.png", full_page=True)
                if look == "light":
                    page.pdf(path=folder / f"{name}.pdf")
                    page.emulate_media(media="print")
                    page.screenshot(path=folder / f"{name}-print.png", full_page=True)
                    page.emulate_media(media="screen")
            page.context.close()
        _head(opened(browser, running, f"study/{after}", viewport={"width": 1180, "height": 1340}), folder)


def _send(running: Running, made: Path) -> tuple[str, str, str]:
    """Two studies of one phantom, and some of its slices as pictures; the ids."""
    ids = []
    with running.client() as client:
        for date, volume in FOLLOW_UP:
            lesions = [
                Lesion("ground glass", share * volume, side=side)
                for side, share in (("right", 0.6), ("left", 0.4))
            ]
            phantom = make_phantom(3, shape=(40, 320, 320), lesions=[*lesions, Lesion("consolidation", 40)])
            ids.append(client.wait(client.send(_dated(phantom, made / date, date)))["id"])
        files = []
        for number in (12, 17):
            grey = np.clip((phantom.scan.pixels[number] + 1350) / 1500, 0, 1)
            files.append(made / f"slice-{number}.png")
            Image.fromarray(np.rint(255 * grey).astype(np.uint8)).save(files[-1])
        ids.append(client.wait(client.send(files))["id"])
    return ids[0], ids[1], ids[2]


def _dated(phantom: Phantom, folder: Path, date: str) -> list[Path]:
    """The phantom as a study of a certain day."""
    paths = write_phantom_dicom(phantom, folder)
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.StudyDate = dataset.SeriesDate = date
        for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            setattr(dataset, name, f"{getattr(dataset, name)[:-9]}{date}")
        dataset.save_as(path)
    return paths


def _head(page: Any, folder: Path) -> None:
    """The picture for the head of the README."""
    page.locator(".stage[data-drawn]:not([data-drawn=''])").wait_for()
    page.get_by_text("All slices loaded").wait_for()
    page.wait_for_timeout(700)
    page.screenshot(path=folder / "page.png")
    picture = Image.open(folder / "page.png").convert("RGB")
    picture.thumbnail((840, 1100))
    picture.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(
        folder / "page.png", optimize=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=Path, help="write pictures of each screen into this folder")
    parser.add_argument("--slices", type=int, default=60)
    parser.add_argument("--frames", type=int, default=240)
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    if options.pictures:
        pictures(options.pictures)
    else:
        measure(options.slices, options.frames, options.repetitions)


if __name__ == "__main__":
    main()
