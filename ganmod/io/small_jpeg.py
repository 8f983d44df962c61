"""JPEG files below a number of bytes, for pictures in a repository."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from ganmod.io.atomic_write import atomic_write
from ganmod.io.images import resize

MAX_BYTES = 600_000
QUALITIES = range(92, 52, -4)
SHRINK = 0.8  # of each side, where the lowest quality is not enough
MIN_BYTES = 2_000


def small_jpeg(image: np.ndarray, *, max_bytes: int = MAX_BYTES) -> bytes:
    """Encode uint8 [H,W,3] as a JPEG below `max_bytes`: at the highest quality that fits, else smaller.

    Raises ValueError for a limit below 2,000.
    """
    if max_bytes < MIN_BYTES:
        raise ValueError(f"max_bytes is {max_bytes:,}, expected {MIN_BYTES:,} or more: a JPEG needs some")
    while True:
        for quality in QUALITIES:
            buffer = BytesIO()
            # Not optimize=True: Pillow gives it a buffer that noisy pictures do not fit into.
            Image.fromarray(image).save(buffer, format="JPEG", quality=quality)
            if buffer.tell() < max_bytes:
                return buffer.getvalue()
        height, width = (max(round(side * SHRINK), 1) for side in image.shape[:2])
        image = resize(image, (height, width))


def write_small_jpeg(path: str | Path, image: np.ndarray, *, max_bytes: int = MAX_BYTES) -> None:
    """Write `small_jpeg(image)`, as `atomic_write`."""
    data = small_jpeg(image, max_bytes=max_bytes)

    def write(temporary: Path) -> None:
        temporary.write_bytes(data)

    atomic_write(path, write)
