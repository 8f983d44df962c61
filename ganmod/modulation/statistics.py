"""Mean and variance of images, with a backward of one pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def mean_variance(x: Tensor) -> tuple[Tensor, Tensor]:
    """Spatial mean and biased variance of x [N,C,H,W] -> two [N,C,1,1], in float32 or wider."""
    return _MeanVariance.apply(x)


class _MeanVariance(torch.autograd.Function):
    """torch.var_mean takes several times as long on a CPU, and autograd's backward of its parts five passes.

    As the variance's gradient is 2 (x - mean) / HW, both gradients together are x * a + b, with numbers a and
    b for each channel.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))  # half-precision sums lose the variance
        mean = wide.mean(dim=(2, 3), keepdim=True)
        var = (wide - mean).square_().mean(dim=(2, 3), keepdim=True)  # two passes, for exactness
        ctx.save_for_backward(x, mean)
        return mean, var

    @staticmethod
    def backward(ctx: Any, grad_mean: Tensor, grad_var: Tensor) -> Tensor:
        x, mean = ctx.saved_tensors
        pixels = x.shape[2] * x.shape[3]
        a = grad_var * (2 / pixels)
        b = grad_mean / pixels - mean * a
        return torch.addcmul(b, x.to(b.dtype), a).to(x.dtype)
