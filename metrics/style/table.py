"""The table that compares style-transfer models: losses, likeness and time on the same pairs of images.

All are judged by one loss network (metrics/style/pair_scores.py). A model trained with that very network has
an advantage: say so beside the table.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from metrics.style.pair_scores import MEASURES, Contestant, PairScores, StylizingModel
from metrics.table import Table

FORM = "ganmod compare --style 1"  # of its comparison.json
TIMED_SIZES = (256, 512, 1024)


class Named(Protocol):
    """What a line of the table is about: a model, or pictures, whose parameters are not known (None)."""

    @property
    def name(self) -> str:
        """As shown."""

    @property
    def trained_parameters(self) -> int | None:
        """How many."""

    @property
    def all_parameters(self) -> int | None:
        """How many, with the encoder's."""


@dataclass(frozen=True)
class StyleRow:
    """A line of the table: {name in MEASURES: mean over the pairs}, the standard errors, and the cost.

    seconds: {side of a square image: seconds to encode and decode it, the style's parameters given}.
    style_seconds: seconds to predict those, needed once per style. Both are empty where nothing was timed.
    all_parameters: the encoder's included. gap: mean and standard error of the amortisation gap
    (metrics/style/amortisation.py); lattice: the share of metrics/images/lattice.py; None where they were
    not measured.
    """

    model: str
    num_pairs: int
    means: Mapping[str, float]
    errors: Mapping[str, float]
    seconds: Mapping[int, float]
    style_seconds: float | None
    trained_parameters: int | None
    all_parameters: int | None
    pairs: list[PairScores] = field(repr=False)
    gap: tuple[float, float] | None = None
    lattice: float | None = None


@torch.inference_mode()
def time_models(
    contestants: Sequence[Contestant],
    style: Tensor,
    *,
    sizes: Sequence[int] | None = None,
    repeats: int = 5,
    num_threads: int = 1,
    done: Callable[[], object] = lambda: None,
) -> dict[str, tuple[dict[int, float], float]]:
    """{name: ({size: seconds per image}, seconds per style)}: medians of `repeats`, one warm-up aside.

    The models take turns in every round, so that load from elsewhere falls on all of them. One thread of a
    CPU is timed by its own clock, which stands still while others run.

    Args:
        contestants: the models.
        style: [1,3,H,W], on the device to be timed.
        sizes: sides of square images, None for TIMED_SIZES.
        repeats: timed runs of each.
        num_threads: of torch.
        done: called after each round, the warm-up's included.
    """
    sizes = TIMED_SIZES if sizes is None else sizes
    clock = time.process_time if style.device.type == "cpu" and num_threads == 1 else time.perf_counter
    jobs: dict[tuple[str, int], Callable[[], object]] = {}
    for c in contestants:
        prepared = c.prepare_style(style)
        params = c.model.predict(prepared)
        jobs[c.name, 0] = partial(c.model.predict, prepared)
        for size in sizes:
            image = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
            jobs[c.name, size] = partial(_stylize, c.model, image.to(style.device), params)
    taken: dict[tuple[str, int], list[float]] = {job: [] for job in jobs}
    with _threads(num_threads):
        for i in range(repeats + 1):
            for job, run in jobs.items():
                begin = clock()
                run()
                if style.is_cuda:  # calls return before the GPU has done its work
                    torch.cuda.synchronize(style.device)
                if i:
                    taken[job].append(clock() - begin)
            done()
    median = {job: statistics.median(seconds) for job, seconds in taken.items()}
    return {c.name: ({size: median[c.name, size] for size in sizes}, median[c.name, 0]) for c in contestants}


def make_row(
    what: Named,
    scores: Sequence[PairScores],
    seconds: Mapping[int, float],
    style_seconds: float | None,
    *,
    gap: tuple[float, float] | None = None,
    lattice: float | None = None,
) -> StyleRow:
    """A line of the table from `score_pairs`, `time_models` and `amortisation_gap`."""
    if not scores:
        raise ValueError(f"{what.name}: no pair was scored, expected at least one")
    names = list(scores[0].values)
    return StyleRow(
        model=what.name,
        num_pairs=len(scores),
        means={name: statistics.fmean(s.values[name] for s in scores) for name in names},
        errors={
            name: standard_error([(s.content, s.style, s.values[name]) for s in scores]) for name in names
        },
        seconds=dict(seconds),
        style_seconds=style_seconds,
        trained_parameters=what.trained_parameters,
        all_parameters=what.all_parameters,
        pairs=list(scores),
        gap=gap,
        lattice=lattice,
    )


