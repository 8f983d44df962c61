"""Reading, writing, resizing and tiling images.

On disk and as arrays images are uint8 [H,W,3] in 0..255; as tensors float32 [3,H,W] in [0,1].
"""

import os
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from configs.limits import FILE_MB
from configs.visible_text import visible
from ganmod.io.atomic_write import atomic_write_bytes
from ganmod.io.image_decoding import decode_rgb
from ganmod.io.regular_file import open_regular

__all__ = [
    "IMAGE_SUFFIXES",
    "LUMA",
    "WRITABLE_SUFFIXES",
    "ImageError",
    "NaNImageError",
    "center_crop",
    "list_images",
    "make_grid",
    "read_image",
    "resize",
    "resize_short_side",
    "to_tensor",
    "to_uint8",
    "write_image",
]

LUMA = (0.299, 0.587, 0.114)  # weights of R, G and B in a picture's brightness (Rec. 601)

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
    | {".ppm", ".pgm", ".pnm", ".tga", ".jp2", ".avif"}
)

_WRITE_FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".ppm": "PPM",
}

WRITABLE_SUFFIXES = frozenset(_WRITE_FORMATS)

_FILTERS = {
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
}

ResizeFilter = Literal["lanczos", "box", "bicubic", "bilinear"]


class ImageError(ValueError):
    """An image that cannot be used: unreadable, damaged or too small. The message names it and says why."""


class NaNImageError(ValueError):
    """A model's picture holds NaN."""


def read_image(
    source: str | Path | bytes, *, name: str | None = None, short_side: int | None = None
) -> np.ndarray:
    """Read any raster image that Pillow knows as uint8 [H,W,3].

    Transparency is laid over white, EXIF rotation is applied, and of an animation the first frame is read.
    16-bit samples keep their high byte, so that grey and colour files of one picture agree. Float and 32-bit
    samples have no stated range: the smallest of 1 (float only), 255 and 65535 that holds the image is taken.

    Args:
        source: a path, or the bytes of an encoded image.
        name: the image in messages; by default its path.
        short_side: pixels of the short side that are needed. An image of over 32 megapixels may then come
            reduced, to four times as many, which saves memory; see `ganmod.io.image_decoding.reduced_size`.

    Raises:
        ImageError: names the image and says why it cannot be read.
    """
    name = visible(name or ("<bytes>" if isinstance(source, bytes) else str(source)))
    try:
        stream = BytesIO(source) if isinstance(source, bytes) else open_regular(source, FILE_MB)
    except OSError as error:
        raise ImageError(f"cannot read image {name}: {error.strerror or error}") from error
    except ValueError as error:  # more than the limit, or a null byte in the name
        raise ImageError(f"cannot read image: {error}") from error
    with stream:
        if not stream.seek(0, os.SEEK_END):
            raise ImageError(f"cannot read image {name}: it is empty (0 bytes); remove it or fetch it again")
        stream.seek(0)
        try:
            return decode_rgb(stream, short_side=short_side)
        except Image.UnidentifiedImageError as error:
            raise ImageError(
                f"cannot read image {name}: not an image, or of a kind Pillow cannot read"
            ) from error
        except MemoryError as error:
            reason = "it does not fit into memory, make it smaller"
            raise ImageError(f"cannot read image {name}: {reason}") from error
        except Exception as error:  # damaged files make the decoders raise a dozen types, SyntaxError, too
            reason = f"damaged, cut short or unusable ({str(error) or type(error).__name__})"
            raise ImageError(f"cannot read image {name}: {reason}") from error


def write_image(path: str | Path, image: np.ndarray | Tensor) -> None:
    """Write uint8 [H,W,3] or a float tensor [3,H,W] in [0,1]; the suffix decides the format.

    The parent folder is made. The file is only written completely or not at all, so that interrupted work can
    be resumed from the files that exist. JPEG and WebP have quality 95. Raises ValueError for another suffix.
    """
    path = Path(path)
    file_format = _WRITE_FORMATS.get(path.suffix.lower())
    if file_format is None:
        known = ", ".join(sorted(_WRITE_FORMATS))
        raise ValueError(f"cannot write {path}: suffix {path.suffix!r} is not one of {known}")
    array = to_uint8(image) if isinstance(image, Tensor) else image
    _check_image(array)

    encoded = BytesIO()
    if file_format == "JPEG":  # full-resolution chroma: style transfer makes saturated edges
        Image.fromarray(array).save(encoded, format=file_format, quality=95, subsampling=0)
    elif file_format == "WEBP":
        Image.fromarray(array).save(encoded, format=file_format, quality=95)
    else:
        Image.fromarray(array).save(encoded, format=file_format)
    atomic_write_bytes(path, encoded.getvalue(), durable=False)


