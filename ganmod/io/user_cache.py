"""The folder of results that can be made again, and of files that are looked for but never fetched."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache_dir() -> Path:
    """$GANMOD_CACHE, or `ganmod` in the user's cache folder."""
    if given := os.environ.get("GANMOD_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ganmod"
