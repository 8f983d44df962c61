"""VGG-19 mirrored: the decoder that the paper's host and the classic AdaIN model share."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from ganmod.layers import Conv2d, ScaledReLU
from style_transfer.networks.staged_decoder import StagedDecoder

RunLayer = Callable[[nn.Module, Tensor], Tensor]  # layer, its input -> its output


def _call(layer: nn.Module, x: Tensor) -> Tensor:
    return layer(x)


class MirroredDecoder(StagedDecoder):
    """Features [N,C4,H/8,W/8] -> image [N,3,H,W] in 4 scales, each one stage.

    Reflect padding, nearest upsampling; the last layer is linear around 0.5.

    Args:
        widths: channels of relu1_1 to relu4_1, as in the encoder.
        make_first: (channels in, channels out) -> the first layer of a scale.
    """

    scales, upsampling = (1, 2, 3, 4), (1, 2, 2, 2)

    def __init__(self, widths: Sequence[int], make_first: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        w1, w2, w3, w4 = widths
        # Channels along the convolutions of one scale.
        chains = ((w4, w3), (w3, w3, w3, w3, w2), (w2, w2, w1), (w1, w1))
        self.first = nn.ModuleList()
        self.rest = nn.ModuleList()
        for chain in chains:
            self.first.append(make_first(chain[0], chain[1]))
            self.rest.append(nn.Sequential(*(plain_conv(i, o) for i, o in itertools.pairwise(chain[1:]))))
        self.to_rgb = Conv2d(w1, 3, padding_mode="reflect")
        self.output_gain, self.output_offset = 0.25, 0.5  # photos: mean near 0.5, deviation near 0.25

    def reach(self, stage: int) -> int:
        """See `StagedDecoder`."""
        layers = [self.first[stage], *cast(nn.Sequential, self.rest[stage])]
        if stage == self.num_stages - 1:
            layers.append(self.to_rgb)
        around = sum(cast(Conv2d, layer).conv.padding for layer in layers)
        return -(-(around + self.first_reach(stage)) // self.upsampling[stage])

    def first_reach(self, stage: int) -> int:
        """How far the first layer of a scale looks beyond its convolution's padding."""
        raise NotImplementedError

    def draw_scale(self, scale: int, x: Tensor, *, first: RunLayer = _call, rest: RunLayer = _call) -> Tensor:
        """Run one scale: [N,C,h,w] -> [N,C',h',w'], at the finest scale the image.

        Args:
            scale: its index, 0 (coarse) to 3 (fine).
            x: the output of the previous scale.
            first: runs the scale's first layer.
            rest: runs each of the plain convolutions that follow.
        """
        if self.upsampling[scale] > 1:
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        x = first(self.first[scale], x)
        for layer in cast(nn.Sequential, self.rest[scale]):
            x = rest(layer, x)
        if scale == self.num_stages - 1:
            x = rest(self.to_rgb, x) * self.output_gain + self.output_offset
        return x


def plain_conv(in_channels: int, out_channels: int) -> Conv2d:
    """A 3x3 convolution of these decoders: reflect padding, then ReLU."""
    return Conv2d(in_channels, out_channels, activation=ScaledReLU(), padding_mode="reflect")
