"""The hint in messages about unknown names; it stands here because every package may import configs."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


def did_you_mean(
    word: str, known: Sequence[str], *, hint: str = ", did you mean {!r}", cutoff: float = 0.6
) -> str:
    """`hint` with the known name that is most like `word`; an empty string if none is.

    cutoff: the least similarity, see `difflib.get_close_matches`.
    """
    near = difflib.get_close_matches(word, known, n=1, cutoff=cutoff)
    return hint.format(near[0]) if near else ""
