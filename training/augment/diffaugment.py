"""Differentiable augmentation: colour, translation and cutout of every image, drawn and applied apart.

Source: Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training" (NeurIPS 2020), section 3.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from training.augment.ada_transforms import transform_some

POLICIES = ("color", "translation", "cutout")
TRANSLATION = 0.125  # largest shift, in image sizes
CUTOUT = 0.5  # side of the box, in image sizes


class DiffAugmentParams(NamedTuple):
    """What happens to each of N images. CPU tensors, as `training.augment.ada_draw.AugmentParams`."""

    color: Tensor  # [N,3] float64: brightness added, saturation and contrast multiplied
    shift: Tensor  # [N,2] int64: pixels to the right, pixels down
    box: Tensor  # [N,4] int64: left, top, right, bottom; right and bottom excluded


def parse_policy(policy: str) -> tuple[str, ...]:
    """ "color,translation,cutout" or a part of it -> the names, in the order they are applied.

    ValueError: an unknown name, a name given twice.
    """
    names = [name.strip() for name in policy.split(",") if name.strip()]
    unknown = sorted(set(names) - set(POLICIES))
    if unknown or len(set(names)) != len(names):
        raise ValueError(f"DiffAugment policy is {policy!r}: give each of {', '.join(POLICIES)} at most once")
    return tuple(name for name in POLICIES if name in names)


def draw_diffaugment(
    rng: np.random.Generator, num_samples: int, *, policy: str, image_shape: tuple[int, int]
) -> DiffAugmentParams:
    """DiffAugment parameters of `num_samples` images of (height, width) pixels.

    Brightness U(-0.5, 0.5), saturation U(0, 2), contrast U(0.5, 1.5), shifts up to 1/8 of the image, a box of
    half its sides about any of its pixels. The generator is read equally far whatever the policy.
    ValueError: an unknown policy, no samples, an empty image.
    """
    names = parse_policy(policy)
    if num_samples < 1 or min(image_shape) < 1:
        raise ValueError(f"{num_samples} samples of {image_shape} pixels: give at least one of each")
    size = np.array(image_shape[::-1])

    color = rng.uniform([-0.5, 0.0, 0.5], [0.5, 2.0, 1.5], (num_samples, 3))
    if "color" not in names:
        color[:] = 0.0, 1.0, 1.0
    reach = (size * TRANSLATION + 0.5).astype(np.int64)
    shift = rng.integers(-reach, reach + 1, (num_samples, 2))
    if "translation" not in names:
        shift[:] = 0
    side = (size * CUTOUT + 0.5).astype(np.int64)
    # One more position for an even side, so that the edges are reached equally far.
    first = rng.integers(0, size + 1 - side % 2, (num_samples, 2)) - side // 2
    if "cutout" not in names:
        side = np.zeros_like(side)
    box = np.concatenate([first, first + side], axis=1)
    return DiffAugmentParams(*map(torch.from_numpy, (color, shift, box)))


def diffaugment(images: Tensor, params: DiffAugmentParams) -> Tensor:
    """images [N,C,H,W] in [-1,1], params for N images -> [N,C,H,W], same precision; twice differentiable.

    ValueError: images that are not floating point [N,C,H,W], parameters for another number of images.
    """
    if images.ndim != 4 or not images.is_floating_point():
        raise ValueError(f"images are {images.dtype} {list(images.shape)}: give floating point [N,C,H,W]")
    if len(params.color) != len(images):
        raise ValueError(
            f"DiffAugment parameters are for {len(params.color)} images, the batch has {len(images)}: "
            "draw as many"
        )
    x = images.to(torch.promote_types(images.dtype, torch.float32))
    neutral = torch.tensor([0.0, 1.0, 1.0], dtype=params.color.dtype)
    changed = (params.color != neutral).any(dim=1)
    x = transform_some(x, changed, lambda part, i: change_color(part, params.color[i]))
    changed = (params.shift != 0).any(dim=1)
    x = transform_some(x, changed, lambda part, i: translate_images(part, params.shift[i]))
    changed = (params.box[:, :2] < params.box[:, 2:]).all(dim=1)
    return transform_some(x, changed, lambda part, i: erase(part, params.box[i])).to(images.dtype)


def change_color(images: Tensor, color: Tensor) -> Tensor:
    """Brightness, saturation and contrast of images [N,C,H,W] changed by color [N,3].

    Brightness is added; then distances from the pixel's mean over channels are multiplied by the saturation,
    then those from the image's mean by the contrast.
    """
    brightness, saturation, contrast = color.to(images.device, images.dtype)[:, :, None, None, None].unbind(1)
    x = images + brightness
    grey = x.mean(dim=1, keepdim=True)
    x = grey + (x - grey) * saturation
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (x - mean) * contrast


def translate_images(images: Tensor, shift: Tensor) -> Tensor:
    """images [N,C,H,W] moved by shift [N,2] pixels (to the right, down), 0 where nothing comes from."""
    n, channels, height, width = images.shape
    x = torch.arange(width, device=shift.device) - shift[:, :1]  # [N,W]
    y = torch.arange(height, device=shift.device) - shift[:, 1:]  # [N,H]
    inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None, :]
    source = y.clamp(0, height - 1)[:, :, None] * width + x.clamp(0, width - 1)[:, None, :]  # [N,H,W]
    source = source.reshape(n, 1, -1).to(images.device).expand(-1, channels, -1)
    moved = images.flatten(2).gather(2, source).reshape(images.shape)
    return moved * inside[:, None].to(images.device, images.dtype)


def erase(images: Tensor, box: Tensor) -> Tensor:
    """images [N,C,H,W] with 0 in box [N,4]: left, top, right, bottom, clipped to the image."""
    height, width = images.shape[-2:]
    x, y = torch.arange(width, device=box.device), torch.arange(height, device=box.device)
    columns = (x >= box[:, 0:1]) & (x < box[:, 2:3])  # [N,W]
    rows = (y >= box[:, 1:2]) & (y < box[:, 3:4])  # [N,H]
    kept = ~(rows[:, None, :, None] & columns[:, None, None, :])
    return images * kept.to(images.device, images.dtype)
