"""A line on standard error that says how far the work is; none where nobody watches."""

from __future__ import annotations

import sys
import time

DELAY = 1.0  # seconds: shorter work needs no line
_INTERVAL = 0.2  # seconds between two updates


def _is_watched() -> bool:
    return sys.stderr.isatty()


class ProgressLine:
    """Shows a share of work, such as "photo.jpg 40 %", on a terminal; remove it with `close`."""

    def __init__(self, label: str) -> None:
        self.label = label
        self._begin = time.monotonic()
        self._shown = self._begin + DELAY - _INTERVAL
        self._width = 0

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` parts of `total` are finished."""
        now = time.monotonic()
        if now - self._shown < _INTERVAL or not _is_watched():
            return
        self._shown = now
        text = f"{self.label} {done / max(total, 1):.0%}"
        if done:
            text += f", {(now - self._begin) * (total - done) / done:.0f} s left"
        self._write(text)

    def close(self) -> None:
        """Remove the line."""
        if self._width:
            self._write("")

    def _write(self, text: str) -> None:
        sys.stderr.write(f"\r{text.ljust(self._width)}\r")
        sys.stderr.flush()
        self._width = len(text)
