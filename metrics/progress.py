"""How long work reports its progress: whoever starts it hands a `Progress` in, such as bars of a terminal."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Bar(Protocol):
    """The progress of one piece of work; a tqdm bar is one. total: the number of items, which may be set."""

    total: float | None

    def update(self, n: int = 1) -> object:
        """n more items are done."""


# (number of items, title) -> a bar to be entered.
Progress = Callable[[int, str], AbstractContextManager[Bar]]


class _Silent:
    total: float | None = None

    def update(self, n: int = 1) -> None:
        pass


def no_progress(total: int, title: str) -> AbstractContextManager[Bar]:
    """The `Progress` that shows nothing."""
    return nullcontext(_Silent())
