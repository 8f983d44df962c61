"""Output of a comparison: Markdown, CSV, JSON, and an HTML page with pictures and curves.

All of it derives from the record in comparison.json, see `make_record`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ganmod.io.atomic_write import atomic_write_text
from ganmod.io.small_jpeg import write_small_jpeg
from metrics.compare.runs import (
    DEVIATIONS_FOR_A_WINNER,
    SEEDS_FOR_A_WINNER,
    TOLERANCE,
    Equal,
    MeasuredRun,
    better,
    table_record,
)
from metrics.compare.words import column_words, curve_words
from metrics.distances.frechet import shown_distance
from metrics.html_report import Report
from metrics.table import Best, Cell, Table

SINGLE = ("1 draw", "1 seed")  # cells of undefined deviations
FORM = "ganmod compare 1"
DISTANCES = ("fid", "fd_")
METRICS_PER_TABLE = 2  # of the page

SHEET_CAPTIONS = {
    "stylegan2": "Top row: real images. Below, each column shows the runs' samples for one latent.",
    "starganv2": "Top row: references, which are real images. Left: sources, likewise. Between them, the "
    "runs' translations of a source in the style of a reference.",
    "style": "Top row: styles. Left: photos. Between them, the runs' pictures of a photo in a style.",
}

Column = tuple[str, list[Cell]]

Lines = list[dict[str, Any]]


class Logs(NamedTuple):
    """A run's logs: the lines of stats.jsonl and metrics.jsonl."""

    stats: Lines
    metrics: Lines


def make_record(
    runs: Sequence[MeasuredRun],
    differing: Mapping[str, Mapping[str, Any]],
    unknown: Mapping[str, Sequence[str]],
    *,
    equal: Equal,
    conditions: Mapping[str, Any],
    notes: Sequence[str],
    machine: Mapping[str, str],
    versions: Mapping[str, str],
) -> dict[str, Any]:
    """The comparison as plain values.

    Args:
        differing: see `metrics.compare.runs.differences`.
        unknown: see `metrics.compare.runs.unknowns`.
        notes: sentences for the report.

    Raises:
        ValueError: for a figure that is not finite.
    """
    rows, winners = table_record(runs, differing)
    all_notes = list(notes)
    for row, total in zip(rows, _totals(rows, runs), strict=True):
        if row["num_repeated"]:
            all_notes.append(
                f"{row['row']}: {row['num_repeated']:,} of {total:,} samples equal another to the bit, and "
                "count as fewer: a collapsed model, or seeds that do not reach it"
            )
    record = {
        "form": FORM,
        "recipe": runs[0].facts.recipe,
        "equal": equal,
        "rows": rows,
        "winners": winners,
        "differences": {key: dict(values) for key, values in differing.items()},
        "not_known": {key: list(names) for key, names in unknown.items()},
        "conditions": dict(conditions),
        "notes": all_notes,
        "machine": dict(machine),
        "versions": dict(versions),
    }
    json.dumps(record, allow_nan=False)  # raises ValueError for NaN and infinity
    return record


def table_parts(record: Mapping[str, Any]) -> tuple[list[Column], list[list[Column]], list[Column]]:
    """Columns of the table as (heading, cells): name and costs, three per metric, spectrum."""
    rows = record["rows"]
    marks = {what: number + 1 for number, what in enumerate(record["differences"])}
    costs: list[Column] = [
        ("row", [row["row"] + _mark(row, marks) for row in rows]),
        ("training seeds", [len(row["runs"]) for row in rows]),
        ("G parameters (M)", [round(row["parameters"] / 1e6, 2) for row in rows]),
        ("kimg", [_round(row["kimg"]) for row in rows]),
        ("s/kimg", [_round(row["seconds_per_kimg"]) for row in rows]),
        ("peak memory (MiB)", [_round(row["peak_memory_mb"]) for row in rows]),
        ("non-finite steps", [_round(row["nonfinite_steps"]) for row in rows]),
    ]
    metrics = []
    for metric in display_metrics(record):
        spreads = [row["metrics"][metric] for row in rows]
        best = record["winners"].get(metric)
        means = [_mean(metric, row["metrics"][metric]["mean"], row["row"] == best) for row in rows]
        num_draws = max(len(draws) for value in spreads for draws in value["draws"])
        direction = better(metric)
        over_draws = [_deviation(value["sd_over_draws"], SINGLE[0]) for value in spreads]
        over_seeds = [_deviation(value["sd_over_training_seeds"], SINGLE[1]) for value in spreads]
        columns: list[Column] = [
            (f"{metric}, {direction} is better" if direction else metric, means),
            (f"sd over {num_draws} sampling draws", over_draws),
            ("sd over training seeds", over_seeds),
        ]
        metrics.append(columns)
    bands: list[Column] = []
    for band in dict.fromkeys(band for row in rows for band in row["power_to_real"]):
        values = [row["power_to_real"].get(band) for row in rows]
        bands.append((f"{band} power / real", [None if v is None else round(v, 2) for v in values]))
    return costs, metrics, bands


