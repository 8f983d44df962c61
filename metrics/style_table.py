"""The table that compares style-transfer models: losses, likeness and time on the same pairs of images.

Models come in as objects with `encode`, `predict` and `decode`; all are judged by one loss network, whatever
they were trained with. A model trained with that very network has an advantage: say so beside the table.
"""

from __future__ import annotations

import csv
import io
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ganmod.features import VGGFeatures
from ganmod.style_losses import content_loss, gram_loss, mean_std_loss, shifted_gram_loss
from metrics.image_similarity import ssim
from metrics.patch_swd import PatchTarget

FORM = "ganmod compare --style 1"  # of its comparison.json
TIMED_SIZES = (256, 512, 1024)
# What is measured of every pair, with the heading of its column. Lower is better in all but SSIM.
MEASURES = {
    "content_loss": "content loss",
    "style_loss": "style loss",
    "gram_loss": "Gram",
    "shifted_gram": "shifted Gram",
    "lpips": "LPIPS to content",
    "ssim": "SSIM to content",
    "patch_swd": "patch-SWD to style",
}


class StyleModel(Protocol):
    """What is evaluated. Images are RGB [N,3,H,W] in [0,1], content sides multiples of 8."""

    def encode(self, x: Tensor) -> Tensor:
        """Content images -> features."""

    def predict(self, style: Tensor) -> Any:
        """Style images, of the size the model wants -> parameters."""

    def decode(self, features: Tensor, params: Any) -> Tensor:
        """Features and parameters -> images, clamped or not."""


@dataclass(frozen=True)
class Contestant:
    """A model, its name in the table, and how a style image [1,3,H,W] is brought to the size it wants."""

    name: str
    model: StyleModel
    prepare_style: Callable[[Tensor], Tensor]
    trained_parameters: int
    all_parameters: int


@dataclass(frozen=True)
class PairScores:
    """What was measured of one stylized image: {name in MEASURES: value}."""

    content: int  # index
    style: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class StyleRow:
    """A line of the table: {name in MEASURES: mean over the pairs}, the standard errors, and the cost.

    seconds: {side of a square image: seconds to encode and decode it, the style's parameters given}.
    style_seconds: seconds to predict those, needed once per style. Both are empty where nothing was timed.
    all_parameters: the encoder's included.
    """

    model: str
    num_pairs: int
    means: Mapping[str, float]
    errors: Mapping[str, float]
    seconds: Mapping[int, float]
    style_seconds: float | None
    trained_parameters: int
    all_parameters: int
    pairs: list[PairScores] = field(repr=False)


def to_array(image: Tensor) -> np.ndarray:
    """[1,3,H,W] in [0,1] -> float32 [H,W,3] on the CPU."""
    return image[0].permute(1, 2, 0).float().cpu().numpy()


@torch.inference_mode()
def score_pairs(
    contestant: Contestant,
    contents: Sequence[Tensor],
    styles: Sequence[Tensor],
    *,
    loss_network: VGGFeatures,
    lpips: Callable[[Tensor, Tensor], Tensor] | None,
    done: Callable[[], object] = lambda: None,
) -> list[PairScores]:
    """Stylize every content with every style, and score each result; style by style.

    contents: [1,3,H,W] in [0,1], sides multiples of 8; sizes may differ. styles: [1,3,H,W] in [0,1]; the
    losses see them as they are, the model sees `prepare_style` of them, once each. lpips: two images
    [1,3,H,W] -> [1], here content and result; None leaves it out. Results are clamped to [0,1] first. done:
    called after each. Raises ValueError when a score is not finite.
    """
    features = [contestant.model.encode(x) for x in contents]
    content_targets = [loss_network.normalized(x) for x in contents]
    content_arrays = [to_array(x) for x in contents]
    scores = []
    for s, style in enumerate(styles):
        params = contestant.model.predict(contestant.prepare_style(style))
        style_target, patches = loss_network.normalized(style), PatchTarget(to_array(style))
        for c, content in enumerate(contents):
            result = contestant.model.decode(features[c], params).clamp(0, 1)
            found, array = loss_network.normalized(result), to_array(result)
            values = {
                "content_loss": float(content_loss(found, content_targets[c])),
                "style_loss": float(mean_std_loss(found, style_target)),
                "gram_loss": float(gram_loss(found, style_target)),
                "shifted_gram": float(shifted_gram_loss(found, style_target)),
            }
            if not math.isfinite(sum(values.values())):  # before what NaN pixels would only confuse
                raise ValueError(
                    f"{contestant.name}: content {c} with style {s} gives {values}: look at that image"
                )
            if lpips is not None:
                values["lpips"] = float(lpips(content, result))
            values |= {"ssim": ssim(content_arrays[c], array), "patch_swd": patches.distance(array)}
            scores.append(PairScores(content=c, style=s, values=values))
            done()
    return scores


