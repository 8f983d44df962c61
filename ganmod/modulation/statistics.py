"""Mean, variance and normalisation of every channel of every image."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Statistics(NamedTuple):
    """What an instance normalisation takes off: of a whole image, for its tiles, or smoothed over a clip."""

    mean: Tensor  # [N,C,1,1], float32 or wider
    var: Tensor  # [N,C,1,1], biased


def instance_norm(
    x: Tensor,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    *,
    eps: float = 1e-5,
    statistics: Statistics | None = None,
) -> Tensor:
    """(x - mean) / sqrt(var + eps) * scale + shift per sample and channel, biased variance, in x's precision.

    x [N,C,H,W]; scale, shift [N,C], both or neither -> [N,C,H,W] (Ulyanov et al. 2016). statistics: to be
    used instead of x's own. One pass of torch's batch normalisation, which sums in float32 or wider, with
    samples as channels. On a CPU, channels-last images go sample by sample: to join samples and channels,
    they would be copied into another layout.
    """
    n, channels, height, width = x.shape
    # In float32 and always given: without them, or in x's half precision, statistics would be rounded, too.
    wide = torch.promote_types(x.dtype, torch.float32)
    scale = x.new_ones((n, channels), dtype=wide) if scale is None else scale.to(wide)
    shift = x.new_zeros((n, channels), dtype=wide) if shift is None else shift.to(wide)
    channels_last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    # A traced loop would be unrolled, and fix the number of samples.
    if x.device.type == "cpu" and channels_last and not torch.compiler.is_compiling():
        triples = zip(x.split(1), scale, shift, strict=True)
        given = [None] * n if statistics is None else [_one(statistics, i) for i in range(n)]
        samples = [_batch_norm(*triple, own, eps=eps) for triple, own in zip(triples, given, strict=True)]
        return torch.cat(samples) if n > 1 else samples[0]
    joined = x.reshape(1, n * channels, height, width)
    return _batch_norm(joined, scale.flatten(), shift.flatten(), statistics, eps=eps).reshape(x.shape)


def _one(statistics: Statistics, sample: int) -> Statistics:
    return Statistics(statistics.mean[sample], statistics.var[sample])


def _batch_norm(
    x: Tensor, weight: Tensor, bias: Tensor, statistics: Statistics | None, *, eps: float
) -> Tensor:
    # torch's function rather than F.batch_norm, which refuses an image of one pixel.
    mean, var = (None, None) if statistics is None else (i.flatten().to(weight.dtype) for i in statistics)
    own = statistics is None
    return torch.batch_norm(x, weight, bias, mean, var, own, 0.0, eps, torch.backends.cudnn.enabled)


def mean_variance(x: Tensor) -> tuple[Tensor, Tensor]:
    """Spatial mean and biased variance of x [N,C,H,W] -> two [N,C,1,1], in float32 or wider."""
    return _MeanVariance.apply(x)


def weighted_mean_variance(x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """`mean_variance` of x [N,C,H,W] where pixels count by weights [N or 1,1,H,W] >= 0, their sum above 0."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    shares = weights.to(wide.dtype)
    shares = shares / shares.sum(dim=(2, 3), keepdim=True)
    mean = (wide * shares).sum(dim=(2, 3), keepdim=True)
    return mean, ((wide - mean).square() * shares).sum(dim=(2, 3), keepdim=True)


class _MeanVariance(torch.autograd.Function):
    """Forward, torch.var_mean takes several times as long on a CPU; backward, autograd passes five times.

    As the variance's gradient is 2 (x - mean) / HW, both gradients together are x * a + b, with numbers a and
    b for each channel.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))  # half-precision sums lose the variance
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
