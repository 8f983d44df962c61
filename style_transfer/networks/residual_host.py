"""The residual host: a learned content encoder, modulated residual blocks, and a style encoder of statistics.

The blocks work at a quarter of the size. The style encoder reads statistics, so style images may have any
size and aspect.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganmod.features.style_losses import Features
from ganmod.layers import Conv2d, EqualizedLinear, ScaledReLU, StaticConv2d, widen
from ganmod.modulation import ModulatedConv2d, StyleSpec, create_modulation
from style_transfer.masks import pool_mask
from style_transfer.networks.staged_decoder import InputStatistics, StagedDecoder, apply_modulated
from style_transfer.networks.style_encoder import StandardizedStatistics

BRANCH_STD = 0.1  # of the initial weights of a block's second convolution
NOISE_SIDE = 256  # period of the noise in pixels
Origin = tuple[int, int] | Tensor  # row, column; a tensor [2] where it is drawn on a device
NUM_PROJECTED = 16  # channels of each layer whose covariances the style encoder sees


class StatisticsStyleEncoder(StandardizedStatistics):
    """Features {layer: [N,C,h,w]} of style images of any size -> style descriptor W [N,D,d,d].

    It reads what the style losses compare, mean and deviation of every channel at every layer, and the
    covariances of a few learned combinations of each layer's channels. A multilayer perceptron of three
    layers maps these numbers to W.

    A mask [N or 1,1,H,W] in [0,1], of the images' size, weights the pixels; its mean over a cell of the
    features weights the cell.
    """

    def __init__(
        self, widths: Sequence[int], *, style_dim: int, descriptor_size: int, hidden: int = 512
    ) -> None:
        super().__init__(widths)
        self.shape = (style_dim, descriptor_size, descriptor_size)
        self.pairs: Tensor
        self.projections = nn.ModuleList(
            EqualizedLinear(width, NUM_PROJECTED, bias=False) for width in widths
        )
        num_pairs = NUM_PROJECTED * (NUM_PROJECTED + 1) // 2
        sizes = [2 * sum(widths) + num_pairs * len(widths), hidden, hidden, math.prod(self.shape)]
        self.layers = nn.ModuleList(EqualizedLinear(i, o) for i, o in itertools.pairwise(sizes))
        self.activation = ScaledReLU(0.2)
        rows, columns = torch.triu_indices(NUM_PROJECTED, NUM_PROJECTED)
        self.register_buffer("pairs", torch.stack([rows, columns]), persistent=False)

    def forward(self, features: Features, mask: Tensor | None = None) -> Tensor:
        """See `StyleEncoder`."""
        read = [self.standardized(features, mask)]
        deviations = self.center[sum(self.widths) :].split(self.widths)  # one [C] per layer
        for projection, x, deviation in zip(self.projections, features.values(), deviations, strict=True):
            scaled = widen(x.flatten(2)) / (deviation[:, None] + 0.1)  # [N,C,P]
            # Projected before the products, to have few of them: [N,k,P]
            linear = cast(EqualizedLinear, projection)
            projected = torch.matmul(linear.weight * linear.gain, scaled)  # no bias: it would cancel
            if mask is None:
                projected = projected - projected.mean(dim=2, keepdim=True)
                covariance = projected @ projected.transpose(1, 2) / projected.shape[2]
            else:
                weights = pool_mask(mask, x).flatten(2).to(projected.dtype)  # [N,1,P]
                shares = weights / weights.sum(dim=2, keepdim=True)
                projected = projected - (projected * shares).sum(dim=2, keepdim=True)
                covariance = (projected * shares) @ projected.transpose(1, 2)
            read.append(covariance[:, self.pairs[0], self.pairs[1]])
        x = torch.cat(read, dim=1)
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return self.layers[-1](x).unflatten(1, self.shape)


def fixed_noise() -> Tensor:
    """Standard normal noise [NOISE_SIDE, NOISE_SIDE], the same on every machine."""
    values = np.random.RandomState(0).standard_normal((NOISE_SIDE, NOISE_SIDE))
    return torch.from_numpy(values).float()


class ContentEncoder(nn.Module):
    """RGB [N,3,H,W] in [0,1] -> [N,C+64,H/4,W/4]: C learned channels, pixels and noise.

    The pixels, 4 x 4 x 3, bypass the blocks and return at full size, so the decoder need not redraw the
    content's edges. From the noise, 4 x 4, it makes a style's grain where the content is flat; without noise
    it could only draw regular patterns there.
    """

    noise: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("noise", fixed_noise(), persistent=False)
        half = width // 2
        self.convs = nn.ModuleList(
            Conv2d(i, o, activation=ScaledReLU(0.2), padding_mode="reflect")
            for i, o in ((3 * 4, half), (half * 4, width))
        )

    def forward(self, x: Tensor, origin: Origin = (0, 0)) -> Tensor:
        """Encode images, or a tile whose first pixel is at origin (row, column) of the full image."""
        noise = self._noise_at(origin, x.shape[2], x.shape[3]).to(x.dtype).expand(len(x), -1, -1, -1)
        x = (x - 0.5) * 4  # photos: mean near 0.5, deviation near 0.25
        carried = torch.cat([x, noise], dim=1)
        carried = F.pixel_unshuffle(F.pixel_unshuffle(carried, 2), 2)  # [N,64,H/4,W/4]
        for conv in self.convs:
            x = conv(F.pixel_unshuffle(x, 2))
        return torch.cat([x, carried], dim=1)

    def _noise_at(self, origin: Origin, height: int, width: int) -> Tensor:
        """[1,1,height,width]: the noise, repeated over the plane, from the origin on."""
        rows = (torch.arange(height, device=self.noise.device) + origin[0]) % NOISE_SIDE
        columns = (torch.arange(width, device=self.noise.device) + origin[1]) % NOISE_SIDE
        return self.noise[rows][:, columns][None, None]


class BilinearUpsample(nn.Module):
    """[N,C,H,W] -> [N,C,2H,2W]."""

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class ResidualDecoder(StagedDecoder):
    """Encoded content [N,C+64,H/4,W/4] -> image [N,3,H,W].

    Residual blocks x <- x + conv(modulated conv(x)) at a quarter of the size, then two modulated convolutions
    that double it, then one to RGB, which also sees the content's pixels. All stages but the last add noise
    to their output, with a learned gain per channel. A stage that doubles the size modulates its input before
    the bilinear upsampling, so the statistics are those of the previous stage's output.

    Args:
        style: what the modulations read.
        modulation: a registered name.
        width: channels C of the blocks, a multiple of 4.
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

        def layer(
            i: int, o: int, kernel_size: int = 3, *, up: bool = False, last: bool = False
        ) -> ModulatedConv2d:
            resample = BilinearUpsample() if up else None
            conv = StaticConv2d(i, o, kernel_size, padding_mode="reflect", resample=resample)
            chosen = create_modulation(modulation, i, style, modulation_options)
            return ModulatedConv2d(conv, chosen, activation=None if last else ScaledReLU(0.2))

        self.blocks = nn.ModuleList(layer(width, width) for _ in range(num_blocks))
        self.block_convs = nn.ModuleList(
            Conv2d(width, width, padding_mode="reflect") for _ in range(num_blocks)
        )
        for conv in self.block_convs:
            nn.init.normal_(cast(Conv2d, conv).conv.weight, std=BRANCH_STD)
        half, quarter = width // 2, width // 4
        self.up = nn.ModuleList([layer(width, half, up=True), layer(half, quarter - 3, up=True)])
        self.to_rgb = layer(quarter, 3, 5, last=True)
        outputs = [width] * num_blocks + [half, quarter - 3]
        self.noise_gains = nn.ParameterList(nn.Parameter(torch.zeros(o, 1, 1)) for o in outputs)
        self.output_gain, self.output_offset = 0.25, 0.5  # photos: mean near 0.5, deviation near 0.25
        coarse = num_blocks // 2
        self.scales = (1,) * coarse + (2,) * (num_blocks - coarse) + (3, 4, 4)
        self.upsampling = (1,) * num_blocks + (2, 2, 1)

    def modulated_conv(self, stage: int) -> ModulatedConv2d:
        """See `StagedDecoder`."""
        return cast(ModulatedConv2d, [*self.blocks, *self.up, self.to_rgb][stage])

    def reach(self, stage: int) -> int:
        """See `StagedDecoder`."""
        layer = self.modulated_conv(stage)
        around, padding = layer.modulation.reach, layer.conv.padding
        if self.upsampling[stage] > 1:  # padding is in upsampled pixels, and the outermost one blends two
            return around + padding // 2 + 1
        if stage < len(self.blocks):
            padding += cast(Conv2d, self.block_convs[stage]).conv.padding
        return around + padding

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
        if stage == self.num_stages - 1:
            y = apply_modulated(layer, x, params[stage], statistics, masks)
            return y * self.output_gain + self.output_offset
        width = layer.modulation.channels
        x, carried = x[:, :width], x[:, width:]
        if statistics is not None:
            mean, var = statistics.mean[:, :width], statistics.var[:, :width]
            statistics = statistics._replace(mean=mean, var=var)
        y = apply_modulated(layer, x, params[stage], statistics, masks)
        if stage < len(self.blocks):
            y = x + cast(Conv2d, self.block_convs[stage])(y)
        else:
            carried = F.pixel_shuffle(carried, 2)
        num_noise = carried.shape[1] // 4  # of the channels: three of pixels for one of noise
        channel = 3 * num_noise + stage % num_noise
        y = y + carried[:, channel : channel + 1] * self.noise_gains[stage]
        if stage == self.num_stages - 2:
            carried = carried[:, :3]
        return torch.cat([y, carried], dim=1)
