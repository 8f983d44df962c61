"""Limits on what is read from files, far above what real ones need; environment variables raise them.

`GANMOD_LIMIT_PICKLE_STEPS=20000000 ganmod import ...` raises PICKLE_STEPS.
"""

from __future__ import annotations

import os


def _limit(name: str, default: int) -> int:
    text = os.environ.get(f"GANMOD_LIMIT_{name}", "")
    return int(text) if text.isdecimal() else default


PICKLE_STEPS = _limit("PICKLE_STEPS", 2_000_000)
"""Instructions of a pickle, and values that they hash or hold when shared ones are counted every time."""
UNPACKED_RATIO = _limit("UNPACKED_RATIO", 20)
"""Size of what a checkpoint holds, unpacked and as tensors, as a multiple of the file's size."""


def how_to_raise(name: str) -> str:
    """The end of a message about a limit."""
    return f"set GANMOD_LIMIT_{name} to a higher number if you trust the file"
