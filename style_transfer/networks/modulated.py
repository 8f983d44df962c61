"""The style encoder and the decoder of the style-transfer model."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from ganmod.layers import Conv2d, EqualizedLinear, ScaledReLU, StaticConv2d
from ganmod.modulation import ModulatedConv2d, StyleSpec, create_modulation
from ganmod.modulation.statistics import Statistics
from style_transfer.networks.staged_decoder import StagedDecoder, apply_modulated


class StyleEncoder(nn.Module):
    """Features of the style image [N,C,S,S] -> style descriptor W [N,D,d,d].

    Three times [3x3 convolution, LeakyReLU, 2x2 average pooling], then one fully connected layer (Chandran et
    al. 2021, section 4.1), which fixes the side S of its input.
    """

    def __init__(self, channels: int, feature_size: int, *, style_dim: int, descriptor_size: int) -> None:
        super().__init__()
        if feature_size % 8:
            raise ValueError(
                f"feature_size is {feature_size}, expected a multiple of 8: style images of 64, 128, 192 ..."
            )
        self.shape = (style_dim, descriptor_size, descriptor_size)
        self.convs = nn.ModuleList(
            Conv2d(channels, channels, activation=ScaledReLU(0.2), padding_mode="reflect") for _ in range(3)
        )
        self.fc = EqualizedLinear(channels * (feature_size // 8) ** 2, style_dim * descriptor_size**2)

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = F.avg_pool2d(conv(x), 2)  # [N,C,S,S] -> [N,C,S/2,S/2]
        return self.fc(x.flatten(1)).unflatten(1, self.shape)  # [N,D,d,d]


class Decoder(StagedDecoder):
    """Features [N,C4,H/8,W/8] -> image [N,3,H,W]: VGG-19 mirrored, with one modulated convolution at each of
    4 scales.

    widths: channels of relu1_1 to relu4_1, as in the encoder. With `style=None` all convolutions are plain
    (the classic AdaIN model's decoder). Reflect padding, nearest upsampling; the last layer is linear around
    0.5.
    """

    scales, upsampling = (1, 2, 3, 4), (1, 2, 2, 2)

    def __init__(
        self,
        widths: Sequence[int],
        style: StyleSpec | None,
        *,
        modulation: str = "",
        modulation_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        w1, w2, w3, w4 = widths
        chains = (
            (w4, w3),
            (w3, w3, w3, w3, w2),
            (w2, w2, w1),
            (w1, w1),
        )  # output widths of one scale's convolutions
        self.first = nn.ModuleList()
        self.rest = nn.ModuleList()
        for chain in chains:
            if style is None:
                self.first.append(Conv2d(chain[0], chain[1], activation=ScaledReLU(), padding_mode="reflect"))
            else:
                conv = StaticConv2d(chain[0], chain[1], padding_mode="reflect")
                layer = create_modulation(modulation, chain[0], style, modulation_options)
                self.first.append(ModulatedConv2d(conv, layer, activation=ScaledReLU()))
            pairs = itertools.pairwise(chain[1:])
            self.rest.append(
                nn.Sequential(
                    *(Conv2d(i, o, activation=ScaledReLU(), padding_mode="reflect") for i, o in pairs)
                )
            )
        self.to_rgb = Conv2d(w1, 3, padding_mode="reflect")
        self.output_gain, self.output_offset = 0.25, 0.5  # photos: mean near 0.5, deviation near 0.25

    def modulated(self, stage: int) -> ModulatedConv2d | None:
        """See `StagedDecoder`."""
        first = self.first[stage]
        return first if isinstance(first, ModulatedConv2d) else None

    def reach(self, stage: int) -> int:
        """See `StagedDecoder`."""
        first = self.modulated(stage)
        around = 0 if first is None else first.modulation.reach
        layers = [self.first[stage], *cast(nn.Sequential, self.rest[stage])]
        if stage == len(self.scales) - 1:
            layers.append(self.to_rgb)
        around += sum(cast(Conv2d, layer).conv.padding for layer in layers)
        return -(-around // self.upsampling[stage])

    def run_stage(
        self,
        stage: int,
        x: Tensor,
        params: Any,
        *,
        statistics: Statistics | None = None,
        masks: Tensor | None = None,
    ) -> Tensor:
        """See `StagedDecoder`. Nearest upsampling changes neither mean nor biased variance of x."""
        if self.upsampling[stage] > 1:
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        first = self.modulated(stage)
        if first is None:
            x = self.first[stage](x)
        else:
            x = apply_modulated(first, x, params, statistics, masks)
        x = self.rest[stage](x)
        if stage == len(self.scales) - 1:
            x = self.to_rgb(x) * self.output_gain + self.output_offset
        return x
