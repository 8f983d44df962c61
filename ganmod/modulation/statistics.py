"""Mean, variance and normalisation of every channel of every image."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def instance_norm(
    x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None, *, eps: float = 1e-5
) -> Tensor:
    """(x - mean) / sqrt(var + eps) * scale + shift per sample and channel, biased variance, in x's precision.

    x [N,C,H,W]; scale, shift [N,C], both or neither -> [N,C,H,W] (Ulyanov et al. 2016). One pass of torch's
    batch normalisation, which sums in float32 or wider, with samples as channels. On a CPU, channels-last
    images go sample by sample: to join samples and channels, they would be copied into another layout.
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
        samples = [_batch_norm(*triple, eps=eps) for triple in triples]
        return torch.cat(samples) if n > 1 else samples[0]
    joined = x.reshape(1, n * channels, height, width)
    return _batch_norm(joined, scale.flatten(), shift.flatten(), eps=eps).reshape(x.shape)


def _batch_norm(x: Tensor, weight: Tensor, bias: Tensor, *, eps: float) -> Tensor:
    # torch's function rather than F.batch_norm, which refuses an image of one pixel.
    return torch.batch_norm(x, weight, bias, None, None, True, 0.0, eps, torch.backends.cudnn.enabled)


def mean_variance(x: Tensor) -> tuple[Tensor, Tensor]:
    """Spatial mean and biased variance of x [N,C,H,W] -> two [N,C,1,1], in float32 or wider."""
    return _MeanVariance.apply(x)


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
