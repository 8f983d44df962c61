"""The built-in photos and styles of the page, with thumbnails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ganmod.cli.web.page import PHOTOS, PICTURES, STYLES
from ganmod.io.images import read_image
from style_transfer.export import ParameterLayout
from style_transfer.model import StyleTransferModel
from style_transfer.procedural_styles import BUILTIN_STYLES, builtin_contents, builtin_style

THUMBNAIL = 160  # pixels
FIRST_STYLE = "strokes-sea"  # of the page's first picture
_QUALITY: dict[str, Any] = {"quality": 92, "subsampling": 0, "optimize": True}

PHOTO_TITLES = {  # of scikit-image, in the order of the page: (title, author and licence)
    "coffee": ("Coffee", "Rachel Michetti, CC0"),
    "astronaut": ("Astronaut", "NASA, public domain"),
    "chelsea": ("Chelsea the cat", "Stefan van der Walt, CC0"),
    "rocket": ("Rocket", "SpaceX, public domain"),
}


def write_pictures(folder: Path, model: StyleTransferModel) -> None:
    """Write photos, styles, their thumbnails and parameters, and PICTURES, which lists them.

    With the parameters, NAME.params in float32, a built-in style needs no predictor.
    """
    photos = builtin_contents()
    listed = {
        PHOTOS: [
            {"title": title, "credit": credit, **_write(photos[name], folder, f"{PHOTOS}/{name}")}
            for name, (title, credit) in PHOTO_TITLES.items()
        ],
        STYLES: [
            {
                "title": name.replace("-", " ").capitalize(),
                **_write(builtin_style(name), folder, f"{STYLES}/{name}"),
            }
            for name in (FIRST_STYLE, *(name for name in BUILTIN_STYLES if name != FIRST_STYLE))
        ],
    }
    for style in listed[STYLES]:
        params = model.predict_style(read_image(folder / style["file"]))
        packed = ParameterLayout(params).pack(params)[0].numpy().astype("<f4")
        style["params"] = str(Path(style["file"]).with_suffix(".params"))
        (folder / style["params"]).write_bytes(packed.tobytes())
    (folder / PICTURES).write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")


def _write(image: np.ndarray, folder: Path, name: str) -> dict[str, str]:
    """Write NAME.jpg and its square thumbnail -> their names."""
    picture = Image.fromarray(image)
    names = {"file": f"{name}.jpg", "thumbnail": f"{name}-small.jpg"}
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    picture.save(folder / names["file"], **_QUALITY)
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.crop((left, top, left + side, top + side))
    square.resize((THUMBNAIL, THUMBNAIL)).save(folder / names["thumbnail"], **_QUALITY)
    return names
