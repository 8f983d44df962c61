"""Dynamic instance normalisation: normalised features, then a convolution that the style predicts."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from configs.sections import NonNegative, Positive
from ganmod.layers import EqualizedLinear, PaddingMode
from ganmod.modulation.adaconv import largest_group_size
from ganmod.modulation.base import Modulation, StyleSpec, check_style, pool_style
from ganmod.modulation.functional import NORM_EPS
from ganmod.modulation.per_sample_conv import ConvImpl, per_sample_conv2d
from ganmod.modulation.registry import register_modulation
from ganmod.modulation.statistics import Statistics, instance_norm

MOST_OFFSET = 16  # pixels
BUDGET = 16  # predicted weights per channel, by default


class DINParams(NamedTuple):
    weight: Tensor  # [N,C,C/g,1,1]
    bias: Tensor  # [N,C]


class SampledDINParams(NamedTuple):
    weight: Tensor  # [N,C,C/g,1,1]
    bias: Tensor  # [N,C]
    taps: Tensor  # [N,C,1,K,K], bilinear weights around the position of each channel


@register_modulation("din")
class DynamicInstanceNorm(Modulation):
    """1 x 1 convolution of IN(x), predicted from the style, optionally sampled elsewhere (Jing et al. 2020).

    No code of the paper is public; this is its formula with the 1 x 1 convolutions of its experiments.
    Differs from it: the convolution is grouped and starts at the identity, and each channel has one sampling
    offset for the entire image, so that there are tiles and exports.

    Args:
        kernel_budget: most predicted weights, C * C/g. None: 16 * C, or the host's width where that is more.
        max_offset: pixels by which a channel's samples may be shifted, bilinearly; 0: none are.
        residual_gain: initial size of what is predicted.
    """

    def __init__(
        self,
        channels: int,
        style: StyleSpec,
        *,
        kernel_budget: Positive | None = None,
        max_offset: int = 0,
        residual_gain: NonNegative = 0.1,
        eps: float = NORM_EPS,
    ) -> None:
        super().__init__(channels, style)
        if not isinstance(max_offset, int) or not 0 <= max_offset <= MOST_OFFSET:
            raise ValueError(f"max_offset is {max_offset!r}, expected whole pixels from 0 to {MOST_OFFSET}")
        self.eps, self.max_offset, self.reach = eps, max_offset, max_offset
        self.impl: ConvImpl = "auto"
        self.padding_mode: PaddingMode = "reflect"
        budget = kernel_budget if kernel_budget is not None else max(BUDGET * channels, style.host_width)
        self.group_size = largest_group_size(channels, budget)
        std = residual_gain / self.group_size**0.5
        self.kernel = EqualizedLinear(style.dim, channels * self.group_size, init_std=std)
        self.shift = EqualizedLinear(style.dim, channels, init_std=residual_gain)
        self.offset = EqualizedLinear(style.dim, 2 * channels, init_std=residual_gain) if max_offset else None
        identity = torch.eye(self.group_size).repeat(channels // self.group_size, 1)  # [C,C/g]
        self.identity: Tensor
        self.register_buffer("identity", identity, persistent=False)

    def use_exportable_form(self, *, any_batch: bool = True, padding_mode: PaddingMode = "reflect") -> None:
        """See `Modulation`."""
        self.impl = "matmul" if any_batch else "grouped"
        self.padding_mode = padding_mode

    def predict(self, style: Tensor) -> DINParams | SampledDINParams:
        check_style(style, self.style)
        pooled = pool_style(style)
        residual = self.kernel(pooled).reshape(-1, self.channels, self.group_size)
        weight, bias = (residual + self.identity)[..., None, None], self.shift(pooled)
        if self.offset is None:
            return DINParams(weight, bias)
        offsets = self.max_offset * torch.tanh(self.offset(pooled)).reshape(-1, self.channels, 2)
        return SampledDINParams(weight, bias, bilinear_taps(offsets, self.max_offset)[:, :, None])

    def modulate(self, x: Tensor, params: DINParams | SampledDINParams) -> Tensor:
        return self._convolve(instance_norm(x, eps=self.eps), params)

    def modulate_with(
        self, x: Tensor, params: DINParams | SampledDINParams, statistics: Statistics
    ) -> Tensor:
        return self._convolve(instance_norm(x, eps=self.eps, statistics=statistics), params)

    def _convolve(self, x: Tensor, params: DINParams | SampledDINParams) -> Tensor:
        if isinstance(params, SampledDINParams):
            x = per_sample_conv2d(x, params.taps, impl=self.impl, padding_mode=self.padding_mode)
        return per_sample_conv2d(x, params.weight, params.bias, impl=self.impl)


def bilinear_taps(offsets: Tensor, most: int) -> Tensor:
    """Offsets [N,C,2] (down, right) in pixels, at most `most` -> kernels [N,C,K,K] with K = 2 most + 1.

    Convolution with them samples the image bilinearly at the offset.
    """
    positions = torch.arange(-most, most + 1, device=offsets.device, dtype=offsets.dtype)
    hats = (1 - (positions - offsets[..., None]).abs()).clamp_min(0)  # [N,C,2,K]
    return hats[:, :, 0, :, None] * hats[:, :, 1, None, :]
