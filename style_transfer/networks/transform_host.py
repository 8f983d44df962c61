"""The transform host: a frozen encoder, a transform of its features, and a learned decoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from torch import Tensor, nn

from ganmod.features.style_losses import Features
from ganmod.modulation import Modulation, StyleSpec, create_modulation
from ganmod.modulation.base import check_modulate_with
from style_transfer.networks.feature_transforms import (
    check_transforms_mix,
    full_strength,
    transform_features,
    weaken_features,
)
from style_transfer.networks.mirrored_decoder import MirroredDecoder, plain_conv
from style_transfer.networks.staged_decoder import InputStatistics
from style_transfer.networks.style_encoder import StyleEncoder


class FeatureStyleEncoder(StyleEncoder):
    """Features of style images, as they are; nothing is learned."""

    def forward(self, features: Features, mask: Tensor | None = None) -> Features:
        """See `StyleEncoder`."""
        assert mask is None  # ModelSpec.check_takes_masks
        return features


class TransformDecoder(MirroredDecoder):
    """VGG-19 mirrored; its input relu4_1 is transformed by the style's relu4_1 first.

    Args:
        widths: channels of relu1_1 to relu4_1.
        modulation: of the kind "features", for relu4_1.
        modulation_options: its options.
        skip_modulation: also of that kind; the input of each finer scale is transformed by the style's
            features of the same width, as in Avatar-Net. None: they are left as they are.
    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        modulation: str,
        modulation_options: Mapping[str, Any] | None = None,
        skip_modulation: str | None = None,
    ) -> None:
        super().__init__(widths, plain_conv)
        names = [(modulation, modulation_options)]
        if skip_modulation is not None:
            names += [(skip_modulation, None)] * (len(widths) - 1)
        coarse_first = list(widths)[::-1]
        self.transforms = nn.ModuleList(
            create_modulation(name, channels, StyleSpec("features", channels), options)
            for (name, options), channels in zip(names, coarse_first, strict=False)
        )

    def _transform(self, stage: int) -> Modulation | None:
        return cast(Modulation, self.transforms[stage]) if stage < len(self.transforms) else None

    def first_reach(self, stage: int) -> int:
        """See `MirroredDecoder`."""
        transform = self._transform(stage)
        return 0 if transform is None else transform.reach

    def uses_statistics(self, stage: int) -> bool:
        """See `StagedDecoder`."""
        transform = self._transform(stage)
        return transform is not None and transform.uses_statistics

    def check_takes_statistics(self) -> None:
        """See `StagedDecoder`."""
        for transform in self.transforms:
            check_modulate_with(cast(Modulation, transform))

    def check_mixes(self) -> None:
        """See `StagedDecoder`."""
        check_transforms_mix(self.transforms)

    def predict(self, style: Features) -> list[Any]:
        """See `StagedDecoder`: one NamedTuple per transform, then the strength."""
        coarse_first = [*style.values()][::-1]
        params = [
            cast(Modulation, transform).predict(features)
            for transform, features in zip(self.transforms, coarse_first, strict=False)
        ]
        return [*params, full_strength(coarse_first[0])]

    def weaken(
        self, styles: Sequence[list[Any]], predict_content: Callable[[], list[Any]], alpha: float
    ) -> list[list[Any]]:
        """See `StagedDecoder`: features are mixed, (1 - alpha) content + alpha transformed."""
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
        transform = self._transform(stage)
        if transform is not None:
            x = transform_features(
                transform, x, params[stage], params[-1], statistics=statistics, masks=masks
            )
        return self.draw_scale(stage, x)
