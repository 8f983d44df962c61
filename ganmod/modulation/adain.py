"""Adaptive instance normalisation with a learned affine map from the style."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from ganmod.layers import EqualizedLinear
from ganmod.modulation.base import Modulation, StyleSpec, check_style, pool_style
from ganmod.modulation.functional import NORM_EPS
from ganmod.modulation.registry import register_modulation
from ganmod.modulation.statistics import Statistics, instance_norm


class AdaINParams(NamedTuple):
    scale: Tensor  # [N,C]
    shift: Tensor  # [N,C]


@register_modulation("adain")
class AdaIN(Modulation):
    """scale * IN(x) + shift before the convolution, both affine in the style (Huang & Belongie 2017)."""

    def __init__(self, channels: int, style: StyleSpec, *, eps: float = NORM_EPS) -> None:
        super().__init__(channels, style)
        self.eps = eps
        self.affine = EqualizedLinear(style.dim, 2 * channels, init_std=0.1)

    def use_plain_gains(self) -> None:
        """See `Modulation`; the affine map then starts as StarGAN v2's, N(0, 2 / dim)."""
        super().use_plain_gains()
        nn.init.kaiming_normal_(self.affine.weight, mode="fan_in", nonlinearity="relu")

    def predict(self, style: Tensor) -> AdaINParams:
        check_style(style, self.style)
        scale, shift = self.affine(pool_style(style)).chunk(2, dim=1)
        return AdaINParams(1 + scale, shift)

    def modulate(self, x: Tensor, params: AdaINParams) -> Tensor:
        return instance_norm(x, params.scale, params.shift, eps=self.eps)

    def modulate_with(self, x: Tensor, params: AdaINParams, statistics: Statistics) -> Tensor:
        return instance_norm(x, params.scale, params.shift, eps=self.eps, statistics=statistics)
