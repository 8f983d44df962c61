"""Progress of what takes long: a bar in a terminal, else a line now and then."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

LINE_SECONDS = 30.0  # between two lines where there is no terminal

_LINE = "{desc}: {n_fmt} of {total_fmt} {unit}, {elapsed}, {remaining} to the end{postfix}"


class PlainProgress(tqdm):
    """A line on stderr every LINE_SECONDS; none for what takes less."""

    def __init__(self, **options: Any) -> None:
        self._told_at = 0.0  # seconds after the begin
        options["desc"] = options.get("desc") or "done"
        options |= {"mininterval": LINE_SECONDS, "miniters": 1, "bar_format": _LINE, "disable": False}
        super().__init__(**options)

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Print the state where a line is due; tqdm calls this at the begin, and where something changes."""
        elapsed = self.format_dict["elapsed"]
        if elapsed - self._told_at >= LINE_SECONDS:
            self._told_at = elapsed
            print(self, file=sys.stderr)
        return True

    def close(self) -> None:
        """End without a further line."""
        self.disable = True


def progress_bar(*, shown: bool = True, **options: Any) -> tqdm:
    """A bar with tqdm's options where stderr is a terminal, else lines; neither unless `shown`."""
    if shown and not sys.stderr.isatty():
        return PlainProgress(**options)
    return tqdm(**options, disable=not shown)
