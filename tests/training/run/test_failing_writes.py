"""If this fails, a disk that is full for a moment costs more than the steps since the last checkpoint."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ganmod.io.atomic_write import DiskFullError
from ganmod.io.model_file import ModelFileError
from training.run.checkpoint import CheckpointError

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks" / "runs"))
from kill_resume import RECIPES, compare_runs, train_tiny, write_images


class FailingDisk:
    """Counts writes, flushes and renames, and lets one of them fail as a full disk does, half of it done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls, self.fails_at = 0, 0
        for name in ("write", "fsync", "replace"):
            monkeypatch.setattr(os, name, self._counted(getattr(os, name)))

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self.calls += 1
            if self.calls != self.fails_at:
                return function(*arguments)
            if function.__name__ == "write":
                function(arguments[0], arguments[1][: len(arguments[1]) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        return call


def check_failing_writes(
    recipe: str, folder: Path, disk: FailingDisk, *, steps: int, every: int = 1
) -> tuple[int, int]:
    """Let the n-th write fail, n = 1, 1 + every, ... up to the last: (numbers of failures, of writes)."""
    images = write_images(folder / "images")

    def run(name: str) -> None:
        train_tiny(recipe, images, folder / name, steps=steps)

    disk.calls = 0
    run("whole")
    num_writes, failures = disk.calls, 0
    for n in range(1, num_writes + 1, every):
        name = f"fails-at-{n}"
        disk.calls, disk.fails_at = 0, n
        with pytest.raises((DiskFullError, CheckpointError, ModelFileError)) as error:
            run(name)
        assert str(folder / name) in str(error.value)
        assert "No space left on device: " in str(error.value)
        assert " are missing" in str(error.value)
        assert not [path for path in (folder / name).iterdir() if path.suffix == ".tmp"]
        failures += 1
        disk.fails_at = 0
        run(name)
        count, different = compare_runs(folder / "whole", folder / name)
        assert different == []
        assert count > 30_000
    return failures, num_writes


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> FailingDisk:
    return FailingDisk(monkeypatch)


def test_some_failing_writes_cost_nothing(tmp_path: Path, disk: FailingDisk) -> None:
    failures, num_writes = check_failing_writes("stylegan2", tmp_path, disk, steps=2, every=7)
    assert failures >= 4
    assert num_writes > 20


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_failing_write_costs_nothing(tmp_path: Path, recipe: str, disk: FailingDisk) -> None:
    failures, num_writes = check_failing_writes(recipe, tmp_path, disk, steps=3)
    assert failures == num_writes > 30
