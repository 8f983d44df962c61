"""The table that compares style-transfer models: losses, similarity and time on the same pairs of images.

All are measured with one loss network (metrics/style/pair_scores.py). A model trained with that network has
an advantage: state it next to the table.
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
    """The subject of a row: a model, or pictures, whose numbers of parameters are unknown (None)."""

    @property
    def name(self) -> str:
        """Name in the table."""

    @property
    def trained_parameters(self) -> int | None:
        """Number of trained parameters."""

    @property
    def all_parameters(self) -> int | None:
        """Number of parameters, including the encoder's."""


@dataclass(frozen=True)
class StyleRow:
    """A row of the table.

    Args:
        model: its name.
        num_pairs: number of pairs.
        means: {name in MEASURES: mean over the pairs}.
        errors: {name: standard error of the mean}.
        seconds: {side of a square image: seconds to encode and decode it}, without the prediction of the
            style's parameters; empty if not timed.
        style_seconds: seconds to predict those parameters, once per style; None if not timed.
        trained_parameters: their number, None if unknown.
        all_parameters: their number including the encoder's, None if unknown.
        pairs: the scores of all pairs.
        gap: mean and standard error of the amortisation gap, None if not measured.
        lattice: share of `metrics.images.lattice.Lattice`, None if not measured.
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
    """{name: ({size: seconds per image}, seconds per style)}: medians of `repeats`, after one warm-up.

    The models take turns in every round, which spreads other load evenly. A single CPU thread is timed by the
    process's clock, which stops while other processes run.

    Args:
        style: [1,3,H,W], on the device to time.
        sizes: sides of square images, None for TIMED_SIZES.
        repeats: timed runs of each model.
        done: called after each round, including the warm-up.
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
    """A row of the table from `score_pairs`, `time_models` and `amortisation_gap`."""
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

    `measure` is one of MEASURES. Raises ValueError if the rows have different pairs.
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
    """Standard error of the mean of (content, style, value).

    Contents and styles are both samples, whose variances add. Pairs are not counted as samples: results that
    share an image are not independent.
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
    """The table of the rows: mean (standard error), seconds, parameters in millions."""
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
    """A row's values under plain names, standard errors as NAME_se, without the pairs."""
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
    """Plain values for json.dumps: `row_values`, and pairs as [content, style, *values of pair_values]."""
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
