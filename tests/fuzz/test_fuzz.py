"""If this fails, a hostile file or an odd command line ends in a traceback, hangs or runs code.

`make fuzz` runs many more; a finding's folder and command line are in build/fuzz.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuzz import process
from tests.fuzz.process import CODE_RUN, CRASH, HANG, OK, TOO_LARGE, TRACEBACK, Outcome, run_line

ROOT = Path(__file__).parents[2]


def test_a_few_cases_of_each_kind_end_with_one_message(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz", "--files", "16", "--lines", "10", "--seed", "1"]
    command += ["--keep", str(tmp_path / "findings")]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = re.search(r"(\d+) files x commands, (\d+) command lines", done.stdout)
    assert counts is not None
    assert int(counts[1]) > 8
    assert int(counts[2]) > 5


def fail(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (lambda: None, OK),
        (lambda: fail(ValueError("of the user")), OK),
        (lambda: fail(SystemExit(2)), OK),
        (lambda: fail(KeyError("a bug")), TRACEBACK),
        (lambda: fail(MemoryError()), TOO_LARGE),
        (lambda: bytearray(b"x") * (160 << 20), TOO_LARGE),
        (lambda: os.kill(os.getpid(), 9), CRASH),
        (lambda: Path(process.CANARY).touch(), CODE_RUN),
        (lambda: __import__("time").sleep(60), HANG),
    ],
    ids=["done", "ValueError", "exit", "KeyError", "MemoryError", "160 MiB", "signal", "canary", "sleep"],
)
def test_each_end_is_told_from_the_others(
    action: Callable[[], object], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ganmod.cli.main.cli", lambda *_arguments, **_options: action())
    monkeypatch.setattr(process, "MEMORY", 128 << 20)
    (tmp_path / "case").mkdir()
    outcome = run_line([], tmp_path / "case", seconds=2 if expected == HANG else 60)
    assert isinstance(outcome, Outcome)
    assert outcome.kind == expected, outcome
