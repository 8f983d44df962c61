"""Decoding of pictures to uint8 RGB: every mode, upright, and large ones reduced while they are decoded."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import IO

import numpy as np
from PIL import Image

from configs.limits import MEGAPIXELS

# Pillow hands these to an outside program (Ghostscript), whatever the file's suffix says.
_REFUSED_FORMATS = frozenset({"EPS"})

EXIF_ORIENTATION = 0x0112

# Pictures of more pixels are reduced before they become float32, for those who need few pixels of them;
# photos of usual cameras are not.
LARGE = 32 * 2**20
SPARE = 4  # a reduced picture has this many times the pixels of a side that are asked for
_STRIP = 2**22  # pixels that are converted at a time


def decode_rgb(stream: IO[bytes], *, short_side: int | None = None) -> np.ndarray:
    """Decode the picture in a stream as uint8 [H,W,3], as `ganmod.io.images.read_image` says.

    short_side: see `reduced_size`. Raises what Pillow raises, and ValueError beyond `MEGAPIXELS`.
    """
    with open_picture(stream) as image:
        target = None if short_side is None else reduced_size(image.height, image.width, short_side)
        if target is not None:
            image.draft(None, target[::-1])  # JPEG: decoded at 1/2, 1/4 or 1/8
        image.load()
        rgb = _to_rgb(image) if target is None else _reduce(image, target)
        return np.ascontiguousarray(_rotate_upright(rgb, orientation(image)))


def open_picture(stream: IO[bytes]) -> Image.Image:
    """Open a picture of any raster format that Pillow knows; ValueError for more pixels than the limit."""
    if (limit := MEGAPIXELS.value()) > MEGAPIXELS.default and Image.MAX_IMAGE_PIXELS is not None:
        Image.MAX_IMAGE_PIXELS = limit * 10**6  # Pillow's own, which the user means, too
    Image.init()
    try:
        image = Image.open(stream, formats=[i for i in Image.ID if i not in _REFUSED_FORMATS])
    except Image.DecompressionBombError as error:
        raise ValueError(f"{error}; {MEGAPIXELS.how_to_raise}") from error
    MEGAPIXELS.check(image.width * image.height / 10**6, "it")
    return image


def reduced_size(height: int, width: int, short_side: int) -> tuple[int, int] | None:
    """The size to which a picture is reduced of which `short_side` pixels of the short side are needed.

    It is four times what is needed, so that a careful resizing can follow, in the exact shape of the result.
    None: the picture is used as it is, for it has less than 32 megapixels or less than twice that size.
    """
    short = min(height, width)
    if height * width <= LARGE or short < 2 * SPARE * short_side:
        return None
    scale = short_side / short
    return SPARE * max(round(height * scale), short_side), SPARE * max(round(width * scale), short_side)


def reduce_pixels(image: np.ndarray, short_side: int) -> np.ndarray:
    """uint8 [H,W,3] reduced as `reduced_size` says."""
    target = reduced_size(image.shape[0], image.shape[1], short_side)
    return image if target is None else _reduce(Image.fromarray(image), target)


def _reduce(image: Image.Image, target: tuple[int, int]) -> np.ndarray:
    """Loaded picture of any mode -> uint8 [*target,3]: means of whole pixels by strips, then resized."""
    factor = max(min(image.height // target[0], image.width // target[1]), 1)
    limits = _grey_limits(image)
    parts = [
        np.array(Image.fromarray(_to_rgb(strip, limits)).reduce(factor)) for strip in _strips(image, factor)
    ]
    reduced = Image.fromarray(np.concatenate(parts))
    size = (target[1], target[0])
    if reduced.size == size:
        return np.array(reduced)
    inside = (0, 0, image.width / factor, image.height / factor)  # of the last row and column, a part
    return np.array(reduced.resize(size, Image.Resampling.BICUBIC, box=inside))


def _strips(image: Image.Image, multiple: int = 1) -> Iterator[Image.Image]:
    """The picture in strips of its full width and some multiple of rows."""
    rows = max(_STRIP // (image.width * multiple), 1) * multiple
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        strip.format = image.format  # not kept by Pillow
        yield strip


def _to_rgb(image: Image.Image, limits: tuple[float, float] | None = None) -> np.ndarray:
    """Loaded Pillow image of any mode -> uint8 [H,W,3]; limits: of all samples, where it is a strip."""
    if image.mode.startswith("I;16"):
        values = np.array(image)
        # A PNG's colour key: pixels of exactly this value are transparent.
        key = image.info.get("transparency")
        grey = np.where(values == key, 255, values >> 8) if isinstance(key, int) else values >> 8
        return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
    if image.mode in ("I", "F"):
        limits = limits or _grey_limits(image)
        assert limits is not None
        return np.repeat(_scale_grey(image, *limits)[..., None], 3, axis=2)

    key = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(key, tuple) and max(key) > 255:
        # The key of a 16-bit file, whose pixels Pillow has already cut to their high bytes.
        image.info["transparency"] = tuple(value >> 8 for value in key)
    if image.has_transparency_data:
        if image.mode == "La":
            image = image.convert("LA")
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return np.array(image.convert("RGB"))


def _grey_limits(image: Image.Image) -> tuple[float, float] | None:
    """The least and the greatest sample of mode I or F, else None; ValueError beyond 0 to 65535."""
    if image.mode not in ("I", "F"):
        return None
    low, high = np.inf, -np.inf
    for strip in _strips(image):
        values = np.array(strip)
        if not np.isfinite(values).all():
            raise ValueError("it holds NaN or infinity")
        low, high = min(low, float(values.min())), max(high, float(values.max()))
    if low < 0 or high > 65535:
        raise ValueError(f"values from {low:g} to {high:g}; convert it to 8 or 16 bits first")
    return low, high


def _scale_grey(image: Image.Image, low: float, high: float) -> np.ndarray:
    """Mode I or F with these limits -> uint8 [H,W], in the range that `read_image` guesses."""
    values = np.array(image).astype(np.float64)
    if image.mode == "F" and high <= 1:
        return np.round(values * 255).astype(np.uint8)
    # Pillow reads 16-bit PGM files in mode I: their range is known, even if all values are small.
    if high > 255 or image.format == "PPM":
        return (values / 256).astype(np.uint8)
    return np.round(values).astype(np.uint8)


def orientation(image: Image.Image) -> int:
    """EXIF orientation 1..8; 1 where there is none or where the EXIF block, not the picture, is damaged."""
    try:
        stated = image.getexif().get(EXIF_ORIENTATION, 1)
    except (LookupError, OSError, SyntaxError, TypeError, ValueError, struct.error):
        return 1
    return stated if stated in range(1, 9) else 1


def _rotate_upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Undo EXIF orientation 1..8 (Exif 2.3, table 6) on [H,W,3]."""
    if orientation >= 5:
        array = array.transpose(1, 0, 2)
    flip_rows = orientation in (3, 4, 7, 8)
    flip_columns = orientation in (2, 3, 6, 7)
    return array[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
