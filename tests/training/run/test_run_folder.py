"""If this fails, two runs write into one folder, or what an earlier run left is lost or in the way."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from run_checks import read_lines
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ganmod.io.atomic_write import DiskFullError
from training.run import lock
from training.run.folder import RunFolder
from training.run.lock import LOCK_FILE, RunLock, RunLockedError


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[int]:
    """A process that holds the lock, and has a child of its own which loads images."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        RunLock(tmp_path)
        child = os.fork()
        if child:
            os.write(writer, str(child).encode())
        time.sleep(60)
        os._exit(0)
    child = int(os.read(reader, 20))
    yield pid
    for process in (pid, child):
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue
    os.close(reader)
    os.close(writer)


def test_a_second_run_is_told_who_holds_the_folder_and_a_kill_frees_it_at_once(
    tmp_path: Path, holder: int
) -> None:
    with pytest.raises(
        RunLockedError, match=rf"in use by process {holder} on host {socket.gethostname()}, since"
    ):
        RunFolder(tmp_path, tensorboard=False)
    written = json.loads((tmp_path / LOCK_FILE).read_text())
    assert written["process_started"] == Path(f"/proc/{holder}/stat").read_text().split()[21]
    os.kill(holder, signal.SIGKILL)  # its child lives on
    os.waitpid(holder, 0)
    RunLock(tmp_path).release()
    assert (tmp_path / LOCK_FILE).read_bytes() == b""


def test_a_failed_run_of_this_process_does_not_lock_its_successor_out(tmp_path: Path) -> None:
    failed = RunLock(tmp_path)
    successor = RunLock(tmp_path)
    failed.release()  # has lost it
    assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] == os.getpid()
    successor.release()


def write_holder(folder: Path, **changes: object) -> None:
    started = lock._process_start(os.getpid())
    holder = {"host": socket.gethostname(), "pid": os.getpid(), "process_started": started, "since": "noon"}
    (folder / LOCK_FILE).write_text(json.dumps(holder | changes))


def test_on_another_host_the_heartbeat_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "STALE_SECONDS", 0.5)
    lines: list[str] = []
    write_holder(tmp_path, host="elsewhere")
    beat = threading.Timer(0.2, os.utime, [tmp_path / LOCK_FILE, (1, time.time() + 1)])
    beat.start()
    with pytest.raises(RunLockedError, match=r"on host elsewhere, since noon.*remove .*\.run\.lock"):
        RunLock(tmp_path, report=lines.append)
    assert "was in use by" in lines[0]
    beat.join()

    write_holder(tmp_path, host="elsewhere")  # whose heart stands still
    begin = time.monotonic()
    RunLock(tmp_path).release()
    assert 0.5 <= time.monotonic() - begin < 10

    monkeypatch.setattr(lock, "STALE_SECONDS", 1000)
    write_holder(tmp_path, host="elsewhere")
    os.utime(tmp_path / LOCK_FILE, (1, time.time() - 3600))  # and did so long ago
    RunLock(tmp_path).release()


def test_the_holders_heart_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.05)
    held = RunLock(tmp_path)
    os.utime(held.path, (1, 1))
    deadline = time.monotonic() + 20
    while held.path.stat().st_mtime == 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert held.path.stat().st_mtime > 1
    held.release()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="Linux tells it there")
def test_without_locks_of_the_system_a_living_process_holds_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "fcntl", None)
    write_holder(tmp_path)
    with pytest.raises(RunLockedError, match=f"in use by process {os.getpid()}"):
        RunLock(tmp_path)
    write_holder(tmp_path, process_started="1")  # the number went to another process
    RunLock(tmp_path).release()


def test_an_earlier_run_is_moved_as_a_whole_and_pictures_of_the_user_stay(tmp_path: Path) -> None:
    names = ["checkpoint-000000200.pt", "model-latest.safetensors", "stats.jsonl", "config.yaml", "reals.png"]
    names += ["fakes-000200.png", "fakes-000000200.png", "events.out.tfevents.1.a", "changes.jsonl"]
    run = tmp_path / "run"
    for number in (1, 2, 3):
        run.mkdir(exist_ok=True)
        for name in (*names, "mine.png", "cat-1.png", "IMG-123456.png", "model-mine.safetensors"):
            (run / name).write_text(f"{name} {number}")
        (run / ".fakes-000000200.png.12.tmp").write_text("half")
        with RunFolder(run, tensorboard=False) as folder:
            folder.log("begins")
            folder.set_aside(keep=number < 3)
            folder.begin(0)
        left = sorted(path.name for path in run.iterdir())
        assert left == [
            LOCK_FILE,
            "IMG-123456.png",
            "cat-1.png",
            "log.txt",
            "mine.png",
            "model-mine.safetensors",
        ]
        assert (run / "log.txt").read_text().splitlines()[0] == "begins"
        (run / "log.txt").unlink()
    for number in (1, 2):
        moved = tmp_path / f"run.old-{number}"
        assert sorted(path.name for path in moved.iterdir()) == sorted([*names, "log.txt"])
        assert (moved / names[0]).read_text() == f"{names[0]} {number}"
    with RunFolder(run, tensorboard=False) as folder:
        folder.log("begins where nothing is")
        folder.set_aside(keep=True)
    assert not (tmp_path / "run.old-3").exists()


def test_a_restart_does_not_overlap_in_tensorboard(tmp_path: Path) -> None:
    values = {0: 1.0, 20: -1.0}  # the first start reaches 40 images, the checkpoint is at 20
    for start, value in values.items():
        with RunFolder(tmp_path) as folder:
            folder.begin(start)
            for nimg in range(start + 10, 50, 10):
                folder.write_stats(nimg, {"loss": value})
            folder.write_picture(f"fakes-{start}", [[np.full((4, 6, 3), 7, np.uint8)]], nimg=start)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(10, 1), (20, 1), (30, -1), (40, -1)]
    picture = events.Images("fakes")[0]
    assert (picture.width, picture.height) == (14, 12)
    assert [line["nimg"] for line in read_lines(tmp_path / "stats.jsonl")] == [10, 20, 30, 40]


def test_a_full_disk_under_tensorboard_is_an_error_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RunFolder(tmp_path) as folder:
        folder.begin(0)
        file = next(tmp_path.glob("events*"))
        before = file.read_bytes()
        write, calls = os.write, [0]

        def full(descriptor: int, data: memoryview) -> int:
            calls[0] += 1
            if calls[0] == 2:  # after stats.jsonl
                write(descriptor, data[:9])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write(descriptor, data)

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(DiskFullError, match=r"events\.out\.tfevents.*: No space left.* are missing"):
            folder.write_stats(10, {"loss": 1.0})
        assert file.read_bytes() == before