@torch.inference_mode()
def time_models(
    contestants: Sequence[Contestant],
    style: Tensor,
    *,
    sizes: Sequence[int] = TIMED_SIZES,
    repeats: int = 5,
    num_threads: int = 1,
) -> dict[str, tuple[dict[int, float], float]]:
    """{name: ({size: seconds per image}, seconds per style)}: medians of `repeats`, one warm-up aside.

    The models take turns in every round, so that load from elsewhere falls on all of them. One thread of a
    CPU is timed by its own clock, which stands still while others run. style: [1,3,H,W], on the device to be
    timed.
    """
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
    median = {job: statistics.median(seconds) for job, seconds in taken.items()}
    return {c.name: ({size: median[c.name, size] for size in sizes}, median[c.name, 0]) for c in contestants}


def make_row(
    contestant: Contestant,
    scores: Sequence[PairScores],
    seconds: Mapping[int, float],
    style_seconds: float | None,
) -> StyleRow:
    """A line of the table from `score_pairs` and `time_models`, with `standard_error`s."""
    if not scores:
        raise ValueError(f"{contestant.name}: no pair was scored, expected at least one")
    names = list(scores[0].values)
    return StyleRow(
        model=contestant.name,
        num_pairs=len(scores),
        means={name: statistics.fmean(s.values[name] for s in scores) for name in names},
        errors={
            name: standard_error([(s.content, s.style, s.values[name]) for s in scores]) for name in names
        },
        seconds=dict(seconds),
        style_seconds=style_seconds,
        trained_parameters=contestant.trained_parameters,
        all_parameters=contestant.all_parameters,
        pairs=list(scores),
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


def table_cells(rows: Sequence[StyleRow]) -> tuple[list[str], list[list[str]]]:
    """(headings, cells of each row) to be shown: mean (standard error), seconds, parameters in millions."""
    measures = [name for name in MEASURES if rows and name in rows[0].means]
    sizes = list(rows[0].seconds) if rows else []
    columns = ["model", *(MEASURES[name] for name in measures), *(f"s/image {size} px" for size in sizes)]
    lines = []
    for row in rows:
        cells = [row.model]
        cells += [f"{row.means[name]:.3f} ({row.errors[name]:.3f})" for name in measures]
        cells += [f"{row.seconds[size]:.3f}" if size in row.seconds else "" for size in sizes]
        cells += ["" if row.style_seconds is None else f"{row.style_seconds:.3f}"]
        cells += [f"{count / 1e6:.2f} M" for count in (row.trained_parameters, row.all_parameters)]
        lines.append(cells)
    return [*columns, "s/style", "trained params", "with encoder"], lines


def to_markdown(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, numbers at the right."""
    heads = [f"| {' | '.join(columns)} |", "|---|" + "---:|" * (len(columns) - 1)]
    escaped = [[cell.replace("|", "\\|") for cell in cells] for cells in lines]
    return "\n".join(heads + [f"| {' | '.join(cells)} |" for cells in escaped])


def to_csv(lines: Sequence[Mapping[str, object]]) -> str:
    """Lines of {column: value} as CSV; the columns are those of the longest line, and others stay empty."""
    text = io.StringIO()
    longest = max(range(len(lines)), key=lambda i: len(lines[i]))
    writer = csv.DictWriter(text, list(lines[longest]), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def plain(row: StyleRow) -> dict[str, Any]:
    """A row's values under plain names, a standard error beside its mean as NAME_se; no pairs."""
    flat: dict[str, Any] = {"model": row.model, "num_pairs": row.num_pairs}
    for name, mean in row.means.items():
        flat |= {name: mean, f"{name}_se": row.errors[name]}
    flat |= {f"seconds_{size}": seconds for size, seconds in row.seconds.items()}
    if row.style_seconds is not None:
        flat["style_seconds"] = row.style_seconds
    return flat | {"trained_parameters": row.trained_parameters, "all_parameters": row.all_parameters}


def to_json(rows: Sequence[StyleRow]) -> list[dict[str, Any]]:
    """Plain values for json.dumps: `plain`, and every pair as [content, style, *values named pair_values]."""
    return [
        plain(row)
        | {"pair_values": list(row.means)}
        | {"pairs": [[s.content, s.style, *(round(v, 4) for v in s.values.values())] for s in row.pairs]}
        for row in rows
    ]


def _stylize(model: StyleModel, image: Tensor, params: Any) -> Tensor:
    return model.decode(model.encode(image), params)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
