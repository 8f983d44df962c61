"""Fill the tables of README.md and docs/ from results/NAME/comparison.json, or check that they agree.

    python benchmarks/fill_figures.py            # writes the pages
    python benchmarks/fill_figures.py --check    # exit code 1 where a page says something else

A table stands between `<!-- figures:NAME -->`, or `<!-- figures:NAME.TABLE -->` where there are several, and
`<!-- /figures -->`; the text around it is nobody's but its author's.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from metrics.compare.report import FORM, display_table, statements
from metrics.style.table import FORM as STYLE_FORM
from metrics.table import Table

ROOT = Path(__file__).parent.parent
PLACE = re.compile(r"(<!-- figures:([\w.-]+) -->\n)(.*?)(<!-- /figures -->)", re.DOTALL)
LEFT_OUT = ("non-finite steps", "power / real")  # they stand in the JSON


def comparison_table(record: Mapping[str, Any], table: str) -> str:
    """The table of a `ganmod compare`, without empty columns, and what its marks mean."""
    marks = [line for line in statements(record) if line.startswith("Note ")]
    text = display_table(record, drop_empty=True, leave_out=LEFT_OUT).to_markdown()
    return "\n".join([text, *(f"\n{line}" for line in marks)])


def style_tables(record: Mapping[str, Any], table: str) -> str:
    """A table of a `ganmod compare style`: losses or responses."""
    if table not in record["tables"]:
        raise ValueError(f"no table {table!r}: expected one of {', '.join(record['tables'])}")
    return Table.from_json(record["tables"][table]).to_markdown()


# By the record's form.
TABLES: dict[str, Callable[[Mapping[str, Any], str], str]] = {
    FORM: comparison_table,
    STYLE_FORM: style_tables,
}


def filled(text: str, results: Path) -> str:
    """A page's text with every marked place filled from the results' folder.

    Raises ValueError for a place without results, or with results of a form that has no table here.
    """

    def fill(match: re.Match[str]) -> str:
        begin, place, _, end = match.groups()
        name, _, table = place.partition(".")
        file = results / name / "comparison.json"
        if not file.is_file():
            raise ValueError(f"figures:{name} stands in the page, but there is no {file}")
        record = json.loads(file.read_text())
        form = record.get("form") if isinstance(record, dict) else None
        if form not in TABLES:
            raise ValueError(f"{file} is of form {form!r}, expected one of {', '.join(TABLES)}")
        return f"{begin}{TABLES[form](record, table)}\n{end}"

    return PLACE.sub(fill, text)


def main() -> None:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--check", action="store_true", help="change nothing, fail where they differ")
    parser.add_argument("--page", type=Path, action="append", help="[default: README.md and all of docs/]")
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    args = parser.parse_args()
    num_places = 0
    for page in args.page or [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        before = page.read_text()
        after = filled(before, args.results)
        num_places += len(PLACE.findall(after))
        if args.check and before != after:
            sys.exit(f"{page} differs from {args.results}: run python benchmarks/fill_figures.py")
        if before != after:
            page.write_text(after)
    print(f"{num_places} places {'agree with' if args.check else 'filled from'} {args.results}")


if __name__ == "__main__":
    main()
