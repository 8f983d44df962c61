"""The cache folder: results that can be computed again, and files that are read if they are there."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache_dir() -> Path:
    """$GANMOD_CACHE, or `ganmod` in the user's cache folder."""
    if folder := os.environ.get("GANMOD_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ganmod"
