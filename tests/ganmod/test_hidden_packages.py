"""If this fails, ganmod runs with another project's package in place of its own, or refuses its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import ganmod
from ganmod.hidden_packages import HiddenPackageError, check_packages, hidden_packages


def test_ours_are_found():
    assert hidden_packages() == {}
    check_packages()


@pytest.mark.parametrize("regular", [True, False])
def test_a_package_that_comes_first_is_named(regular: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "training").mkdir()
    if regular:  # a folder without __init__.py does not come before a package elsewhere
        (tmp_path / "training" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == "training"]:
        monkeypatch.delitem(sys.modules, name)
    if not regular:
        check_packages()
        return
    assert hidden_packages() == {"training": tmp_path / "training"}
    with pytest.raises(HiddenPackageError, match=r"named 'training', at .*training, hides ganmod's: leave"):
        check_packages()


def test_the_command_says_so_before_it_imports_any_of_ours(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "__init__.py").write_text("raise RuntimeError('this is not ganmod')")
    root = Path(ganmod.__file__).parents[1]
    ended = subprocess.run(
        [sys.executable, "-c", "from ganmod.cli.main import main; main()", "modulations"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{root}"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("Error: another package named 'configs', at ")
    assert ended.stderr.count("\n") == 1
