"""Images of several domains for StarGAN v2: an endless stream that depends on seed and position alone."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ganmod.data.corrupt_images import MAX_CORRUPT_FILES
from ganmod.data.decoded_images import DecodedImages
from ganmod.data.files import ImageFiles, read_headers
from ganmod.data.labels import Labels, find_labels
from ganmod.data.seeding import draw
from ganmod.io.images import ImageError, resize

CROP_AREA = (0.8, 1.0)  # of the image
CROP_ASPECT = (0.9, 1.1)  # width / height
_ATTEMPTS = 10


class DomainItem(NamedTuple):
    """One position of the stream, or a batch of them with a first axis N."""

    image: Tensor  # uint8 [3,S,S]: the source
    domain: Tensor  # int64 []: its domain
    reference: Tensor  # uint8 [3,S,S]: of the target domain
    other_reference: Tensor  # uint8 [3,S,S]: another one, for the diversity loss
    target: Tensor  # int64 []: the target domain


class DomainImages(Dataset[DomainItem]):
    """Images in one sub-folder per domain, of a folder or a zip: position n of an endless stream -> item.

    Domains are drawn with equal probability, whatever their numbers of images; then images of a domain, with
    replacement, as the published code does. Item n depends on (seed, n) alone. A corrupt file is reported by
    a warning with its name, and the next one of its domain is used.

    Args:
        path: the folder or zip.
        img_size: every image is resized to this side.
        seed: of all draws.
        crop_prob: probability of a random crop: 0.8 to 1 of the area, aspect 0.9 to 1.1.
        mirror: flip half of the images.
        cache_mb: memory for decoded images, in MiB.
        max_corrupt: the number of corrupt files that is tolerated; more raise ImageError.

    Raises:
        ValueError: for fewer than two domains, a domain without a readable image, images outside of the
            domains' folders.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        img_size: int,
        seed: int = 0,
        crop_prob: float = 0.5,
        mirror: bool = True,
        cache_mb: int = 2048,
        max_corrupt: int = MAX_CORRUPT_FILES,
    ) -> None:
        self.img_size, self.seed, self.crop_prob, self.mirror = img_size, seed, crop_prob, mirror
        self.files = ImageFiles(path)
        labels = _domain_labels(self.files)
        self.domains = labels.names
        self.decoded = DecodedImages(
            self.files.read, source=self.files.path, cache_mb=cache_mb, max_corrupt=max_corrupt
        )
        headers, errors = read_headers(self.files)
        for name, error in errors.items():
            self.decoded.corrupt.add(name, error)
        self.names: list[list[str]] = [[] for _ in self.domains]
        for name, domain in zip(self.files.names, labels.values.tolist(), strict=True):
            if name in headers:
                self.names[domain].append(name)
        for domain, names in zip(self.domains, self.names, strict=True):
            if not names:
                raise ValueError(
                    f"domain {domain!r} of {path} holds no readable image: add some, or remove the domain"
                )

    @property
    def counts(self) -> dict[str, int]:
        """{domain: number of images whose header can be read}."""
        return dict(zip(self.domains, map(len, self.names), strict=True))

    def __getitem__(self, position: int) -> DomainItem:
        """Item `position` (0 or more) of the stream."""
        if position < 0:
            raise IndexError(f"got position {position}: the stream starts at 0")
        rng = draw(self.seed, "domain source", position)
        domain = int(rng.integers(len(self.domains)))
        image = self._draw(domain, rng)
        rng = draw(self.seed, "domain references", position)
        target = int(rng.integers(len(self.domains)))
        reference, other = (self._draw(target, rng) for _ in range(2))
        return DomainItem(image, torch.tensor(domain), reference, other, torch.tensor(target))

    def image(self, domain: int, index: int) -> Tensor:
        """Image `index` (modulo their number) of a domain, resized, without crop or flip: uint8 [3,S,S]."""
        return self._resize(self._read(domain, index))

    def _draw(self, domain: int, rng: np.random.Generator) -> Tensor:
        """A random image of the domain, cropped and flipped at random: uint8 [3,S,S]."""
        pixels = self._read(domain, int(rng.integers(len(self.names[domain]))))
        if rng.random() < self.crop_prob:
            top, left, height, width = draw_crop(rng, pixels.shape[0], pixels.shape[1])
            pixels = pixels[top : top + height, left : left + width]
        return self._resize(pixels, flip=self.mirror and rng.random() < 0.5)

    def _resize(self, pixels: np.ndarray, *, flip: bool = False) -> Tensor:
        """uint8 [H,W,3] -> uint8 [3,S,S]."""
        resized = resize(pixels, (self.img_size, self.img_size), resample="bilinear")
        if flip:
            resized = resized[:, ::-1]
        return torch.from_numpy(np.ascontiguousarray(resized.transpose(2, 0, 1)))

    def _read(self, domain: int, index: int) -> np.ndarray:
        """uint8 [H,W,3] of the first readable image of the domain from `index` on."""
        names = self.names[domain]
        readable = self.decoded.first_readable(
            names[(index + step) % len(names)] for step in range(len(names))
        )
        if readable is None:
            raise ImageError(
                f"none of the {len(names)} images of domain {self.domains[domain]!r} can be read"
            )
        return readable[1]


def draw_crop(rng: np.random.Generator, height: int, width: int) -> tuple[int, int, int, int]:
    """A random part of an image of height x width pixels: (top, left, height, width).

    Its share of the area is uniform in CROP_AREA, its aspect log-uniform in CROP_ASPECT. If ten draws do not
    fit into a narrow image, its middle with the nearest aspect is used.
    """
    low, high = (math.log(aspect) for aspect in CROP_ASPECT)
    for _ in range(_ATTEMPTS):
        area = height * width * rng.uniform(*CROP_AREA)
        aspect = math.exp(rng.uniform(low, high))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
    w = min(width, round(height * CROP_ASPECT[1]))
    h = min(height, round(width / CROP_ASPECT[0]))
    return (height - h) // 2, (width - w) // 2, h, w


def _domain_labels(files: ImageFiles) -> Labels:
    """The domain of every image; ValueError, which says how to arrange them, for fewer than two domains."""
    empty = _folders_without_images(files)
    if empty and files.label_file() is None:
        raise ValueError(
            f"domain folder {files.path / empty[0]} holds no image: add some, or remove the folder"
        )
    labels = find_labels(files) or find_labels(files, source="folders")
    assert labels is not None
    if not labels.names:
        raise ValueError(f"{files.path} has vectors as labels: put each domain into a sub-folder instead")
    if labels.c_dim < 2:
        raise ValueError(
            f"{files.path} holds one domain only, {labels.names[0]!r}: translation needs two or more "
            "sub-folders, one per domain"
        )
    return labels


def _folders_without_images(files: ImageFiles) -> list[str]:
    """Top-level sub-folders without an image, except hidden ones."""
    if files.is_zip:
        return []
    with_images = {name.split("/")[0] for name in files.names}
    folders = sorted(path.name for path in files.path.iterdir() if path.is_dir())
    return [name for name in folders if not name.startswith((".", "__")) and name not in with_images]
