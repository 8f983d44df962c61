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
from style_transfer.procedural_styles import builtin_contents, draw_style

STYLE_SIDE, THUMBNAIL = 512, 160  # pixels
_QUALITY: dict[str, Any] = {"quality": 92, "subsampling": 0, "optimize": True}

PHOTO_TITLES = {  # of scikit-image, in the order of the page: (title, author and licence)
    "coffee": ("Coffee", "Rachel Michetti, CC0"),
    "astronaut": ("Astronaut", "NASA, public domain"),
    "chelsea": ("Chelsea the cat", "Stefan van der Walt, CC0"),
    "rocket": ("Rocket", "SpaceX, public domain"),
}
DRAWN_STYLES = {  # title: (name, seed, angle in degrees) for `draw_style`
    "Starry oils": ("brush_strokes", 6, 0),
    "Sunset oils": ("brush_strokes", 1, 0),
    "Harlequin": ("brush_strokes", 5, 0),
    "Embers": ("brush_strokes", 7, 0),
    "Reef": ("brush_strokes", 8, 0),
    "Meadow": ("brush_strokes", 4, 0),
    "Coral mosaic": ("mosaic", 5, 0),
    "Plum mosaic": ("mosaic", 11, 0),
    "Night dots": ("dots", 2, 0),
    "Peach dots": ("dots", 4, 0),
    "Lagoon stripes": ("stripes", 6, 30),
    "Ink": ("circles_and_squares", 0, 0),
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
                "title": title,
                **_write(
                    draw_style(name, STYLE_SIDE, seed, angle),
                    folder,
                    f"{STYLES}/{title.lower().replace(' ', '-')}",
                ),
            }
            for title, (name, seed, angle) in DRAWN_STYLES.items()
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
