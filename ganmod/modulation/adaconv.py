"""Adaptive convolution: kernels predicted from the style (Chandran et al., CVPR 2021)."""

from __future__ import annotations

import math
from typing import NamedTuple, get_args

from torch import Tensor

from configs.sections import NonNegative, Positive, PositiveFloat
from ganmod.layers import PaddingMode
from ganmod.modulation.base import Modulation, StyleSpec, check_style
from ganmod.modulation.fast import fast_adaconv
from ganmod.modulation.functional import NORM_EPS, Normalize
from ganmod.modulation.kernel_predictor import KernelPredictor
from ganmod.modulation.per_sample_conv import ConvImpl
from ganmod.modulation.registry import register_modulation
from ganmod.modulation.statistics import Statistics


class AdaConvParams(NamedTuple):
    depthwise: Tensor  # [N,C,C/g,K,K]
    pointwise: Tensor  # [N,C,C/g,1,1]
    bias: Tensor  # [N,C]


def largest_group_size(channels: int, kernel_budget: int) -> int:
    """Largest divisor of channels that is <= kernel_budget / channels, and at least 1."""
    limit = max(kernel_budget // channels, 1)
    small = [d for d in range(1, math.isqrt(channels) + 1) if channels % d == 0]
    return max(d for d in small + [channels // d for d in small] if d <= limit)


@register_modulation("adaconv")
class AdaConv(Modulation):
    """Convolves the normalised features with depthwise and pointwise kernels predicted from the style.

    Args:
        kernel_size: odd, in pixels.
        kernel_budget: predicted kernel maps per layer. The group size is the largest divisor of C that is at
            most budget / C. None takes the channels of the host's widest layer; 512 gives 512, 128, 32, 8
            groups at 512, 256, 128, 64 channels.
        normalize: "instance", "none" or "demod", see `functional.adaconv`.
        residual_gain: how far the first kernels are from the identity.
        lr_mul: learning rate of the predictor as a multiple of the others', under Adam.
        rank: number of learned depthwise kernels that the style mixes; None predicts each kernel element. The
            style selects kernels as in GigaGAN (Kang et al. 2023), by linear weights instead of a softmax.
        gate: whether training starts from identity kernels, with a learned factor per channel on what is
            predicted (as in ReZero, Bachlechner et al. 2021).
        zero_sum: whether what is predicted for a depthwise kernel sums to 0, so that constant regions pass as
            through the identity. Without it, kernels of a latent-driven generator become band filters, which
            the normalisation amplifies to lattices.
        impl: form of the convolution, see `per_sample_conv`.
    """

    def __init__(
        self,
        channels: int,
        style: StyleSpec,
        *,
        kernel_size: Positive = 3,
        kernel_budget: Positive | None = None,
        normalize: Normalize = "instance",
        residual_gain: NonNegative = 0.1,
        lr_mul: PositiveFloat = 1.0,
        rank: Positive | None = None,
        gate: bool = False,
        zero_sum: bool = False,
        eps: PositiveFloat = NORM_EPS,
        impl: ConvImpl = "auto",
    ) -> None:
        super().__init__(channels, style)
        if kernel_size % 2 == 0 or kernel_size < 1:
            raise ValueError(f"kernel_size is {kernel_size}, expected an odd number: 1, 3, 5 ...")
        if kernel_budget is not None and (not isinstance(kernel_budget, int) or kernel_budget < 1):
            raise ValueError(f"kernel_budget is {kernel_budget!r}, expected a whole number from 1 on")
        if normalize not in get_args(Normalize):
            raise ValueError(
                f"unknown normalize {normalize!r}: expected one of {', '.join(get_args(Normalize))}"
            )
        if lr_mul <= 0:
            raise ValueError(f"lr_mul is {lr_mul}, expected a positive number such as 1 or 0.3")
        if rank is not None and (not isinstance(rank, int) or rank < 1):
            raise ValueError(f"rank is {rank!r}, expected a whole number from 1 on, or None")
        if zero_sum and kernel_size == 1:
            raise ValueError(
                "zero_sum is true and kernel_size 1, which leaves nothing to predict: take 3 or 5"
            )
        self.normalize: Normalize = normalize
        self.eps = eps
        self.impl: ConvImpl = impl
        self.padding_mode: PaddingMode = "reflect"
        self.uses_statistics = normalize == "instance"
        self.reach = kernel_size // 2
        budget = kernel_budget if kernel_budget is not None else max(style.host_width, channels)
        self.kernel_predictor = KernelPredictor(
            channels,
            style,
            kernel_size=kernel_size,
            group_size=largest_group_size(channels, budget),
            residual_gain=residual_gain,
            lr_mul=lr_mul,
            rank=rank,
            gate=gate,
            zero_sum=zero_sum,
        )

    def predict(self, style: Tensor) -> AdaConvParams:
        check_style(style, self.style)
        return AdaConvParams(*self.kernel_predictor(style))

    def use_exportable_form(self, *, any_batch: bool = True, padding_mode: PaddingMode = "reflect") -> None:
        """See `Modulation`."""
        self.impl = "matmul" if any_batch else "grouped"
        self.padding_mode = padding_mode

    def modulate(self, x: Tensor, params: AdaConvParams) -> Tensor:
        return self._convolve(x, params, None)

    def modulate_with(self, x: Tensor, params: AdaConvParams, statistics: Statistics) -> Tensor:
        return self._convolve(x, params, statistics)

    def _convolve(self, x: Tensor, params: AdaConvParams, statistics: Statistics | None) -> Tensor:
        return fast_adaconv(
            x,
            params.depthwise,
            params.pointwise,
            params.bias,
            normalize=self.normalize,
            eps=self.eps,
            impl=self.impl,
            padding_mode=self.padding_mode,
            statistics=statistics,
        )
