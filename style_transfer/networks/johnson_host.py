"""The image transformation network of Johnson et al. 2016, with any modulation where it normalises.

Convolutions 9x9, 3x3 and 3x3 bring the content to a quarter of its size; residual blocks; two convolutions
after nearest upsampling, and a last one of 9x9. With the modulation `cin` and learned styles it is the
network of Dumoulin et al. 2017 (of Johnson et al. and Ulyanov et al. 2016 for one style); with `adain` and a
style encoder to 100 numbers that of Ghiasi et al. 2017.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganmod.features.style_losses import Features
from ganmod.layers import Conv2d, EqualizedLinear, ScaledReLU, StaticConv2d, reflect_pad
from ganmod.modulation import ModulatedConv2d, StyleSpec, create_modulation
from ganmod.modulation.modulated_conv import blend_regions
from ganmod.modulation.statistics import Statistics
from style_transfer.networks.residual_host import Origin
from style_transfer.networks.staged_decoder import InputStatistics, StagedDecoder
from style_transfer.networks.style_encoder import StandardizedStatistics

OUTER = 9  # pixels: side of the first and last kernel
INPUT_OFFSET, INPUT_GAIN = 0.5, 4.0  # photos: mean near 0.5, deviation near 0.25


class StridedConv2d(nn.Module):
    """Convolution 3 x 3 of stride 2, mirrored at the border: [N,C,H,W] -> [N,O,H/2,W/2], for even H and W."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = StaticConv2d(in_channels, out_channels, padding_mode="reflect")
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        pad = 1
        if self.conv.padding_mode == "reflect":
            x, pad = reflect_pad(x, pad), 0
        return F.conv2d(x, self.conv.scaled_weight, self.bias, stride=2, padding=pad)


class ContractingEncoder(nn.Module):
    """RGB [N,3,H,W] in [0,1] -> [N,C,H/4,W/4], the third convolution's output without activation.

    Not normalised, unlike the papers' layers here: a tile then gives a part of what the image gives.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = Conv2d(3, width // 4, OUTER, activation=ScaledReLU(), padding_mode="reflect")
        self.second = StridedConv2d(width // 4, width // 2)
        self.third = StridedConv2d(width // 2, width)
        self.activation = ScaledReLU()

    def forward(self, x: Tensor, origin: Origin = (0, 0)) -> Tensor:
        """Encode images, or a tile of one; origin is of no consequence here."""
        x = self.first((x - INPUT_OFFSET) * INPUT_GAIN)
        return self.third(self.activation(self.second(x)))


class BottleneckStyleEncoder(StandardizedStatistics):
    """Statistics of the features of style images of any size -> a style vector [N,D], linearly.

    Ghiasi et al. 2017 pool the features of one layer of Inception-v3; here they are mean and deviation of
    four layers of the frozen encoder.
    """

    def __init__(self, widths: Sequence[int], *, style_dim: int) -> None:
        super().__init__(widths)
        self.linear = EqualizedLinear(2 * sum(widths), style_dim)

    def forward(self, features: Features, mask: Tensor | None = None) -> Tensor:
        """See `StyleEncoder`."""
        return self.linear(self.standardized(features, mask))


class JohnsonDecoder(StagedDecoder):
    """What `ContractingEncoder` gives [N,C,H/4,W/4] -> image [N,3,H,W] in (0,1).

    A stage modulates the output of the convolution before it, then activates it or adds it to its residual
    block's input, and convolves. That input travels along as further channels of the features.

    Args:
        style: what the modulations read.
        modulation: a registered name.
        modulation_options: its options.
        width: channels C of the blocks, a multiple of 4; 128 in the papers.
        num_blocks: residual blocks; 5 in the papers.
    """

    def __init__(
        self,
        style: StyleSpec,
        *,
        modulation: str,
        modulation_options: Mapping[str, Any] | None = None,
        width: int,
        num_blocks: int,
    ) -> None:
        super().__init__()
        self.num_blocks = num_blocks
        half, quarter = width // 2, width // 4
        widths = [width] * (2 * num_blocks + 1) + [half, quarter, 3]  # of the layers' inputs, and the image
        layers = []
        for stage, (i, o) in enumerate(itertools.pairwise(widths)):
            up, last = stage in (2 * num_blocks, 2 * num_blocks + 1), o == 3
            conv = StaticConv2d(
                i,
                o,
                OUTER if last else 3,
                padding_mode="reflect",
                resample=nn.Upsample(scale_factor=2.0) if up else None,
            )
            chosen = create_modulation(modulation, i, style, modulation_options)
            layers.append(ModulatedConv2d(conv, chosen))
        self.layers = nn.ModuleList(layers)
        self.activation = ScaledReLU()
        coarse = num_blocks + 1
        self.scales = (1,) * coarse + (2,) * (2 * num_blocks + 1 - coarse) + (3, 4)
        self.upsampling = (1,) * (2 * num_blocks) + (2, 2, 1)

    def modulated_conv(self, stage: int) -> ModulatedConv2d:
        """See `StagedDecoder`."""
        return cast(ModulatedConv2d, self.layers[stage])

    def reach(self, stage: int) -> int:
        """See `StagedDecoder`."""
        layer = self.modulated_conv(stage)
        padding = layer.conv.padding
        return layer.modulation.reach + (-(-padding // 2) if self.upsampling[stage] > 1 else padding)

    def run_stage(
        self,
        stage: int,
        x: Tensor,
        params: Sequence[Any],
        *,
        statistics: InputStatistics | None = None,
        masks: Tensor | None = None,
    ) -> Tensor:
        """See `StagedDecoder`."""
        layer = self.modulated_conv(stage)
        channels = layer.modulation.channels
        x, skip = x[:, :channels], x[:, channels:]  # the second has channels in residual blocks only
        known = None
        if statistics is not None:
            known = Statistics(statistics.mean[:, :channels], statistics.var[:, :channels])
        if masks is None:
            x = layer.modulate(x, params[stage], statistics=known)
        else:
            x = blend_regions([layer.modulate(x, p, statistics=known) for p in params[stage]], masks)
        ends_block = stage % 2 == 0 and 0 < stage <= 2 * self.num_blocks
        x = x + skip if ends_block else self.activation(x)
        y = layer.convolve(x, params[stage], masks)
        if stage == self.num_stages - 1:
            return torch.sigmoid(y)
        if stage >= 2 * self.num_blocks:
            return y
        return torch.cat([y, x if stage % 2 == 0 else skip], dim=1)
