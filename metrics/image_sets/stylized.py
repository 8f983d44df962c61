"""Sets of images for the metrics of style transfer: cropped files, and stylized pairs of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganmod.data.seeding import draw
from ganmod.io.images import center_crop, resize_short_side
from metrics.image_sets.sources import FileImages
from style_transfer import StyleTransferModel


class CroppedImages:
    """The images of several folders or zips in one set: short side resized, middle cropped."""

    def __init__(
        self, paths: Sequence[str | Path], *, size: int, at_least: int = 1, cache_mb: int = 256
    ) -> None:
        """List the images of all paths.

        Args:
            paths: folders or zips.
            size: side of the square in pixels.
            at_least: minimum number of images.
            cache_mb: size of the cache of decoded images in MiB.

        Raises:
            ValueError: for fewer images than at_least.
        """
        self.parts = [FileImages(path, at_least=1) for path in paths]
        self.size, self.first_size = size, (size, size)
        self.num_images = sum(part.num_images for part in self.parts)
        if self.num_images < at_least:
            names = ", ".join(map(str, paths))
            raise ValueError(f"{names}: {self.num_images} images, but {at_least} are needed: give more")
        self._cache: dict[int, Tensor] = {}
        self._cache_size = cache_mb * 2**20 // (3 * size * size)
        self._locations = [(part, i) for part in self.parts for i in range(part.num_images)]

    def load(self, indices: Tensor) -> list[Tensor | None]:
        """See ImageSource."""
        return [self._crop(index) for index in indices.tolist()]

    def content_hash(self, done: Callable[[], object] = lambda: None) -> str:
        """SHA-256 over the encoded images in order and the size; calls `done` once per image."""
        digest = hashlib.sha256(f"cropped to {self.size}".encode())
        for part in self.parts:
            digest.update(part.content_hash(done).encode())
        return digest.hexdigest()

    def conditions(self) -> dict[str, Any]:
        """See ImageSource."""
        parts = [part.conditions() for part in self.parts]
        return {
            "path": ", ".join(part["path"] for part in parts),
            "num_files": self.num_images,
            "num_lossy_files": sum(part["num_lossy_files"] for part in parts),
            "first_size": f"{self.size}x{self.size}",
            "preparation": f"short side resized to {self.size}, middle cropped",
        }

    def close(self) -> None:
        """See ImageSource."""
        for part in self.parts:
            part.close()

    def _crop(self, index: int) -> Tensor | None:
        if index in self._cache:
            return self._cache[index]
        part, index_in_part = self._locations[index]
        (image,) = part.load(torch.tensor([index_in_part]))
        if image is None:
            return None
        pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
        cropped = center_crop(resize_short_side(pixels, self.size), self.size)
        tensor = torch.from_numpy(np.ascontiguousarray(cropped.transpose(2, 0, 1)))
        if len(self._cache) < self._cache_size:
            self._cache[index] = tensor
        return tensor


class StylizedImages:
    """Stylized images: image i is content pairs[i][0] in style pairs[i][1], rounded to 8 bits."""

    def __init__(
        self,
        model: StyleTransferModel,
        contents: CroppedImages,
        styles: CroppedImages,
        pairs: Sequence[tuple[int, int]],
    ) -> None:
        """Stylize with `model`.

        Args:
            model: the model.
            contents: images to stylize.
            styles: style images.
            pairs: (index of a content, index of a style); sort them by style, which is predicted once then.
        """
        self.model, self.contents, self.styles, self.pairs = model, contents, styles, tuple(pairs)
        self.num_images, self.first_size = len(self.pairs), contents.first_size
        self._predicted: tuple[int, Any] = (-1, None)

    def load(self, indices: Tensor) -> list[Tensor | None]:
        """See ImageSource."""
        results: list[Tensor | None] = []
        for index in indices.tolist():
            content, style = self.pairs[index]
            (image,) = self.contents.load(torch.tensor([content]))
            params = self._params(style)
            if image is None or params is None:
                results.append(None)
                continue
            pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
            stylized = self.model.apply_params(pixels, params)
            results.append(torch.from_numpy(np.ascontiguousarray(stylized.transpose(2, 0, 1))))
        return results

    def conditions(self) -> dict[str, Any]:
        """See ImageSource."""
        return {
            "num_images": self.num_images,
            "num_contents": self.contents.num_images,
            "num_styles": self.styles.num_images,
            "first_size": f"{self.contents.size}x{self.contents.size}",
        }

    def close(self) -> None:
        """See ImageSource."""

    def _params(self, style: int) -> Any:
        """Predicted parameters, None for a style that cannot be read."""
        if self._predicted[0] != style:
            (image,) = self.styles.load(torch.tensor([style]))
            params = None
            if image is not None:
                params = self.model.predict_style(np.ascontiguousarray(image.permute(1, 2, 0).numpy()))
            self._predicted = style, params
        return self._predicted[1]


def draw_pairs(
    num_contents: int, num_styles: int, num: int, *, draws: int, seed: int
) -> list[list[tuple[int, int]]]:
    """`draws` disjoint sets of `num` different pairs (content, style), each sorted by style.

    Raises ValueError where there are fewer than draws x num pairs.
    """
    available = num_contents * num_styles
    if num * draws > available:
        raise ValueError(
            f"{num_contents} contents x {num_styles} styles are {available} pairs, fewer than {draws} draws "
            f"of {num}: give more images, or --num {available // draws}"
        )
    chosen = draw(seed, "style pairs", 0).choice(available, num * draws, replace=False)
    sets = np.split(chosen, draws)
    return [[(int(i) % num_contents, int(i) // num_contents) for i in sorted(one)] for one in sets]
