"""Mean, deviation and normalisation of each channel of each image."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ganmod.layers import widen
from ganmod.modulation.functional import NORM_EPS


class Statistics(NamedTuple):
    """For an instance normalisation: those of a full image for its tiles, or smoothed over a clip."""

    mean: Tensor  # [N,C,1,1], float32 or wider
    var: Tensor  # [N,C,1,1], biased


def instance_norm(
    x: Tensor,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    *,
    eps: float = NORM_EPS,
    statistics: Statistics | None = None,
) -> Tensor:
    """(x - mean) / sqrt(var + eps) * scale + shift per sample and channel, biased variance, in x's precision.

    Ulyanov et al. 2016. Uses torch's batch normalisation with samples as channels, which sums in float32 or
    wider. On a CPU, channels-last images go sample by sample: joined, they would be copied to another layout.

    Args:
        x: [N,C,H,W].
        scale: [N,C], None for ones.
        shift: [N,C], None for zeros.
        statistics: replace x's.
    """
    n, channels, height, width = x.shape
    # Always passed, in float32: without them, or in half precision, statistics would be rounded, too.
    wide = torch.promote_types(x.dtype, torch.float32)
    scale = torch.ones((n, channels), dtype=wide, device=x.device) if scale is None else scale.to(wide)
    shift = torch.zeros((n, channels), dtype=wide, device=x.device) if shift is None else shift.to(wide)
    channels_last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    # Tracing would unroll the loop and fix the number of samples.
    if x.device.type == "cpu" and channels_last and not torch.compiler.is_compiling():
        triples = zip(x.split(1), scale, shift, strict=True)
        each = [None] * n if statistics is None else [_select(statistics, i) for i in range(n)]
        samples = [_batch_norm(*triple, one, eps=eps) for triple, one in zip(triples, each, strict=True)]
        return torch.cat(samples) if n > 1 else samples[0]
    joined = x.reshape(1, n * channels, height, width)
    return _batch_norm(joined, scale.flatten(), shift.flatten(), statistics, eps=eps).reshape(x.shape)


def _select(statistics: Statistics, sample: int) -> Statistics:
    return Statistics(statistics.mean[sample], statistics.var[sample])


def _batch_norm(
    x: Tensor, weight: Tensor, bias: Tensor, statistics: Statistics | None, *, eps: float
) -> Tensor:
    # Not F.batch_norm, which rejects images of one pixel.
    mean, var = (None, None) if statistics is None else (i.flatten().to(weight.dtype) for i in statistics)
    measure = statistics is None
    return torch.batch_norm(x, weight, bias, mean, var, measure, 0.0, eps, torch.backends.cudnn.enabled)


def mean_variance(x: Tensor) -> tuple[Tensor, Tensor]:
    """Spatial mean and biased variance of x [N,C,H,W] -> two [N,C,1,1], in float32 or wider."""
    return _MeanVariance.apply(x)


def weighted_mean_variance(x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """`mean_variance` of x [N,C,H,W] with weights [N or 1,1,H,W] >= 0 of the pixels, their sum above 0."""
    wide = widen(x)
    shares = weights.to(wide.dtype)
    shares = shares / shares.sum(dim=(2, 3), keepdim=True)
    mean = (wide * shares).sum(dim=(2, 3), keepdim=True)
    return mean, ((wide - mean).square() * shares).sum(dim=(2, 3), keepdim=True)


def mean_std(
    x: Tensor, *, eps: float = NORM_EPS, unbiased: bool = False, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Spatial mean and sqrt(var + eps) of x [N,C,H,W] -> two [N,C,1,1], in float32 or wider.

    Args:
        unbiased: as in the AdaIN authors' code; losses and layers here use the biased variance.
        weights: of the pixels, [N or 1,1,H,W] >= 0, their sum above 0.
    """
    if weights is not None:
        mean, var = weighted_mean_variance(x, weights)
        if unbiased:
            # Effective number of pixels: their count for weights of 0 and 1. A single one has deviation 0.
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


def match_statistics(
    content: Tensor,
    style_mean: Tensor,
    style_std: Tensor,
    *,
    eps: float = NORM_EPS,
    content_mean_std: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Classic AdaIN: content features with the style's mean and deviation (Huang & Belongie 2017, Eq. 8).

    Args:
        content: [N,C,H,W].
        style_mean: [N,C,1,1] from `mean_std(..., unbiased=True)`, as is style_std.
        content_mean_std: those of the image that content is a part of; None computes them from content.
    """
    mean, std = content_mean_std or mean_std(content, eps=eps, unbiased=True)
    return ((content - mean) / std * style_std + style_mean).to(content.dtype)


class _MeanVariance(torch.autograd.Function):
    """On a CPU several times as fast as torch.var_mean, with one backward pass in place of autograd's five.

    The variance's gradient is 2 (x - mean) / HW, so both gradients together are x * a + b, with an a and a b
    for each channel.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        wide = widen(x)  # half-precision sums lose the variance
        mean = wide.mean(dim=(2, 3), keepdim=True)
        var = (wide - mean).square_().mean(dim=(2, 3), keepdim=True)  # two passes, for exactness
        return mean, var

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(*inputs, output[0])

    @staticmethod
    def backward(ctx: Any, grad_mean: Tensor, grad_var: Tensor) -> Tensor:
        x, mean = ctx.saved_tensors
        pixels = x.shape[2] * x.shape[3]
        a = grad_var * (2 / pixels)
        b = grad_mean / pixels - mean * a
        return torch.addcmul(b, x.to(b.dtype), a).to(x.dtype)
