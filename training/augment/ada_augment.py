"""Applies ADA's augmentations to images; `training.augment.ada_draw` draws their parameters.

Source: Karras et al. 2020, appendix B. Nothing here is random: images and parameters fix the result, and an
image's result does not depend on its batch, up to rounding.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ganmod.layers import widen
from training.augment.ada_draw import AugmentParams
from training.augment.ada_transforms import band_filter, transform_some, warp


def augment(images: Tensor, params: AugmentParams) -> Tensor:
    """images [N,C,H,W] in [-1,1], C 1 or 3, params for N images -> [N,C,H,W], same precision.

    Twice differentiable with respect to the images. Computed in float32 or float64, under autocast too.
    Images whose parameters are the identity come back bit for bit.
    ValueError: another number of channels, parameters for another number of images, integer images.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not images.is_floating_point():
        raise ValueError(
            f"images are {images.dtype} {list(images.shape)}: give floating point [N,C,H,W] with 1 or 3 "
            "channels"
        )
    if len(params.inverse) != len(images):
        raise ValueError(
            f"augmentation parameters are for {len(params.inverse)} images, the batch has {len(images)}: "
            "draw as many"
        )
    with torch.autocast(images.device.type, enabled=False):
        x = widen(images)
        x = warp(x, params.inverse)
        changed = (params.color != torch.eye(4, dtype=params.color.dtype)).flatten(1).any(dim=1)
        x = transform_some(x, changed, lambda part, i: transform_color(part, params.color[i]))
        changed = (params.band_gains != 1).any(dim=1)
        x = transform_some(x, changed, lambda part, i: band_filter(part, params.band_gains[i]))
        x = transform_some(
            x,
            params.noise_std > 0,
            lambda part, i: add_noise(part, params.noise_std[i], params.noise_seed[i]),
        )
        x = transform_some(x, params.cutout[:, 2] > 0, lambda part, i: cut_out(part, params.cutout[i]))
        return x.to(images.dtype)


def transform_color(images: Tensor, matrices: Tensor) -> Tensor:
    """images [N,C,H,W], matrices [N,4,4] acting on (r, g, b, 1) -> [N,C,H,W].

    A grey image (C 1) is a colour image with three equal channels, and gives the mean of the three results.
    """
    matrices = matrices[:, :3].to(images.device, images.dtype)  # [N,3,4]
    if images.shape[1] == 1:
        grey = matrices.mean(dim=1)  # [N,4]
        return images * grey[:, :3].sum(dim=1)[:, None, None, None] + grey[:, 3, None, None, None]
    # Channel by channel, not as a matrix product, which may run in TF32: coarser than 8-bit colours.
    out = matrices[:, :, 3, None, None]
    for channel in range(3):
        out = out + matrices[:, :, channel, None, None] * images[:, channel : channel + 1]
    return out


def add_noise(images: Tensor, std: Tensor, seed: Tensor) -> Tensor:
    """images [N,C,H,W] + std [N] * Gaussian noise, that of each image from its own seed [N]."""
    noise = []
    for value in seed.tolist():
        generator = torch.Generator(images.device).manual_seed(value)
        noise.append(torch.randn(images.shape[1:], generator=generator, device=images.device))
    return (
        images
        + torch.stack(noise).to(images.dtype) * std.to(images.device, images.dtype)[:, None, None, None]
    )


def cut_out(images: Tensor, boxes: Tensor) -> Tensor:
    """images [N,C,H,W] with 0 in boxes [N,3]: centre x, centre y and side, in image sizes."""
    height, width = images.shape[-2:]
    x = (torch.arange(width, dtype=boxes.dtype) + 0.5) / width
    y = (torch.arange(height, dtype=boxes.dtype) + 0.5) / height
    columns = (x - boxes[:, :1]).abs() < boxes[:, 2:] / 2  # [N,W]
    rows = (y - boxes[:, 1:2]).abs() < boxes[:, 2:] / 2  # [N,H]
    kept = ~(rows[:, None, :, None] & columns[:, None, None, :])  # [N,1,H,W]
    return images * kept.to(images.device, images.dtype)
