"""Training pairs drawn on the device: crops of all scales, flips and changed colours, a batch at a time.

The distributions are those of `ganmod.data.crops` and `ganmod.data.style_colors`, whose images pass one by
one; here a batch is a few dozen operations on the device that holds all images, however many there are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from configs.style import StyleData

_LUMA = (0.299, 0.587, 0.114)  # Rec. 601


@dataclass(frozen=True)
class ImageStore:
    """Images of any sizes in one tensor. pixels: uint8 [sum of H*W, 3]; the others: int64, one per image."""

    pixels: Tensor
    starts: Tensor  # in pixels
    heights: Tensor
    widths: Tensor

    @classmethod
    def of(cls, images: Sequence[np.ndarray], device: torch.device) -> ImageStore:
        """images: uint8 [H,W,3] each, at least one."""
        if not images:
            raise ValueError("no images: give at least one")
        sizes = torch.tensor([image.shape[:2] for image in images], device=device)
        counts = sizes.prod(dim=1)
        pixels = torch.empty(int(counts.sum()), 3, dtype=torch.uint8, device=device)
        starts = counts.cumsum(0) - counts
        for image, start in zip(images, starts.tolist(), strict=True):
            flat = torch.from_numpy(np.ascontiguousarray(image)).reshape(-1, 3)
            pixels[start : start + len(flat)] = flat.to(device)
        return cls(pixels, starts, sizes[:, 0], sizes[:, 1])

    @property
    def short_sides(self) -> Tensor:
        return torch.minimum(self.heights, self.widths)


class Squares(NamedTuple):
    """Squares in images, int64 [N] each: which image, side, first row and column."""

    image: Tensor
    side: Tensor
    top: Tensor
    left: Tensor


def draw_squares(
    store: ImageStore, image: Tensor, *, crop: int, enlarge: float, generator: torch.Generator
) -> Squares:
    """A random square of a random side in each of the images `image` [N]; see `ganmod.data.crops`."""
    u, v, w = torch.rand(3, len(image), generator=generator, device=image.device)
    longest = store.short_sides[image]
    if enlarge == 1:
        shortest = longest.clamp_max(crop)
        side = shortest + (u * (longest - shortest + 1)).long()
    else:
        low, high = (crop / enlarge) * torch.ones_like(u), longest.float()
        low = torch.minimum(low, high)
        side = (low.log() + u * (high / low).log()).exp().round().long()
    side = torch.minimum(side.clamp_min(1), longest)
    top = (v * (store.heights[image] - side + 1)).long()
    left = (w * (store.widths[image] - side + 1)).long()
    # In float32 a product with a number just below 1 can round up to the whole.
    top, left = (
        torch.minimum(top, store.heights[image] - side),
        torch.minimum(left, store.widths[image] - side),
    )
    return Squares(image, side, top, left)


def resize_weights(side: Tensor, size: int, longest: int) -> Tensor:
    """Bicubic resampling, antialiased as Pillow's, of `side` [N] pixels to `size`: [N,size,longest].

    Rows sum to 1. longest: number of pixels of the input, of which those from `side` on get 0.
    """
    scale = side.float() / size
    centers = (torch.arange(size, device=side.device) + 0.5) * scale[:, None]  # [N,size]
    places = torch.arange(longest, device=side.device) + 0.5
    distance = ((places - centers[..., None]) / scale.clamp_min(1)[:, None, None]).abs()
    near = (1.5 * distance - 2.5) * distance**2 + 1  # Keys' cubic, a = -0.5
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    weights = torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))
    weights = weights * (torch.arange(longest, device=side.device) < side[:, None, None])
    return weights / weights.sum(dim=2, keepdim=True)


def cut(store: ImageStore, squares: Squares, size: int, *, longest: int) -> Tensor:
    """The squares, resized: [N,3,size,size] in [0,1]. longest: no square's side is above it."""
    steps = torch.arange(longest, device=store.pixels.device)
    height, width = store.heights[squares.image, None], store.widths[squares.image, None]
    rows = torch.minimum(squares.top[:, None] + steps, height - 1)  # [N,longest]
    columns = torch.minimum(squares.left[:, None] + steps, width - 1)
    places = store.starts[squares.image, None] + rows * width
    window = store.pixels[places[:, :, None] + columns[:, None]]  # [N,longest,longest,3]
    weights = resize_weights(squares.side, size, longest)[:, None]  # [N,1,size,longest]
    window = window.permute(0, 3, 1, 2).float()
    return (weights @ window @ weights.transpose(2, 3) / 255).clamp(0, 1)


