"""A picture below a number of bytes, such as one that is kept in a repository."""

from __future__ import annotations

from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from ganmod.atomic_write import atomic_write

MAX_BYTES = 600_000


def write_small_jpeg(path: str | Path, image: np.ndarray, *, max_bytes: int = MAX_BYTES) -> None:
    """Write uint8 [H,W,3] as a JPEG below `max_bytes`, at the highest quality that allows it.

    Raises ValueError when no quality from 92 down to 32 does.
    """
    for quality in range(92, 30, -4):
        buffer = BytesIO()
        Image.fromarray(image).save(buffer, format="JPEG", quality=quality, optimize=True)
        if buffer.tell() < max_bytes:
            atomic_write(path, partial(_write, buffer.getvalue()))
            return
    height, width = image.shape[:2]
    raise ValueError(
        f"{path}: {height} x {width} pixels do not fit {max_bytes:,} bytes: use a smaller picture"
    )


def _write(data: bytes, path: Path) -> None:
    path.write_bytes(data)
