"""Reading, writing and resizing of pictures. They are uint8 [H,W,3], or planes: float32 [3,H,W] in [0,1]."""

from __future__ import annotations

import contextlib
import os
import struct
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ganmod_lite.errors import LiteError
from ganmod_lite.files import STREAM, WRITE_FORMATS

MIN_SIDE = 16  # pixels: the networks mirror up to 8 at a border
MAX_ASPECT = 16  # of a style, the long side by the short one, beyond which it is made smaller
QUALITY = 95  # of JPEG and WebP
PNG_LEVEL = 3  # for stylised pictures a third of the time of the usual 6, and smaller
_ORIENTATION = 0x0112  # EXIF
_USUAL_FORMATS = ("PNG", "JPEG", "PPM", "BMP", "GIF")  # known without loading the others, which takes time
_LONGEST_SIDES = {"WEBP": 16383, "JPEG": 65500}  # pixels
_REFUSED_FORMATS = ("EPS",)  # Pillow would start another program for it


def read_image(source: str | Path | bytes, name: str | None = None) -> np.ndarray:
    """Read a picture as uint8 [H,W,3], upright and at least 16 x 16; else LiteError, which names it.

    Transparency is laid over white. 16-bit samples keep their high byte. Of an animation, the first frame.

    Args:
        source: a path, "-" for standard input, or the bytes of a file.
        name: the picture in messages; by default its path.
    """
    if isinstance(source, bytes):
        name, encoded = name or "picture", source
    elif str(source) == STREAM:
        name, encoded = name or "standard input", sys.stdin.buffer.read()
    else:
        name = name or str(source)
        try:
            encoded = Path(source).read_bytes()
        except OSError as error:
            raise LiteError(
                f"cannot read {name}: {error.strerror or error}; expected a picture, check the name"
            ) from error
    if not encoded:
        raise LiteError(f"cannot read {name}: it is empty (0 bytes), expected a picture; fetch it again")
    try:
        with _open(encoded) as image:
            image.load()
            pixels = _upright(_to_rgb(image), _orientation(image))
    except MemoryError:
        raise
    except Image.UnidentifiedImageError as error:
        raise LiteError(
            f"cannot read {name}: its content is no picture that Pillow knows, expected PNG, JPEG, WebP ...; "
            "convert it first"
        ) from error
    except Image.DecompressionBombError as error:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise LiteError(
            f"cannot read {name}: it has too many pixels, expected {most} at most; make it smaller first"
        ) from error
    except Exception as error:  # on damaged files the decoders raise a dozen types
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise LiteError(
            f"cannot read {name}: damaged or cut short ({reason}), expected a whole picture; fetch it again"
        ) from error
    height, width = pixels.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise LiteError(
            f"{name} is {width} x {height} pixels, expected at least {MIN_SIDE} x {MIN_SIDE}: "
            "give a larger picture"
        )
    return np.ascontiguousarray(pixels)


def _open(encoded: bytes) -> Image.Image:
    """Find the format and read the head."""
    try:
        return Image.open(BytesIO(encoded), formats=_USUAL_FORMATS)
    except Image.UnidentifiedImageError:
        Image.init()
        others = [kind for kind in Image.ID if kind not in _REFUSED_FORMATS]
        return Image.open(BytesIO(encoded), formats=others)


