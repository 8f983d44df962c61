"""Opening of files for reading: regular ones only, without waiting, and within limits."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from configs.limits import MB, Limit

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def special_kind(mode: int) -> str | None:
    """What a file of this mode is, such as "a pipe"; None for a regular file."""
    return next((name for test, name in _KINDS if test(mode)), None)


def open_regular(path: str | Path, limit: Limit | None = None) -> BinaryIO:
    """Open a regular file, or a link to one, for reading.

    A pipe is not waited for, and a device not read: opening one raises OSError that says what it is.
    ValueError for a file of more than the limit, which is in MB.
    """
    flags = (
        os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
    )
    descriptor = os.open(path, flags)
    try:
        status = os.fstat(descriptor)
        if (kind := special_kind(status.st_mode)) is not None:
            raise OSError(errno.EINVAL, f"is {kind}, expected a file", str(path))
        if limit is not None:
            limit.check(status.st_size / MB, str(path))
    except BaseException:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def read_regular(path: str | Path, limit: Limit) -> bytes:
    """The bytes of a regular file; ValueError for more than the limit, which is in MB."""
    with open_regular(path, limit) as file:
        return file.read()
