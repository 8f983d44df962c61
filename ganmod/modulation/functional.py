"""The modulations as their papers write them: AdaIN, weight demodulation, adaptive convolution.

Reference implementations; layers use equivalent faster ones in `fast.py` and `statistics.py`.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Normalize = Literal["instance", "none", "demod"]

NORM_EPS = 1e-5  # added to the variance by an instance normalisation
DEMOD_EPS = 1e-8  # added to the squared norm by a demodulation


def normalize_instances(x: Tensor, *, eps: float = NORM_EPS) -> Tensor:
    """(x - mean) / sqrt(var + eps) for each sample and channel of x [N,C,H,W] (Ulyanov et al. 2016)."""
    mean = x.mean(dim=(2, 3), keepdim=True)
    var = (x - mean).square().mean(dim=(2, 3), keepdim=True)
    return (x - mean) / (var + eps).sqrt()


def adain(x: Tensor, scale: Tensor, shift: Tensor, *, eps: float = NORM_EPS) -> Tensor:
    """s * (x - mean(x)) / std(x) + b (Huang & Belongie 2017, Eq. 8).

    x [N,C,H,W]; scale s and shift b [N,C] -> [N,C,H,W].
    """
    return scale[:, :, None, None] * normalize_instances(x, eps=eps) + shift[:, :, None, None]


def weight_demod(x: Tensor, weight: Tensor, scale: Tensor, *, eps: float = DEMOD_EPS) -> Tensor:
    """A convolution whose weight is modulated and demodulated (Karras et al. 2020, Eq. 1-3).

    x [N,C,H,W]; weight [O,C,K,K], K odd; scale [N,C] -> [N,O,H,W], zero padding.
    """
    outputs = []
    for sample, s in zip(x, scale, strict=True):
        w = weight * s[:, None, None]  # Eq. 1: w'_ijk = s_i w_ijk
        w = w / (w.square().sum(dim=(1, 2, 3), keepdim=True) + eps).sqrt()  # Eq. 3
        outputs.append(F.conv2d(sample[None], w, padding=weight.shape[-1] // 2))
    return torch.cat(outputs)


def adaconv(
    x: Tensor,
    depthwise: Tensor,
    pointwise: Tensor,
    bias: Tensor,
    *,
    normalize: Normalize = "instance",
    eps: float = NORM_EPS,
) -> Tensor:
    """p * (f * norm(x)) + b -> [N,C,H,W], with separate kernels for each sample, reflection padding.

    Chandran et al. 2021, Eq. 3-5.

    Args:
        x: [N,C,H,W].
        depthwise: f [N,C,C/g,K,K], K odd, in g groups of C/g channels.
        pointwise: p [N,C,C/g,1,1].
        bias: b [N,C].
        normalize: "instance" as in the paper; "none" leaves x unchanged; "demod" does, too, and divides each
            output by the norm of its composed kernel.
    """
    outputs = []
    for sample, f, p, b in zip(x, depthwise, pointwise, bias, strict=True):
        groups, pad = len(f) // f.shape[1], f.shape[-1] // 2
        out = normalize_instances(sample[None], eps=eps) if normalize == "instance" else sample[None]
        out = F.conv2d(F.pad(out, (pad,) * 4, mode="reflect"), f, groups=groups)
        out = F.conv2d(out, p, groups=groups)
        if normalize == "demod":
            kernels = p.reshape(groups, f.shape[1], -1) @ f.reshape(groups, f.shape[1], -1)  # [g,C/g,C/g*K*K]
            out = out / (kernels.square().sum(dim=2).reshape(-1, 1, 1) + DEMOD_EPS).sqrt()
        outputs.append(out + b[:, None, None])
    return torch.cat(outputs)
