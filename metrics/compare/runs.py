"""Comparison of training runs: rows of equal runs, two kinds of spread, and required equalities."""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

TOLERANCE = 0.02  # relative difference of kimg, or seconds, between runs
SEEDS_FOR_A_WINNER = 3
DEVIATIONS_FOR_A_WINNER = 2.0
HIGHER_IS_BETTER = ("precision", "recall", "coverage")
LOWER_IS_BETTER = ("fid", "fd", "kid", "kd", "lpips", "ppl", "style")

Equal = Literal["kimg", "time"]
SPENT: dict[Equal, str] = {"kimg": "kimg of training", "time": "seconds of training"}


@dataclass(frozen=True)
class RunFacts:
    """Facts about a trained model; None for unknown ones.

    Args:
        name: of the run.
        recipe: stylegan2, starganv2 or style.
        modulation: its name.
        options: {key: value} of the modulation and of its style input, the subject of the comparison.
        settings: {dotted key: value} of the network and its training, which must be equal; without the seed
            and settings that do not affect the result.
        title: the user's name for the row.
        seed: of the training.
        kimg: thousands of training images.
        seconds: of training.
        peak_memory_mb: peak memory of the training in MiB.
        nonfinite_steps: number of steps skipped for non-finite gradients.
    """

    name: str
    recipe: str
    modulation: str
    options: Mapping[str, Any]
    settings: Mapping[str, Any]
    title: str | None = None
    seed: int | None = None
    kimg: float | None = None
    seconds: float | None = None
    peak_memory_mb: float | None = None
    nonfinite_steps: float | None = None


@dataclass(frozen=True)
class RunRecord:
    """A trained run, read from its files, see `training.run.records.read_run`.

    Args:
        facts: for the comparison.
        model: its model file.
        stats: the lines of stats.jsonl up to the model's image count.
        metrics: the lines of metrics.jsonl up to the model's image count.
        config: content of config.yaml, None for a single model file.
    """

    facts: RunFacts
    model: Path
    stats: list[dict[str, Any]]
    metrics: list[dict[str, Any]]
    config: dict[str, Any] | None


@dataclass(frozen=True)
class MeasuredRun:
    """The measurements of a run.

    Args:
        facts: about the run.
        parameters: number of the model's parameters.
        draws: one {metric: value} per disjoint draw of samples.
        num_images: over all draws.
        num_repeated: number of images that equal an earlier one, over all draws; None if not counted.
        power_to_real: {band: mean power of the samples / of the real images}, empty if not measured.
    """

    facts: RunFacts
    parameters: int
    draws: Sequence[Mapping[str, float]]
    num_images: int
    num_repeated: int | None = None
    power_to_real: Mapping[str, float] = field(default_factory=dict)


class Spread(NamedTuple):
    """Mean and deviations of a metric in one row; a deviation of a single value is None.

    Args:
        mean: over the runs.
        sd_over_draws: over a run's draws, pooled over the runs.
        sd_over_training_seeds: over the runs' means.
    """

    mean: float
    sd_over_draws: float | None
    sd_over_training_seeds: float | None


class Row(NamedTuple):
    """Runs that are equal except for the training seed, under one name."""

    name: str
    runs: tuple[MeasuredRun, ...]


def differences(runs: Sequence[RunFacts], *, equal: Equal = "kimg") -> dict[str, dict[str, Any]]:
    """{setting or amount: {run: value}} of everything that should be equal and is not.

    Unknown settings are ignored. `equal` decides whether kimg or seconds must agree within TOLERANCE.
    """
    differing: dict[str, dict[str, Any]] = {}
    for key in sorted({key for run in runs for key in run.settings}):
        values = {run.name: run.settings[key] for run in runs if key in run.settings}
        if len({_text(value) for value in values.values()}) > 1:
            differing[key] = values
    spent = {run.name: _spent(run, equal) for run in runs if _spent(run, equal) is not None}
    amounts = [amount for amount in spent.values() if amount is not None]
    if amounts and not _close(max(amounts), min(amounts)):
        differing[SPENT[equal]] = spent
    return differing


def unknowns(runs: Sequence[RunFacts], *, equal: Equal = "kimg") -> dict[str, list[str]]:
    """{setting or amount: runs that do not state it}, if others do; it cannot be compared."""
    unknown: dict[str, list[str]] = {}
    keys = sorted({key.split(".")[0] for run in runs for key in run.settings})
    for section in keys:
        without = [r.name for r in runs if not any(key.split(".")[0] == section for key in r.settings)]
        if without:
            unknown[f"settings of {section}"] = without
    if without := [run.name for run in runs if _spent(run, equal) is None]:
        unknown[SPENT[equal]] = without
    if without := [run.name for run in runs if run.seed is None]:
        unknown["training seed"] = without
    return unknown


