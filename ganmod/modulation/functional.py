"""The modulations as pure functions: channel statistics, AdaIN, weight demodulation, AdaConv."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ganmod.modulation.per_sample_conv import ConvImpl, per_sample_conv2d
from ganmod.modulation.statistics import (
    Statistics,
    instance_norm,
    mean_variance,
    weighted_mean_variance,
)

Normalize = Literal["instance", "none", "demod"]


def mean_std(
    x: Tensor, *, eps: float = 1e-5, unbiased: bool = False, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Spatial mean and sqrt(var + eps) of x [N,C,H,W] -> two [N,C,1,1], in float32 or wider.

    `unbiased` is the convention of the AdaIN authors' code; losses and layers here use the biased variance.
    weights [N or 1,1,H,W] >= 0: by which the pixels count, their sum above 0.
    """
    if weights is not None:
        mean, var = weighted_mean_variance(x, weights)
        if unbiased:
            # As many equal weights: their number for weights of 0 and 1. One pixel alone deviates by nothing.
            wide = weights.to(var.dtype)
            count = wide.sum(dim=(2, 3), keepdim=True).square() / wide.square().sum(dim=(2, 3), keepdim=True)
            var = var * (count / (count - 1).clamp_min(1e-4))
        return mean, (var + eps).sqrt()
    mean, var = mean_variance(x)
    if unbiased:
        pixels = x.shape[2] * x.shape[3]
        if pixels < 2:
            raise ValueError("features of one pixel have no unbiased deviation: use a larger image")
        var = var * (pixels / (pixels - 1))
    return mean, (var + eps).sqrt()


def adain(
    x: Tensor, scale: Tensor, shift: Tensor, *, eps: float = 1e-5, statistics: Statistics | None = None
) -> Tensor:
    """scale * IN(x) + shift. x [N,C,H,W], scale, shift [N,C] -> [N,C,H,W] (Huang & Belongie 2017, Eq. 8).

    statistics: to be used instead of x's own, of the image that x is a part of.
    """
    return instance_norm(x, scale, shift, eps=eps, statistics=statistics)


def match_statistics(
    content: Tensor,
    style_mean: Tensor,
    style_std: Tensor,
    *,
    eps: float = 1e-5,
    content_mean_std: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Classic AdaIN: content features with the style's mean and deviation (Huang & Belongie 2017, Eq. 8).

    content [N,C,H,W]; style_mean, style_std [N,C,1,1] from `mean_std(..., unbiased=True)` -> [N,C,H,W].
    content_mean_std: the same for the content, where it is a part of an image; None measures them.
    """
    mean, std = content_mean_std or mean_std(content, eps=eps, unbiased=True)
    return ((content - mean) / std * style_std + style_mean).to(content.dtype)


def demodulation(weight: Tensor, scale: Tensor, *, eps: float = 1e-8) -> Tensor:
    """rsqrt(sum_ik (w_oik * s_i)^2 + eps). weight [O,C,K,K], scale [N,C] -> [N,O] (StyleGAN2, Eq. 3)."""
    return demodulation_of_energies(weight, scale.square(), eps=eps)


def demodulation_of_energies(weight: Tensor, energies: Tensor, *, eps: float = 1e-8) -> Tensor:
    """rsqrt(sum_ik w_oik^2 e_i + eps): outputs of unit variance for white input channels of variance e [N,C].

    weight [O,C,K,K] -> [N,O].
    """
    return (energies @ weight.square().sum(dim=(2, 3)).t() + eps).rsqrt()


def compose_kernels(depthwise: Tensor, pointwise: Tensor) -> Tensor:
    """The one kernel that equals depthwise, then pointwise: [N,C,C/g,K,K], [N,C,C/g,1,1] -> [N,C,C/g,K,K]."""
    n, channels, group_size, size, _ = depthwise.shape
    groups = channels // group_size
    first = depthwise.reshape(n * groups, group_size, group_size * size * size)
    second = pointwise.reshape(n * groups, group_size, group_size)
    return torch.bmm(second, first).reshape(depthwise.shape)


def kernel_energies(depthwise: Tensor, pointwise: Tensor) -> Tensor:
    """Sum of squares of each output channel's composed kernel: AdaConv's two kernels -> [N,C]."""
    return compose_kernels(depthwise, pointwise).square().sum(dim=(2, 3, 4))


def adaconv(
    x: Tensor,
    depthwise: Tensor,
    pointwise: Tensor,
    bias: Tensor,
    *,
    normalize: Normalize = "instance",
    eps: float = 1e-5,
    impl: ConvImpl = "auto",
    statistics: Statistics | None = None,
) -> Tensor:
    """Adaptive convolution (Chandran et al. 2021, Eq. 3-5): p * (f * norm(x)) + b, one kernel set per sample.

    x [N,C,H,W]; depthwise f [N,C,C/g,K,K]; pointwise p [N,C,C/g,1,1]; bias b [N,C] -> [N,C,H,W].
    Reflect padding keeps H and W, which must exceed K // 2. `normalize`: "instance" is the paper's formula,
    "none" leaves x alone, "demod" instead scales each output channel of the composed kernel to unit norm.
    The two kernels are multiplied into one before they meet x: the same result, one pass over the image.
    `impl` names a form of the convolution, see `per_sample_conv`. statistics: for the instance norm, instead
    of x's own.
    """
    kernel = compose_kernels(depthwise, pointwise)
    if normalize == "demod":
        kernel = kernel * (kernel.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    norm_eps = eps if normalize == "instance" else None
    if norm_eps is not None and statistics is not None:
        x, norm_eps = instance_norm(x, eps=eps, statistics=statistics), None
    return per_sample_conv2d(x, kernel, bias, norm_eps=norm_eps, impl=impl)


def adaconv_reference(
    x: Tensor,
    depthwise: Tensor,
    pointwise: Tensor,
    bias: Tensor,
    *,
    normalize: Normalize = "instance",
    eps: float = 1e-5,
) -> Tensor:
    """`adaconv` in its obvious form: sample by sample, depthwise, then pointwise, then bias. Same shapes."""
    outputs = []
    for sample, f, p, b in zip(x, depthwise, pointwise, bias, strict=True):
        sample = sample[None]  # [1,C,H,W]
        if normalize == "instance":
            sample = F.instance_norm(sample, eps=eps)
        groups = f.shape[0] // f.shape[1]
        pad = f.shape[-1] // 2
        out = F.conv2d(F.pad(sample, (pad, pad, pad, pad), mode="reflect"), f, groups=groups)
        out = F.conv2d(out, p, groups=groups)
        if normalize == "demod":  # norm of row o of p o f: sum_i p_oi f_i, written out channel by channel
            size = f.shape[1]
            rows = [sum(p[o, i, 0, 0] * f[o - o % size + i] for i in range(size)) for o in range(len(f))]
            out = out * (torch.stack(rows).square().sum(dim=(1, 2, 3)) + 1e-8).rsqrt()[None, :, None, None]
        outputs.append(out + b[None, :, None, None])
    return torch.cat(outputs)
