"""If this fails, a script of benchmarks/ does not start: it uses what has moved."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parents[2] / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_says_what_it_is_for(script: Path, monkeypatch: pytest.MonkeyPatch):
    done = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first_line = script.read_text().split('"""')[1].splitlines()[0]
    assert first_line in " ".join(done.stdout.split())
