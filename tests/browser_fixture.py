"""An installed browser for the tests of pages. Without one they are skipped, but fail where ``CI`` is set.

`conftest` offers the fixture.
"""

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# It runs without a sandbox (containers have none to give) and asks for nothing by itself.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Playwright's Chromium browser object, started once; `browser.new_page(viewport=..., color_scheme="dark")`."""
    path = next((found for found in map(shutil.which, NAMES) if found), None)
    if path is None:
        missing = f"pages cannot be tested: none of {', '.join(NAMES)} is installed"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    playwright = pytest.importorskip("playwright.sync_api").sync_playwright().start()
    try:
        started = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield started
        started.close()
    finally:
        playwright.stop()


def page_errors(page: Any) -> list[str]:
    """What goes wrong on a page from here on: errors on the console, exceptions, and requests that leave the file.

    Call it before `page.goto(path.as_uri())`; the list fills as they happen.
    """
    errors: list[str] = []

    def asked(request: Any) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            errors.append(f"asked for {request.url}")

    page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", asked)
    return errors
