"""A real, headless Chromium for tests of pages; without one such tests are skipped.

A module's own fixture holds the browser, `with chromium() as browser: yield browser`; each test
opens its page, `with page(browser, path) as shown:`. With `TEST_BROWSER=1` a missing Chromium
is a failure.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# Read now: every test runs without the `DVID_*` of outside.
DEMANDED = os.environ.get("TEST_BROWSER") == "1"
LOCAL = ("file:", "data:", "blob:", "about:")
WAIT_MS = 30_000


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser, with a home of its own; skips the test, or fails it, where there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        missing = f"no {' or '.join(NAMES)} on PATH"
        pytest.fail(missing) if DEMANDED else pytest.skip(missing)
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        kept = {name: text for name, text in os.environ.items() if not name.startswith("XDG_")}
        browser = playwright.chromium.launch(
            executable_path=found, args=FLAGS, env={**kept, "HOME": home}
        )
        yield browser
        browser.close()


@contextmanager
def profile(
    browser: Browser, *, width: int = 1200, height: int = 800, dark: bool = False
) -> Iterator[BrowserContext]:
    """One visitor; what a page keeps lasts as long as this, unseen by others."""
    scheme: Literal["dark", "light"] = "dark" if dark else "light"
    context = browser.new_context(
        viewport=ViewportSize(width=width, height=height),
        color_scheme=scheme,
        accept_downloads=True,
        reduced_motion="no-preference",
    )
    context.set_default_timeout(WAIT_MS)
    yield context
    context.close()


@contextmanager
def opened(visitor: BrowserContext, path: Path, *, fragment: str = "") -> Iterator[Page]:
    """The file as that visitor sees it, from its `file:` address.

    At the end, whatever the page said on the console as an error, threw, or asked of a network
    fails the test.
    """
    faults: list[str] = []
    shown = visitor.new_page()
    shown.on("console", lambda said: said.type == "error" and faults.append(said.text))
    shown.on("pageerror", lambda error: faults.append(str(error)))
    shown.on("request", lambda asked: asked.url.startswith(LOCAL) or faults.append(asked.url))
    shown.goto(path.resolve().as_uri() + fragment)
    try:
        yield shown
    except BaseException as error:
        error.add_note(f"the page said {faults or 'nothing'}; it shows: {shown.inner_text('body')}")
        raise
    shown.close()
    assert not faults, f"`{path.name}` did what it must not: {faults}"


@contextmanager
def page(
    browser: Browser,
    path: Path,
    *,
    width: int = 1200,
    height: int = 800,
    dark: bool = False,
    fragment: str = "",
) -> Iterator[Page]:
    """The file as a first-time visitor sees it; `opened` says what fails the test at the end."""
    with (
        profile(browser, width=width, height=height, dark=dark) as visitor,
        opened(visitor, path, fragment=fragment) as shown,
    ):
        yield shown


def picture(shown: Page, *, whole: bool = False) -> NDArray[np.uint8]:
    """What is on the screen, or all of the page, uint8 RGB `[H W 3]`."""
    png = shown.screenshot(full_page=whole)
    with Image.open(BytesIO(png)) as image:
        return np.asarray(image.convert("RGB"))


def overflows(shown: Page) -> bool:
    """Whether the page is wider than the screen, so that one must scroll sideways."""
    root = "document.documentElement"
    return bool(shown.evaluate(f"{root}.scrollWidth > {root}.clientWidth"))
