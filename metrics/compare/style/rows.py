"""The rows of the table of style-transfer models: models, folders of pictures, the unchanged content."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ganmod.features.vgg import VGGFeatures
from metrics.compare.style.images import PairImages
from metrics.compare.style.protocol import REPEATS
from metrics.images.lattice import LatticeMeter
from metrics.progress import Progress
from metrics.style import table as style_table
from metrics.style.amortisation import Optima, PairLosses, amortisation_gap
from metrics.style.pair_pictures import PairPictures
from metrics.style.pair_scores import Contestant, PairScores, score_pairs, score_results
from metrics.style.table import StyleRow

Lpips = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Measures:
    """The measures of pairs.

    Args:
        loss_network: of the losses.
        lpips: None leaves LPIPS out.
        optima: None leaves the gap out.
        progress: shows each row.
    """

    loss_network: VGGFeatures
    lpips: Lpips | None
    optima: Optima | None
    progress: Progress


def make_rows(
    models: Sequence[Contestant],
    pictures: Sequence[PairPictures],
    unchanged: Contestant,
    images: PairImages,
    measures: Measures,
) -> list[StyleRow]:
    """Make one row each, in this order; only the models are timed, in turn."""
    subjects: list[Contestant | PairPictures] = [*models, *pictures, unchanged]
    meters = [LatticeMeter() for _ in subjects]
    scores = [
        _scores(subject, images, measures, meter) for subject, meter in zip(subjects, meters, strict=True)
    ]
    timed: dict[str, tuple[dict[int, float], float | None]] = {}
    if models:
        style = next(iter(images.styles.values()))
        with measures.progress(REPEATS + 1, "time of each model in turn") as bar:
            timed |= style_table.time_models(
                models, style, repeats=REPEATS, num_threads=torch.get_num_threads(), done=bar.update
            )
    return [
        style_table.make_row(
            subject,
            pair_scores,
            *timed.get(subject.name, ({}, None)),
            gap=_gap(pair_scores, images, measures),
            lattice=meter.lattice().share,
        )
        for subject, pair_scores, meter in zip(subjects, scores, meters, strict=True)
    ]


def _scores(
    subject: Contestant | PairPictures, images: PairImages, measures: Measures, meter: LatticeMeter
) -> list[PairScores]:
    contents, styles = list(images.contents.values()), list(images.styles.values())
    network, lpips = measures.loss_network, measures.lpips
    with measures.progress(len(contents) * len(styles), subject.name) as bar:
        if isinstance(subject, Contestant):
            return score_pairs(
                subject, contents, styles, loss_network=network, lpips=lpips, lattice=meter, done=bar.update
            )

        def result(c: int, s: int) -> Tensor:
            return subject.read(c, s, contents[c])

        return score_results(
            subject.name,
            result,
            contents,
            styles,
            loss_network=network,
            lpips=lpips,
            lattice=meter,
            done=bar.update,
        )


def _gap(scores: Sequence[PairScores], images: PairImages, measures: Measures) -> tuple[float, float] | None:
    if measures.optima is None:
        return None
    contents, styles = list(images.contents), list(images.styles)
    losses = {
        (contents[s.content], styles[s.style]): PairLosses(s.values["content_loss"], s.values["style_loss"])
        for s in scores
    }
    return amortisation_gap(losses, measures.optima)
