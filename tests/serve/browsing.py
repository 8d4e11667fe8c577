"""A real Chromium that visits a server in the tests' own process."""

import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import uvicorn
from numpy.typing import NDArray
from PIL import Image
from serving import Served

REQUIRED = "GROUNDGLASS_TEST_BROWSER"
"""Where this is set, as in continuous integration, a missing browser is a failure."""
NO_WEBGL = ("--no-sandbox", "--disable-gpu", "--disable-software-rasterizer")
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa")
EDGE = 8
WIDE = {"viewport": {"width": 1280, "height": 900}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


def chromium() -> str:
    """Where Chromium is; skips the test if it is nowhere."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        (pytest.fail if os.environ.get(REQUIRED) else pytest.skip)("Chromium is not installed")
    return str(found)


@contextmanager
def listening(app: Any) -> Iterator[str]:
    """The address of an application that was already started, as a server on the loopback address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


class Visit:
    """One browser window with somebody who uses the page.

    Parameters
    ----------
    browser
        Playwright's.
    url
        The server's address.
    served
        The server.
    how
        Size and kind of the window.
    """

    def __init__(self, browser: Any, url: str, served: Served, **how: Any) -> None:
        self.url, self.served = url, served
        self.context = browser.new_context(**how)
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.outside: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", self._request)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._console)

    def _request(self, request: Any) -> None:
        if not request.url.startswith((self.url, "blob:")):
            self.outside.append(request.url)

    def _console(self, message: Any) -> None:
        if (
            message.type == "error" and "status of 4" not in message.text
        ):  # 401 before signing in, 422 refusals
            self.errors.append(message.text)

    def sign_in(self, place: str = "") -> None:
        self.page.goto(f"{self.url}/#/{place}")
        self.page.get_by_label("Token").fill(self.served.token)
        self.page.keyboard.press("Enter")
        self.page.locator("main h1").wait_for()

    def see(self, study: str) -> None:
        """Sign in and look at a study until its slice is drawn."""
        self.sign_in(f"study/{study}")
        self.drawn()

    def drawn(self, number: int | None = None) -> None:
        which = "[data-drawn]:not([data-drawn=''])" if number is None else f"[data-drawn='{number}']"
        self.page.locator(f".stage{which}").first.wait_for()

    def stage(self) -> NDArray[np.uint8]:
        """The viewer's image, in RGB, without the edge, which shows the focus."""
        self.page.wait_for_timeout(60)  # a frame or two
        picture = self.page.locator(".stage canvas").first.screenshot()
        return np.asarray(Image.open(BytesIO(picture)).convert("RGB"))[EDGE:-EDGE, EDGE:-EDGE]

    def accessible(self) -> None:
        """Check the state that is shown with axe-core, by the rules of WCAG 2.2 AA."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page, options={"runOnly": {"type": "tag", "values": list(RULES)}})
        assert not found.response["violations"], found.generate_report()

    def clean(self) -> None:
        """Check that nothing was loaded from other servers, and that there were no errors."""
        self.context.close()
        assert self.outside == []
        assert self.errors == []
