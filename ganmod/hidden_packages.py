"""One clear line where another package of the name of one of ours hides it, as PYTHONPATH can make it do."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path

from ganmod.errors import GanmodError

PACKAGES = ("configs", "metrics", "style_transfer", "training")


class HiddenPackageError(GanmodError, ImportError):
    """Another package of the name of one of ours is found first."""


def hidden_packages(names: Iterable[str] = PACKAGES) -> dict[str, Path]:
    """{name: where Python finds it} of our packages that another one hides; ours stand next to `ganmod`."""
    home = Path(__file__).resolve().parents[1]
    hidden = {}
    for name in names:
        spec = importlib.util.find_spec(name)
        if spec is None:
            continue  # the import itself says so
        folders = spec.submodule_search_locations or ([spec.origin] if spec.origin else [])
        found = [Path(folder).resolve() for folder in folders]
        if found and home / name not in found:
            hidden[name] = found[0]
    return hidden


def check_packages() -> None:
    """Raise HiddenPackageError, with what to do, where one of our packages is hidden."""
    for name, path in hidden_packages().items():
        raise HiddenPackageError(
            f"another package named {name!r}, at {path}, hides ganmod's: leave its folder out of PYTHONPATH, "
            "or run ganmod from another folder"
        )
