"""A browser for the page of `ganmod web`; tests that need it are skipped where it is missing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from page_visitor import Visitor, serve

from ganmod.cli.web.page import BUILT, NEEDED, PAGE, collect_page
from ganmod.cli.web.server import PageServer

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, driven by Playwright; no name but this machine's address leads anywhere."""
    missing = [name for name in NEEDED if not (PAGE / BUILT / name).is_file()]
    if missing:
        pytest.skip(f"the page lacks {missing[0]}: run `make web`")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    program = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"needs a browser: {', '.join(BROWSERS)}")
    options = ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=program, args=options)
        yield opened
        opened.close()


@pytest.fixture
def server() -> Iterator[PageServer]:
    """A server of the page without a generator."""
    with serve(collect_page()) as running:
        yield running


@pytest.fixture
def visitor(browser: Any, server: PageServer) -> Iterator[Visitor]:
    """A visitor who has opened the page."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    one = Visitor(context.new_page(), server.address)
    one.open()
    yield one
    context.close()


@pytest.fixture
def folder_of_page(tmp_path: Path) -> Path:
    """A page of empty files, as complete as `make web` leaves it."""
    for name in ("index.html", "app.js", *(f"{BUILT}/{needed}" for needed in NEEDED)):
        path = tmp_path / "page" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "page"
