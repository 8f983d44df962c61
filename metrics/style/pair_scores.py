"""Scores of stylized images, pair by pair: losses, similarity to the content, patches of the style.

Models are objects with `encode`, `predict` and `decode`. All are measured with one loss network, whatever
they were trained with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ganmod.features.style_losses import content_loss, gram_loss, mean_std_loss, shifted_gram_loss
from ganmod.features.vgg import VGGFeatures
from metrics.images.lattice import LatticeMeter
from metrics.images.patch_swd import PatchTarget
from metrics.images.similarity import ssim
from metrics.images.structure import flat_mask, luma

# Measure: heading of its column. Lower is better for all but SSIM.
MEASURES = {
    "content_loss": "content loss",
    "style_loss": "style loss",
    "gram_loss": "Gram",
    "shifted_gram": "shifted Gram",
    "lpips": "LPIPS to content",
    "ssim": "SSIM to content",
    "patch_swd": "patch-SWD to style",
}


class StylizingModel(Protocol):
    """The interface of a model. Images are RGB [N,3,H,W] in [0,1], content sides multiples of 8."""

    def encode(self, x: Tensor) -> Tensor:
        """Content images -> features."""

    def predict(self, style: Tensor) -> Any:
        """Style images, of the size that the model expects -> parameters."""

    def decode(self, features: Tensor, params: Any) -> Tensor:
        """Features and parameters -> images, clamped or not."""


@dataclass(frozen=True)
class Contestant:
    """A model in a comparison.

    Args:
        name: in the table.
        model: the model.
        prepare_style: style image [1,3,H,W] -> the size that the model expects.
        trained_parameters: their number.
        all_parameters: their number, including the encoder's.
    """

    name: str
    model: StylizingModel
    prepare_style: Callable[[Tensor], Tensor]
    trained_parameters: int
    all_parameters: int


@dataclass(frozen=True)
class PairScores:
    """Scores of one stylized image.

    Args:
        content: index of the content.
        style: index of the style.
        values: {name in MEASURES: value}.
    """

    content: int
    style: int
    values: Mapping[str, float]


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
    lattice: LatticeMeter | None = None,
    done: Callable[[], object] = lambda: None,
) -> list[PairScores]:
    """Stylize every content with every style, and score each result; see `score_results`.

    The model gets `prepare_style` of the styles, the losses get the styles themselves.
    """
    features = [contestant.model.encode(x) for x in contents]

    @lru_cache(maxsize=1)
    def params(s: int) -> Any:
        return contestant.model.predict(contestant.prepare_style(styles[s]))

    def result(c: int, s: int) -> Tensor:
        return contestant.model.decode(features[c], params(s))

    return score_results(
        contestant.name,
        result,
        contents,
        styles,
        loss_network=loss_network,
        lpips=lpips,
        lattice=lattice,
        done=done,
    )


@torch.inference_mode()
def score_results(
    name: str,
    result: Callable[[int, int], Tensor],
    contents: Sequence[Tensor],
    styles: Sequence[Tensor],
    *,
    loss_network: VGGFeatures,
    lpips: Callable[[Tensor, Tensor], Tensor] | None,
    lattice: LatticeMeter | None = None,
    done: Callable[[], object] = lambda: None,
) -> list[PairScores]:
    """Score the result of every content with every style, style by style.

    Results are clamped to [0,1] first.

    Args:
        name: of the model or program, for errors.
        result: index of a content, index of a style -> an image [1,3,H,W] of the content's size.
        contents: [1,3,H,W] in [0,1], sides multiples of 8; sizes may differ.
        styles: [1,3,h,w] in [0,1].
        lpips: content, result [1,3,H,W] -> [1]; None leaves it out.
        lattice: gets every result.
        done: called after each result.

    Raises:
        ValueError: if a score is not finite.
    """
    content_targets = [loss_network.normalized(x) for x in contents]
    content_arrays = [to_array(x) for x in contents]
    smooth = [flat_mask(x) for x in content_arrays] if lattice is not None else []
    scores = []
    for s, style in enumerate(styles):
        style_target, patches = loss_network.normalized(style), PatchTarget(to_array(style))
        for c, content in enumerate(contents):
            image = result(c, s).clamp(0, 1)
            features, array = loss_network.normalized(image), to_array(image)
            values = {
                "content_loss": float(content_loss(features, content_targets[c])),
                "style_loss": float(mean_std_loss(features, style_target)),
                "gram_loss": float(gram_loss(features, style_target)),
                "shifted_gram": float(shifted_gram_loss(features, style_target)),
            }
            if not math.isfinite(sum(values.values())):  # the measures below may hide NaN pixels
                raise ValueError(f"{name}: content {c} with style {s} gives {values}: look at that image")
            if lpips is not None:
                values["lpips"] = float(lpips(content, image))
            if lattice is not None:
                lattice.add(luma(array), smooth[c], patches.grey)
            values |= {"ssim": ssim(content_arrays[c], array), "patch_swd": patches.distance(array)}
            scores.append(PairScores(content=c, style=s, values=values))
            done()
    return scores
