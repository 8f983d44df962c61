"""If this fails, a kill or a full disk leaves half a file, or the error does not say what is missing."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from ganmod.io.atomic_write import (
    DiskFullError,
    append_bytes,
    atomic_write,
    atomic_write_text,
    remove_temporaries,
)


def full(*arguments: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def free_bytes(monkeypatch: pytest.MonkeyPatch) -> int:
    """What the disk has left."""
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    return 1000


def test_a_full_disk_names_file_folder_and_missing_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_bytes: int
) -> None:
    file = tmp_path / "a.txt"
    atomic_write_text(file, "before")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError) as error:
        atomic_write_text(file, "x" * 2500)
    assert str(error.value) == (
        f"{file}: No space left on device: 2,500 bytes are needed in {tmp_path}, 1,000 are free, 1,500 are "
        "missing. Make room and run the same command again"
    )
    assert error.value.errno == errno.ENOSPC
    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]


def test_a_full_disk_behind_another_error_is_found(tmp_path: Path, free_bytes: int) -> None:
    """torch.save raises an error about file positions while it handles the system's."""

    def write(temporary: Path) -> None:
        try:
            full()
        finally:
            raise RuntimeError("unexpected pos 64 vs 0")

    with pytest.raises(DiskFullError, match=r"checkpoint: No space.* 7,000 bytes are .* 6,000 are missing"):
        atomic_write(tmp_path / "checkpoint", write, size=7000)
    with pytest.raises(RuntimeError, match="no full disk"):
        atomic_write(tmp_path / "checkpoint", lambda _: (_ for _ in ()).throw(RuntimeError("no full disk")))
    assert list(tmp_path.iterdir()) == []


def test_lines_are_added_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_bytes: int
) -> None:
    file = tmp_path / "stats.jsonl"
    append_bytes(file, b"one\n")
    write, room = os.write, [7]

    def short(descriptor: int, data: memoryview) -> int:
        if not room[0]:
            full()
        written = write(descriptor, data[: room[0]])
        room[0] -= written
        return written

    monkeypatch.setattr(os, "write", short)
    with pytest.raises(DiskFullError, match=r"stats\.jsonl: No space left on device: 10 bytes are needed"):
        append_bytes(file, b"two three\n")
    assert file.read_bytes() == b"one\n"
    room[0] = 7
    append_bytes(file, b"four\n")  # in one piece or two
    assert file.read_bytes() == b"one\nfour\n"


def test_temporary_files_of_killed_writers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    left = [
        ".checkpoint-000000100.pt.123.tmp",
        ".model-best.safetensors.9.tmp",
        ".fakes-000001.png.7.partial",
    ]
    kept = [".run.lock", ".notes.tmp", "a.tmp", "model-latest.safetensors", ".hidden"]
    for name in left + kept:
        (tmp_path / name).write_bytes(b"half")
    remove_temporaries(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)
