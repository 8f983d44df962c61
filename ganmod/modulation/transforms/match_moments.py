"""AdaIN without a learned map: the style's features give mean and deviation (Huang & Belongie 2017)."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from torch import Tensor

from ganmod.modulation.base import Modulation, StyleKind, check_style
from ganmod.modulation.registry import register_modulation
from ganmod.modulation.statistics import Statistics, instance_norm, mean_std


class MomentsParams(NamedTuple):
    std: Tensor  # [N,C]
    mean: Tensor  # [N,C]


@register_modulation("match_moments")
class MatchMoments(Modulation):
    """Gives each channel the mean and deviation of a style's features (Huang & Belongie 2017, Eq. 8)."""

    style_kinds: ClassVar[tuple[StyleKind, ...]] = ("features",)

    def predict(self, style: Tensor) -> MomentsParams:
        check_style(style, self.style)
        mean, std = mean_std(style)
        return MomentsParams(std.flatten(1), mean.flatten(1))

    def modulate(self, x: Tensor, params: MomentsParams) -> Tensor:
        return instance_norm(x, params.std, params.mean)

    def modulate_with(self, x: Tensor, params: MomentsParams, statistics: Statistics) -> Tensor:
        return instance_norm(x, params.std, params.mean, statistics=statistics)
