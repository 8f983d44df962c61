"""Atomic writing of files: complete or not at all. Model files and checkpoints are written this way."""

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path

TEMPORARY_SUFFIX = ".tmp"


def atomic_write(path: str | Path, write: Callable[[Path], None]) -> None:
    """Write a temporary file next to `path`, then rename it in one step.

    File and folder are flushed to the disk: after a power cut `path` holds its former content or the new one.
    On any error before the rename (an interrupt included) the temporary file is removed, `path` keeps its
    former content, and the error is raised unchanged.

    Args:
        path: the file; its folder is made if it is missing.
        write: creates the file at the temporary path that it is called with.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The process id keeps two writers apart; the leading dot hides the file from patterns such as "*.pt".
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):  # the first error is the one to report
            temporary.unlink(missing_ok=True)
        raise
    _flush_folder(path.parent)


def atomic_write_text(path: str | Path, text: str) -> None:
    """`atomic_write` for text, in UTF-8."""

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    atomic_write(path, write)


def _flush_folder(folder: Path) -> None:
    """Make the rename itself durable."""
    if os.name == "nt":  # Windows cannot open a folder as a file and needs no such flush
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot flush a folder; the file is written all the same.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