class ColorChange(NamedTuple):
    """Changes of the colours of N pictures, [N] each; see `ganmod.data.style_colors.change_colors`."""

    saturation: Tensor  # factor
    angle: Tensor  # of all hues, radians
    contrast: Tensor  # factor of the luma
    brightness: Tensor  # added to the luma
    inverted: Tensor  # bool, of the luma


def draw_color_changes(num: int, generator: torch.Generator) -> ColorChange:
    """`num` changes with the probabilities of `ganmod.data.style_colors.change_colors`."""
    u = torch.rand(7, num, generator=generator, device=generator.device)
    some = torch.where(u[0] < 0.5, 1.5 + 1.5 * u[1], 0.3 + 1.3 * u[1])
    return ColorChange(
        saturation=torch.where(u[0] < 0.25, 0.0, some),
        angle=torch.where(u[2] < 0.5, (2 * u[3] - 1) * math.pi, 0.0),
        contrast=(1.4 * u[4] - 0.5).exp(),
        brightness=0.5 * u[5] - 0.25,
        inverted=u[6] < 1 / 7,
    )


def change_colors(images: Tensor, change: ColorChange) -> Tensor:
    """images [N,3,H,W] in [0,1] -> the same in other colours."""
    saturation, angle, contrast, brightness, inverted = (x[:, None, None, None] for x in change)
    luma = sum(w * x for w, x in zip(_LUMA, images.split(1, dim=1), strict=True))
    chroma = images - luma
    # Rodrigues' formula about the grey axis (1, 1, 1) / sqrt(3): (a x c) is a difference of shifted channels.
    cross = (chroma.roll(1, dims=1) - chroma.roll(-1, dims=1)) / math.sqrt(3)
    along = chroma.mean(dim=1, keepdim=True)
    chroma = chroma * angle.cos() + cross * angle.sin() + along * (1 - angle.cos())
    luma = (luma - 0.5) * contrast + 0.5 + brightness
    luma = torch.where(inverted, 1 - luma, luma)
    return (luma + chroma * saturation).clamp(0, 1)


class PairDrawer:
    """Random training pairs of contents and styles; equal seeds give equal pairs on one kind of device."""

    def __init__(
        self,
        contents: Sequence[np.ndarray],
        styles: Sequence[np.ndarray],
        data: StyleData,
        *,
        seed: int,
        device: torch.device,
    ) -> None:
        """contents, styles: uint8 [H,W,3] of any sizes; all are held on the device from now on."""
        if not contents or not styles:
            raise ValueError(
                f"got {len(contents)} contents and {len(styles)} styles, expected one of each at least"
            )
        self.num_contents, self.num_styles, self.data = len(contents), len(styles), data
        self.store = ImageStore.of([*contents, *styles], device)
        self.longest = int(self.store.short_sides.max())
        self.generator = torch.Generator(device).manual_seed(seed)

    def __call__(self, num: int) -> tuple[Tensor, Tensor]:
        """(contents, styles), [num,3,crop,crop] in [0,1] each; shares as in `configs.style.StyleData`."""
        data, u = self.data, self._random(5, num)
        same = u[0] < data.same_image
        photo = ~same & (u[0] < data.same_image + data.photo_styles)
        content = self._below(u[1], self.num_contents)
        painting = self.num_contents + self._below(u[2], self.num_styles)
        style = torch.where(photo, self._below(u[3], self.num_contents), painting)

        squares = draw_squares(
            self.store,
            torch.cat([content, style]),
            crop=data.crop,
            enlarge=data.enlarge,
            generator=self.generator,
        )
        images = cut(self.store, squares, data.crop, longest=self.longest)
        if data.flip:
            turned = self._random(1, 2 * num)[0] < 0.5
            images = torch.where(turned[:, None, None, None], images.flip(3), images)
        contents, styles = images.split(num)
        if data.change_colors > 0:
            changed = change_colors(styles, draw_color_changes(num, self.generator))
            styles = torch.where((u[4] < data.change_colors)[:, None, None, None], changed, styles)
        return contents, torch.where(same[:, None, None, None], contents, styles)

    def _random(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.generator, device=self.generator.device)

    def _below(self, u: Tensor, count: int) -> Tensor:
        return (u * count).long().clamp_max(count - 1)
