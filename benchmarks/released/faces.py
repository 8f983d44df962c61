"""Faces of one size on the device, by class, and what a step of a GAN draws there: images, latents, changes.

The distributions are those of `ganmod.data`, `training.stylegan2.step` and `training.augment.diffaugment`,
whose draws belong to samples and so pass one by one; here a batch is a few operations, which a CUDA graph can
hold. All random numbers come from torch's default generator of the device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ganmod.data.domain_images import CROP_AREA, CROP_ASPECT
from ganmod.data.files import ImageFiles
from ganmod.data.labels import find_labels
from ganmod.io.images import resize
from released.inputs import FACES, read_images
from training.augment.diffaugment import (
    CUTOUT,
    TRANSLATION,
    DiffAugmentParams,
    change_color,
    erase,
    parse_policy,
    translate_images,
)
from training.stylegan2.step import Augmenter, Draws

ATTEMPTS = 10  # draws of a crop until one fits
ALL_FACES = "all"  # the class of images that lie in no folder of a class


@dataclass(frozen=True)
class FaceStore:
    """Images of some classes on one device.

    images: uint8 [N,3,S,S], class after class. starts, counts: int64 [classes], where a class begins and how
    many images it has. names: of the classes.
    """

    images: Tensor
    starts: Tensor
    counts: Tensor
    names: tuple[str, ...]

    @classmethod
    def read(cls, folder: Path, size: int | None, device: torch.device) -> FaceStore:
        """All faces of a folder of inputs, decoded once; size: their side, None for the stored one.

        Raises ValueError for inputs without faces, and for images that are not square and of one size.
        """
        path = folder / FACES
        if not path.is_file():
            raise ValueError(
                f"{folder} holds no faces: pack them with `released_models.py pack --faces FOLDER ...`"
            )
        files = ImageFiles(path)
        labels = find_labels(files)
        images = read_images(path)
        sides = {image.shape[:2] for image in images}
        if len(sides) > 1 or len(set(*sides)) > 1:
            raise ValueError(f"{path} holds images of {sorted(sides)} pixels, expected squares of one size")
        if size is not None:
            images = [resize(image, (size, size)) for image in images]
        values = np.zeros(len(images), dtype=np.int64) if labels is None else labels.values
        names = (ALL_FACES,) if labels is None else labels.names
        order = np.argsort(values, kind="stable")
        pixels = torch.from_numpy(np.stack([images[i] for i in order])).permute(0, 3, 1, 2).contiguous()
        counts = torch.from_numpy(np.bincount(values, minlength=len(names)))
        if not bool(counts.all()):
            raise ValueError(
                f"{path}: a class has no images: {dict(zip(names, counts.tolist(), strict=True))}"
            )
        return cls(pixels.to(device), (counts.cumsum(0) - counts).to(device), counts.to(device), names)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size(self) -> int:
        return self.images.shape[2]

    def class_counts(self) -> dict[str, int]:
        """Images by class."""
        return dict(zip(self.names, self.counts.tolist(), strict=True))

    def draw(self, num: int, *, mirror: bool) -> Tensor:
        """`num` of all images, with replacement, half of them flipped if `mirror`: [num,3,S,S] in [-1,1]."""
        index = torch.randint(len(self), (num,), device=self.images.device)
        images = self.images[index].float().div(127.5).sub(1)
        if not mirror:
            return images
        flipped = torch.rand(num, device=images.device) < 0.5
        return torch.where(flipped[:, None, None, None], images.flip(3), images)

    def draw_classes(self, num: int) -> Tensor:
        """`num` classes with equal probability, int64 [num]."""
        return torch.randint(len(self.names), (num,), device=self.images.device)

    def draw_of(self, classes: Tensor, *, crop_prob: float, mirror: bool) -> Tensor:
        """An image of each of the classes [num], cropped and flipped at random: [num,3,S,S] in [-1,1]."""
        counts = self.counts[classes]
        u = torch.rand(len(classes), device=self.images.device, dtype=torch.float64)
        index = self.starts[classes] + (u * counts).long().clamp_max(counts - 1)
        images = self.images[index].float().div(127.5).sub(1)
        return random_views(images, crop_prob=crop_prob, mirror=mirror)


def random_views(images: Tensor, *, crop_prob: float, mirror: bool) -> Tensor:
    """Random parts of square images [N,3,S,S], enlarged to S x S bilinearly; half are flipped if `mirror`.

    As `ganmod.data.domain_images`: with crop_prob a part is one of `draw_crop`, else the whole.
    """
    num, device = len(images), images.device
    areas, aspects = torch.rand(2, ATTEMPTS, num, device=device)
    sides = (CROP_AREA[0] + (CROP_AREA[1] - CROP_AREA[0]) * areas).sqrt()
    low, high = (math.log(aspect) for aspect in CROP_ASPECT)
    roots = (0.5 * (low + (high - low) * aspects)).exp()  # of width / height
    widths, heights = sides * roots, sides / roots
    first = ((widths <= 1) & (heights <= 1)).float().argmax(dim=0, keepdim=True)  # that fits
    u = torch.rand(4, num, device=device)
    whole = u[0] >= crop_prob
    width, height = (
        torch.where(whole, 1.0, side.gather(0, first)[0].clamp_max(1)) for side in (widths, heights)
    )
    x, y = (2 * u[1] - 1) * (1 - width), (2 * u[2] - 1) * (1 - height)  # centres, the image from -1 to 1
    sign = torch.where(u[3] < 0.5, -1.0, 1.0) if mirror else torch.ones_like(x)
    zero = torch.zeros_like(x)
    theta = torch.stack([width * sign, zero, x, zero, height, y], dim=1).reshape(num, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


class DeviceDraws(Draws):
    """`Draws` from torch's default generator of the device: another number in every call."""

    def normals(self, purpose: str, groups: Sequence[int], shape: Sequence[int]) -> Tensor:
        """N(0,1) [len(groups) * group_size, *shape]; they depend neither on the purpose nor on the groups."""
        return torch.randn(len(groups) * self.group_size, *shape, device=self.device, dtype=self.dtype)