def group_runs(runs: Sequence[RunFacts]) -> list[list[RunFacts]]:
    """Group runs that are equal except for their seed, in order of their first runs.

    Runs with different titles are separate, and so are runs without seed and title, which may be the same
    training. Raises ValueError for two runs of one seed in a group, which are no replicates.
    """
    groups: dict[str, list[RunFacts]] = {}
    for number, run in enumerate(runs):
        apart = number if run.seed is None and run.title is None else None
        key = _text([run.title, run.recipe, run.modulation, run.options, run.settings, apart])
        groups.setdefault(key, []).append(run)
    for group in groups.values():
        seeds = Counter(run.seed for run in group if run.seed is not None)
        for seed, count in seeds.items():
            if count > 1:
                names = ", ".join(run.name for run in group if run.seed == seed)
                raise ValueError(
                    f"{names} are equal down to training seed {seed}, and so no two trainings: leave one "
                    "out, or name them apart with NAME=RUN"
                )
    return list(groups.values())


def row_names(groups: Sequence[Sequence[RunFacts]]) -> list[str]:
    """One name per group: its title, or its modulation with the options that distinguish it.

    Raises ValueError for a title that names unequal runs.
    """
    titles = Counter(group[0].title for group in groups if group[0].title is not None)
    for title, count in titles.items():
        if count > 1:
            raise ValueError(
                f"{title!r} names runs that differ in more than their seed: give each kind a name of its own"
            )
    names = []
    for group in groups:
        run = group[0]
        same = [g[0] for g in groups if g[0].modulation == run.modulation and g[0].title is None]
        distinctions = [
            f"{key.rsplit('.', 1)[-1]} {value}"
            for key, value in {**run.options, **run.settings}.items()
            if any(_differs({**other.options, **other.settings}, key, value) for other in same)
        ]
        names.append(run.title or run.modulation + (f" ({', '.join(distinctions)})" if distinctions else ""))
    repeated = {name for name, count in Counter(names).items() if count > 1}
    return [
        f"{name}, {group[0].name}" if name in repeated else name
        for name, group in zip(names, groups, strict=True)
    ]


def table_rows(runs: Sequence[MeasuredRun]) -> list[Row]:
    """The rows of the table, see `group_runs` and `row_names`."""
    groups = group_runs([run.facts for run in runs])
    by_name = {run.facts.name: run for run in runs}
    if len(by_name) < len(runs):
        raise ValueError(f"runs share names: {[run.facts.name for run in runs]}, give each its own")
    return [
        Row(name, tuple(by_name[facts.name] for facts in group))
        for name, group in zip(row_names(groups), groups, strict=True)
    ]


