"""Layers with equalised learning rate: weights are N(0, 1), scaled at run time (Karras et al. 2018)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PaddingMode = Literal["zeros", "reflect"]
RESIDUAL_GAIN = 0.5**0.5  # keeps the size of a sum of two branches
LRELU_SLOPE = 0.2  # of the GANs' leaky ReLUs, as published


def reflect_pad(x: Tensor, pad: int) -> Tensor:
    """x [N,C,H,W] -> [N,C,H+2*pad,W+2*pad], mirrored at the edges, in x's precision.

    On a CPU, autocast would pad in float32, at the cost of two casts of every image.
    """
    with without_autocast(x.device):
        return F.pad(x, (pad,) * 4, mode="reflect")


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """The precision of convolutions and products where autocast is on for a device, else None."""
    kind = device.type
    # torch 2.11 cannot trace is_autocast_available, which is False only on devices without a compiler.
    known = torch.compiler.is_compiling() or torch.amp.is_autocast_available(kind)
    return torch.get_autocast_dtype(kind) if known and torch.is_autocast_enabled(kind) else None


def without_autocast(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """A context in which operations run in the precision of their inputs; free where autocast is off."""
    if autocast_dtype(device) is None:
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)


def widen(x: Tensor) -> Tensor:
    """Half precision to float32; wider numbers stay as they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def half_precision(device: torch.device, dtype: torch.dtype | None) -> contextlib.AbstractContextManager[Any]:
    """A context that runs convolutions and products in dtype by autocast; None changes nothing."""
    return contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def fold_gains(module: nn.Module) -> None:
    """Multiply the weights of a module's layers by their run-time gains, and set the gains to one.

    Outputs stay the same. Adam's steps do not scale with the gradient, so the layers then learn like plain
    ones: sqrt(fan-in) times as fast, relative to their weights. Applies to layers with `fold_gain_`.
    """
    for layer in module.modules():
        fold = getattr(layer, "fold_gain_", None)
        if fold is not None:
            fold()


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
    transposed: bool = False,
) -> Tensor:
    """`F.conv2d`, or `F.conv_transpose2d`, with one weight for all samples or one for each.

    Args:
        x: [N,C,H,W].
        weight: [O,C,K,K] or [N,O,C,K,K], for transposed convolutions, too.
        bias: [O].
    """
    kernel = weight.transpose(-4, -3) if transposed else weight
    function: Callable[..., Tensor] = F.conv_transpose2d if transposed else F.conv2d
    if weight.ndim == 4:
        return function(x, kernel, bias, stride=stride, padding=padding)
    n, channels, height, width = x.shape
    joined = x.reshape(1, n * channels, height, width)
    biases = None if bias is None else bias.repeat(n)
    out = function(joined, kernel.flatten(0, 1), biases, stride=stride, padding=padding, groups=n)
    return out.reshape(n, weight.shape[1], *out.shape[2:])


class EqualizedLinear(nn.Module):
    """x [N,I] -> [N,O]; the weight starts at N(0, init_std^2) and is multiplied by 1/sqrt(I) at run time.

    Args:
        lr_mul: the layer's learning rate as a multiple of the others'. Parameters are stored 1/lr_mul times
            as large and multiplied by lr_mul at run time.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        init_std: float = 1.0,
        bias_init: float = 0.0,
        lr_mul: float = 1.0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features) * (init_std / lr_mul))
        self.bias = nn.Parameter(torch.full((out_features,), bias_init / lr_mul)) if bias else None
        self.gain = lr_mul * in_features**-0.5
        self.bias_gain = lr_mul

    @torch.no_grad()
    def fold_gain_(self) -> None:
        """Fold 1/sqrt(I) into the stored weight and keep lr_mul; see `fold_gains`."""
        self.weight.mul_(self.gain / self.bias_gain)
        self.gain = self.bias_gain

    def forward(self, x: Tensor) -> Tensor:
        bias = self.bias if self.bias is None or self.bias_gain == 1 else self.bias * self.bias_gain
        return F.linear(x * self.gain, self.weight, bias)  # x is the smaller of the two


class StaticConv2d(nn.Module):
    """Convolution without bias, gain 1/sqrt(in * k^2) at run time, after an optional resampling.

    The learned convolution that every modulation shares: `scaled_weight` is the weight with its gain,
    `apply_weight` convolves with a substitute, one [O,C,K,K] or one per sample [N,O,C,K,K].
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        padding_mode: PaddingMode = "zeros",
        resample: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.gain = (in_channels * kernel_size**2) ** -0.5
        self.padding = kernel_size // 2
        self.padding_mode: PaddingMode = padding_mode
        self.resample = resample

    @property
    def scaled_weight(self) -> Tensor:
        return self.weight * self.gain

    def forward(self, x: Tensor) -> Tensor:
        return self.apply_weight(x, self.scaled_weight)

    def apply_weight(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """`forward` with another weight, [O,C,K,K] or [N,O,C,K,K], and a bias [O]: -> [N,O,H',W']."""
        if self.resample is not None:
            x = self.resample(x)
        pad = self.padding
        if pad and self.padding_mode == "reflect":
            x, pad = reflect_pad(x, pad), 0
        return convolve(x, weight, bias, padding=pad)


class Conv2d(nn.Module):
    """`StaticConv2d` with a bias and an activation: the unmodulated layer of our networks.

    Args:
        conv: a resampling convolution to use instead of a plain one, with these channels and kernel size.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        activation: ScaledReLU | None = None,
        padding_mode: PaddingMode = "zeros",
        conv: StaticConv2d | None = None,
    ) -> None:
        super().__init__()
        expected = (out_channels, in_channels, kernel_size, kernel_size)
        if conv is not None and conv.weight.shape != expected:
            raise ValueError(f"conv has a weight {list(conv.weight.shape)}, expected {list(expected)}")
        self.conv = conv or StaticConv2d(in_channels, out_channels, kernel_size, padding_mode=padding_mode)
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        if self.activation is None:
            return self.conv.apply_weight(x, self.conv.scaled_weight, self.bias)
        # As g * max(x, s * x) = max(g * x, s * g * x), the activation's gain and the bias go into the
        # convolution, which saves two passes over the image, forward and backward.
        gain = self.activation.gain
        x = self.conv.apply_weight(x, self.conv.weight * (self.conv.gain * gain), self.bias * gain)
        return self.activation.rectify_(x)


class ScaledReLU(nn.Module):
    """max(x, slope * x) * gain, then clamped to +-clamp.

    Args:
        gain: None takes sqrt(2 / (1 + slope^2)), which keeps the second moment of a unit Gaussian; StyleGAN2
            has sqrt(2) with a slope of 0.2.
        clamp: for training in half precision; None does not clamp.
    """

    def __init__(self, slope: float = 0.0, *, gain: float | None = None, clamp: float | None = None) -> None:
        super().__init__()
        self.slope = slope
        self.gain = (2 / (1 + slope**2)) ** 0.5 if gain is None else gain
        self.clamp = clamp

    def forward(self, x: Tensor) -> Tensor:
        return self.rectify_(x * self.gain)

    def rectify_(self, x: Tensor) -> Tensor:
        """`forward` for an x already multiplied by the gain; x is overwritten."""
        x = F.leaky_relu(x, self.slope, inplace=True)
        # hardtanh is clamp with a backward of one pass instead of four.
        return x if self.clamp is None else F.hardtanh(x, -self.clamp, self.clamp)
