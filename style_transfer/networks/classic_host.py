"""The classic AdaIN model (Huang & Belongie 2017): matched statistics, and a learned decoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ganmod.features.style_losses import Features
from ganmod.modulation.modulated_conv import pool_masks
from ganmod.modulation.statistics import match_statistics, mean_std
from style_transfer.masks import pool_mask
from style_transfer.networks.mirrored_decoder import MirroredDecoder, plain_conv
from style_transfer.networks.staged_decoder import InputStatistics
from style_transfer.networks.style_encoder import StyleEncoder

_EPS = 1e-5


class StatisticsParams(NamedTuple):
    """Parameters of a style in the classic model.

    Attributes:
        mean: mean of its relu4_1, [N,C,1,1].
        std: standard deviation of its relu4_1, [N,C,1,1].
        strength: 0 (content) to 1 (style), [N,1,1,1].
    """

    mean: Tensor
    std: Tensor
    strength: Tensor


class ClassicStyleEncoder(StyleEncoder):
    """relu4_1 of style images -> their statistics, at strength 1; nothing is learned."""

    def forward(self, features: Features, mask: Tensor | None = None) -> StatisticsParams:
        """See `StyleEncoder`."""
        x = features["relu4_1"]
        mean, std = mean_std(x, unbiased=True, weights=None if mask is None else pool_mask(mask, x))
        return StatisticsParams(mean, std, mean.new_ones((len(mean), 1, 1, 1)))


class ClassicDecoder(MirroredDecoder):
    """VGG-19 mirrored, all convolutions plain; its input is matched to the style's statistics first."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__(widths, plain_conv)

    def first_reach(self, stage: int) -> int:
        """See `MirroredDecoder`."""
        return 0

    def uses_statistics(self, stage: int) -> bool:
        """See `StagedDecoder`."""
        return stage == 0

    def check_takes_statistics(self) -> None:
        """See `StagedDecoder`."""

    def predict(self, style: StatisticsParams) -> list[Any]:
        """See `StagedDecoder`: the statistics are the parameters, for the first stage only."""
        return [style]

    def weaken(
        self, styles: Sequence[list[Any]], predict_content: Callable[[], list[Any]], alpha: float
    ) -> list[list[Any]]:
        """See `StagedDecoder`: the features are mixed (Huang & Belongie 2017, Eq. 14)."""
        return [[p._replace(strength=p.strength * alpha) for p in params] for params in styles]

    def run_stage(
        self,
        stage: int,
        x: Tensor,
        params: Sequence[Any],
        *,
        statistics: InputStatistics | None = None,
        masks: Tensor | None = None,
    ) -> Tensor:
        """See `StagedDecoder`."""
        if stage == 0:
            if masks is None:
                x = match_style(x, params[0], statistics)
            else:
                x = match_regions(x, params[0], masks, statistics)
        return self.draw_scale(stage, x)


def match_style(x: Tensor, params: StatisticsParams, statistics: InputStatistics | None = None) -> Tensor:
    """(1 - a) x + a AdaIN(x) with strength a (Huang & Belongie 2017, Eq. 8 and 14): x [N,C,H,W] -> the same.

    The statistics are those of the full content's features, if x is a part of them.
    """
    content = None
    if statistics is not None:
        unbiased = statistics.var * (statistics.num_pixels / (statistics.num_pixels - 1))
        content = statistics.mean, (unbiased + _EPS).sqrt()
    matched = match_statistics(x, params.mean, params.std, content_mean_std=content)
    return torch.lerp(x, matched, params.strength.to(x.dtype))


def match_regions(
    x: Tensor,
    params: Sequence[StatisticsParams],
    masks: Tensor,
    statistics: InputStatistics | None = None,
) -> Tensor:
    """`match_style` with one style per region, blended by masks [N,R,H,W]."""
    shares = pool_masks(masks, x.shape[2], x.shape[3]).split(1, dim=1)
    matched = (match_style(x, p, statistics) * share for p, share in zip(params, shares, strict=True))
    return sum(matched, start=torch.zeros_like(x))
