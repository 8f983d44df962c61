"""Whether two data sets are the same, wherever they lie."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ganmod.data.files import ImageFiles, shared_folder
from ganmod.io.images import ImageError

NUM_READ = 32


class DataFile(NamedTuple):
    """An image of a data set: its name there, the size of its file in bytes, and how to read that."""

    name: str
    num_bytes: int
    read: Callable[[], bytes]


def data_identity(sources: Sequence[DataFile], labels: bytes = b"") -> str:
    """SHA-256 over all names and sizes, in their order, the labels, and the content of NUM_READ of the files.

    Those are spread over the set: large ones have hundreds of gigabytes. Times do not count, which a copy
    changes.
    """
    digest = hashlib.sha256(labels)
    read = {i * len(sources) // NUM_READ for i in range(NUM_READ)}
    for number, source in enumerate(sources):
        digest.update(f"\0{source.name}\0{source.num_bytes}\0".encode(errors="surrogateescape"))
        if number in read:
            try:
                digest.update(source.read())
            except (OSError, ImageError):
                digest.update(b"unreadable")
    return digest.hexdigest()


def files_identity(files: ImageFiles, labels: bytes = b"") -> str:
    """`data_identity` of the images of a folder or a zip, by their names below the folder that holds all."""
    prefix = shared_folder(files.names)
    skipped = len(prefix) + 1 if prefix else 0
    return data_identity([_stored(files, name, name[skipped:]) for name in files.names], labels)


def pictures_identity(pictures: Sequence[Path | np.ndarray]) -> str:
    """`data_identity` of files in any folders, by their last names, and of pictures in memory."""
    return data_identity([_source(number, picture) for number, picture in enumerate(pictures)])


def file_identity(path: str | Path | None) -> str | None:
    """SHA-256 of one file; None without it."""
    if path is None or not Path(path).is_file():
        return None
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stored(files: ImageFiles, name: str, short_name: str) -> DataFile:
    return DataFile(short_name, _size(lambda: files.num_bytes(name)), lambda: files.read_bytes(name))


def _source(number: int, picture: Path | np.ndarray) -> DataFile:
    if isinstance(picture, Path):
        return DataFile(picture.name, _size(lambda: picture.stat().st_size), picture.read_bytes)
    return DataFile(f"{number} {picture.shape}", picture.nbytes, picture.tobytes)


def _size(measure: Callable[[], int]) -> int:
    try:
        return measure()
    except OSError:  # a link to nothing
        return -1
