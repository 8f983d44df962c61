"""What `ganmod compare` writes and prints of training runs: table, page, pictures, the runs themselves."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ganmod.cli.compare.measures import Outcome
    from training.run.records import RunRecord

CURVE_POINTS = 40  # of a run's statistics in runs/NAME.json


def write_all(
    out: Path, record: Mapping[str, Any], outcome: Outcome, records: Sequence[RunRecord], *, title: str
) -> None:
    """Table, page and pictures; of each row, the first run's samples are shown, and all runs' curves."""
    from metrics.compare.report import Logs, write_comparison
    from metrics.compare.runs import rows_of
    from metrics.compare.sample_sheet import sample_sheet

    labels, shown = {}, {}
    for row in rows_of(outcome.runs):
        shown[row.name] = outcome.pictures[row.runs[0].facts.name]
        for facts in (run.facts for run in row.runs):
            which = facts.name if facts.seed is None else f"seed {facts.seed}"
            labels[facts.name] = f"{row.name}, {which}" if len(row.runs) > 1 else row.name
    labelled = {labels[run.facts.name]: run for run in records}
    write_comparison(
        out,
        record,
        sample_sheet(shown, outcome.header),
        {label: Logs(run.stats, run.metrics) for label, run in labelled.items()},
        title=title,
        command=shlex.join(["ganmod", *sys.argv[1:]]),
    )
    _write_runs(out / "runs", labelled)


def print_comparison(record: Mapping[str, Any], out: Path, as_json: bool) -> None:
    """JSON; or what must be said, what the figures depend on, and the table, last."""
    from metrics.compare.report import shown_table, stated_facts, statements

    if as_json:
        click.echo(json.dumps(record, indent=1))
        return
    for line in statements(record):
        click.echo(line)
    for name, value in stated_facts(record):
        click.echo(f"{name}: {value}")
    click.echo(f"wrote {out / 'report.html'}, comparison.json, table.md, table.csv, samples.jpg\n")
    click.echo(shown_table(record).to_markdown())


def _write_runs(folder: Path, records: Mapping[str, RunRecord]) -> None:
    """What others need to repeat the runs: each one's configuration and a thinned copy of its statistics."""
    import yaml

    from training.run.records import without_folders

    folder.mkdir(parents=True, exist_ok=True)
    for label, record in records.items():
        name = re.sub(r"[^0-9A-Za-z._-]+", "_", label)
        if record.config is not None:
            text = yaml.safe_dump(without_folders(record.config), sort_keys=False)
            (folder / f"{name}.yaml").write_text(text)
        curves = {
            "stats": record.stats[:: max(len(record.stats) // CURVE_POINTS, 1)],
            "metrics": record.metrics,
        }
        (folder / f"{name}.json").write_text(json.dumps(curves) + "\n")