def odd_runs(differing: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """{run: its differences} for runs that deviate from the most common value; ties favour the first run."""
    marks: dict[str, list[str]] = {}
    for what, values in differing.items():
        if what in SPENT.values():
            base = _most_common_amount(list(values.values()))
            out = [run for run, value in values.items() if not _close(value, base)]
        else:
            counts = Counter(_text(value) for value in values.values())
            usual = counts.most_common(1)[0][0]  # equal counts keep the order of first appearance
            out = [run for run, value in values.items() if _text(value) != usual]
        for run in out:
            marks.setdefault(run, []).append(what)
    return marks


def seed_spread(runs: Sequence[MeasuredRun], metric: str) -> Spread:
    """Mean over runs of the means over draws, and both deviations (unbiased).

    Raises ValueError for a value that is not finite.
    """
    values = [[draw[metric] for draw in run.draws] for run in runs]
    for run, draws in zip(runs, values, strict=True):
        if not all(math.isfinite(value) for value in draws):
            raise ValueError(f"{run.facts.name}: {metric} is {draws}: the measurement failed")
    means = [statistics.fmean(draws) for draws in values]
    variances = [statistics.variance(draws) for draws in values if len(draws) > 1]
    return Spread(
        statistics.fmean(means),
        math.sqrt(statistics.fmean(variances)) if variances else None,
        statistics.stdev(means) if len(means) > 1 else None,
    )


def better(metric: str) -> Literal["lower", "higher"] | None:
    """Which values of a metric are better; None for neither, such as density (best is 1) and kid_std."""
    guidance, _, rest = metric.partition("/")  # "latent/fd_squeezenet1_1" of translations, or a plain name
    name = (rest or guidance).split("_")[0]
    if (rest or guidance).startswith(("kid_std", "kd_std")):
        return None
    if rest and name == "lpips":
        return "higher"  # diversity of the translations of an image
    return "lower" if name in LOWER_IS_BETTER else "higher" if name in HIGHER_IS_BETTER else None


def winner(seed_means: Mapping[str, Sequence[float]], metric: str) -> str | None:
    """The row that is better than every other one by more than 2 standard deviations, or None.

    The deviation is that of the difference of two single runs, sqrt(s_a^2 + s_b^2). There is no winner among
    rows with fewer than 3 seeds, or of a single row.

    Args:
        seed_means: {row: one value per training seed}.
        metric: its name, see `better`.
    """
    direction = better(metric)
    if direction is None or len(seed_means) < 2:
        return None
    if any(len(values) < SEEDS_FOR_A_WINNER for values in seed_means.values()):
        return None
    sign = 1 if direction == "higher" else -1
    means = {name: sign * statistics.fmean(values) for name, values in seed_means.items()}
    best = max(means, key=lambda name: means[name])
    for name in means.keys() - {best}:
        deviation = math.hypot(statistics.stdev(seed_means[best]), statistics.stdev(seed_means[name]))
        if means[best] - means[name] <= DEVIATIONS_FOR_A_WINNER * deviation:
            return None
    return best


def table_record(
    runs: Sequence[MeasuredRun], differing: Mapping[str, Mapping[str, Any]]
) -> tuple[list[dict[str, Any]], dict[str, str | None]]:
    """(rows, winners by metric) as plain values, for comparison.json and tables.

    Args:
        runs: the measured runs.
        differing: see `differences`; deviating rows name them in "differs", and neither win nor lose.
    """
    rows = table_rows(runs)
    odd = odd_runs(differing)
    metrics = list(dict.fromkeys(metric for run in runs for metric in run.draws[0]))
    plain = []
    for row in rows:
        facts = [run.facts for run in row.runs]
        seconds, kimg = _mean([f.seconds for f in facts]), _mean([f.kimg for f in facts])
        steps = [f.nonfinite_steps for f in facts if f.nonfinite_steps is not None]
        memory = [f.peak_memory_mb for f in facts if f.peak_memory_mb is not None]
        bands = {band: [run.power_to_real[band] for run in row.runs] for band in row.runs[0].power_to_real}
        repeated = [run.num_repeated for run in row.runs if run.num_repeated is not None]
        plain.append(
            {
                "row": row.name,
                "modulation": facts[0].modulation,
                "options": dict(facts[0].options),
                "runs": [f.name for f in facts],
                "training_seeds": [f.seed for f in facts],
                "parameters": row.runs[0].parameters,
                "kimg": kimg,
                "seconds": seconds,
                "seconds_per_kimg": seconds / kimg if seconds and kimg else None,
                "peak_memory_mb": max(memory) if memory else None,
                "nonfinite_steps": sum(steps) if steps else None,
                "num_repeated": sum(repeated) if len(repeated) == len(row.runs) else None,
                "metrics": {
                    metric: {
                        **seed_spread(row.runs, metric)._asdict(),
                        "draws": [[draw[metric] for draw in run.draws] for run in row.runs],
                    }
                    for metric in metrics
                },
                "power_to_real": {band: statistics.fmean(values) for band, values in bands.items()},
                "differs": sorted({what for f in facts for what in odd.get(f.name, [])}),
            }
        )
    fair = [row for row, record in zip(rows, plain, strict=True) if not record["differs"]]
    winners = {}
    for metric in metrics:
        means = {
            row.name: [statistics.fmean(draw[metric] for draw in run.draws) for run in row.runs]
            for row in fair
        }
        winners[metric] = winner(means, metric)
    return plain, winners


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _spent(run: RunFacts, equal: Equal) -> float | None:
    return run.kimg if equal == "kimg" else run.seconds


def _differs(others: Mapping[str, Any], key: str, value: Any) -> bool:
    return key in others and _text(others[key]) != _text(value)


def _close(first: float, second: float) -> bool:
    return max(first, second) <= (1 + TOLERANCE) * min(first, second)


def _most_common_amount(values: Sequence[float]) -> float:
    """The first value with the most others close to it."""
    return max(values, key=lambda value: sum(_close(value, other) for other in values))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
