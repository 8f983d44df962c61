"""Training images as a stream of crops: what item n shows depends on the seed and n alone."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from ganmod.data.decoded_images import DecodedImages
from ganmod.data.seeding import draw
from ganmod.data.style_colors import change_colors
from ganmod.io.images import ImageError, read_image, resize_short_side

PHOTO_STYLES = 3 * 10**9  # position in the content stream where the photos begin that serve as styles


class CropStream(Dataset[Tensor]):
    """An endless, seeded stream of random square crops: position n -> uint8 [3,crop,crop].

    Every image is seen once per pass, in an order drawn per pass. A corrupt file is reported by name and
    replaced by the next one; more than MAX_CORRUPT_FILES of them raise ImageError.

    Args:
        images: paths, or uint8 [H,W,3].
        purpose: name of the stream, part of its seed and of messages.
        crop: side of the result; the crop is a random square between this and the image's short side.
        short_side: images with a longer short side are first resized to this one.
        seed: of all draws.
        flip: mirror half of the crops.
        enlarge: above 1, crops may be as small as crop / enlarge, their sides log-uniform.
        cache_mb: memory for decoded images, in MiB.
        whole: the centre square of each image instead of a crop.
    """

    def __init__(
        self,
        images: Sequence[Path | np.ndarray],
        *,
        purpose: str,
        crop: int,
        short_side: int,
        seed: int,
        flip: bool = True,
        enlarge: float = 1.0,
        cache_mb: int = 2048,
        whole: bool = False,
    ) -> None:
        if not images:
            raise ValueError(f"no {purpose} images: give at least one")
        if short_side < crop:
            raise ValueError(
                f"short_side is {short_side}, smaller than the crop of {crop}: set it to {crop} or more"
            )
        self.images, self.purpose, self.crop, self.short_side = list(images), purpose, crop, short_side
        self.seed, self.flip, self.enlarge, self.whole = seed, flip, enlarge, whole
        self.decoded = DecodedImages(self._decode, source=f"the {purpose} images", cache_mb=cache_mb)
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, dtype=np.int64))

    def __getitem__(self, position: int) -> Tensor:
        return to_planes(self.pixels(position))

    def pixels(self, position: int) -> np.ndarray:
        """The same crop as uint8 [crop,crop,3]."""
        return self.numbered(position)[1]

    def numbered(self, position: int) -> tuple[int, np.ndarray]:
        """The index of the image in `images`, and its crop as uint8 [crop,crop,3]."""
        index, image = self._image(position)
        return index, self._cut(image, draw(self.seed, self.purpose, position))

    def _cut(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        height, width = image.shape[:2]
        longest = min(height, width)
        if self.whole:
            side = longest
        elif self.enlarge == 1:
            side = int(rng.integers(min(self.crop, longest), longest + 1))
        else:
            shortest = min(self.crop / self.enlarge, longest)
            side = round(math.exp(rng.uniform(math.log(shortest), math.log(longest))))
        if self.whole:
            top, left = (height - side) // 2, (width - side) // 2
        else:
            top, left = int(rng.integers(0, height - side + 1)), int(rng.integers(0, width - side + 1))
        square = Image.fromarray(image[top : top + side, left : left + side])
        if side != self.crop:
            square = square.resize((self.crop, self.crop), Image.Resampling.BICUBIC)
        pixels = np.asarray(square)
        if self.flip and rng.random() < 0.5:
            pixels = pixels[:, ::-1]
        return pixels

    def full_image(self, index: int) -> np.ndarray:
        """Image `index` of `images`, not cropped: uint8 [H,W,3] with a short side of at most `short_side`.

        Raises ImageError for a corrupt file.
        """
        return self.decoded.load(index)

    def fingerprint(self) -> str:
        """SHA-256 over the images' paths, sizes and times of change, or their pixels, and `short_side`."""
        digest = hashlib.sha256(f"short side {self.short_side}\0".encode())
        for image in self.images:
            if isinstance(image, Path):
                status = image.stat()
                stamp = f"{image}\0{status.st_mtime_ns}\0{status.st_size}\0"
                digest.update(stamp.encode(errors="surrogateescape"))
            else:
                digest.update(f"{image.shape}\0".encode() + image.tobytes())
        return digest.hexdigest()

    def _image(self, position: int) -> tuple[int, np.ndarray]:
        epoch, offset = divmod(position, len(self.images))
        if self._order[0] != epoch:
            self._order = (
                epoch,
                draw(self.seed, f"{self.purpose} order", epoch).permutation(len(self.images)),
            )
        order = self._order[1]
        indices = (int(order[(offset + step) % len(order)]) for step in range(len(order)))
        readable = self.decoded.first_readable(indices)
        if readable is None:
            raise ImageError(f"none of the {len(self.images)} {self.purpose} images can be read")
        return readable

    def _decode(self, index: int) -> np.ndarray:
        source = self.images[index]
        image = read_image(source) if isinstance(source, Path) else source
        if min(image.shape[:2]) > self.short_side:
            image = resize_short_side(image, self.short_side)
        return image


class Pairs(Dataset[tuple[Tensor, ...]]):
    """Content and style crops at the same position of their streams.

    The shares are those of `configs.style.StyleData`.

    Args:
        content: the stream of photos.
        style: the stream of styles.
        change_colors: share of the styles with changed colours.
        photo_styles: share of photos among the styles, from positions of `content` beyond those of training.
        same_image: share of pairs whose style is the content itself.
        style_ids: for each style image the learned style that it shows; items then have a third part, that
            number. None: no style is learned.
    """

    def __init__(
        self,
        content: CropStream,
        style: CropStream,
        *,
        change_colors: float = 0.0,
        photo_styles: float = 0.0,
        same_image: float = 0.0,
        style_ids: Sequence[int] | None = None,
    ) -> None:
        self.content, self.style = content, style
        self.style_ids = style_ids
        self.change_colors, self.photo_styles, self.same_image = change_colors, photo_styles, same_image

    def __getitem__(self, position: int) -> tuple[Tensor, ...]:
        content = self.content.pixels(position)
        if self.style_ids is not None:
            index, style = self.style.numbered(position)
            return to_planes(content), to_planes(style), torch.tensor(self.style_ids[index])
        return to_planes(content), to_planes(self._style(position, content))

    def _style(self, position: int, content: np.ndarray) -> np.ndarray:
        if self.change_colors == self.photo_styles == self.same_image == 0:
            return self.style.pixels(position)
        rng = draw(self.style.seed, "style variant", position)
        kind, changed = rng.random(2)
        if kind < self.same_image:
            return content
        if kind < self.same_image + self.photo_styles:
            pixels = self.content.pixels(position + PHOTO_STYLES)
        else:
            pixels = self.style.pixels(position)
        return change_colors(pixels, rng) if changed < self.change_colors else pixels


def to_planes(pixels: np.ndarray) -> Tensor:
    """uint8 [H,W,3] -> uint8 [3,H,W]."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
