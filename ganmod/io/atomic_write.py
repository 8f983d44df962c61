"""Writing that survives kills and full disks: whole or not at all; errors say how many bytes are missing.

Everything that a training run writes goes through `atomic_write` or `append_bytes`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

TEMPORARY_SUFFIX = ".tmp"
_TEMPORARY = re.compile(r"\..+\.\d+(\.tmp|\.partial)")  # .partial: pictures of an earlier version
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DiskFullError(OSError):
    """No room for a file; the message names it, its folder, and how many bytes are missing.

    reason: the message without the file's name.
    """

    exit_code = 1

    def __init__(self, path: Path, number: int, size: int | None) -> None:
        """number: the system's error, of _FULL. size: bytes that were to be written, None if unknown."""
        super().__init__(number, os.strerror(number))
        self.filename = str(path)
        folder = next(parent for parent in path.absolute().parents if parent.is_dir())
        free = shutil.disk_usage(folder).free
        if size is None:
            needs = f"{free:,} bytes are free in {folder}"
        elif number == errno.ENOSPC:
            missing = max(size - free, 0)
            needs = f"{size:,} bytes are needed in {folder}, {free:,} are free, {missing:,} are missing"
        else:  # a quota, or a limit of the size of files
            needs = f"{size:,} bytes are needed in {folder}, which is more than the user may have there"
        self.reason = f"{os.strerror(number)}: {needs}"

    def __str__(self) -> str:
        return f"{self.filename}: {self.reason}. Make room and run the same command again"


def atomic_write(
    path: str | Path, write: Callable[[Path], None], *, size: int | None = None, durable: bool = True
) -> None:
    """Write a temporary file next to `path`, then rename it in one step.

    File and folder are flushed to the disk: after a power cut `path` holds its former content or the new one.
    On any error before the rename (an interrupt included) the temporary file is removed, `path` keeps its
    former content, and the error is raised unchanged, a full disk as DiskFullError.

    Args:
        path: the file; its folder is made if it is missing.
        write: creates the file at the temporary path that it is called with.
        size: bytes of the file, for the message of a full disk; about is enough.
        durable: whether to flush; without, a power cut (not a kill) may leave an empty file.
    """
    path = Path(path)
    # The process id keeps two writers apart; the leading dot hides the file from patterns such as "*.pt".
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
    with full_disks_named(path, size):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(temporary)
            if durable:
                with temporary.open("rb+") as file:
                    os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):  # the first error is the one to report
                temporary.unlink(missing_ok=True)
            raise
        if durable:
            _flush_folder(path.parent)


def atomic_write_bytes(path: str | Path, content: bytes, *, durable: bool = True) -> None:
    """`atomic_write` of these bytes."""

    def write(temporary: Path) -> None:
        temporary.write_bytes(content)

    atomic_write(path, write, size=len(content), durable=durable)


def atomic_write_text(path: str | Path, text: str) -> None:
    """`atomic_write` of text in UTF-8."""
    atomic_write_bytes(path, text.encode("utf-8"))


def append_bytes(path: str | Path, content: bytes) -> None:
    """Add bytes at the end of a file, which is made if it is missing: all of them, or none with an error.

    A full disk is a DiskFullError. Not flushed: readers see the bytes, a power cut may lose them.
    """
    path = Path(path)
    with full_disks_named(path, len(content)):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
        try:
            former = os.fstat(descriptor).st_size
            try:
                rest = memoryview(content)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
            except BaseException:
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, former)
                raise
        finally:
            os.close(descriptor)


def remove_temporaries(folder: str | Path) -> None:
    """Remove the temporary files of writers that were killed; there must be no other writer in the folder."""
    for file in Path(folder).iterdir():
        if _TEMPORARY.fullmatch(file.name):
            with contextlib.suppress(OSError):
                file.unlink()


@contextlib.contextmanager
def full_disks_named(path: Path, size: int | None) -> Iterator[None]:
    """Raise errors of a full disk as DiskFullError of `path`, to which `size` bytes were to be written."""
    try:
        yield
    except Exception as error:
        if (number := _full_disk(error)) is None:
            raise
        raise DiskFullError(path, number, size) from error


def _full_disk(error: BaseException) -> int | None:
    """The system's number where an error, or one that it hides, is that of a full disk.

    torch hides a failed write behind an error about file positions.
    """
    hidden: BaseException | None = error
    while hidden is not None:
        if isinstance(hidden, OSError) and hidden.errno in _FULL:
            return hidden.errno
        hidden = hidden.__cause__ or hidden.__context__
    return None


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