def paired_difference(first: StyleRow, second: StyleRow, measure: str) -> tuple[float, float]:
    """Mean of second - first over the pairs, and its standard error: far sharper than two separate means.

    measure: one of MEASURES. Raises ValueError when the rows were not made from the same pairs.
    """
    values = []
    for row in (first, second):
        values.append({(s.content, s.style): s.values[measure] for s in row.pairs})
    if values[0].keys() != values[1].keys():
        raise ValueError(
            f"{first.model} and {second.model} were scored on other pairs: score both on the same"
        )
    differences = [(*pair, values[1][pair] - values[0][pair]) for pair in values[0]]
    return statistics.fmean(i[2] for i in differences), standard_error(differences)


def standard_error(values: Sequence[tuple[int, int, float]]) -> float:
    """Of the mean of (content, style, value): contents and styles are both draws, so their variances add.

    Over contents and styles, not pairs: results that share an image are not independent.
    """
    variance = 0.0
    for side in range(2):
        groups: dict[int, list[float]] = {}
        for value in values:
            groups.setdefault(int(value[side]), []).append(value[2])
        means = [statistics.fmean(group) for group in groups.values()]
        variance += statistics.variance(means) / len(means) if len(means) > 1 else 0.0
    return math.sqrt(variance)


def loss_table(rows: Sequence[StyleRow]) -> Table:
    """What is shown of the rows: mean (standard error), seconds, parameters in millions."""
    measures = [name for name in MEASURES if rows and name in rows[0].means]
    sizes = sorted({size for row in rows for size in row.seconds})
    gaps = any(row.gap is not None for row in rows)
    lattices = any(row.lattice is not None for row in rows)
    columns = ["model", *(MEASURES[name] for name in measures)]
    columns += [*(["gap"] if gaps else []), *(["lattice"] if lattices else [])]
    columns += [f"s/image {size} px" for size in sizes]
    lines = []
    for row in rows:
        cells = [row.model]
        cells += [_mean_cell(row.means[name], row.errors[name]) for name in measures]
        if gaps:
            cells.append("" if row.gap is None else _mean_cell(*row.gap))
        if lattices:
            cells.append("" if row.lattice is None else f"{row.lattice:.3f}")
        cells += [f"{row.seconds[size]:.3f}" if size in row.seconds else "" for size in sizes]
        cells += ["" if row.style_seconds is None else f"{row.style_seconds:.3f}"]
        cells += [
            "" if count is None else f"{count / 1e6:.2f} M"
            for count in (row.trained_parameters, row.all_parameters)
        ]
        lines.append(cells)
    return Table([*columns, "s/style", "trained params", "with encoder"], lines)


def row_values(row: StyleRow) -> dict[str, Any]:
    """A row's values under plain names, a standard error beside its mean as NAME_se; no pairs."""
    flat: dict[str, Any] = {"model": row.model, "num_pairs": row.num_pairs}
    for name, mean in row.means.items():
        flat |= {name: mean, f"{name}_se": row.errors[name]}
    if row.gap is not None:
        flat |= {"gap": row.gap[0], "gap_se": row.gap[1]}
    if row.lattice is not None:
        flat["lattice"] = row.lattice
    flat |= {f"seconds_{size}": seconds for size, seconds in row.seconds.items()}
    if row.style_seconds is not None:
        flat["style_seconds"] = row.style_seconds
    counts = {"trained_parameters": row.trained_parameters, "all_parameters": row.all_parameters}
    return flat | {name: count for name, count in counts.items() if count is not None}


def rows_to_json(rows: Sequence[StyleRow]) -> list[dict[str, Any]]:
    """Plain values for json.dumps: `plain`, and every pair as [content, style, *values named pair_values]."""
    return [
        row_values(row)
        | {"pair_values": list(row.means)}
        | {"pairs": [[s.content, s.style, *(round(v, 4) for v in s.values.values())] for s in row.pairs]}
        for row in rows
    ]


def _mean_cell(mean: float, error: float) -> str:
    return f"{mean:.3f} ({error:.3f})"


def _stylize(model: StylizingModel, image: Tensor, params: Any) -> Tensor:
    return model.decode(model.encode(image), params)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
