"""A `Progress` that counts, for tests of progress reports."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class CountedBar:
    """Numbers of announced and finished items."""

    def __init__(self, total: int) -> None:
        self.total: float | None = total
        self.done = 0

    def update(self, n: int = 1) -> None:
        self.done += n


class CountedProgress:
    """Collects bars, {title: bar}."""

    def __init__(self) -> None:
        self.bars: dict[str, CountedBar] = {}

    @contextmanager
    def __call__(self, total: int, title: str) -> Iterator[CountedBar]:
        self.bars[title] = CountedBar(total)
        yield self.bars[title]

    @property
    def counts(self) -> dict[str, tuple[float | None, int]]:
        """{title: (announced, done)}."""
        return {title: (bar.total, bar.done) for title, bar in self.bars.items()}
