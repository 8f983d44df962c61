"""Packing images and labels into one zip, which training and stylegan2-ada's code read fast."""

from __future__ import annotations

import json
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from PIL import Image

from ganmod.data.corrupt_images import MAX_CORRUPT_FILES
from ganmod.data.files import LABEL_FILE, ImageFiles, check_one_size, read_headers
from ganmod.data.labels import Labels
from ganmod.io.atomic_write import atomic_write
from ganmod.io.images import ImageError, ResizeFilter, center_crop, resize

Crop = Literal["center", "none"]
Result = TypeVar("Result")

# The earliest time that a zip can store; fixed, so that equal input gives equal bytes.
_TIMESTAMP = (1980, 1, 1, 0, 0, 0)


@dataclass
class PackReport:
    """What `pack` wrote.

    num_enlarged: images that were smaller than the size.
    skipped: errors of the corrupt images, which were left out.
    size: (height, width).
    """

    num_images: int = 0
    num_enlarged: int = 0
    skipped: list[ImageError] = field(default_factory=list)
    size: tuple[int, int] = (0, 0)


def pack(
    files: ImageFiles,
    labels: Labels | None,
    out: str | Path,
    *,
    size: tuple[int, int] | None = None,
    resample: ResizeFilter = "lanczos",
    crop: Crop = "center",
    max_corrupt: int = MAX_CORRUPT_FILES,
    num_workers: int = 1,
    progress: Callable[[], object] = lambda: None,
) -> PackReport:
    """Write the images as 00000/img00000000.png, ... and dataset.json into the uncompressed zip `out`.

    The zip is only written completely or not at all. Equal input gives equal bytes.

    Args:
        files: the images.
        labels: of all images in `files`, or None.
        out: the zip.
        size: (height, width) of the results, see `fit`; None keeps the images, which must have one size.
        resample: filter of the resizing.
        crop: see `fit`.
        max_corrupt: the number of corrupt images that is tolerated, and left out; more raise ImageError.
        num_workers: threads.
        progress: called once per image.

    Raises:
        ValueError: for mixed sizes without `size`, and when no image is left.
    """
    report = PackReport()
    if size is None:
        headers, _ = read_headers(files)
        check_one_size(headers, files.path)

    def encode(name: str) -> tuple[bytes, tuple[int, int], tuple[int, int]] | ImageError:
        """(PNG, height and width before, height and width after)."""
        try:
            image = files.read(name)
            fitted = image if size is None else fit(image, size, crop=crop, resample=resample)
        except ImageError as error:
            return error
        except MemoryError:
            return ImageError(f"{files.full_name(name)} does not fit into memory: give fewer workers")
        stream = BytesIO()
        # Uncompressed: twice as fast to read, and the same bytes with every version of zlib.
        Image.fromarray(fitted).save(stream, format="PNG", compress_level=0)
        return stream.getvalue(), image.shape[:2], fitted.shape[:2]

    def write(temporary: Path) -> None:
        entries: list[list[object]] = []
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            for index, result in enumerate(_ordered_map(encode, files.names, num_workers)):
                progress()
                if isinstance(result, ImageError):
                    report.skipped.append(result)
                    if len(report.skipped) > max_corrupt:
                        raise ImageError(
                            f"more than {max_corrupt} corrupt images in {files.path}, the last: {result}"
                        ) from result
                    continue
                png, before, after = result
                if report.num_images and after != report.size:
                    raise ValueError(
                        f"{files.full_name(files.names[index])} is {after[1]}x{after[0]} (width x height), "
                        f"those before it {report.size[1]}x{report.size[0]}: give a size for all"
                    )
                name = f"{report.num_images:08d}"
                name = f"{name[:5]}/img{name}.png"
                archive.writestr(_zip_member(name), png)
                report.num_images += 1
                report.num_enlarged += before[0] < after[0] or before[1] < after[1]
                report.size = after
                if labels is not None:
                    entries.append([name, labels.values[index].tolist()])
            if not report.num_images:
                raise ImageError(f"none of the {len(files.names)} images of {files.path} can be read")
            content: dict[str, object] = {"labels": None if labels is None else entries}
            if labels is not None and labels.names:
                content["label_names"] = labels.names  # not in stylegan2-ada's form, whose reader ignores it
            archive.writestr(_zip_member(LABEL_FILE), json.dumps(content).encode())

    atomic_write(out, write)
    return report


def fit(
    image: np.ndarray, size: tuple[int, int], *, crop: Crop = "center", resample: ResizeFilter = "lanczos"
) -> np.ndarray:
    """Resize uint8 [H,W,3] to size = (height, width).

    crop: "center" takes the largest middle part with the aspect of `size`; "none" stretches the entire image.
    """
    height, width = image.shape[:2]
    if crop == "center":
        scale = min(height / size[0], width / size[1])
        part = (
            max(1, min(height, round(size[0] * scale))),
            max(1, min(width, round(size[1] * scale))),
        )
        image = center_crop(image, part)
    return resize(image, size, resample=resample)


def _ordered_map(
    function: Callable[[str], Result], items: Iterable[str], num_workers: int
) -> Iterator[Result]:
    """map() over threads, in order; at most a few results wait, as images are large."""
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(num_workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > 4 * num_workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _zip_member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, _TIMESTAMP)
    member.create_system = 3  # Unix, whatever the system, for the rights that follow
    member.external_attr = 0o644 << 16
    return member
