"""Images of one size for GANs, with labels: an endless stream that depends on seed and position alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ganmod.data.corrupt_images import MAX_CORRUPT_FILES
from ganmod.data.decoded_images import DecodedImages
from ganmod.data.files import ImageFiles, check_one_size, read_headers
from ganmod.data.labels import find_labels
from ganmod.data.seeding import draw
from ganmod.io.images import ImageError

MIN_IMAGES = 2

LabelUse = Literal["auto", "required", "none"]


class ImageDataset(Dataset[tuple[Tensor, Tensor]]):
    """Images of one size in a folder or a zip, with their labels: position n of an endless stream -> item.

    An item is (image uint8 [3,H,W] in 0..255, label float32 [c_dim]); a class is one-hot, and c_dim is 0
    without labels. Item n depends on (seed, n) alone; every pass shows every image once, in a random order.
    `image`, `label` and `image_batches` return the images by index, in the order of their names, not flipped.
    A corrupt file is reported by a warning with its name and left out; the stream shows the next one instead.

    Args:
        path: the folder or zip.
        resolution: the expected size, a side or (height, width); images are never resized here.
        labels: "auto" takes those of dataset.json or, without that file, of sub-folders; "required" raises if
            there are none; "none" ignores them.
        seed: of the order and the flips.
        mirror: flip half of the positions left to right.
        cache_mb: memory for decoded images in each worker, in MiB.
        max_corrupt: the number of corrupt files that is tolerated; more raise ImageError.

    Raises:
        ValueError: for a path without images, fewer than MIN_IMAGES of them, mixed sizes (names two), a size
            other than `resolution`, missing or malformed labels.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        resolution: int | tuple[int, int] | None = None,
        labels: LabelUse = "auto",
        seed: int = 0,
        mirror: bool = False,
        cache_mb: int = 2048,
        max_corrupt: int = MAX_CORRUPT_FILES,
    ) -> None:
        if labels not in ("auto", "required", "none"):
            raise ValueError(f"got labels={labels!r}, expected auto, required or none")
        self.seed, self.mirror = seed, mirror
        self.files = ImageFiles(path)
        all_labels = find_labels(self.files, source="none" if labels == "none" else "auto")
        if all_labels is None and labels == "required":
            raise ValueError(
                f"{path} has no labels, but a conditional model needs them: put each class into a "
                'sub-folder, add a dataset.json with {"labels": [["name.png", 0], ...]}, or train without '
                "labels"
            )

        headers, errors = read_headers(self.files)
        self.decoded = DecodedImages(
            self._decode, source=self.files.path, cache_mb=cache_mb, max_corrupt=max_corrupt
        )
        for name, error in errors.items():
            self.decoded.corrupt.add(name, error)
        if len(headers) < MIN_IMAGES:
            raise ValueError(
                f"{path} has {len(headers)} readable images, but training needs at least {MIN_IMAGES}"
            )
        check_one_size(headers, self.files.path)
        keep = [i for i, name in enumerate(self.files.names) if name in headers]
        self.names = [self.files.names[i] for i in keep]
        self._numbers = {name: index for index, name in enumerate(self.names)}
        self.labels = None if all_labels is None else all_labels.subset(keep)
        height, width, _ = headers[self.names[0]]
        self.image_shape = (3, height, width)
        self._check_resolution(resolution)

        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, dtype=np.int64))

    @property
    def num_images(self) -> int:
        """Number of images whose header can be read."""
        return len(self.names)

    @property
    def c_dim(self) -> int:
        """Length of a label: the number of classes or of a vector's entries; 0 without labels."""
        return 0 if self.labels is None else self.labels.c_dim

    @property
    def label_names(self) -> tuple[str, ...]:
        """One per class; empty without classes."""
        return () if self.labels is None else self.labels.names

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor]:
        """Item `position` (0 or more) of the stream: image uint8 [3,H,W], label float32 [c_dim]."""
        index, pixels = self._readable(position)
        if self.mirror and draw(self.seed, "images flip", position).random() < 0.5:
            pixels = pixels[:, :, ::-1]
        return torch.from_numpy(pixels.copy()), self.label(index)

    def image(self, index: int) -> Tensor:
        """Image `index` of num_images, uint8 [3,H,W], not flipped; ImageError, which names it, if corrupt."""
        return torch.from_numpy(self.decoded.load(self.names[self._check_index(index)]).copy())

    def label(self, index: int) -> Tensor:
        """Label of image `index` of num_images, float32 [c_dim]."""
        index = self._check_index(index)
        if self.labels is None:
            return torch.empty(0)
        value = self.labels.values[index]
        return torch.from_numpy(value.copy()) if value.ndim else self._one_hot(int(value))

    def image_batches(self, batch_size: int, *, indices: Iterable[int] | None = None) -> Iterator[Tensor]:
        """The images `indices` (default: all) in order, not flipped, as uint8 [N,3,H,W].

        Corrupt images are left out and reported; the last batch may be smaller.
        """
        if batch_size < 1:
            raise ValueError(f"got batch_size {batch_size}, expected 1 or more")
        batch: list[Tensor] = []
        for index in range(self.num_images) if indices is None else indices:
            try:
                batch.append(self.image(index))
            except ImageError as error:
                self.decoded.corrupt.add(self.names[index], error)
            if len(batch) == batch_size:
                yield torch.stack(batch)
                batch = []
        if batch:
            yield torch.stack(batch)

    def _readable(self, position: int) -> tuple[int, np.ndarray]:
        """(index, pixels [3,H,W]) of a position: the first readable image from there on in its pass."""
        if position < 0:
            raise IndexError(f"got position {position}: the stream starts at 0")
        number, offset = divmod(position, self.num_images)
        if self._order[0] != number:
            self._order = number, draw(self.seed, "images order", number).permutation(self.num_images)
        order = self._order[1]
        indices = (int(order[(offset + step) % self.num_images]) for step in range(self.num_images))
        readable = self.decoded.first_readable(self.names[index] for index in indices)
        if readable is None:
            raise ImageError(f"none of the {self.num_images} images of {self.files.path} can be read")
        name, pixels = readable
        return self._numbers[name], pixels

    def _decode(self, name: str) -> np.ndarray:
        """uint8 [3,H,W]; ValueError for another size than the others'."""
        pixels = np.ascontiguousarray(self.files.read(name).transpose(2, 0, 1))
        if pixels.shape != self.image_shape:
            got, expected = (f"{w}x{h}" for _, h, w in (pixels.shape, self.image_shape))
            raise ValueError(
                f"{self.files.full_name(name)} is {got} (width x height), but {self.names[0]} "
                f"is {expected}. Make them equal: ganmod data pack {self.files.path} OUT.zip "
                f"--size {expected}"
            )
        return pixels

    def _check_index(self, index: int) -> int:
        if not 0 <= index < self.num_images:
            raise IndexError(f"got image {index}, expected 0 to {self.num_images - 1}")
        return index

    def _one_hot(self, number: int) -> Tensor:
        label = torch.zeros(self.c_dim)
        label[number] = 1
        return label

    def _check_resolution(self, resolution: int | tuple[int, int] | None) -> None:
        if resolution is None:
            return
        height, width = (resolution, resolution) if isinstance(resolution, int) else resolution
        _, got_height, got_width = self.image_shape
        if (got_height, got_width) != (height, width):
            raise ValueError(
                f"the images of {self.files.path} are {got_width}x{got_height} (width x height), but the "
                f"configured resolution is {width}x{height}. Set it to theirs, or resize: ganmod data pack "
                f"{self.files.path} OUT.zip --size {width}x{height}"
            )
