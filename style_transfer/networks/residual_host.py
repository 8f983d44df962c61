"""The residual host: a small learned content encoder, modulated residual blocks at a quarter of the size, and
a style encoder that reads statistics, so that style images of any size and aspect count as a whole.
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

from ganmod.layers import Conv2d, EqualizedLinear, ScaledReLU, StaticConv2d, widen
from ganmod.modulation import ModulatedConv2d, StyleSpec, create_modulation
from ganmod.modulation.statistics import Statistics, mean_variance, weighted_mean_variance
from style_transfer.masks import pooled_mask
from style_transfer.networks.staged_decoder import StagedDecoder, apply_modulated

BRANCH_STD = 0.1  # of what a block adds to its input at the beginning
NOISE_SIDE = 256  # pixels after which the noise repeats
Origin = tuple[int, int] | Tensor  # row, column; a tensor [2] where it is drawn on a device
NUM_PROJECTED = 16  # channels of each layer whose covariances the style encoder sees


class StatisticsStyleEncoder(nn.Module):
    """Features {layer: [N,C,h,w]} of style images of any size -> style descriptor W [N,D,d,d].

    What it reads is what the style losses compare: mean and deviation of every channel at every layer; and,
    beyond that, the covariances of a few learned combinations of each layer's channels. A multilayer
    perceptron of three layers turns these numbers into W.

    With a mask [N or 1,1,H,W] in [0,1], of the images' size, each pixel counts by it; a cell of the features
    by its mean there.
    """

    def __init__(
        self, widths: Sequence[int], *, style_dim: int, descriptor_size: int, hidden: int = 512
    ) -> None:
        super().__init__()
        self.shape = (style_dim, descriptor_size, descriptor_size)
        self.center: Tensor
        self.spread: Tensor
        self.pairs: Tensor
        self.register_buffer("center", torch.zeros(2 * sum(widths)))  # of means, then of deviations
        self.register_buffer("spread", torch.ones(2 * sum(widths)))
        self.projections = nn.ModuleList(
            EqualizedLinear(width, NUM_PROJECTED, bias=False) for width in widths
        )
        self.widths = tuple(widths)
        num_pairs = NUM_PROJECTED * (NUM_PROJECTED + 1) // 2
        sizes = [2 * sum(widths) + num_pairs * len(widths), hidden, hidden, math.prod(self.shape)]
        self.layers = nn.ModuleList(EqualizedLinear(i, o) for i, o in itertools.pairwise(sizes))
        self.activation = ScaledReLU(0.2)
        rows, columns = torch.triu_indices(NUM_PROJECTED, NUM_PROJECTED)
        self.register_buffer("pairs", torch.stack([rows, columns]), persistent=False)

    @staticmethod
    def statistics(features: Mapping[str, Tensor], mask: Tensor | None = None) -> Tensor:
        """Means of all channels of all layers, then their deviations: [N, 2 * sum of widths]."""
        found = [
            mean_variance(x) if mask is None else weighted_mean_variance(x, pooled_mask(mask, x))
            for x in features.values()
        ]
        means = [mean.flatten(1) for mean, _ in found]
        return torch.cat(means + [(var + 1e-5).sqrt().flatten(1) for _, var in found], dim=1)

    @torch.no_grad()
    def calibrate(self, features: Mapping[str, Tensor]) -> None:
        """Store centre and spread of the statistics of some varied images, to which all are scaled."""
        statistics = self.statistics(features)
        self.center.copy_(statistics.mean(dim=0))
        self.spread.copy_(statistics.std(dim=0) + 0.1 * statistics.std(dim=0).mean())

    def forward(self, features: Mapping[str, Tensor], mask: Tensor | None = None) -> Tensor:
        statistics = self.statistics(features, mask)
        read = [(statistics - self.center) / self.spread]
        deviations = self.center[sum(self.widths) :].split(self.widths)  # one [C] per layer
        for projection, x, deviation in zip(self.projections, features.values(), deviations, strict=True):
            scaled = widen(x.flatten(2)) / (deviation[:, None] + 0.1)  # [N,C,P]
            # Projected before the products, which then are few: [N,k,P]
            linear = cast(EqualizedLinear, projection)
            projected = torch.matmul(linear.weight * linear.gain, scaled)  # no bias: it would cancel
            if mask is None:
                projected = projected - projected.mean(dim=2, keepdim=True)
                covariance = projected @ projected.transpose(1, 2) / projected.shape[2]
            else:
                weights = pooled_mask(mask, x).flatten(2).to(projected.dtype)  # [N,1,P]
                shares = weights / weights.sum(dim=2, keepdim=True)
                projected = projected - (projected * shares).sum(dim=2, keepdim=True)
                covariance = (projected * shares) @ projected.transpose(1, 2)
            read.append(covariance[:, self.pairs[0], self.pairs[1]])
        x = torch.cat(read, dim=1)
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return self.layers[-1](x).unflatten(1, self.shape)


def fixed_noise() -> Tensor:
    """The same standard normal numbers everywhere, [NOISE_SIDE, NOISE_SIDE]."""
    values = np.random.RandomState(0).standard_normal((NOISE_SIDE, NOISE_SIDE))
    return torch.from_numpy(values).float()


class ContentEncoder(nn.Module):
    """RGB [N,3,H,W] in [0,1] -> [N,C+64,H/4,W/4]: C learned channels, and what is carried along to the stages
    that need it: the pixels themselves, 4 x 4 x 3, and noise, 4 x 4.

    The pixels take no part in the blocks. They come back where the decoder has reached the full size, so that
    no edge of the content has to be drawn anew. Of the noise a style's grain can be made where the content is
    flat; without it, there, a network can draw nothing but regular patterns.
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
        """origin: the place (row, column) of x in the whole image, where x is a tile."""
        noise = self._noise_at(origin, x.shape[2], x.shape[3]).to(x.dtype).expand(len(x), -1, -1, -1)
        x = (x - 0.5) * 4  # photos: mean near 0.5, deviation near 0.25
        carried = torch.cat([x, noise], dim=1)
        carried = F.pixel_unshuffle(F.pixel_unshuffle(carried, 2), 2)  # [N,64,H/4,W/4]
        for conv in self.convs:
            x = conv(F.pixel_unshuffle(x, 2))
        return torch.cat([x, carried], dim=1)

    def _noise_at(self, origin: Origin, height: int, width: int) -> Tensor:
        """[1,1,height,width]: the noise repeated over the plane, from the origin on."""
        rows = (torch.arange(height, device=self.noise.device) + origin[0]) % NOISE_SIDE
        columns = (torch.arange(width, device=self.noise.device) + origin[1]) % NOISE_SIDE
        return self.noise[rows][:, columns][None, None]


