"""Small images in folders and zips, for tests of data sets."""

from __future__ import annotations

import json
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ganmod.io.images import write_image


def picture(seed: int, height: int = 8, width: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(image: np.ndarray) -> bytes:
    stream = BytesIO()
    Image.fromarray(image).save(stream, format="PNG")
    return stream.getvalue()


def write_zip(path: Path, members: dict[str, bytes | str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def folder_of(path: Path, names: list[str], **changes: int) -> Path:
    """Write picture(i) as names[i]."""
    for i, name in enumerate(names):
        write_image(path / name, picture(i, **changes))
    return path


def ada_zip(path: Path, labels: Any, count: int = 4, **extra: Any) -> Path:
    """A zip in the layout of stylegan2-ada's dataset tool."""
    members: dict[str, bytes | str] = {}
    for i in range(count):
        members[f"0000{i // 2}/img{i:08d}.png"] = png(picture(i))  # two folders, as for over 1,000 images
    members["dataset.json"] = json.dumps({"labels": labels, **extra})
    return write_zip(path, members)


ADA_NAMES = [f"0000{i // 2}/img{i:08d}.png" for i in range(4)]


def same(got: torch.Tensor, image: np.ndarray) -> bool:
    """Whether uint8 [3,H,W] equals uint8 [H,W,3]."""
    return got.dtype == torch.uint8 and np.array_equal(got.numpy(), image.transpose(2, 0, 1))
