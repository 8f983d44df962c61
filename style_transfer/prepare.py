"""Conversion of images and parameters for the model: layout, size, padding, interpolation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from configs.limits import MEGAPIXELS
from ganmod.io.images import ImageError, to_uint8

MIN_SIDE = 16
MAX_ASPECT = 16  # of a style, the long side by the short one, beyond which it is made smaller
Filter = Literal["bicubic", "bilinear"]
SCALE_RANGE = (0.1, 10.0)  # of the strokes' width: above, a few pixels of the style fill the image


def to_batch(image: np.ndarray | Tensor, what: str) -> Tensor:
    """uint8 [H,W,3], or float [3,H,W] or [N,3,H,W] in [0,1] -> float [N,3,H,W]; else ValueError."""
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(
                f"{what} is an array {image.dtype} {list(image.shape)}, expected uint8 [H, W, 3]"
            )
        batch = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None].float() / 255
    else:
        batch = image[None] if image.ndim == 3 else image
        if batch.ndim != 4 or batch.shape[1] != 3 or not batch.is_floating_point():
            raise ValueError(
                f"{what} is a tensor {image.dtype} {list(image.shape)}, expected floats in [0, 1], "
                "[3, H, W] or [N, 3, H, W]"
            )
    if min(batch.shape[2:]) < MIN_SIDE:
        height, width = batch.shape[2:]
        raise ValueError(
            f"{what} is {height} x {width} pixels, expected at least {MIN_SIDE} x {MIN_SIDE}: "
            "give a larger image"
        )
    return batch


def from_batch(batch: Tensor, like: np.ndarray | Tensor) -> np.ndarray | Tensor:
    """[N,3,H,W] in [0,1] -> the layout, type and device of `like`."""
    if isinstance(like, np.ndarray):
        return to_uint8(batch[0].cpu())
    return (batch[0] if like.ndim == 3 and len(batch) == 1 else batch).to(like.device, like.dtype)


def crop_style(image: np.ndarray, rectangle: Sequence[int]) -> np.ndarray:
    """Copy the rectangle (x, y, width, height) of uint8 [H,W,3], in pixels from the left and the top.

    Raises ImageError, with the picture's size, for a rectangle below 16 pixels or beyond the picture.
    """
    x, y, width, height = rectangle
    rows, columns = image.shape[:2]
    inside = 0 <= x <= columns - width and 0 <= y <= rows - height
    if not inside or min(width, height) < MIN_SIDE:
        fault = "lies beyond the picture" if not inside else "is too small"
        raise ImageError(
            f"the rectangle {x},{y},{width},{height} (x, y, width, height) {fault}: the picture is {columns} "
            f"wide and {rows} high, expected a part of it of at least {MIN_SIDE} x {MIN_SIDE} pixels"
        )
    return image[y : y + height, x : x + width].copy()


def _resize(images: Tensor, size: int, mode: Filter = "bicubic") -> Tensor:
    height, width = images.shape[2:]
    scale = size / min(height, width)
    shape = [max(round(height * scale), size), max(round(width * scale), size)]
    if shape == [height, width]:
        return images
    if size > min(height, width):
        MEGAPIXELS.check(shape[0] * shape[1] / 1e6, f"a picture enlarged to {shape[1]} x {shape[0]} pixels")
    return F.interpolate(images, size=shape, mode=mode, antialias=True, align_corners=False).clamp(0, 1)


def resize_content(images: Tensor, size: int | None) -> Tensor:
    """Resize the short side of [N,3,H,W] to `size` pixels (antialiased), aspect kept; None: unchanged."""
    if size is not None and size < MIN_SIDE:
        raise ValueError(f"size is {size} pixels, expected at least {MIN_SIDE}")
    return images if size is None else _resize(images, size)


def prepare_style(images: Tensor, size: int) -> Tensor:
    """Resize the short side of style images [N,3,H,W] (antialiased), crop the centre -> [N,3,size,size]."""
    images = _resize(images, size)
    height, width = images.shape[2:]
    top, left = (height - size) // 2, (width - size) // 2
    return images[:, :, top : top + size, left : left + size]


def rotate_style_tensor(
    images: Tensor,
    size: int,
    *,
    degrees: float = 0.0,
    scale: float = 1.0,
    whole: bool = False,
    mode: Filter = "bicubic",
) -> Tensor:
    """Rotate and enlarge style images [N,3,H,W] about their centre -> [N,3,size,size].

    The image continues beyond its border by reflection, so no corner is black and strokes keep their width at
    every angle. (Cropping the inscribed square instead widens strokes by up to 1.41; the parameters predicted
    from it are 3 to 8 times as far from those of a style drawn at that angle.)

    Args:
        size: pixels of the short side at scale 1; of whole images longer than MAX_ASPECT : 1 fewer.
        degrees: counter-clockwise; multiples of 360 change nothing.
        scale: 2 doubles the width of strokes, 0.5 halves it.
        whole: keep the image's aspect, [N,3,h,w]; enlarged up to twice `size`, and cropped beyond.
        mode: "bilinear" for masks [N,1,H,W], which must not overshoot.

    Raises:
        ValueError: for angles that are not finite, and scales outside SCALE_RANGE.
    """
    check_rotation(degrees, scale)
    degrees = degrees % 360
    height, width = images.shape[2:]
    if whole:  # a strip of a thousand pixels by one would become half a million by 512
        size = max(min(size, size * MAX_ASPECT * min(height, width) // max(height, width)), MIN_SIDE)
    if degrees == 0 and scale == 1:
        return _resize(images, size, mode) if whole else prepare_style(images, size)
    images = _resize(images, max(round(size * scale), MIN_SIDE if whole else 1), mode)
    height, width = images.shape[2:]
    # The result's centre is half a pixel off the image's where sides are odd, as in prepare_style.
    rows, columns = (min(side, 2 * size) for side in (height, width)) if whole else (size, size)
    turn = math.radians(degrees)
    # Pixels from the centre, right and down, in the result and, rotated back, in the source.
    down, right = torch.meshgrid(
        *(
            torch.arange(side, dtype=images.dtype, device=images.device) - (side - 1) / 2
            for side in (rows, columns)
        ),
        indexing="ij",
    )
    source_right = math.cos(turn) * right - math.sin(turn) * down + (width - columns) // 2 + columns / 2
    source_down = math.sin(turn) * right + math.cos(turn) * down + (height - rows) // 2 + rows / 2
    grid = torch.stack([source_right * 2 / width - 1, source_down * 2 / height - 1], dim=-1)
    grid = grid.expand(len(images), *grid.shape)  # [N,rows,columns,2]
    rotated = F.grid_sample(images, grid, mode=mode, padding_mode="reflection", align_corners=False)
    return rotated.clamp(0, 1)


def check_rotation(degrees: float, scale: float) -> None:
    """Raise ValueError unless `rotate_style_tensor` accepts this angle and this scale."""
    if not math.isfinite(degrees):
        raise ValueError(f"rotate_style is {degrees}, expected an angle in degrees, such as 45")
    low, high = SCALE_RANGE
    if not low <= scale <= high:
        raise ValueError(
            f"style_scale is {scale}, expected {low} to {high}: 2 for strokes twice as wide, 0.5 for half"
        )


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Reflect-pad [N,3,H,W] at the bottom and right to multiples of `multiple`."""
    bottom, right = (-images.shape[2] % multiple, -images.shape[3] % multiple)
    return F.pad(images, (0, right, 0, bottom), mode="reflect") if bottom or right else images


def interpolate_params(first: list[Any], second: list[Any], weight: float) -> list[Any]:
    """(1 - weight) * first + weight * second, tensor by tensor, of two lists of equal NamedTuples."""
    return [
        type(a)(*(torch.lerp(x, y, weight) for x, y in zip(a, b, strict=True)))
        for a, b in zip(first, second, strict=True)
    ]


def spread_params(params: list[Any], samples: int) -> list[Any]:
    """Expand parameters of one style to `samples` contents; those of several styles are unchanged."""
    return [type(p)(*(x.expand(samples, *x.shape[1:]) if len(x) == 1 else x for x in p)) for p in params]
