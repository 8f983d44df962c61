"""StyleBank: two learned convolutions for each of N styles."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganmod.layers import PaddingMode
from ganmod.modulation.base import Modulation, StyleKind, StyleSpec, check_style
from ganmod.modulation.functional import NORM_EPS
from ganmod.modulation.per_sample_conv import ConvImpl, per_sample_conv2d
from ganmod.modulation.registry import register_modulation
from ganmod.modulation.statistics import instance_norm

NUM_CONVS = 2  # of each style's filter bank


class BankParams(NamedTuple):
    first: Tensor  # [N,C,C,3,3]
    second: Tensor  # [N,C,C,3,3]


@register_modulation("stylebank")
class StyleBank(Modulation):
    """ReLU(IN(conv(x))) twice, with convolutions 3 x 3 that are learned for each style (Chen et al. 2017).

    Weighted filters are the paper's fusion of styles. Each style has parameters of its own, so that one more
    changes none of the others. The second normalisation depends on what the first convolution makes of all of
    an image: no tiles.
    """

    style_kinds: ClassVar[tuple[StyleKind, ...]] = ("id",)

    def __init__(self, channels: int, style: StyleSpec, *, eps: float = NORM_EPS) -> None:
        super().__init__(channels, style)
        self.eps = eps
        self.reach = NUM_CONVS
        self.needs_whole_image = True
        self.impl: ConvImpl = "auto"
        self.padding_mode: PaddingMode = "reflect"
        shape = (NUM_CONVS * channels, channels, 3, 3)
        self.gain = (channels * 9) ** -0.5
        self.banks = nn.ParameterList(torch.randn(shape) for _ in range(style.dim))

    def use_exportable_form(self, *, any_batch: bool = True, padding_mode: PaddingMode = "reflect") -> None:
        """See `Modulation`."""
        self.impl = "matmul" if any_batch else "grouped"
        self.padding_mode = padding_mode

    def predict(self, style: Tensor) -> BankParams:
        """style: [N,dim], the weight of each style, as a one-hot row or a mixture."""
        check_style(style, self.style)
        banks = torch.einsum("nd,doihw->noihw", style, torch.stack([*self.banks]) * self.gain)
        return BankParams(*banks.chunk(NUM_CONVS, dim=1))

    def modulate(self, x: Tensor, params: BankParams) -> Tensor:
        for kernel in params:
            x = per_sample_conv2d(x, kernel, impl=self.impl, padding_mode=self.padding_mode)
            x = F.relu(instance_norm(x, eps=self.eps))
        return x
