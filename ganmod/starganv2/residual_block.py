"""The unmodulated residual block of StarGAN v2, and the initialisation of its plain layers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganmod.layers import LRELU_SLOPE, RESIDUAL_GAIN
from ganmod.modulation.statistics import instance_norm
from ganmod.starganv2.resampled_conv import conv_avg_pool


def he_init(module: nn.Module) -> None:
    """Set weights of all plain layers to N(0, 2 / fan-in), biases to zero (He et al. 2015), as published.

    Unlike StyleGAN2's, these layers have no run-time gain. The published learning rate of 1e-4 is for plain
    weights; for equalised ones, N(0, 1), it would be sqrt(fan-in / 2) times too low: 48 times in a 3 x 3
    convolution of 512 channels.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class AffineInstanceNorm(nn.Module):
    """Instance normalisation with a learned scale and shift per channel, [N,C,H,W] -> [N,C,H,W]."""

    def __init__(self, channels: int, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        scale, shift = (p.expand(x.shape[0], -1) for p in (self.weight, self.bias))  # [N,C]
        return instance_norm(x, scale, shift, eps=self.eps)


class ResidualBlock(nn.Module):
    """Pre-activation residual block: [N,C,H,W] -> [N,O,H,W], or [N,O,H/2,W/2] with `down`.

    [norm] -> leaky ReLU -> 3 x 3 -> [average pool] -> [norm] -> leaky ReLU -> 3 x 3, plus the input, divided
    by sqrt 2 (Choi et al. 2020, appendix). Style encoder and discriminator do not normalise.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, normalize: bool = False, down: bool = False
    ) -> None:
        super().__init__()
        self.down = down
        self.norm1 = AffineInstanceNorm(in_channels) if normalize else nn.Identity()
        self.conv1 = nn.Conv2d(in_channels, in_channels, 3, padding=1)
        self.norm2 = AffineInstanceNorm(in_channels) if normalize else nn.Identity()
        self.conv2 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        different = in_channels != out_channels
        self.skip = nn.Conv2d(in_channels, out_channels, 1, bias=False) if different else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = F.leaky_relu(self.norm1(x), LRELU_SLOPE)
        if self.down:
            out = conv_avg_pool(out, self.conv1.weight, self.conv1.bias)  # [N,C,H/2,W/2]
            # Pooled before the 1 x 1 convolution: the same result at a quarter of the cost.
            x = F.avg_pool2d(x, 2)
        else:
            out = self.conv1(out)  # [N,C,H,W]
        out = self.conv2(F.leaky_relu(self.norm2(out), LRELU_SLOPE))  # [N,O,H',W']
        return (self.skip(x) + out) * RESIDUAL_GAIN
