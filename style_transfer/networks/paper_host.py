"""The paper's host: a convolutional style encoder and a modulated convolution at every decoder scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from ganmod.features.style_losses import Features
from ganmod.layers import Conv2d, EqualizedLinear, ScaledReLU, StaticConv2d
from ganmod.modulation import ModulatedConv2d, StyleSpec, create_modulation
from style_transfer.networks.mirrored_decoder import MirroredDecoder
from style_transfer.networks.staged_decoder import InputStatistics, apply_modulated
from style_transfer.networks.style_encoder import StyleEncoder


class PaperStyleEncoder(StyleEncoder):
    """relu4_1 of the style image [N,C,S,S] -> style descriptor W [N,D,d,d].

    Three times [3x3 convolution, LeakyReLU, 2x2 average pooling], then one fully connected layer (Chandran et
    al. 2021, section 4.1), which fixes the side S. Masks are not supported.
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

    def forward(self, features: Features, mask: Tensor | None = None) -> Tensor:
        """See `StyleEncoder`."""
        assert mask is None  # ModelSpec.check_takes_masks
        x = features["relu4_1"]
        for conv in self.convs:
            x = F.avg_pool2d(conv(x), 2)  # [N,C,S,S] -> [N,C,S/2,S/2]
        return self.fc(x.flatten(1)).unflatten(1, self.shape)  # [N,D,d,d]


class ModulatedDecoder(MirroredDecoder):
    """VGG-19 mirrored, with one modulated convolution at each of 4 scales."""

    # Weight demodulation assumes inputs of unit variance, which VGG features do not have; instance
    # normalisation is indifferent. So one scale per channel suits every modulation.
    unit_variance = True

    def __init__(
        self,
        widths: Sequence[int],
        style: StyleSpec,
        *,
        modulation: str,
        modulation_options: Mapping[str, Any] | None = None,
    ) -> None:
        def modulated_conv(in_channels: int, out_channels: int) -> ModulatedConv2d:
            conv = StaticConv2d(in_channels, out_channels, padding_mode="reflect")
            layer = create_modulation(modulation, in_channels, style, modulation_options)
            return ModulatedConv2d(conv, layer, activation=ScaledReLU())

        super().__init__(widths, modulated_conv)

    def modulated_conv(self, stage: int) -> ModulatedConv2d:
        """See `StagedDecoder`."""
        return cast(ModulatedConv2d, self.first[stage])

    def first_reach(self, stage: int) -> int:
        """See `MirroredDecoder`."""
        return self.modulated_conv(stage).modulation.reach

    def run_stage(
        self,
        stage: int,
        x: Tensor,
        params: Sequence[Any],
        *,
        statistics: InputStatistics | None = None,
        masks: Tensor | None = None,
    ) -> Tensor:
        """See `StagedDecoder`. Nearest upsampling changes neither mean nor biased variance of x."""
        first = partial(apply_modulated, params=params[stage], statistics=statistics, masks=masks)
        return self.draw_scale(stage, x, first=first)
