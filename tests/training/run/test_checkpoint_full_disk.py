"""If this fails, a full or failing disk costs the whole training instead of one snapshot."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from training.run.checkpoint import CheckpointError, checkpoint_path, load_latest_checkpoint, save_checkpoint


def state_at(nimg: int) -> dict[str, Any]:
    return {"weight": torch.arange(300.0) + nimg, "nimg": nimg}


def names(run_dir: Path) -> list[str]:
    return sorted(path.name for path in run_dir.iterdir())


def assert_loads(run_dir: Path, nimg: int) -> None:
    reports: list[str] = []
    state = load_latest_checkpoint(run_dir, report=reports.append)
    assert state is not None
    assert state["nimg"] == nimg
    assert torch.equal(state["weight"], state_at(nimg)["weight"])
    assert reports == []


class FullDisk(io.FileIO):
    """A file on a disk with room for `room` bytes more."""

    room = 0

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        if self.tell() + size > self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


@pytest.mark.parametrize("room", [0, 100, 700, 1000, 2000, 2500])
def test_full_disk_keeps_the_earlier_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int):
    for nimg in (100, 200):
        save_checkpoint(tmp_path, nimg, state_at(nimg))
    before = names(tmp_path)
    size = checkpoint_path(tmp_path, 200).stat().st_size
    assert size > 2500
    monkeypatch.setattr(FullDisk, "room", room)
    path_open = Path.open
    monkeypatch.setattr(
        Path,
        "open",
        lambda self, mode="r", *a: FullDisk(self, mode) if mode == "wb" else path_open(self, mode, *a),
    )
    with pytest.raises(
        CheckpointError,
        match=r"No space left on device: [\d,]+ bytes are needed in .*, [\d,]+ are missing.* checkpoints are",
    ):
        save_checkpoint(tmp_path, 300, state_at(300))
    assert names(tmp_path) == before
    assert_loads(tmp_path, 200)

    # Room made: the same run goes on.
    monkeypatch.setattr(FullDisk, "room", size + 1000)
    save_checkpoint(tmp_path, 300, state_at(300))
    assert_loads(tmp_path, 300)


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_disk_that_fails_late_keeps_the_earlier_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
):
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    save_checkpoint(tmp_path, 100, state_at(100))
    monkeypatch.setattr(os, function, fail)
    with pytest.raises(CheckpointError, match="Input/output error"):
        save_checkpoint(tmp_path, 200, state_at(200))
    assert names(tmp_path) == ["checkpoint-000000100.pt"]
    assert_loads(tmp_path, 100)


LIMITED_RUN = """
import resource, signal, sys
import torch
from training.run.checkpoint import CheckpointError, save_checkpoint

run_dir = sys.argv[1]
save_checkpoint(run_dir, 100, {"weight": torch.arange(300.0) + 100, "nimg": 100})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for limit in (10, 5000, 400_800):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        save_checkpoint(run_dir, 200, {"weight": torch.zeros(100_000), "nimg": 200})
    except CheckpointError as error:
        reason = str(error)
    else:
        reason = "written"
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(limit, reason)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files through POSIX resource limits")
def test_write_that_the_system_stops_keeps_the_earlier_checkpoint(tmp_path: Path):
    result = subprocess.run(
        [sys.executable, "-c", LIMITED_RUN, str(tmp_path)],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["10", "5000", "400800"]
    reason = "checkpoint-000000200.pt: could not be written (File too large: 40"
    assert all(reason in line for line in lines)
    assert names(tmp_path) == ["checkpoint-000000100.pt"]
    assert_loads(tmp_path, 100)
