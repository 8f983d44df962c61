"""If this fails, ganmod runs with another project's package in place of its own, or refuses its own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

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