def display_table(
    record: Mapping[str, Any], *, drop_empty: bool = False, leave_out: Sequence[str] = ()
) -> Table:
    """The table for display: figures rounded, best values marked.

    Args:
        record: see `make_record`.
        drop_empty: omit columns without any value, such as deviations of single draws or seeds.
        leave_out: omit columns whose headings end with one of these.
    """
    costs, metrics, bands = table_parts(record)
    table = _table([*costs, *(column for columns in metrics for column in columns), *bands])

    def keep(heading: str, cells: Sequence[Cell]) -> bool:
        empty = drop_empty and all(cell in (None, *SINGLE) for cell in cells)
        return not (empty or heading.endswith(tuple(leave_out)))

    return table.select(keep)


def figures_table(record: Mapping[str, Any]) -> Table:
    """The rows of the table with unrounded figures."""
    figures = []
    for row in record["rows"]:
        line = {key: row[key] for key in ("row", "modulation")}
        line |= {"options": json.dumps(row["options"]), "num_training_seeds": len(row["runs"])}
        for key in ("parameters", "kimg", "seconds", "seconds_per_kimg", "peak_memory_mb"):
            line[key] = row[key]
        line |= {"nonfinite_steps": row["nonfinite_steps"], "num_repeated": row["num_repeated"]}
        for metric, value in row["metrics"].items():
            line[metric] = value["mean"]
            line[f"{metric}, sd over sampling draws"] = value["sd_over_draws"]
            line[f"{metric}, sd over training seeds"] = value["sd_over_training_seeds"]
        line |= {f"{band} power / real": value for band, value in row["power_to_real"].items()}
        figures.append(line | {"differs": "; ".join(row["differs"])})
    return Table.from_records(figures)


def statements(record: Mapping[str, Any]) -> list[str]:
    """The sentences below the table: differences by their marks, notes, the rule for winners."""
    lines = []
    for number, (what, values) in enumerate(record["differences"].items()):
        each = ", ".join(f"{run} {_plain(value)}" for run, value in values.items())
        lines.append(f"Note {number + 1}: {what} differs: {each}")
    for what, names in record["not_known"].items():
        lines.append(f"not known, so not compared: {what} of {', '.join(names)}")
    lines += record["notes"]
    spent = "kimg" if record["equal"] == "kimg" else "seconds of training"
    lines.append(f"Compared at equal {spent} (within {TOLERANCE:.0%}).")
    lines.append(
        "The two deviations: over sampling draws, one model sampled again (± sampled again); over training "
        "seeds, trained again (± trained again). Only the second says whether one modulation is better."
    )
    fair = [row for row in record["rows"] if not row["differs"]] or record["rows"]
    fewest = min(len(row["runs"]) for row in fair)
    if len(fair) < 2:
        lines.append("No winner is marked: all rows but one differ in what must be equal.")
    elif fewest < SEEDS_FOR_A_WINNER:
        lines.append(
            f"No winner is marked: a row has {fewest} training seed{'s' if fewest > 1 else ''}, and "
            f"{SEEDS_FOR_A_WINNER} in each are needed."
        )
    else:
        lines.append(
            f"Bold: ahead of every other row by more than {DEVIATIONS_FOR_A_WINNER:g} standard deviations of "
            "the difference of two single trainings; rows that differ neither win nor lose."
        )
    return lines


