"""The files of the page: sources of the package, and what `make web` and a generator add to them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from ganmod.cli.web.runtime import LICENCE_FILES, RUNTIME_FILES

PAGE = Path(str(files("ganmod") / "web_page"))
BUILT = "built"  # folder of the page that `make web` fills
PICTURES, CONFIG = "pictures.json", "page.json"
GENERATOR_FILES = ("mapping.onnx", "synthesis.onnx", "generator.json")
RUNTIME, MODEL, PHOTOS, STYLES = "ort", "model", "photos", "styles"  # folders in BUILT
_RUNTIME = [f"{RUNTIME}/{name}" for name in (*RUNTIME_FILES, *LICENCE_FILES)]
NEEDED = (*_RUNTIME, f"{MODEL}/model.json", PICTURES)
Content = Path | bytes

# A page on Hugging Face: threads in WebAssembly need the first two headers.
SPACE_README = """\
---
title: Style transfer in your browser
emoji: 🎨
colorFrom: red
colorTo: yellow
sdk: static
pinned: false
license: other
custom_headers:
  cross-origin-opener-policy: same-origin
  cross-origin-embedder-policy: require-corp
  cross-origin-resource-policy: same-origin
---

# Style transfer in your browser

Drop a photo and a style, and the picture is computed on your machine: nothing is uploaded. The page is a
folder of static files, written by `ganmod web --build`. Any host serves it; one that sends the headers above
makes it faster, as several threads compute.

The code is MIT. The weights of the style model were trained on images that are in part for research only, see
`built/model/MODEL_CARD.md`. Licences of all parts: `built/ort/LICENSE`, `built/ort/ThirdPartyNotices.txt`,
and "About" on the page.
"""


class PageError(ValueError):
    """The page is incomplete, or cannot be written."""


def collect_page(page: Path = PAGE, generator: Path | None = None) -> dict[str, Content]:
    """Everything that a browser may load: {path in the URL, without the first slash: file or bytes}.

    Args:
        page: folder of the sources, with what `make web` wrote.
        generator: folder with GENERATOR_FILES, or None.

    Raises:
        PageError: if `make web` has not been run.
    """
    missing = [name for name in NEEDED if not (page / BUILT / name).is_file()]
    if missing:
        raise PageError(
            f"the page lacks {BUILT}/{missing[0]} (in {page}), which is not part of the sources: run "
            "`make web` once, with a network"
        )
    content: dict[str, Content] = {}
    for path in sorted(page.rglob("*")):
        name = path.relative_to(page)
        if path.is_file() and not any(part.startswith(".") for part in name.parts):
            content[name.as_posix()] = path
    if generator is not None:
        content |= {f"{BUILT}/generator/{name}": generator / name for name in GENERATOR_FILES}
    content[f"{BUILT}/{CONFIG}"] = json.dumps(_config(content, generator is not None)).encode()
    return content


def _config(content: Mapping[str, Content], generator: bool) -> dict[str, object]:
    """What page.json tells the page: whether there is a generator, and the sizes of large files."""
    large = (f"{BUILT}/{RUNTIME}/", f"{BUILT}/{MODEL}/", f"{BUILT}/generator/")
    sizes = {
        name.removeprefix(f"{BUILT}/"): value.stat().st_size
        for name, value in content.items()
        if isinstance(value, Path) and name.startswith(large) and name.endswith((".wasm", ".onnx"))
    }
    return {"generator": generator, "bytes": sizes}


def write_page(content: Mapping[str, Content], folder: Path) -> int:
    """Write the page for a static host, with the header that a Hugging Face Space reads -> bytes written.

    Raises PageError for a folder that holds other files.
    """
    everything = {**content, "README.md": SPACE_README.encode()}
    if folder.exists() and not folder.is_dir():
        raise PageError(f"--build {folder} is a file: expected a folder, new or empty")
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    foreign = sorted(name for name in present - set(everything) if not name.startswith("."))
    if foreign:
        raise PageError(
            f"--build {folder} holds {foreign[0]}, which is not of the page: expected a new or empty folder"
        )
    total = 0
    for name, value in everything.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(value, bytes):
            target.write_bytes(value)
        else:
            shutil.copyfile(value, target)
        total += target.stat().st_size
    return total