@dataclass(frozen=True)
class DeviceAugmenter(Augmenter):
    """`Augmenter` without augmentation or with DiffAugment, drawn on the images' device."""

    def __post_init__(self) -> None:
        if self.config.kind not in ("none", "diffaugment"):
            raise ValueError(
                f"augmentation.kind is {self.config.kind}, which this job cannot draw on a GPU: expected "
                "none or diffaugment"
            )

    def __call__(self, images: Tensor, draws: Draws, purpose: str, groups: Sequence[int]) -> Tensor:
        if self.config.kind == "none":
            return images
        params = draw_diffaugment_on(images, policy=self.config.diffaugment_policy)
        images = translate_images(change_color(images, params.color), params.shift)
        return erase(images, params.box)


def draw_diffaugment_on(images: Tensor, *, policy: str) -> DiffAugmentParams:
    """`draw_diffaugment` for images [N,C,H,W] on their device, with its distributions."""
    names, num, device = parse_policy(policy), len(images), images.device
    sides = (images.shape[3], images.shape[2])  # width, height
    strength = 1.0 if "color" in names else 0.0
    brightness, saturation, contrast = (strength * (torch.rand(3, num, device=device) - 0.5)).unbind()
    color = torch.stack([brightness, 1 + 2 * saturation, 1 + contrast], dim=1)

    shifts, firsts, ends = [], [], []
    for side in sides:
        reach = int(side * TRANSLATION + 0.5) if "translation" in names else 0
        shifts.append(torch.randint(-reach, reach + 1, (num,), device=device))
        box = int(side * CUTOUT + 0.5)
        first = torch.randint(0, side + 1 - box % 2, (num,), device=device) - box // 2
        firsts.append(first)
        ends.append(first + box if "cutout" in names else first)
    return DiffAugmentParams(color, torch.stack(shifts, dim=1), torch.stack([*firsts, *ends], dim=1))
