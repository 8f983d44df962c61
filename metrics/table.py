"""Tables of comparisons, as Markdown, CSV, JSON and HTML."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

Cell = str | int | float | None


class Best(str):
    """The cell of a winner: bold in Markdown, followed by "(best)" in HTML, otherwise plain."""


@dataclass(frozen=True)
class Table:
    """Named columns and rows of cells.

    Args:
        columns: the headings.
        rows: one cell per column each; floats are shown with four digits, None as an empty cell.

    Raises:
        ValueError: for a row of another length.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    def __post_init__(self) -> None:
        for i, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(
                    f"row {i} has {len(row)} cells for {len(self.columns)} columns: one for each is expected"
                )

    @classmethod
    def from_records(cls, records: Sequence[Mapping[str, Any]]) -> Table:
        """A row per record {column: value}; columns in order of first appearance, missing values None."""
        columns = list(dict.fromkeys(key for record in records for key in record))
        return cls(columns, [[record.get(column) for column in columns] for record in records])

    def select(self, keep: Callable[[str, Sequence[Cell]], bool]) -> Table:
        """The table with only the columns for which keep(heading, cells of the column) is true."""
        cells = list(zip(*self.rows, strict=True)) or [()] * len(self.columns)
        kept = [i for i, column in enumerate(self.columns) if keep(column, cells[i])]
        return Table([self.columns[i] for i in kept], [[row[i] for i in kept] for row in self.rows])

    def to_markdown(self) -> str:
        """Markdown without a final newline; the first column left-aligned, the others right-aligned."""
        lines = [f"| {' | '.join(self.columns)} |", "|---|" + "---:|" * (len(self.columns) - 1)]
        lines += [f"| {' | '.join(map(_markdown_cell, row))} |" for row in self.rows]
        return "\n".join(lines)

    def to_csv(self) -> str:
        """A heading line and one line per row, figures unrounded."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(self.rows)
        return text.getvalue()

    def to_json(self) -> dict[str, Any]:
        """Plain values for json.dumps, which `from_json` reads back."""
        return {"columns": list(self.columns), "lines": [list(row) for row in self.rows]}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Table:
        """The table that `to_json` describes."""
        return cls(values["columns"], values["lines"])

    def to_html(self) -> str:
        """A <table> element, all text escaped; columns that contain numbers have the class "number"."""
        numeric = [any(_is_number(row[i]) for row in self.rows) for i in range(len(self.columns))]
        heads = _html_cells("th", self.columns, numeric)
        body = "\n".join(f"<tr>{_html_cells('td', row, numeric)}</tr>" for row in self.rows)
        return f"<table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def _format(cell: Cell) -> str:
    if cell is None:
        return ""
    return f"{cell:.4g}" if isinstance(cell, float | np.floating) else str(cell)


def _markdown_cell(cell: Cell) -> str:
    text = _format(cell).replace("|", "\\|")
    return f"**{text}**" if isinstance(cell, Best) else text


def _html_cells(tag: str, cells: Sequence[Cell], numeric: Sequence[bool]) -> str:
    opening = {True: f'<{tag} class="number">', False: f"<{tag}>"}
    return "".join(
        f"{opening[number]}{escape(_html_text(cell))}</{tag}>"
        for cell, number in zip(cells, numeric, strict=True)
    )


def _html_text(cell: Cell) -> str:
    return f"{cell} (best)" if isinstance(cell, Best) else _format(cell)


def _is_number(value: Cell) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)