def list_images(folder: str | Path) -> list[Path]:
    """All files under `folder` (recursive) with an image suffix, sorted by relative path.

    Hidden files and folders and macOS archive residue are left out. A link to a folder is followed, unless it
    leads to a folder above or stands inside a linked folder; links that lead nowhere are listed as files are,
    and reading one says so. Raises ValueError, which names the folder, when it is missing, is no folder, or
    holds no image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        problem = "is not a folder" if folder.exists() else "does not exist"
        raise ValueError(f"image folder {folder} {problem}")
    images: list[Path] = []
    visited = set()
    linked: set[str] = set()  # folders behind a link
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        # Sorted: of two links to one folder, always the same one is kept.
        kept = sorted(i for i in folders if not i.startswith(".") and i != "__MACOSX")
        folders[:] = [i for i in kept if not _leads_astray(os.path.join(parent, i), real, parent in linked)]
        linked |= {
            path for i in folders if os.path.islink(path := os.path.join(parent, i)) or parent in linked
        }
        images += [
            Path(parent, i)
            for i in files
            if not i.startswith(".") and os.path.splitext(i)[1].lower() in IMAGE_SUFFIXES
        ]
    if not images:
        raise ValueError(f"no image in folder {folder}: looked for {', '.join(sorted(IMAGE_SUFFIXES))}")
    return sorted(images, key=lambda path: path.relative_to(folder).parts)


def _leads_astray(path: str, parent: str, behind_link: bool) -> bool:
    """Whether a folder is a link that is not followed: to one above its parent, or the second in a row."""
    if not os.path.islink(path):
        return False
    return behind_link or Path(parent).is_relative_to(os.path.realpath(path))


def to_tensor(image: np.ndarray) -> Tensor:
    """uint8 [H,W,3] -> float32 [3,H,W] in [0,1], a copy."""
    _check_image(image)
    return torch.from_numpy(np.array(image.transpose(2, 0, 1), order="C")).float().div_(255)


def to_uint8(images: Tensor) -> np.ndarray:
    """Float [3,H,W] or [N,3,H,W] in [0,1] -> uint8 [H,W,3] or [N,H,W,3]; rounded, out of range clamped.

    Raises ValueError for another shape and for integers, NaNImageError for NaN.
    """
    if images.ndim not in (3, 4) or images.shape[-3] != 3 or not images.is_floating_point():
        got = f"{images.dtype} {list(images.shape)}"
        raise ValueError(f"got {got}, expected a float tensor [3,H,W] or [N,3,H,W] in [0,1]")
    values = images.detach().to("cpu", torch.promote_types(images.dtype, torch.float32))
    if torch.isnan(values).any():
        raise NaNImageError(
            f"image {list(images.shape)} holds NaN: the model that made it, or what it was given, has values "
            "that are not finite or too large to compute with"
        )
    return values.mul(255).round_().clamp_(0, 255).byte().movedim(-3, -1).contiguous().numpy()


def resize(image: np.ndarray, size: tuple[int, int], *, resample: ResizeFilter = "lanczos") -> np.ndarray:
    """Resize uint8 [H,W,3] to size = (height, width), antialiased; always a copy."""
    _check_image(image)
    height, width = size
    if height < 1 or width < 1:
        raise ValueError(f"cannot resize to {height} x {width}: both sides must be at least 1")
    if resample not in _FILTERS:
        raise ValueError(f"got resample {resample!r}, expected one of {', '.join(_FILTERS)}")
    if (height, width) == image.shape[:2]:
        return image.copy()
    return np.array(Image.fromarray(image).resize((width, height), _FILTERS[resample]))


def resize_short_side(image: np.ndarray, size: int, *, resample: ResizeFilter = "lanczos") -> np.ndarray:
    """Resize uint8 [H,W,3] so that its short side is `size` pixels, aspect kept (long side rounded)."""
    _check_image(image)
    height, width = image.shape[:2]
    short = min(height, width)
    return resize(image, (round(height * size / short), round(width * size / short)), resample=resample)


def center_crop(image: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """Middle `size` x `size` (or (height, width)) of uint8 [H,W,3], a copy; ValueError if it is smaller."""
    _check_image(image)
    height, width = (size, size) if isinstance(size, int) else size
    if not (1 <= height <= image.shape[0] and 1 <= width <= image.shape[1]):
        got = f"{image.shape[0]} x {image.shape[1]}"
        raise ValueError(f"cannot cut {height} x {width} from an image of {got}: resize it first")
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width].copy()


def make_grid(
    images: Sequence[Sequence[np.ndarray | None]],
    *,
    gap: int = 4,
    column_labels: Sequence[str] | None = None,
    row_labels: Sequence[str] | None = None,
    cell_size: tuple[int, int] | None = None,
    background: int = 255,
) -> np.ndarray:
    """Tile images into one uint8 [H,W,3] of equal cells.

    An image of another size than the cells is resized to fit, aspect kept, and centred.

    Args:
        images: rows of uint8 [H,W,3]; None is an empty cell, and rows may be short.
        gap: pixels between and around the cells.
        column_labels: above the columns; one that is too wide is cut with "..".
        row_labels: left of the rows.
        cell_size: (height, width); by default the largest height and width of the images.
        background: grey level, 0 to 255.
    """
    num_rows, num_columns = len(images), max((len(row) for row in images), default=0)
    shapes = [image.shape for row in images for image in row if image is not None]
    if not shapes:
        raise ValueError("got no image: expected rows with at least one image in them")
    for labels, count, what in ((column_labels, num_columns, "column"), (row_labels, num_rows, "row")):
        if labels is not None and len(labels) != count:
            raise ValueError(f"got {len(labels)} {what} labels for {count} {what}s: one for each is expected")
    cell_h, cell_w = cell_size or (max(i[0] for i in shapes), max(i[1] for i in shapes))

    top, left = 0, 0
    if column_labels is not None or row_labels is not None:
        font_size = max(10, min(32, cell_h // 10))
        font = ImageFont.load_default(size=font_size)
        line = font_size * 3 // 2
        top = line if column_labels is not None else 0
        if row_labels is not None:
            left = gap + max((round(font.getlength(i)) for i in row_labels), default=0)

    size = (top + gap + num_rows * (cell_h + gap), left + gap + num_columns * (cell_w + gap))
    grid = np.full((*size, 3), background, dtype=np.uint8)
    for r, row in enumerate(images):
        for c, image in enumerate(row):
            if image is not None:
                fitted = _fit(image, cell_h, cell_w)
                y = top + gap + r * (cell_h + gap) + (cell_h - fitted.shape[0]) // 2
                x = left + gap + c * (cell_w + gap) + (cell_w - fitted.shape[1]) // 2
                grid[y : y + fitted.shape[0], x : x + fitted.shape[1]] = fitted
    if not (top or left):
        return grid

    picture = Image.fromarray(grid)
    draw = ImageDraw.Draw(picture)
    ink = (0, 0, 0) if background >= 128 else (255, 255, 255)
    for c, label in enumerate(column_labels or ()):
        shown = label
        while shown and font.getlength(shown) > cell_w:
            label = label[:-1]
            shown = f"{label}.." if label else ""
        x = left + gap + c * (cell_w + gap) + cell_w // 2
        draw.text((x, gap + (line - gap) // 2), shown, fill=ink, font=font, anchor="mm")
    for r, label in enumerate(row_labels or ()):
        y = top + gap + r * (cell_h + gap) + cell_h // 2
        draw.text((left, y), label, fill=ink, font=font, anchor="rm")
    return np.array(picture)


def _fit(image: np.ndarray, cell_h: int, cell_w: int) -> np.ndarray:
    scale = min(cell_h / image.shape[0], cell_w / image.shape[1])
    return resize(image, (max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale))))


def _check_image(image: np.ndarray) -> None:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        shape, dtype = getattr(image, "shape", ""), getattr(image, "dtype", type(image).__name__)
        raise ValueError(f"got image {dtype} {list(shape)}, expected uint8 [H,W,3] in 0..255")
    if image.size == 0:
        raise ValueError(f"got an empty image {list(image.shape)}, expected at least 1 x 1")
