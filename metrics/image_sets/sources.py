"""Indexed sets of images for metrics: the files of a folder or a zip, or a generator's samples."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ganmod.data.corrupt_images import MAX_CORRUPT_FILES, CorruptImages
from ganmod.data.files import ImageFiles
from ganmod.data.labels import find_labels
from ganmod.data.seeding import draw, seed_latents
from ganmod.io.images import ImageError, read_image
from ganmod.stylegan2 import Generator
from ganmod.stylegan2.sampling import seed_noise
from metrics.distances.feature_statistics import to_saved_uint8

LOSSY_SUFFIXES = frozenset({".jpg", ".jpeg", ".jfif", ".jp2", ".webp", ".avif"})
_THREADS = 8  # Pillow decodes outside of Python's lock


class ImageSource(Protocol):
    """A set of images that are loaded by index.

    Args:
        num_images: size of the set.
        first_size: (height, width) of the first image, for reports.
    """

    num_images: int
    first_size: tuple[int, int]

    def load(self, indices: Tensor) -> list[Tensor | None]:
        """Indices int64 [n] -> uint8 RGB [3,H,W] each, None for one that cannot be read."""

    def conditions(self) -> dict[str, Any]:
        """Description of the images, as plain values."""

    def close(self) -> None:
        """Close open files."""


class FileImages:
    """The images of a folder or a zip, of any sizes, in the order of their names."""

    def __init__(
        self,
        path: str | Path,
        *,
        num: int | None = None,
        seed: int = 0,
        at_least: int = 2,
        max_corrupt: int = MAX_CORRUPT_FILES,
    ) -> None:
        """List the images; a corrupt file is skipped, with one warning however often it is loaded.

        Args:
            num: size of a random subset; None takes all images.
            seed: of the subset.
            at_least: minimum number of images.
            max_corrupt: more corrupt files than this raise ImageError.

        Raises:
            ValueError: for fewer images than at_least.
        """
        self.files = ImageFiles(path)
        self.names = self.files.names
        self.seed = seed if num is not None and num < len(self.names) else None
        if num is not None and self.seed is not None:
            chosen = draw(seed, "metric files", 0).choice(len(self.names), num, replace=False)
            self.names = [self.names[i] for i in sorted(chosen)]
        self.num_images = len(self.names)
        self._corrupt = CorruptImages(self.files.path, limit=max_corrupt)
        if self.num_images < at_least:
            count = f"{self.num_images} image{'s' if self.num_images > 1 else ''}"
            raise ValueError(f"{path} has {count}, but these metrics need at least {at_least}: give more")
        self.first_size = self._size_of_first()
        self._pool = ThreadPoolExecutor(_THREADS)

    def load(self, indices: Tensor) -> list[Tensor | None]:
        """See ImageSource."""
        names = [self.names[i] for i in indices.tolist()]
        encoded = [self._bytes(name) for name in names]  # a zip is read by one thread
        images = list(self._pool.map(self._decode, encoded, names))
        for name, image in zip(names, images, strict=True):
            if isinstance(image, ImageError):
                self._corrupt.add(name, image)
        return [None if isinstance(image, ImageError) else image for image in images]

    def content_hash(self, done: Callable[[], object] = lambda: None) -> str:
        """SHA-256 over the encoded images in order; calls `done` once per image."""
        digest = hashlib.sha256()
        for name in self.names:
            data = self._bytes(name)
            content = str(data).encode() if isinstance(data, ImageError) else data
            digest.update(f"{len(content)} ".encode() + content)
            done()
        return digest.hexdigest()

    def conditions(self) -> dict[str, Any]:
        """See ImageSource."""
        lossy = sum(posixpath.splitext(name)[1].lower() in LOSSY_SUFFIXES for name in self.names)
        height, width = self.first_size
        return {
            "path": str(self.files.path),
            "num_files": self.num_images,
            "num_lossy_files": lossy,
            "first_size": f"{width}x{height}",
            "subset_seed": self.seed,
        }

    def close(self) -> None:
        """See ImageSource."""
        self._pool.shutdown()
        self.files.close()

    def _size_of_first(self) -> tuple[int, int]:
        """(height, width) of the first image that can be read; ImageError if none can."""
        for name in self.names:
            try:
                header = self.files.header(name)
            except ImageError as error:
                self._corrupt.add(name, error)
                last = error
            else:
                return header.height, header.width
        raise last

    def _bytes(self, name: str) -> bytes | ImageError:
        try:
            return self.files.read_bytes(name)
        except ImageError as error:
            return error

    def _decode(self, encoded: bytes | ImageError, name: str) -> Tensor | ImageError:
        if isinstance(encoded, ImageError):
            return encoded
        try:
            pixels = read_image(encoded, name=self.files.full_name(name))  # uint8 [H,W,3]
        except ImageError as error:
            return error
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


class GeneratorImages:
    """A generator's images: image i has z, noise and label of seed first_seed + i, rounded to 8 bits."""

    def __init__(
        self,
        G: Generator,
        num_images: int,
        *,
        first_seed: int = 0,
        truncation_psi: float = 1.0,
        labels: Tensor | None = None,
        name: str = "",
    ) -> None:
        """Images 0..num_images-1 of a generator.

        Args:
            G: the generator, in eval mode.
            first_seed: seed of image 0.
            truncation_psi: 1 for no truncation.
            labels: float32 [L,c_dim] for a conditional model; each image draws one of them.
            name: of the model, for the conditions.

        Raises:
            ValueError: for labels that do not match the model, and images of other than 1 or 3 channels.
        """
        check_generator(G, labels)
        self.G, self.num_images, self.first_seed, self.labels = G, num_images, first_seed, labels
        self.truncation_psi, self.name = truncation_psi, name
        self.first_size = G.img_resolution

    @torch.no_grad()
    def load(self, indices: Tensor) -> list[Tensor | None]:
        """See ImageSource."""
        seeds = (indices + self.first_seed).tolist()
        device = next(self.G.parameters()).device
        c = None if self.labels is None else labels_of_seeds(self.labels, seeds).to(device)
        images = self.G(
            seed_latents(seeds, self.G.z_dim).to(device),
            c,
            truncation_psi=self.truncation_psi,
            noise=seed_noise(self.G, seeds),
        )
        return list(to_saved_uint8(images.float().expand(-1, 3, -1, -1)))  # grey: three equal channels

    def conditions(self) -> dict[str, Any]:
        """See ImageSource."""
        height, width = self.first_size
        return {
            "model": self.name,
            "num_images": self.num_images,
            "seeds": f"{self.first_seed}-{self.first_seed + self.num_images - 1}",
            "truncation_psi": self.truncation_psi,
            "noise": "random, of the seed",
            "labels": None if self.labels is None else f"drawn from {len(self.labels)}",
            "first_size": f"{width}x{height}",
        }

    def close(self) -> None:
        """See ImageSource."""


