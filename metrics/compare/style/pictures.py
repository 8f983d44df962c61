"""Pictures of style-transfer models side by side: pairs, turned styles, and mixed styles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganmod.io.images import center_crop, make_grid, resize, resize_short_side, to_tensor, to_uint8
from metrics.style.interpolation import WEIGHTS
from metrics.style.pair_scores import Contestant
from metrics.style.rotation import TurnedStyle
from style_transfer.procedural_styles import builtin_contents, draw_style

PAIR_CELL, STRIP_CELL = 160, 112  # pixels

Interpolate = Callable[[Any, Any, float], Any]


def content_tensor(image: np.ndarray, size: int) -> Tensor:
    """uint8 [H,W,3] -> [1,3,h,w] in [0,1] with short side `size`, cropped to multiples of 8."""
    image = resize_short_side(image, size)
    return to_tensor(center_crop(image, (image.shape[0] // 8 * 8, image.shape[1] // 8 * 8)))[None]


@torch.inference_mode()
def stylize(contestant: Contestant, content: Tensor, params: Any) -> np.ndarray:
    """Stylize a content, [1,3,H,W] in [0,1] -> uint8 [H,W,3]."""
    result = contestant.model.decode(contestant.model.encode(content), params)
    return to_uint8(result[0].float().clamp(0, 1).cpu())


@torch.inference_mode()
def predict(contestant: Contestant, style: np.ndarray, like: Tensor) -> Any:
    """Predict the parameters of a style, uint8 [H,W,3], on the device of `like`."""
    return contestant.model.predict(contestant.prepare_style(to_tensor(style)[None].to(like.device)))


def pair_picture(
    contestants: Sequence[Contestant],
    contents: Sequence[Tensor],
    styles: Mapping[str, np.ndarray],
    *,
    others: Mapping[str, Callable[[int, int], np.ndarray]] | None = None,
) -> np.ndarray:
    """uint8 [H,W,3]: styles at the top, then one block per content, with one row per model.

    Args:
        contents: [1,3,H,W] in [0,1].
        styles: {name: uint8 [H,W,3]}.
        others: {name of a further row: function of the indices of a content and a style -> uint8 [H,W,3]}.
    """
    cell = (PAIR_CELL, PAIR_CELL)
    rows: list[list[np.ndarray | None]] = [[None, *(_square(style, PAIR_CELL) for style in styles.values())]]
    labels = ["style"]
    params = [[predict(c, style, contents[0]) for style in styles.values()] for c in contestants]
    for c, content in enumerate(contents):
        shown: np.ndarray | None = _square(to_uint8(content[0].cpu()), PAIR_CELL)
        results = {
            contestant.name: [stylize(contestant, content, p) for p in params[i]]
            for i, contestant in enumerate(contestants)
        }
        results |= {name: [read(c, s) for s in range(len(styles))] for name, read in (others or {}).items()}
        for name, images in results.items():
            rows.append([shown, *(_square(image, PAIR_CELL) for image in images)])
            labels.append(name)
            shown = None  # only in the first row
    names = ["content", *(name.replace("_", " ") for name in styles)]
    return make_grid(rows, column_labels=names, row_labels=labels, cell_size=cell)


def rotation_picture(
    contestants: Sequence[Contestant], content: Tensor, styles: Sequence[TurnedStyle]
) -> np.ndarray:
    """uint8 [H,W,3]: for every style, one row with its angles, and one with each model's results."""
    rows: list[list[np.ndarray | None]] = []
    labels: list[str] = []
    shown: np.ndarray | None = _square(to_uint8(content[0].cpu()), STRIP_CELL)
    for style in styles:
        rows.append([None, *(_square(image, STRIP_CELL) for image in style.images)])
        labels.append("style")
        for contestant in contestants:
            results = [stylize(contestant, content, predict(contestant, i, content)) for i in style.images]
            rows.append([shown, *(_square(i, STRIP_CELL) for i in results)])
            labels.append(contestant.name)
            shown = None  # only in the first model's row
    angles = ["content", *(f"{t:g} deg" for t in styles[0].degrees)]
    return make_grid(rows, column_labels=angles, row_labels=labels, cell_size=(STRIP_CELL, STRIP_CELL))


def interpolation_picture(
    models: Sequence[tuple[Contestant, Interpolate]], content: Tensor, style: TurnedStyle
) -> np.ndarray:
    """uint8 [H,W,3]: the style and its quarter turn, then each model's results for mixtures of both."""
    ends = (style.images[0], style.images[len(style.images) // 2])
    edge: list[np.ndarray | None] = [_square(i, PAIR_CELL) for i in ends]
    rows = [[edge[0], *[None] * (len(WEIGHTS) - 2), edge[1]]]
    for contestant, interpolate in models:
        first, last = (predict(contestant, i, content) for i in ends)
        with torch.inference_mode():
            mixed = [interpolate(first, last, weight) for weight in WEIGHTS]
        rows.append([_square(stylize(contestant, content, p), PAIR_CELL) for p in mixed])
    return make_grid(
        rows,
        column_labels=[f"weight {weight:g}" for weight in WEIGHTS],
        row_labels=["style", *(contestant.name for contestant, _ in models)],
        cell_size=(PAIR_CELL, PAIR_CELL),
    )


def free_pair_picture(
    contestants: Sequence[Contestant], *, styles: Sequence[str], size: int, device: torch.device
) -> np.ndarray:
    """`pair_picture` of freely publishable images: scikit-image's photos and drawn styles."""
    contents = [content_tensor(_largest_square(i), size).to(device) for i in builtin_contents().values()]
    return pair_picture(contestants, contents, {name: draw_style(name, 512) for name in styles})


def free_content(size: int, device: torch.device) -> Tensor:
    """A photo bundled with scikit-image, [1,3,size,size] in [0,1]."""
    return content_tensor(_largest_square(builtin_contents()["coffee"]), size).to(device)


def _largest_square(image: np.ndarray) -> np.ndarray:
    return center_crop(image, min(image.shape[:2]))


def _square(image: np.ndarray, side: int) -> np.ndarray:
    return resize(_largest_square(image), (side, side))
