"""StyleBank's network (Chen et al. 2017): an autoencoder, and a filter bank per style between its halves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from torch import Tensor, nn

from ganmod.layers import Conv2d, ScaledReLU, StaticConv2d
from ganmod.modulation import StyleSpec, create_modulation
from ganmod.modulation.base import check_modulate_with
from style_transfer.networks.feature_transforms import full_strength, transform_features, weaken_features
from style_transfer.networks.johnson_host import OUTER, ContractingEncoder
from style_transfer.networks.residual_host import Origin
from style_transfer.networks.staged_decoder import InputStatistics, StagedDecoder


class BankEncoder(ContractingEncoder):
    """`ContractingEncoder`, and an activation: the filter bank's input is that of the decoder, too."""

    def forward(self, x: Tensor, origin: Origin = (0, 0)) -> Tensor:
        """See `ContractingEncoder`."""
        return self.activation(super().forward(x, origin))


class BankDecoder(StagedDecoder):
    """Encoded content [N,C,H/4,W/4] -> image [N,3,H,W], not clamped.

    The first stage applies the style's filter bank; at strength 0 it is left out, which is the autoencoder.

    Args:
        style: of the kind id.
        modulation: that of the first stage, such as stylebank.
        modulation_options: its options.
        width: channels C, a multiple of 4.
    """

    def __init__(
        self,
        style: StyleSpec,
        *,
        modulation: str,
        modulation_options: Mapping[str, Any] | None = None,
        width: int,
    ) -> None:
        super().__init__()
        self.bank = create_modulation(modulation, width, style, modulation_options)
        self.up = nn.ModuleList(
            Conv2d(
                i,
                o,
                activation=ScaledReLU(),
                conv=StaticConv2d(i, o, padding_mode="reflect", resample=nn.Upsample(scale_factor=2.0)),
            )
            for i, o in ((width, width // 2), (width // 2, width // 4))
        )
        self.to_rgb = Conv2d(width // 4, 3, OUTER, padding_mode="reflect")
        self.output_gain, self.output_offset = 0.25, 0.5  # photos: mean near 0.5, deviation near 0.25
        self.scales, self.upsampling = (1, 2, 3, 4), (1, 2, 2, 1)

    def reach(self, stage: int) -> int:
        """See `StagedDecoder`."""
        return (self.bank.reach, 1, 1, OUTER // 2)[stage]

    def uses_statistics(self, stage: int) -> bool:
        """See `StagedDecoder`."""
        return stage == 0 and self.bank.uses_statistics

    def check_takes_statistics(self) -> None:
        """See `StagedDecoder`."""
        check_modulate_with(self.bank)

    def predict(self, style: Tensor) -> list[Any]:
        """See `StagedDecoder`: the filter bank's parameters, then the strength."""
        return [self.bank.predict(style), full_strength(style)]

    def weaken(
        self, styles: Sequence[list[Any]], predict_content: Callable[[], list[Any]], alpha: float
    ) -> list[list[Any]]:
        """See `StagedDecoder`: features are mixed, (1 - alpha) content + alpha filtered."""
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
        if stage == 0:
            return transform_features(self.bank, x, params[0], params[1], statistics=statistics, masks=masks)
        return self.draw(stage, x)

    def draw(self, stage: int, x: Tensor) -> Tensor:
        """Run a stage after the first, which has no parameters."""
        if stage < self.num_stages - 1:
            return cast(Conv2d, self.up[stage - 1])(x)
        return cast(Tensor, self.to_rgb(x)) * self.output_gain + self.output_offset
