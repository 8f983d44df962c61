"""If this fails, a table shows another figure than it holds, in one of its four forms."""

from __future__ import annotations

import csv
import io
import json
from html.parser import HTMLParser

import numpy as np
import pytest

from metrics.table import Best, Table

TABLE = Table(["model", "loss", "n"], [["a|b", 0.123456, 7], ["<c>", None, Best("2")]])


class Cells(HTMLParser):
    """The cells of a table in HTML: their classes and texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.classes: list[str | None] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag in ("th", "td"):
            self.classes.append(dict(attributes).get("class"))
            self.texts.append("")

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts[-1] += data


def test_markdown_rounds_escapes_and_prints_the_best_bold():
    assert TABLE.to_markdown().splitlines() == [
        "| model | loss | n |",
        "|---|---:|---:|",
        "| a\\|b | 0.1235 | 7 |",
        "| <c> |  | **2** |",
    ]


def test_csv_has_every_figure_in_full():
    rows = list(csv.DictReader(io.StringIO(TABLE.to_csv())))
    assert rows == [{"model": "a|b", "loss": "0.123456", "n": "7"}, {"model": "<c>", "loss": "", "n": "2"}]


def test_json_gives_the_table_back():
    assert Table.from_json(json.loads(json.dumps(TABLE.to_json()))) == TABLE


def test_html_escapes_and_aligns_columns_of_numbers():
    cells = Cells(Table(TABLE.columns, [*TABLE.rows, ["d", np.float32(2.0), 1]]).to_html())
    assert cells.texts == ["model", "loss", "n", "a|b", "0.1235", "7", "<c>", "", "2 (best)", "d", "2", "1"]
    assert cells.classes == [None, "number", "number"] * 4


def test_records_share_their_columns_and_columns_can_be_chosen():
    table = Table.from_records([{"a": 1, "b": 2}, {"a": 3, "c": 4}])
    assert table == Table(["a", "b", "c"], [[1, 2, None], [3, None, 4]])
    chosen = table.select(lambda heading, cells: heading != "a" and None in cells)
    assert chosen == Table(["b", "c"], [[2, None], [None, 4]])


def test_rows_of_another_length_are_refused():
    with pytest.raises(ValueError, match="row 1 has 1 cells for 2 columns"):
        Table(["a", "b"], [[1, 2], [3]])
