"""The classic AdaIN model's parameters: statistics of a style, and how far the content's features follow."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ganmod.modulation.functional import match_statistics, mean_std
from style_transfer.masks import pooled_mask


class StatisticsParams(NamedTuple):
    """What the classic model takes from a style: mean and deviation of its relu4_1, [N,C,1,1] each, and how
    far the content's features go there, [N,1,1,1]: 0 to 1.
    """

    mean: Tensor
    std: Tensor
    strength: Tensor


def match_style(
    x: Tensor, params: StatisticsParams, *, content_mean_std: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """(1 - a) x + a AdaIN(x) with strength a (Huang & Belongie 2017, Eq. 8 and 14): x [N,C,H,W] -> the same.

    content_mean_std: as for `match_statistics`.
    """
    matched = match_statistics(x, params.mean, params.std, content_mean_std=content_mean_std)
    return torch.lerp(x, matched, params.strength.to(x.dtype))


def style_statistics(x: Tensor, mask: Tensor | None = None) -> StatisticsParams:
    """relu4_1 of style images [N,C,h,w] -> their parameters, at strength 1.

    mask [N or 1,1,H,W] in [0,1], of the images' size: how much each pixel counts.
    """
    mean, std = mean_std(x, unbiased=True, weights=None if mask is None else pooled_mask(mask, x))
    return StatisticsParams(mean, std, mean.new_ones((len(mean), 1, 1, 1)))
