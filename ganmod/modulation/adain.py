"""Adaptive instance normalisation with a learned affine map from the style."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from ganmod.layers import EqualizedLinear
from ganmod.modulation import functional
from ganmod.modulation.base import Modulation, StyleSpec, check_style, pool_style
from ganmod.modulation.registry import register_modulation
from ganmod.modulation.statistics import Statistics


class AdaINParams(NamedTuple):
    scale: Tensor  # [N,C]
    shift: Tensor  # [N,C]


@register_modulation("adain")
class AdaIN(Modulation):
    """scale * IN(x) + shift before the convolution, both linear in the style (Huang & Belongie 2017)."""

    def __init__(self, channels: int, style: StyleSpec, *, eps: float = 1e-5) -> None:
        super().__init__(channels, style)
        self.eps = eps
        self.affine = EqualizedLinear(style.dim, 2 * channels, init_std=0.1)

    def predict(self, style: Tensor) -> AdaINParams:
        check_style(style, self.style)
        scale, shift = self.affine(pool_style(style)).chunk(2, dim=1)
        return AdaINParams(1 + scale, shift)

    def modulate(self, x: Tensor, params: AdaINParams) -> Tensor:
        return functional.adain(x, params.scale, params.shift, eps=self.eps)

    def modulate_with(self, x: Tensor, params: AdaINParams, statistics: Statistics) -> Tensor:
        return functional.adain(x, params.scale, params.shift, eps=self.eps, statistics=statistics)
