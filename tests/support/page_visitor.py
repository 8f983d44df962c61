"""A visitor of the page of `ganmod web`, in a browser that Playwright drives, and a server for them."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image

from ganmod.cli.web.server import PageServer


@contextmanager
def serve(content: dict[str, Any]) -> Iterator[PageServer]:
    """A server of the page in a thread."""
    with PageServer(content) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


class Visitor:
    """A visitor of the page: what they do, and what the browser asked for and reported.

    Attributes:
        page: Playwright's.
        requests: addresses that the page asked for.
        reports: errors and warnings in the console.
    """

    def __init__(self, page: Any, address: str) -> None:
        self.page, self.address = page, address
        self.requests: list[str] = []
        self.reports: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.reports.append(str(error)))
        page.on("console", lambda m: self.reports.append(m.text) if m.type in ("error", "warning") else None)

    def open(self) -> None:
        self.page.goto(self.address)
        self.page.wait_for_selector("body[data-state]")

    def choose(self, what: str, image: np.ndarray | bytes, name: str = "own.png") -> None:
        """Choose a file; what: "photo" or "style". Returns at once."""
        data = image if isinstance(image, bytes) else png(image)
        self.page.locator(f"#add-{what}").scroll_into_view_if_needed()
        with self.page.expect_file_chooser() as chosen:
            self.page.click(f"#add-{what}")
        chosen.value.set_files({"name": name, "mimeType": "", "buffer": data})

    def choose_and_wait(self, what: str, image: np.ndarray, name: str = "own.png") -> None:
        """Choose a picture and wait until it has its tile."""
        tiles = self.page.locator(f"#{what}s .tile")
        count = tiles.count()
        self.choose(what, image, name)
        tiles.nth(count).wait_for()

    def slide(self, name: str, value: float) -> None:
        """Set a slider."""
        self.page.eval_on_selector(
            f"#{name}",
            "(e, value) => { e.value = value; e.dispatchEvent(new Event('input', {bubbles: true})) }",
            value,
        )

    def wait(self, seconds: float = 120) -> None:
        """Wait until nothing is being computed."""
        self.page.wait_for_selector("body[data-state=idle]", timeout=1000 * seconds)

    def result(self, button: str = "download") -> np.ndarray:
        """The picture that the visitor downloads."""
        with self.page.expect_download() as started:
            self.page.click(f"#{button}")
        return np.asarray(Image.open(started.value.path()).convert("RGB"))

    def error(self) -> str:
        """The message that is shown, "" for none."""
        return self.page.locator("#error p").inner_text() if self.page.locator("#error").is_visible() else ""


def png(image: np.ndarray) -> bytes:
    """uint8 [H,W,3] as a file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()
