"""Convolution with kernels of its own for every sample, in several forms that give the same result."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

ConvImpl = Literal["auto", "loop", "grouped"]


def per_sample_conv2d(x: Tensor, weight: Tensor, *, impl: ConvImpl = "auto") -> Tensor:
    """Convolve sample n of x with weight[n], reflect padding, same size out.

    x [N,C,H,W], weight [N,O,C/g,K,K] (g groups, inferred from the shapes) -> [N,O,H,W].
    """
    pad = weight.shape[-1] // 2
    if pad:
        x = F.pad(x, (pad, pad, pad, pad), mode="reflect")
    if impl == "auto":
        impl = "grouped" if x.is_cuda or len(x) == 1 else "loop"
    if impl == "loop":
        return _loop(x, weight)
    if impl == "grouped":
        return _grouped(x, weight)
    raise ValueError(f"unknown implementation {impl!r}: expected auto, loop or grouped")


def _loop(x: Tensor, weight: Tensor) -> Tensor:
    groups = x.shape[1] // weight.shape[2]
    return torch.cat([F.conv2d(sample[None], w, groups=groups) for sample, w in zip(x, weight, strict=True)])


def _grouped(x: Tensor, weight: Tensor) -> Tensor:
    n, channels, height, width = x.shape
    groups = n * channels // weight.shape[2]
    out = F.conv2d(x.reshape(1, n * channels, height, width), weight.flatten(0, 1), groups=groups)
    return out.reshape(n, weight.shape[1], *out.shape[2:])
