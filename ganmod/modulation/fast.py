"""Faster implementations of the formulas in `functional.py`, for use in layers.

For AdaIN see `statistics.instance_norm`, for the convolution of weight demodulation `WeightDemod`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ganmod.layers import PaddingMode, widen, without_autocast
from ganmod.modulation.functional import DEMOD_EPS, NORM_EPS, Normalize
from ganmod.modulation.per_sample_conv import ConvImpl, per_sample_conv2d
from ganmod.modulation.statistics import Statistics, instance_norm

_SMALLEST_NORM = 1e-6  # weights and styles of zeros stay zeros


def demodulation(weight: Tensor, scale: Tensor, *, eps: float = DEMOD_EPS) -> Tensor:
    """rsqrt(sum_ik (w_oik * s_i)^2 + eps): what Eq. 3 of StyleGAN2 multiplies the outputs by.

    weight [O,C,K,K], scale [N,C] -> [N,O], in float32 or wider, under autocast, too.
    """
    weight, scale = widen(weight), widen(scale)
    with without_autocast(scale.device):
        return (scale.square() @ weight.square().sum(dim=(2, 3)).t() + eps).rsqrt()


def bound_products(weight: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Weight and scale for a demodulated convolution in float16, without common factors that overflow.

    As stylegan2-ada-pytorch's `modulated_conv2d`: each sample's scale [N,C] is divided by its maximum norm,
    the weight [O,C,K,K] of each output by its own and by sqrt(C K^2), so that a convolution's result is at
    most sqrt(C K^2) times its input. `demodulation` of both removes the factors again.
    """
    wide = widen(weight)
    largest = wide.abs().amax(dim=(1, 2, 3), keepdim=True).clamp(min=_SMALLEST_NORM)
    bounded = wide / (largest * weight[0].numel() ** 0.5)
    scale = widen(scale)
    scale = scale / scale.abs().amax(dim=1, keepdim=True).clamp(min=_SMALLEST_NORM)
    return bounded.to(weight.dtype), scale


def compose_kernels(depthwise: Tensor, pointwise: Tensor) -> Tensor:
    """The single kernel equal to depthwise, then pointwise: [N,C,C/g,K,K], [N,C,C/g,1,1] -> [N,C,C/g,K,K]."""
    n, channels, group_size, size, _ = depthwise.shape
    groups = channels // group_size
    first = depthwise.reshape(n * groups, group_size, group_size * size * size)
    second = pointwise.reshape(n * groups, group_size, group_size)
    return torch.bmm(second, first).reshape(depthwise.shape)


def fast_adaconv(
    x: Tensor,
    depthwise: Tensor,
    pointwise: Tensor,
    bias: Tensor,
    *,
    normalize: Normalize = "instance",
    eps: float = NORM_EPS,
    impl: ConvImpl = "auto",
    padding_mode: PaddingMode = "reflect",
    statistics: Statistics | None = None,
) -> Tensor:
    """`functional.adaconv` in one pass over the image, with both kernels composed into one.

    H and W must exceed K // 2 where they are padded by reflection.

    Args:
        impl: form of the convolution, see `per_sample_conv`.
        padding_mode: "zeros" is what some runtimes are limited to.
        statistics: for the instance norm, in place of x's.
    """
    kernel = compose_kernels(depthwise, pointwise)
    if normalize == "demod":
        wide = widen(kernel)
        norm = (wide.square().sum(dim=(2, 3, 4), keepdim=True) + DEMOD_EPS).rsqrt()
        kernel = (wide * norm).to(kernel.dtype)  # rounded once in half precision
    norm_eps = eps if normalize == "instance" else None
    if norm_eps is not None and statistics is not None:
        x, norm_eps = instance_norm(x, eps=eps, statistics=statistics), None
    return per_sample_conv2d(x, kernel, bias, norm_eps=norm_eps, impl=impl, padding_mode=padding_mode)
