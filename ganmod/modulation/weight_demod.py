"""StyleGAN2's weight modulation and demodulation."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ganmod.layers import EqualizedLinear, PaddingMode, StaticConv2d, autocast_dtype, widen
from ganmod.modulation.base import Modulation, StyleSpec, check_style, pool_style
from ganmod.modulation.fast import bound_products, demodulation
from ganmod.modulation.functional import DEMOD_EPS
from ganmod.modulation.registry import register_modulation


class WeightDemodParams(NamedTuple):
    scale: Tensor  # [N,C]


@register_modulation("weight_demod")
class WeightDemod(Modulation):
    """Scales the weight's input channels by the style, its outputs to unit norm.

    Karras et al. 2020, Eq. 1-3.

    Args:
        demodulate: scale outputs to unit norm; False in ToRGB layers.
        impl: "unfused" scales the features before and after one shared convolution (cheap to train), "fused"
            builds a weight per sample; the results are equal.
    """

    def __init__(
        self,
        channels: int,
        style: StyleSpec,
        *,
        demodulate: bool = True,
        impl: Literal["unfused", "fused"] = "unfused",
        eps: float = DEMOD_EPS,
    ) -> None:
        super().__init__(channels, style)
        if impl not in ("unfused", "fused"):
            raise ValueError(f"unknown impl {impl!r}: expected 'unfused' or 'fused'")
        self.demodulate = demodulate
        self.normalizes_outputs = demodulate
        self.impl = impl
        self.eps = eps
        self.affine = EqualizedLinear(style.dim, channels)

    def use_exportable_form(self, *, any_batch: bool = True, padding_mode: PaddingMode = "reflect") -> None:
        """See `Modulation`."""
        self.impl = "unfused"

    def predict(self, style: Tensor) -> WeightDemodParams:
        check_style(style, self.style)
        return WeightDemodParams(1 + self.affine(pool_style(style)))

    def convolve(self, x: Tensor, conv: StaticConv2d, params: WeightDemodParams) -> Tensor:
        weight, scale = conv.scaled_weight, widen(params.scale)
        if self.demodulate and torch.float16 in (x.dtype, autocast_dtype(x.device)):
            weight, scale = bound_products(weight, scale)
        if self.impl == "fused":
            per_sample = weight[None] * scale[:, None, :, None, None]  # [N,O,C,K,K]
            if self.demodulate:
                per_sample = per_sample * demodulation(weight, scale, eps=self.eps)[..., None, None, None]
            return conv.apply_weight(x, per_sample.to(x.dtype))
        out = conv.apply_weight(x * scale[:, :, None, None].to(x.dtype), weight)
        if self.demodulate:
            out = out * demodulation(weight, scale, eps=self.eps)[:, :, None, None].to(out.dtype)
        return out
