"""Files that appear whole or not at all: the one way that model files and checkpoints are written."""

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path

TEMPORARY_SUFFIX = ".tmp"


def atomic_write(path: str | Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path`, then move it there in one step.

    `write` receives the temporary path and creates the file; the folder of `path` is made when it is missing.
    The file and its folder are flushed to the disk, so that after a power cut `path` holds either its former
    content or the new one. Whatever goes wrong before the move (an interrupt included), the temporary file is
    removed, `path` keeps its former content and the error goes on to the caller unchanged.
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
        with contextlib.suppress(OSError):  # the first error is the one to tell
            temporary.unlink(missing_ok=True)
        raise
    _flush_folder(path.parent)


def atomic_write_text(path: str | Path, text: str) -> None:
    """`atomic_write` of a text in UTF-8."""

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
        # Some network file systems do not know how to flush a folder; the file is in place all the same.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
