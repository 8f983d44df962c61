"""The table that compares style-transfer models: losses, LPIPS and time on the same pairs of images.

Models come in as objects with `encode`, `predict` and `decode`; all are judged by one loss network, whatever
they were trained with. A model trained with that very network has an advantage: say so beside the table.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from ganmod.features import VGGFeatures
from ganmod.style_losses import content_loss, mean_std_loss, shifted_gram_loss

TIMED_SIZES = (256, 512)
MEASURES = ("content_loss", "style_loss", "shifted_gram", "lpips")


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
    """One stylized image: lower is better in all. shifted_gram sees how the style is arranged."""

    content: int  # index
    style: int
    content_loss: float
    style_loss: float
    shifted_gram: float
    lpips: float


@dataclass(frozen=True)
class StyleRow:
    """A line of the table: means over the pairs, with standard errors, and the cost.

    seconds: {side of a square image: seconds to encode and decode it, the style's parameters given}.
    style_seconds: seconds to predict those, needed once per style. all_parameters: the encoder's included.
    """

    model: str
    num_pairs: int
    content_loss: float
    content_loss_se: float
    style_loss: float
    style_loss_se: float
    shifted_gram: float
    shifted_gram_se: float
    lpips: float
    lpips_se: float
    seconds: dict[int, float]
    style_seconds: float
    trained_parameters: int
    all_parameters: int
    pairs: list[PairScores] = field(repr=False)


@torch.inference_mode()
def score_pairs(
    contestant: Contestant,
    contents: Sequence[Tensor],
    styles: Sequence[Tensor],
    *,
    loss_network: VGGFeatures,
    lpips: Callable[[Tensor, Tensor], Tensor],
    done: Callable[[], object] = lambda: None,
) -> list[PairScores]:
    """Stylize every content with every style, and score each result; style by style.

    contents: [1,3,H,W] in [0,1], sides multiples of 8; sizes may differ. styles: [1,3,H,W] in [0,1]; the
    losses see them as they are, the model sees `prepare_style` of them, once each. lpips: two images
    [1,3,H,W] -> [1], here content and result. Results are clamped to [0,1] first. done: called after each.
    Raises ValueError when a score is not finite.
    """
    features = [contestant.model.encode(x) for x in contents]
    content_targets = [loss_network.normalized(x) for x in contents]
    scores = []
    for s, style in enumerate(styles):
        params = contestant.model.predict(contestant.prepare_style(style))
        style_target = loss_network.normalized(style)
        for c, content in enumerate(contents):
            result = contestant.model.decode(features[c], params).clamp(0, 1)
            found = loss_network.normalized(result)
            score = PairScores(
                content=c,
                style=s,
                content_loss=float(content_loss(found, content_targets[c])),
                style_loss=float(mean_std_loss(found, style_target)),
                shifted_gram=float(shifted_gram_loss(found, style_target)),
                lpips=float(lpips(content, result)),
            )
            if not math.isfinite(sum(getattr(score, name) for name in MEASURES)):
                raise ValueError(
                    f"{contestant.name}: content {c} with style {s} gives {score}: look at that image"
                )
            scores.append(score)
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

    The models take turns in every round, so that load from elsewhere falls on all of them. style: [1,3,H,W].
    """
    jobs: dict[tuple[str, int], Callable[[], object]] = {}
    for c in contestants:
        prepared = c.prepare_style(style)
        params = c.model.predict(prepared)
        jobs[c.name, 0] = partial(c.model.predict, prepared)
        for size in sizes:
            image = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
            jobs[c.name, size] = partial(_stylize, c.model, image, params)
    taken: dict[tuple[str, int], list[float]] = {job: [] for job in jobs}
    with _threads(num_threads):
        for i in range(repeats + 1):
            for job, run in jobs.items():
                begin = time.perf_counter()
                run()
                if i:
                    taken[job].append(time.perf_counter() - begin)
    median = {job: statistics.median(seconds) for job, seconds in taken.items()}
    return {c.name: ({size: median[c.name, size] for size in sizes}, median[c.name, 0]) for c in contestants}


def make_row(
    contestant: Contestant, scores: Sequence[PairScores], seconds: Mapping[int, float], style_seconds: float
) -> StyleRow:
    """A line of the table from `score_pairs` and `time_models`.

    Standard errors are over contents and styles, not pairs: results that share an image are not independent.
    """
    if not scores:
        raise ValueError(f"{contestant.name}: no pair was scored, expected at least one")
    means = {name: statistics.fmean(getattr(s, name) for s in scores) for name in MEASURES}
    errors = {
        f"{name}_se": _standard_error([(s.content, s.style, getattr(s, name)) for s in scores])
        for name in MEASURES
    }
    return StyleRow(
        model=contestant.name,
        num_pairs=len(scores),
        **means,
        **errors,
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
        values.append({(s.content, s.style): getattr(s, measure) for s in row.pairs})
    if values[0].keys() != values[1].keys():
        raise ValueError(
            f"{first.model} and {second.model} were scored on other pairs: score both on the same"
        )
    differences = [(*pair, values[1][pair] - values[0][pair]) for pair in values[0]]
    return statistics.fmean(i[2] for i in differences), _standard_error(differences)


def to_markdown(rows: Sequence[StyleRow]) -> str:
    """The table in Markdown: mean (standard error), seconds, parameters in millions."""
    sizes = list(rows[0].seconds) if rows else []
    columns = ["model", "content loss", "style loss", "shifted Gram", "LPIPS to content"]
    columns += [f"s/image {size} px" for size in sizes] + ["s/style", "trained params", "with encoder"]
    lines = [f"| {' | '.join(columns)} |", "|---|" + "---:|" * (len(columns) - 1)]
    for row in rows:
        cells = [row.model.replace("|", "\\|")]
        cells += [f"{getattr(row, name):.3f} ({getattr(row, f'{name}_se'):.3f})" for name in MEASURES]
        cells += [f"{row.seconds[size]:.3f}" for size in sizes] + [f"{row.style_seconds:.3f}"]
        cells += [f"{count / 1e6:.2f} M" for count in (row.trained_parameters, row.all_parameters)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def to_json(rows: Sequence[StyleRow]) -> list[dict[str, Any]]:
    """Plain values for json.dumps; a pair becomes [content, style, *MEASURES]."""
    plain = []
    for row in rows:
        fields = {k: v for k, v in asdict(row).items() if k != "pairs"}
        fields["seconds"] = {str(size): seconds for size, seconds in row.seconds.items()}
        fields["pairs"] = [
            [s.content, s.style, *(round(getattr(s, name), 5) for name in MEASURES)] for s in row.pairs
        ]
        plain.append(fields)
    return plain


def _standard_error(values: Sequence[tuple[int, int, float]]) -> float:
    """Of the mean of (content, style, value): contents and styles are both draws, so their variances add."""
    variance = 0.0
    for side in range(2):
        groups: dict[int, list[float]] = {}
        for value in values:
            groups.setdefault(int(value[side]), []).append(value[2])
        means = [statistics.fmean(group) for group in groups.values()]
        variance += statistics.variance(means) / len(means) if len(means) > 1 else 0.0
    return math.sqrt(variance)


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