def condition_rows(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(condition, value) pairs: everything that the figures depend on."""
    facts = {**record["conditions"], "hardware": record["machine"], "versions": record["versions"]}
    return [(name.replace("_", " "), _plain(value)) for name, value in facts.items() if value is not None]


def write_comparison(
    out: Path,
    record: Mapping[str, Any],
    sheet: np.ndarray,
    logs: Mapping[str, Logs],
    *,
    title: str,
    command: str | None = None,
) -> None:
    """Write comparison.json, table.md, table.csv, samples.jpg and report.html.

    Args:
        out: folder, created if missing.
        sheet: uint8 [H,W,3], see `metrics.compare.sample_sheet`.
        logs: {run: its logs}.
        command: the command line of the report, or None.
    """
    below = "\n".join(f"- {line}" for line in statements(record))
    stated = "\n".join(f"- {name}: {value}" for name, value in condition_rows(record))
    atomic_write_text(out / "comparison.json", json.dumps(record, indent=1) + "\n")
    atomic_write_text(out / "table.md", f"{display_table(record).to_markdown()}\n\n{below}\n\n{stated}\n")
    atomic_write_text(out / "table.csv", figures_table(record).to_csv())
    write_small_jpeg(out / "samples.jpg", sheet)
    report = Report(title)
    report.paragraph(
        "Figures are means over the runs of a row and their draws of samples. Below the tables, the columns "
        "are explained, and what the figures depend on."
    )
    spaces = list(record["conditions"].get("spaces", ()))
    costs, metrics, bands = table_parts(record)
    tables = [
        [costs[0], *(column for columns in metrics[i : i + METRICS_PER_TABLE] for column in columns)]
        for i in range(0, len(metrics), METRICS_PER_TABLE)
    ]
    meanings: dict[str, str] = {}
    for columns in (*tables, costs, [costs[0], *bands] if bands else []):
        words = [column_words(heading, spaces) for heading, _ in columns]
        meanings |= dict(words)
        if columns:
            report.table(_table([(w.title, cells) for w, (_, cells) in zip(words, columns, strict=True)]))
    report.table(Table(["column", "meaning"], list(meanings.items())))
    for line in statements(record):
        report.paragraph(line)
    report.heading("What the figures depend on")
    report.table(Table(["", ""], condition_rows(record)))
    report.heading("Samples")
    report.figure(sheet, SHEET_CAPTIONS[record["recipe"]])
    add_curves(report, logs, spaces)
    if command is not None:
        report.heading("Made by")
        report.code(command)
    report.write(out / "report.html")


def add_curves(report: Report, logs: Mapping[str, Logs], spaces: Sequence[str] = ()) -> None:
    """Add charts of the runs' logs: metrics over images and over time, losses and speed over images."""
    kinds = [("metrics", ("fid", "fd_", "kid", "kd_")), ("stats", ("loss/",))]
    charts: list[tuple[str, str, str]] = []
    for attribute, prefixes in kinds:
        lines = [line for log in logs.values() for line in getattr(log, attribute)]
        keys = dict.fromkeys(key for line in lines for key in line if key.startswith(prefixes))
        axes = ("nimg", "seconds") if attribute == "metrics" else ("nimg",)
        charts += [(attribute, key, axis) for key in keys if "std" not in key for axis in axes]
    charts.append(("stats", "seconds_per_kimg", "nimg"))
    drawn = False
    for attribute, key, axis in charts:
        series = {}
        for name, log in logs.items():
            lines = [x for x in getattr(log, attribute) if None not in (x.get(axis), x.get(key))]
            unit = 1000 if axis == "nimg" else 60
            if lines:
                series[name] = [x[axis] / unit for x in lines], [x[key] for x in lines]
        if not series:
            continue
        if not drawn:
            report.heading("While training")
            drawn = True
        over = "thousand images" if axis == "nimg" else "minutes"
        positive = attribute == "metrics" and all(min(ys) > 0 for _, ys in series.values())
        title = curve_words(key, spaces)
        report.curves(series, over, title, _caption(title, over, attribute, logs), log_y=positive)


def display_metrics(record: Mapping[str, Any]) -> list[str]:
    """Metrics with columns; deviations of kernel distances and single pairs of domains have none."""
    names = dict.fromkeys(metric for row in record["rows"] for metric in row["metrics"])
    return [name for name in names if not name.startswith(("kid_std", "kd_std")) and name.count("/") < 2]


def _caption(title: str, over: str, attribute: str, logs: Mapping[str, Logs]) -> str:
    conditions = {
        json.dumps(line.get("conditions"), sort_keys=True) for log in logs.values() for line in log.metrics
    }
    caption = f"{title} over {over}"
    if attribute == "metrics" and len(conditions) > 1:
        return f"{caption}: measured under different conditions, so the curves are not comparable"
    return caption


def _totals(rows: Sequence[Mapping[str, Any]], runs: Sequence[MeasuredRun]) -> list[int]:
    counts = {run.facts.name: run.num_images for run in runs}
    return [sum(counts[name] for name in row["runs"]) for row in rows]


def _mark(row: Mapping[str, Any], marks: Mapping[str, int]) -> str:
    numbers = [str(marks[what]) for what in row["differs"] if what in marks]
    return f" (note {', '.join(numbers)})" if numbers else ""


def _mean(metric: str, value: float, best: bool) -> Cell:
    shown = shown_distance(value) if metric.startswith(DISTANCES) else value
    return Best(f"{shown:.4g}") if best else shown


def _deviation(value: float | None, instead: str) -> Cell:
    return instead if value is None else float(f"{value:.2g}")


def _table(columns: Sequence[Column]) -> Table:
    """Columns of equal length -> the table."""
    return Table([name for name, _ in columns], list(zip(*(cells for _, cells in columns), strict=True)))


def _round(value: float | None) -> float | int | None:
    if value is None:
        return None
    return round(value) if value >= 100 or value == round(value) else round(value, 1)


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{key} {_plain(item)}" for key, item in value.items() if item is not None)
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)