def check_generator(G: Generator, labels: Tensor | None) -> None:
    """ValueError for labels that do not match the model, and images of other than 1 or 3 channels."""
    if (labels is None) != (G.c_dim == 0) or (labels is not None and labels.shape[1] != G.c_dim):
        got = "no labels" if labels is None else f"labels {list(labels.shape)}"
        raise ValueError(
            f"got {got} for a model of c_dim {G.c_dim}: a conditional model needs labels [L,{G.c_dim}]"
        )
    if G.img_channels not in (1, 3):
        raise ValueError(f"the model's images have {G.img_channels} channels, expected 1 or 3")


def labels_of_seeds(labels: Tensor, seeds: Sequence[int]) -> Tensor:
    """One of the labels [L,c_dim] drawn for each seed -> [N,c_dim]."""
    return labels[[int(draw(seed, "metric label", 0).integers(len(labels))) for seed in seeds]]


def read_labels(path: str | Path, *, c_dim: int) -> Tensor:
    """The labels float32 [N,c_dim] of a data set's images, one-hot for classes.

    Raises ValueError if the data set has no labels, or labels of another length.
    """
    files = ImageFiles(path)
    labels = find_labels(files)
    files.close()
    if labels is None or labels.c_dim != c_dim:
        has = "no labels" if labels is None else f"labels of {labels.c_dim}"
        raise ValueError(
            f"the model is conditional with c_dim {c_dim}, but {path} has {has}, from which its labels would "
            "be drawn: choose one class with --class, or give the data set that it was trained on"
        )
    values = torch.from_numpy(labels.values)
    return values.float() if values.ndim == 2 else torch.nn.functional.one_hot(values, c_dim).float()
