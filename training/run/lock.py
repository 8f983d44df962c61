"""A run folder belongs to one process at a time, whichever host it runs on."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ganmod.errors import GanmodError
from ganmod.io.atomic_write import full_disks_named

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK_FILE = ".run.lock"
HEARTBEAT_SECONDS = 15.0
STALE_SECONDS = 90.0  # without a heartbeat; a holder on another host is then gone
_OLD_SECONDS = 900.0  # by the clocks, which may disagree a little: it was gone before

_HELD: dict[Path, RunLock] = {}
_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)


class RunLockedError(GanmodError, RuntimeError):
    """Another process runs in the folder; the message says which."""


class RunLock:
    """The lock of a run folder, held until `release` or the end of the process.

    The file .run.lock names host, process and start; its time of change is the heartbeat. On one host the
    system's lock decides (flock), which a killed process loses at once. In a shared folder a holder on
    another host counts until its heartbeat has stopped for STALE_SECONDS. A run in the same process is the
    successor of one that failed, and takes its lock.
    """

    def __init__(self, folder: str | Path, *, report: Callable[[str], None] = lambda message: None) -> None:
        """Take the lock; RunLockedError, which names the holder, if another process has it.

        Args:
            folder: of the run; it exists.
            report: receives a line where the heartbeat of another host has to be waited for.
        """
        self.path = (Path(folder) / LOCK_FILE).resolve()
        if self.path in _HELD:
            _HELD[self.path].release()
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            self._take(report)
            pid = os.getpid()
            holder = {"host": socket.gethostname(), "pid": pid, "process_started": _process_start(pid)}
            holder["since"] = time.strftime("%Y-%m-%d %H:%M:%S %z")
            self._write(json.dumps(holder).encode() + b"\n")
        except BaseException:
            os.close(self._descriptor)
            raise
        self._stopped = threading.Event()
        _HELD[self.path] = self
        threading.Thread(target=self._beat, daemon=True).start()

    def release(self) -> None:
        """Let another process have the folder; calling it again does nothing."""
        if _HELD.get(self.path) is not self:
            return
        del _HELD[self.path]
        self._stopped.set()
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)

    def _take(self, report: Callable[[str], None]) -> None:
        """Return when nobody else holds the lock; RunLockedError if somebody does."""
        free = self._lock_by_system()
        holder = self._read()
        if free is False:
            raise self._refusal(holder, certain=True)
        if not holder:
            return
        if holder.get("host") == socket.gethostname():
            if free or not _is_alive(holder):
                return
            raise self._refusal(holder)
        former = os.stat(self.path).st_mtime
        if time.time() - former > _OLD_SECONDS:
            return
        report(
            f"{self.path.parent} was in use by {_describe(holder)}: waiting {STALE_SECONDS:g} s to see "
            "whether it still is"
        )
        end = time.monotonic() + STALE_SECONDS
        while time.monotonic() < end:
            time.sleep(min(1.0, STALE_SECONDS / 10))
            if os.stat(self.path).st_mtime != former:
                raise self._refusal(self._read() or holder)

    def _lock_by_system(self) -> bool | None:
        """Whether the system gave the lock to this process; None where it has no such locks."""
        if fcntl is None:
            return None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                return None
            raise
        return True

    def _read(self) -> dict[str, Any]:
        """What the holder wrote; {} without one, or while it is writing."""
        try:
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            holder = json.loads(os.read(self._descriptor, 4096))
        except ValueError:
            return {}
        return holder if isinstance(holder, dict) else {}

    def _write(self, content: bytes) -> None:
        with full_disks_named(self.path, len(content)):
            os.ftruncate(self._descriptor, 0)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            os.write(self._descriptor, content)
            os.fsync(self._descriptor)

    def _refusal(self, holder: dict[str, Any], *, certain: bool = False) -> RunLockedError:
        doubt = "" if certain else f"; if it certainly runs no longer, remove {self.path}"
        return RunLockedError(
            f"{self.path.parent} is in use by {_describe(holder)}. Stop that run first, or use another "
            f"--out{doubt}"
        )

    def _beat(self) -> None:
        while not self._stopped.wait(HEARTBEAT_SECONDS):
            with contextlib.suppress(OSError):
                os.utime(self.path)


def _describe(holder: dict[str, Any]) -> str:
    """ "process 12 on host a, since ..."; of an unknown one, as far as that goes."""
    return (
        f"process {holder.get('pid', '?')} on host {holder.get('host', '?')}, "
        f"since {holder.get('since', 'just now')}"
    )


def _process_start(pid: int) -> str | None:
    """When a process started, in ticks since the system did; None where that is not told."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[19]  # the name before it may hold spaces


def _is_alive(holder: dict[str, Any]) -> bool:
    """Whether a process of this host still runs, and is not another with its number."""
    pid, started = holder.get("pid"), holder.get("process_started")
    if not isinstance(pid, int):
        return False
    if started is not None:
        return _process_start(pid) == started
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _forget_in_child() -> None:
    """A forked process, such as one that loads images, must not keep the lock of a killed parent."""
    for lock in _HELD.values():
        os.close(lock._descriptor)
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
