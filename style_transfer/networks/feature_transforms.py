"""What decoders that transform features share: strength, regions, and which styles can be mixed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from ganmod.modulation import Modulation
from ganmod.modulation.modulated_conv import blend_regions
from ganmod.modulation.statistics import Statistics
from style_transfer.networks.staged_decoder import InputStatistics


class StrengthParams(NamedTuple):
    strength: Tensor  # [N,1,1,1], 0 (content) to 1 (style)


def full_strength(like: Tensor) -> StrengthParams:
    """Strength 1 for each of [N,...]."""
    return StrengthParams(like.new_ones((len(like), 1, 1, 1)))


def weaken_features(styles: Sequence[list[Any]], alpha: float) -> list[list[Any]]:
    """Styles, whose last parameters are their strength, at alpha times that strength."""
    return [[*params, StrengthParams(strength.strength * alpha)] for *params, strength in styles]


def transform_features(
    transform: Modulation,
    x: Tensor,
    params: Any,
    strength: Any,
    *,
    statistics: InputStatistics | None = None,
    masks: Tensor | None = None,
) -> Tensor:
    """(1 - strength) x + strength transformed x, [N,C,H,W].

    Args:
        transform: a modulation whose `modulate` is the transform.
        x: the features.
        params: of the transform; with masks, one NamedTuple per region.
        strength: `StrengthParams`; with masks, one per region.
        statistics: of the full input, if x is a part of it.
        masks: [N,R,h,w], each region's share of every pixel, sum 1.
    """
    known = None if statistics is None else Statistics(statistics.mean, statistics.var)

    def mixed(params: Any, strength: StrengthParams) -> Tensor:
        if known is None:
            transformed = transform.modulate(x, params)
        else:
            transformed = transform.modulate_with(x, params, known)
        return torch.lerp(x, transformed, strength.strength.to(x.dtype))

    if masks is None:
        return mixed(params, strength)
    return blend_regions([mixed(*pair) for pair in zip(params, strength, strict=True)], masks)


def check_transforms_mix(transforms: Iterable[nn.Module]) -> None:
    """Raise ValueError if parameters between those of two styles make no style."""
    for transform in transforms:
        if not cast(Modulation, transform).mixes:
            raise ValueError(
                f"{type(transform).__name__} takes patches of one style, so styles cannot be mixed by "
                "weights: mix them by masks, or take another model"
            )
