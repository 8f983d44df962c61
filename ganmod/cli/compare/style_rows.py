"""The lines of the table of `ganmod compare --style`: models, folders of pictures, the content unchanged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import click
import torch
from torch import Tensor
from tqdm import tqdm

from ganmod.features.vgg import VGGFeatures
from metrics.compare.style_facts import REPEATS
from metrics.images.lattice import LatticeMeter
from metrics.style import table as style_table
from metrics.style.amortisation import Optima, PairLosses, amortisation_gap
from metrics.style.pair_pictures import PairPictures
from metrics.style.pair_scores import Contestant, PairScores, score_pairs, score_results
from metrics.style.table import StyleRow

Lpips = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class PairImages:
    """The images of a list by their names, as all losses see them, [1,3,H,W] in [0,1] each: contents with
    sides that are multiples of 8, styles square.
    """

    contents: dict[str, Tensor]
    styles: dict[str, Tensor]


@dataclass(frozen=True)
class Measures:
    """What pairs are judged by. optima: None leaves the gap out."""

    loss_network: VGGFeatures
    lpips: Lpips | None
    optima: Optima | None


def make_rows(
    models: Sequence[Contestant],
    pictures: Sequence[PairPictures],
    unchanged: Contestant,
    images: PairImages,
    measures: Measures,
) -> list[StyleRow]:
    """One line each, in this order; the models alone are timed, in turn."""
    every: list[Contestant | PairPictures] = [*models, *pictures, unchanged]
    meters = [LatticeMeter() for _ in every]
    scores = [_scores(what, images, measures, meter) for what, meter in zip(every, meters, strict=True)]
    timed: dict[str, tuple[dict[int, float], float | None]] = {}
    if models:
        click.echo("measure the time of each model in turn", err=True)
        style = next(iter(images.styles.values()))
        timed |= style_table.time_models(models, style, repeats=REPEATS, num_threads=torch.get_num_threads())
    return [
        style_table.make_row(
            what,
            found,
            *timed.get(what.name, ({}, None)),
            gap=_gap(found, images, measures),
            lattice=meter.lattice().share,
        )
        for what, found, meter in zip(every, scores, meters, strict=True)
    ]


def _scores(
    what: Contestant | PairPictures, images: PairImages, measures: Measures, meter: LatticeMeter
) -> list[PairScores]:
    contents, styles = list(images.contents.values()), list(images.styles.values())
    network, lpips = measures.loss_network, measures.lpips
    with tqdm(total=len(contents) * len(styles), desc=what.name, disable=None) as bar:
        if isinstance(what, Contestant):
            return score_pairs(
                what, contents, styles, loss_network=network, lpips=lpips, lattice=meter, done=bar.update
            )

        def result(c: int, s: int) -> Tensor:
            return what.read(c, s, contents[c])

        return score_results(
            what.name,
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
