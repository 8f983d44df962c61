"""Compare training runs: measure them alike, group them into rows, write a table and a report."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import yaml

from ganmod.io.atomic_write import atomic_write_text
from ganmod.machine import describe_machine
from metrics.compare.generators import measure_generators
from metrics.compare.protocol import RECIPES, Outcome, RunProtocol
from metrics.compare.report import Logs, display_table, figures_table, make_record, write_comparison
from metrics.compare.runs import (
    SPENT,
    Equal,
    RunRecord,
    differences,
    group_runs,
    row_names,
    table_rows,
    unknowns,
)
from metrics.compare.sample_sheet import sample_sheet
from metrics.compare.stylized import measure_stylized
from metrics.compare.translations import measure_translations
from metrics.image_sets.distances import LIBRARIES
from metrics.table import Table

T = TypeVar("T")

CURVE_POINTS = 40  # of a run's statistics in runs/NAME.json

MEASURE: dict[str, Callable[[Sequence[RunRecord], RunProtocol], Outcome]] = {
    "stylegan2": measure_generators,
    "starganv2": measure_translations,
    "style": measure_stylized,
}


@dataclass(frozen=True)
class RunComparison:
    """A comparison of training runs.

    Args:
        record: the results as plain values, the content of comparison.json.
        outcome: figures and samples of all runs.
        runs: the compared runs.
        command: the command line, for the report.
    """

    record: Mapping[str, Any]
    outcome: Outcome
    runs: Sequence[RunRecord]
    command: str | None = None

    @property
    def table(self) -> Table:
        """One row per group of equal runs, figures rounded, winners marked."""
        return display_table(self.record)

    @property
    def figures(self) -> Table:
        """The same rows with unrounded figures."""
        return figures_table(self.record)

    def to_json(self) -> dict[str, Any]:
        """The record, plain values for json.dumps."""
        return dict(self.record)

    def write(self, out: str | Path) -> None:
        """Write comparison.json, table.md, table.csv, samples.jpg, report.html and runs/ into a folder.

        The report shows samples of each row's first run and curves of all runs. runs/ holds each run's
        configuration and some lines of its statistics.
        """
        out = Path(out)
        labels, samples = {}, {}
        for row in table_rows(self.outcome.runs):
            samples[row.name] = self.outcome.pictures[row.runs[0].facts.name]
            for facts in (run.facts for run in row.runs):
                which = facts.name if facts.seed is None else f"seed {facts.seed}"
                labels[facts.name] = f"{row.name}, {which}" if len(row.runs) > 1 else row.name
        labelled = {labels[run.facts.name]: run for run in self.runs}
        write_comparison(
            out,
            self.record,
            sample_sheet(samples, self.outcome.header, header_label=self.outcome.header_label),
            {label: Logs(run.stats, run.metrics) for label, run in labelled.items()},
            title=f"{RECIPES[self.record['recipe']]}: modulations compared",
            command=self.command,
        )
        for label, run in labelled.items():
            _write_run(out / "runs", label, run)


def compare_runs(
    runs: Sequence[RunRecord],
    protocol: RunProtocol,
    *,
    equal: Equal = "kimg",
    allow_differences: bool = False,
    command: str | None = None,
) -> RunComparison:
    """Measure training runs of one recipe and compare them by modulation.

    Args:
        runs: see `training.run.records.read_run`; their models' modulations must be registered.
        protocol: how to measure. With several processes, all must call this, and all get the result.
        equal: what must agree within 2 % between the runs: kimg, or seconds of training.
        allow_differences: mark rows with differences instead of raising an error.
        command: the command line, for the report.

    Raises:
        ValueError: for images that cannot be read or measured; see also `check_runs`, `RunProtocol.check`.
    """
    check_runs(runs, equal=equal, allow_differences=allow_differences)
    recipe = runs[0].facts.recipe
    protocol.check(recipe)
    if not protocol.spaces:
        raise ValueError("spaces is empty, expected one feature space or more: see load_feature_space")
    facts = [run.facts for run in runs]
    outcome = MEASURE[recipe](runs, protocol)
    record = make_record(
        outcome.runs,
        differences(facts, equal=equal),
        unknowns(facts, equal=equal),
        equal=equal,
        conditions=outcome.conditions,
        notes=outcome.notes,
        machine=describe_machine(protocol.device),
        versions={name: version(name) for name in LIBRARIES},
    )
    return RunComparison(record, outcome, runs, command)


def check_runs(runs: Sequence[RunRecord], *, equal: Equal = "kimg", allow_differences: bool = False) -> None:
    """Raise ValueError unless the runs are comparable.

    They need one recipe, distinct trainings, titles that do not name unequal runs, and equal settings.

    Args:
        runs: see `training.run.records.read_run`.
        equal: what must agree within 2 % between the runs: kimg, or seconds of training.
        allow_differences: accept unequal settings and amounts of training.
    """
    if not runs:
        raise ValueError("no run is given: name one run folder or model file at least")
    names = [run.facts.name for run in runs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"several runs are named {', '.join(twice)}, expected a name for each: see read_run")
    recipes = {run.facts.name: run.facts.recipe for run in runs}
    if len(set(recipes.values())) > 1:
        each = ", ".join(f"{name} {recipe}" for name, recipe in recipes.items())
        raise ValueError(f"runs of several recipes have no common measure: {each}; compare them apart")
    facts = [run.facts for run in runs]
    row_names(group_runs(facts))
    differing = differences(facts, equal=equal)
    if differing and not allow_differences:
        lines = [
            f"  {what}: " + ", ".join(f"{run} {value}" for run, value in values.items())
            for what, values in differing.items()
        ]
        raise ValueError(
            "the runs differ in what must be equal:\n"
            + "\n".join(lines)
            + "\nTrain them alike, or compare them as they are, marked, with --allow-differences"
            + (" (equal time instead of kimg: --equal time)" if SPENT["kimg"] in differing else "")
        )


def without_folders(value: Any) -> Any:
    """Replace the absolute paths in a configuration, which are particular to a machine, by file names."""
    if isinstance(value, dict):
        return {key: without_folders(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_folders(item) for item in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def thin_lines(lines: Sequence[T], count: int) -> list[T]:
    """At most `count` of the lines, evenly spaced, including the first and the last."""
    if len(lines) <= count:
        return list(lines)
    return [lines[round(i * (len(lines) - 1) / (count - 1))] for i in range(count)]


def _write_run(folder: Path, label: str, run: RunRecord) -> None:
    name = re.sub(r"[^0-9A-Za-z._-]+", "_", label)
    if run.config is not None:
        text = yaml.safe_dump(without_folders(run.config), sort_keys=False)
        atomic_write_text(folder / f"{name}.yaml", text)
    curves = {"stats": thin_lines(run.stats, CURVE_POINTS), "metrics": run.metrics}
    atomic_write_text(folder / f"{name}.json", json.dumps(curves) + "\n")
