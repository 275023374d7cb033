"""Pages in a headless Chromium: what they complain of, fetch, measure, and look like; and axe-core's view of them."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

WIDE, PHONE = (1280, 900), (390, 844)
"""Viewports in CSS pixels."""
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SERIOUS = ("serious", "critical")


def find_chromium() -> str | None:
    """The program that $CHROMIUM names, or the first of the usual names on PATH."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


needs_chromium = pytest.mark.skipif(
    find_chromium() is None, reason="no Chromium: `apt-get install chromium`, or its program's path in $CHROMIUM"
)


@dataclass
class OpenedPage:
    """A page in the browser.

    Attributes:
        page: playwright's.
        complaints: errors of the console and of scripts.
        fetched: addresses that were asked for, but for the page itself and data URIs.
    """

    page: Any
    complaints: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        return self.page.evaluate(expression)

    def wait_until(self, expression: str, timeout_s: float = 30.0) -> None:
        """Wait until a JavaScript expression is true. (The browser's own waiting needs `eval`, which pages forbid.)"""
        last = time.monotonic() + timeout_s
        while not self.value(expression):
            assert time.monotonic() < last, f"not within {timeout_s:g} s: {expression}"
            self.page.wait_for_timeout(50)

    @property
    def hangs_over(self) -> float:
        """Pixels that the page is wider than the window: 0 where nothing has to be scrolled sideways."""
        return self.value("document.scrollingElement.scrollWidth - innerWidth")

    def violations(self) -> list[str]:
        """What axe-core finds that is serious or critical: the rule, and the elements."""
        self.page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8"))
        found = self.page.evaluate("axe.run().then((result) => result.violations)")
        return [
            f"{each['id']}: {json.dumps([node['html'][:160] for node in each['nodes'][:3]])}"
            for each in found
            if each["impact"] in SERIOUS
        ]


@contextmanager
def opened(file: Path, size: tuple[int, int] = WIDE, dark: bool = False, still: bool = False) -> Iterator[OpenedPage]:
    """Open a file in a window of a size, in the light or dark scheme; `still` asks the page for less motion."""
    from playwright.sync_api import sync_playwright

    # without a sandbox because tests run as root in containers; /dev/shm is small there
    arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--autoplay-policy=no-user-gesture-required"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=arguments)
        try:
            page = browser.new_page(
                viewport={"width": size[0], "height": size[1]},
                color_scheme="dark" if dark else "light",
                reduced_motion="reduce" if still else "no-preference",
            )
            shown = OpenedPage(page)
            page.on(
                "console", lambda message: shown.complaints.append(message.text) if message.type == "error" else None
            )
            page.on("pageerror", lambda error: shown.complaints.append(str(error)))
            page.on("request", lambda request: shown.fetched.append(request.url))
            page.goto(file.absolute().as_uri())
            shown.fetched = [each for each in shown.fetched if not each.startswith(("data:", file.absolute().as_uri()))]
            yield shown
        finally:
            browser.close()
