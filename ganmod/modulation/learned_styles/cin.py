"""Conditional instance normalisation: a learned scale and shift for each of N styles."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from ganmod.modulation.adain import AdaINParams
from ganmod.modulation.base import Modulation, StyleKind, StyleSpec, check_style
from ganmod.modulation.functional import NORM_EPS
from ganmod.modulation.registry import register_modulation
from ganmod.modulation.statistics import Statistics, instance_norm


@register_modulation("cin")
class ConditionalInstanceNorm(Modulation):
    """scale * IN(x) + shift, both learned for each style (Dumoulin et al. 2017, Eq. 5).

    With one style it is the affine instance normalisation of Ulyanov et al. 2016. Each style has a parameter
    of its own, so that one more changes none of the others.
    """

    style_kinds: ClassVar[tuple[StyleKind, ...]] = ("id",)

    def __init__(self, channels: int, style: StyleSpec, *, eps: float = NORM_EPS) -> None:
        super().__init__(channels, style)
        self.eps = eps
        # Standard deviation 0.1, so that styles differ from the first step on.
        self.scales = nn.ParameterList(torch.randn(channels) * 0.1 + 1 for _ in range(style.dim))
        self.shifts = nn.ParameterList(torch.randn(channels) * 0.1 for _ in range(style.dim))

    def predict(self, style: Tensor) -> AdaINParams:
        """style: [N,dim], the weight of each style, as a one-hot row or a mixture."""
        check_style(style, self.style)
        return AdaINParams(style @ torch.stack([*self.scales]), style @ torch.stack([*self.shifts]))

    def modulate(self, x: Tensor, params: AdaINParams) -> Tensor:
        return instance_norm(x, params.scale, params.shift, eps=self.eps)

    def modulate_with(self, x: Tensor, params: AdaINParams, statistics: Statistics) -> Tensor:
        return instance_norm(x, params.scale, params.shift, eps=self.eps, statistics=statistics)
