"""How long does the page of `ganmod web` take in Chromium, and how many bytes does it load?

The page is served on this machine and driven as a visitor would: square photos of several sizes in a built-in
style, whose parameters come with the page, then drawn styles that the network in the browser has to read. The
first picture of a size is not counted. Seconds are those of the page; the processor time of the browser is
changed less by other programs. Needs `make web`, the package playwright and a Chromium.

    python benchmarks/apps/web_page.py --sizes 256,512,1024
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import shutil
import threading
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ganmod.cli.web.page import Content, collect_page
from ganmod.cli.web.server import PageServer
from ganmod.machine import cpu_name
from metrics.table import Table
from style_transfer.procedural_styles import builtin_contents, draw_style

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
STYLE_TILES = ("Strokes dawn", "Strokes autumn", "Strokes teal", "Strokes meadow")
PARTS = {  # start of a path: what it is
    "built/ort": "onnxruntime-web",
    "built/model": "networks",
    "built/photos": "photos, styles, thumbnails",
    "built/styles": "photos, styles, thumbnails",
}


def encode_png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


class Seconds(NamedTuple):
    """Of one picture: the style's prediction, all the rest, and the browser's processor time for both."""

    style: float
    image: float
    processor: float


class Measured:
    """The page in a browser, and how long its pictures take."""

    def __init__(self, chromium: Any, address: str) -> None:
        self.page = page = chromium.new_page()
        self.session = chromium.new_browser_cdp_session()
        self.spent = 0.0
        self.loaded: list[str] = []
        page.on("request", lambda request: self.loaded.append(request.url.removeprefix(address)))
        page.goto(address)
        self.wait()

    def wait(self) -> Seconds:
        """Wait for a picture."""
        self.page.wait_for_selector("body[data-state=idle]", timeout=600_000)
        processes = self.session.send("SystemInfo.getProcessInfo")["processInfo"]
        spent = sum(process["cpuTime"] for process in processes if process["type"] == "renderer")
        before, self.spent = self.spent, spent
        seconds = json.loads(self.page.get_attribute("body", "data-seconds"))
        return Seconds(seconds["style"], seconds["image"], spent - before)

    def choose(self, what: str, image: np.ndarray) -> Seconds:
        """Use an own photo or style."""
        tiles = self.page.locator(f"#{what}s .tile")
        count = tiles.count()
        with self.page.expect_file_chooser() as chosen:
            self.page.click(f"#add-{what}")
        file = {"name": "picture.png", "mimeType": "image/png", "buffer": encode_png(image)}
        chosen.value.set_files(file)
        tiles.nth(count).wait_for()
        return self.wait()

    def pick(self, style: str) -> Seconds:
        """Use a built-in style."""
        self.page.click(f"#styles .tile[title='{style}']")
        return self.wait()


def loaded_bytes(content: dict[str, Content], paths: list[str]) -> Table:
    """Bytes by part of the page, as they are and compressed as hosts do."""
    plain: Counter[str] = Counter()
    packed: Counter[str] = Counter()
    for path in dict.fromkeys(paths):
        value = content.get(path or "index.html")
        if value is None:  # pictures that the page made itself
            continue
        data = value if isinstance(value, bytes) else value.read_bytes()
        part = next((name for start, name in PARTS.items() if path.startswith(start)), "page")
        plain[part] += len(data)
        packed[part] += len(gzip.compress(data))
    rows: list[list[str | float]] = [[name, plain[name] / 1e6, packed[name] / 1e6] for name in plain]
    rows.append(["all", plain.total() / 1e6, packed.total() / 1e6])
    return Table(["until the first picture", "MB", "MB, gzip"], rows)


def measure(visit: Measured, sizes: list[int], repeats: int) -> Table:
    """Seconds per picture, by size; the style's prediction is in a row of its own."""
    photo = Image.fromarray(builtin_contents()["astronaut"])
    rows: list[list[str | float]] = []
    for size in sizes:
        visit.choose("photo", np.asarray(photo.resize((size, size), Image.Resampling.BICUBIC)))
        taken = [visit.pick(STYLE_TILES[i % len(STYLE_TILES)]) for i in range(repeats)]
        seconds = min(each.image for each in taken)
        rows.append([f"photo of {size} x {size} pixels", seconds, min(each.processor for each in taken)])
    visit.choose("photo", np.asarray(photo.resize((64, 64))))
    drawn = [draw_style("mosaic", 512, seed=100 + i) for i in range(repeats + 1)]
    taken = [visit.choose("style", style) for style in drawn][1:]
    seconds = min(each.style for each in taken)
    rows.append(["style of 512 x 512 pixels", seconds, min(each.processor for each in taken)])
    return Table(["smallest time for a", "seconds", "processor seconds"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="256,512,1024", help="sides of the photos in pixels")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--browser", help="path of a Chromium")
    options = parser.parse_args()
    browser = options.browser or next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None or not Path(browser).is_file():
        parser.error(f"found no browser, expected one of {', '.join(BROWSERS)}: give --browser PATH")
    from playwright.sync_api import sync_playwright

    content = collect_page()
    with PageServer(content) as server, sync_playwright() as driver:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        chromium = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        visit = Measured(chromium, server.address)
        first = list(visit.loaded)
        cores = visit.page.evaluate("navigator.hardwareConcurrency")
        visit.page.wait_for_selector("body[data-preloaded]", timeout=600_000)
        sizes = [int(size) for size in options.sizes.split(",")]
        print(f"Chromium {chromium.version}, {cpu_name()}, {cores} cores\n")
        print(measure(visit, sizes, options.repeats).to_markdown(), end="\n\n")
        print(loaded_bytes(content, first).to_markdown())
        chromium.close()
        server.shutdown()


if __name__ == "__main__":
    main()
