"""Progress of long work: the caller supplies a `Progress`, such as the bars of a terminal."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Bar(Protocol):
    """The progress of one task, such as a tqdm bar. `total` is the number of items, which may be set."""

    total: float | None

    def update(self, n: int = 1) -> object:
        """Report n more items as done."""


# (number of items, title) -> context manager of a bar.
Progress = Callable[[int, str], AbstractContextManager[Bar]]


class _Silent:
    total: float | None = None

    def update(self, n: int = 1) -> None:
        pass


def no_progress(total: int, title: str) -> AbstractContextManager[Bar]:
    """The `Progress` that shows nothing."""
    return nullcontext(_Silent())
