"""One picture of a photo in all built-in styles, with their names."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont

GAP = 8  # pixels between cells
_GROUND, _INK = (255, 255, 255), (40, 40, 40)


def draw_sheet(cells: Mapping[str, np.ndarray]) -> np.ndarray:
    """Pictures uint8 [h,w,3] of one size with their names below -> uint8 [H,W,3], about 4 by 3."""
    height, width = next(iter(cells.values())).shape[:2]
    font_size = max(10, min(22, width // 12))
    font = ImageFont.load_default(size=font_size)
    line = font_size * 7 // 4
    columns = max(1, min(len(cells), round(math.sqrt(len(cells) * 4 / 3 * (height + line) / width))))
    rows = -(-len(cells) // columns)
    size = (GAP + columns * (width + GAP), GAP + rows * (height + line + GAP))
    sheet = Image.new("RGB", size, _GROUND)
    draw = ImageDraw.Draw(sheet)
    for index, (name, cell) in enumerate(cells.items()):
        left = GAP + index % columns * (width + GAP)
        top = GAP + index // columns * (height + line + GAP)
        sheet.paste(Image.fromarray(cell), (left, top))
        draw.text(
            (left + width // 2, top + height + line // 2),
            _fitting(name, font.getlength, width),
            fill=_INK,
            font=font,
            anchor="mm",
        )
    return np.array(sheet)


def _fitting(name: str, length: Callable[[str], float], width: int) -> str:
    """The name, cut with ".." where it is wider than `width` pixels."""
    shown = name
    while shown and length(shown) > width:
        name = name[:-1]
        shown = f"{name}.." if name else ""
    return shown
