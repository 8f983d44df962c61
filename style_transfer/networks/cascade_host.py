"""The cascade of WCT (Li et al. 2017, Fig. 1b): autoencoders of VGG-19's levels one after the other.

At each level, from relu5_1 to relu1_1, the picture so far is encoded, its features are transformed by those
of the style, and decoded to the next picture. Nothing is trained: encoders and decoders come from files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from ganmod.layers import reflect_pad
from ganmod.modulation import Modulation, StyleSpec, create_modulation
from style_transfer.networks.feature_transforms import (
    check_transforms_mix,
    full_strength,
    transform_features,
    weaken_features,
)
from style_transfer.networks.residual_host import Origin
from style_transfer.networks.staged_decoder import InputStatistics, StagedDecoder

CONVS = (2, 2, 4, 4)  # of VGG-19's scales before a level's own, which has one


def level_convs(widths: Sequence[int]) -> list[tuple[str, int, int]]:
    """(name, channels in, channels out) of an encoder's convolutions up to relu{level}_1: conv{scale}{i}."""
    convs, before = [], 3
    for scale, width in enumerate(widths, start=1):
        count = 1 if scale == len(widths) else CONVS[scale - 1]
        for i in range(1, count + 1):
            convs.append((f"conv{scale}{i}", before, width))
            before = width
    return convs


class LevelAutoencoder(nn.Module):
    """VGG-19 up to relu{level}_1 and its mirror; the names of parameters are those of the files.

    Args:
        widths: channels of each scale, the last one of the features; their number is the level.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        convs = level_convs(widths)
        self.level = len(widths)
        self.encoder = nn.ModuleDict({"conv0": nn.Conv2d(3, 3, 1)})
        self.decoder = nn.ModuleDict()
        for name, i, o in convs:
            self.encoder[name] = nn.Conv2d(i, o, 3)
            self.decoder[name] = nn.Conv2d(o, i, 3)

    def encode(self, x: Tensor) -> Tensor:
        """RGB [N,3,H,W] in [0,1], sides multiples of 2^(level-1) -> features [N,C,H/2^(level-1),...]."""
        x = self.encoder["conv0"](x)
        for name, conv in self.encoder.items():
            if name == "conv0":
                continue
            if name.endswith("1") and name != "conv11":
                x = F.max_pool2d(x, 2)
            x = F.relu(conv(reflect_pad(x, 1)))
        return x

    def decode(self, x: Tensor) -> Tensor:
        """Features -> RGB [N,3,H,W] from 0 on."""
        for name in [*self.decoder][::-1]:
            x = F.relu(self.decoder[name](reflect_pad(x, 1)))
            if name.endswith("1") and name != "conv11":
                x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        return x


class PictureEncoder(nn.Module):
    """The identity: a cascade's first level encodes the content itself."""

    def forward(self, x: Tensor, origin: Origin = (0, 0)) -> Tensor:
        return x


class CascadeDecoder(StagedDecoder):
    """Content [N,3,H,W] in [0,1] -> picture [N,3,H,W], level by level, the deepest first.

    Args:
        levels: the widths of each level's encoder, relu1_1 first; see `LevelAutoencoder`.
        modulation: of the kind features, such as wct.
        modulation_options: its options.
    """

    def __init__(
        self,
        levels: Sequence[Sequence[int]],
        *,
        modulation: str,
        modulation_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        deepest_first = [*levels][::-1]
        self.levels = nn.ModuleList(LevelAutoencoder(widths) for widths in deepest_first)
        self.transforms = nn.ModuleList(
            create_modulation(modulation, w[-1], StyleSpec("features", w[-1]), modulation_options)
            for w in deepest_first
        )
        self.scales = tuple(max(5 - len(widths), 1) for widths in deepest_first)
        self.upsampling = (1,) * len(deepest_first)

    def _level(self, stage: int) -> tuple[LevelAutoencoder, Modulation]:
        return cast(LevelAutoencoder, self.levels[stage]), cast(Modulation, self.transforms[stage])

    def reach(self, stage: int) -> int:
        """See `StagedDecoder`; a level needs all of the picture, so this is of no use."""
        return 1 << self._level(stage)[0].level

    def uses_statistics(self, stage: int) -> bool:
        """See `StagedDecoder`."""
        return False

    def check_takes_statistics(self) -> None:
        """See `StagedDecoder`: ValueError, as the next level encodes all of the picture."""
        raise ValueError(
            "a cascade needs all of an image at once: stylise it without tiles, and clips with --smoothing 0"
        )

    def check_mixes(self) -> None:
        """See `StagedDecoder`."""
        check_transforms_mix(self.transforms)

    def predict(self, style: Tensor) -> list[Any]:
        """Style images [N,3,h,w] in [0,1] -> per level the transform's parameters; then the strength."""
        params = []
        for stage in range(self.num_stages):
            level, transform = self._level(stage)
            params.append(transform.predict(level.encode(_padded(style, level.level))))
        return [*params, full_strength(style)]

    def weaken(
        self, styles: Sequence[list[Any]], predict_content: Callable[[], list[Any]], alpha: float
    ) -> list[list[Any]]:
        """See `StagedDecoder`: at each level, (1 - alpha) content + alpha transformed (Li et al., Eq. 4)."""
        return weaken_features(styles, alpha)

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
        level, transform = self._level(stage)
        height, width = x.shape[2:]
        features = level.encode(_padded(x.clamp(0, 1), level.level))
        features = transform_features(transform, features, params[stage], params[-1], masks=masks)
        return level.decode(features)[:, :, :height, :width]


def _padded(x: Tensor, level: int) -> Tensor:
    """Images mirrored at the bottom and right to multiples of 2^(level-1)."""
    step = 1 << (level - 1)
    down, right = -x.shape[2] % step, -x.shape[3] % step
    return F.pad(x, (0, right, 0, down), mode="reflect") if down or right else x