def _to_rgb(image: Image.Image) -> np.ndarray:
    """Loaded Pillow image of any mode -> uint8 [H,W,3]."""
    key = image.info.get("transparency")
    if image.mode.startswith("I;16"):
        values = np.array(image)
        grey = np.where(values == key, 255, values >> 8) if isinstance(key, int) else values >> 8
        return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
    if image.mode in ("I", "F"):
        values = np.array(image).astype(np.float64)
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 65535:
            raise ValueError("samples beyond 16 bits; convert it to 8 bits first")
        if image.mode == "F" and values.max() <= 1:
            values = values * 255
        elif values.max() > 255 or image.format == "PPM":
            values = np.floor(values / 256)
        return np.repeat(np.round(values).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode == "RGB" and isinstance(key, tuple) and max(key) > 255:
        image.info["transparency"] = tuple(value >> 8 for value in key)  # the key of a 16-bit file
    if image.has_transparency_data:
        if image.mode == "La":
            image = image.convert("LA")
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return np.array(image.convert("RGB"))


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1 to 8; 1 where there is none or its block is damaged."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except (LookupError, OSError, SyntaxError, TypeError, ValueError, struct.error):
        return 1
    return orientation if orientation in range(1, 9) else 1


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undo an EXIF orientation of [H,W,3]."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return pixels[::rows, ::columns]


def check_format(path: str | Path, width: int, height: int) -> str:
    """Format of the file to write, by its suffix; LiteError if there is none that holds such a picture."""
    if str(path) == STREAM:
        return "PNG"
    suffix = Path(path).suffix.lower()
    if suffix not in WRITE_FORMATS:
        raise LiteError(f"cannot write {path}: expected one of the suffixes {' '.join(WRITE_FORMATS)}")
    kind = WRITE_FORMATS[suffix]
    longest = _LONGEST_SIDES.get(kind)
    if longest and max(width, height) > longest:
        raise LiteError(
            f"cannot write {path}: {kind} holds sides up to {longest} pixels, got {width} x {height}; "
            "write .png or give a smaller --size"
        )
    return kind


def write_image(path: str | Path, pixels: np.ndarray, *, quality: int = QUALITY) -> None:
    """Write uint8 [H,W,3]; the suffix decides the format, "-" is PNG on standard output.

    The folder is made. A file is written completely or not at all.

    Args:
        path: the file, with a suffix of `WRITE_FORMATS`.
        pixels: the picture.
        quality: of JPEG and WebP, 1 to 100.

    Raises:
        LiteError: the file cannot be written.
    """
    picture = Image.fromarray(pixels)
    if str(path) == STREAM:
        stream = BytesIO()
        picture.save(stream, format="PNG", compress_level=PNG_LEVEL)
        try:
            sys.stdout.buffer.write(stream.getvalue())
            sys.stdout.buffer.flush()
        except OSError as error:
            raise LiteError(
                f"cannot write the PNG to standard output: {error.strerror}; expected a reader that takes all"
            ) from error
        return
    kind, path = check_format(path, *picture.size), Path(path)
    options: dict[str, Any] = {}
    if kind == "PNG":
        options["compress_level"] = PNG_LEVEL
    if kind in ("JPEG", "WEBP"):
        options["quality"] = quality
    if kind == "JPEG":
        options["subsampling"] = 0  # colours at full size: style transfer makes saturated edges
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(partial, format=kind, **options)
        partial.replace(path)
    except (OSError, ValueError) as error:  # ValueError: the format cannot hold it
        reason = getattr(error, "strerror", None) or error
        raise LiteError(
            f"cannot write {path}: {reason}; expected a folder with room that can be written"
        ) from error
    finally:
        with contextlib.suppress(OSError):  # such as a file in the place of the folder, which was reported
            partial.unlink(missing_ok=True)


def to_planes(pixels: np.ndarray) -> np.ndarray:
    """uint8 [H,W,3] -> float32 [3,H,W] in [0,1]."""
    planes = np.empty((3, *pixels.shape[:2]), np.float32)
    return np.divide(pixels.transpose(2, 0, 1), np.float32(255), out=planes)


def to_pixels(planes: np.ndarray) -> np.ndarray:
    """Float [3,H,W] -> uint8 [H,W,3]; rounded, out of range clamped."""
    scaled = planes * np.float32(255)
    return np.clip(np.rint(scaled, out=scaled), 0, 255, out=scaled).astype(np.uint8).transpose(1, 2, 0)


def size_after(height: int, width: int, size: int | None) -> tuple[int, int]:
    """Height and width of a picture whose short side is brought to `size` pixels; None keeps it."""
    scale = 1 if size is None else size / min(height, width)
    return max(round(height * scale), size or 0), max(round(width * scale), size or 0)


def resize_short_side(planes: np.ndarray, size: int | None) -> np.ndarray:
    """Resize float32 [3,H,W] so that its short side is `size` pixels: bicubic, antialiased, clamped.

    None keeps the size.
    """
    height, width = planes.shape[1:]
    if size is None or size == min(height, width):
        return planes
    rows, columns = size_after(height, width, size)
    resized = np.empty((len(planes), rows, columns), np.float32)
    for plane, out in zip(planes, resized, strict=True):
        out[:] = np.asarray(Image.fromarray(plane).resize((columns, rows), Image.Resampling.BICUBIC))
    return np.clip(resized, 0, 1, out=resized)


def mirror_to_multiple(planes: np.ndarray, multiple: int) -> np.ndarray:
    """Mirror [C,H,W] at the bottom and right up to multiples of `multiple` pixels."""
    bottom, right = -planes.shape[1] % multiple, -planes.shape[2] % multiple
    return np.pad(planes, ((0, 0), (0, bottom), (0, right)), mode="reflect") if bottom or right else planes