class BilinearUpsample(nn.Module):
    """[N,C,H,W] -> [N,C,2H,2W]."""

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class ResidualDecoder(StagedDecoder):
    """Encoded content [N,C+64,H/4,W/4] -> image [N,3,H,W]: residual blocks at a quarter of the size, then two
    modulated convolutions that double it, then one to RGB, which sees the content's pixels, too.

    Each of the first stages adds noise to its output, by a learned gain per channel: what becomes of it is up
    to the next one's modulation, that is to the style.

    A block is x <- x + conv(modulated conv(x)), the second convolution small at the beginning. Where a stage
    doubles the size, its input is modulated before it is enlarged (bilinear), so that its statistics are
    those of the stage before's output.
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

    def modulated(self, stage: int) -> ModulatedConv2d:
        """See `StagedDecoder`."""
        return cast(ModulatedConv2d, [*self.blocks, *self.up, self.to_rgb][stage])

    def reach(self, stage: int) -> int:
        """See `StagedDecoder`."""
        layer = self.modulated(stage)
        around, padding = layer.modulation.reach, layer.conv.padding
        if self.upsampling[stage] > 1:  # the padding is of doubled pixels, of which the outermost blends two
            return around + padding // 2 + 1
        if stage < len(self.blocks):
            padding += cast(Conv2d, self.block_convs[stage]).conv.padding
        return around + padding

    def run_stage(
        self,
        stage: int,
        x: Tensor,
        params: Any,
        *,
        statistics: Statistics | None = None,
        masks: Tensor | None = None,
    ) -> Tensor:
        """See `StagedDecoder`."""
        layer = self.modulated(stage)
        if stage == len(self.scales) - 1:
            y = apply_modulated(layer, x, params, statistics, masks)
            return y * self.output_gain + self.output_offset
        width = layer.modulation.channels
        x, carried = x[:, :width], x[:, width:]
        if statistics is not None:
            statistics = Statistics(statistics.mean[:, :width], statistics.var[:, :width])
        y = apply_modulated(layer, x, params, statistics, masks)
        if stage < len(self.blocks):
            y = x + cast(Conv2d, self.block_convs[stage])(y)
        else:
            carried = F.pixel_shuffle(carried, 2)
        num_noise = carried.shape[1] // 4  # of the channels: three of pixels for one of noise
        place = 3 * num_noise + stage % num_noise
        y = y + carried[:, place : place + 1] * self.noise_gains[stage]
        if stage == len(self.scales) - 2:
            carried = carried[:, :3]
        return torch.cat([y, carried], dim=1)
