"""What decoders have in common: stages, each of which sees the whole image through statistics alone.

A stage begins with a modulated convolution, whose normalisation is the only place where a pixel depends on
all others. Given the mean and variance of a stage's whole input, a tile of it gives a tile of its output: so
tiles and clips run a decoder stage by stage, and masks and parameters of several styles go in stage by stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ganmod.modulation import ModulatedConv2d
from ganmod.modulation.statistics import Statistics


class StagedDecoder(nn.Module):
    """Encoded content [N,C,h,w] -> image [N,3,H,W], not clamped, in stages.

    scales: for each stage the scale that it belongs to, 1 (coarse) to 4 (fine), as styles per scale name it.
    upsampling: by how much each stage enlarges its input.
    """

    scales: tuple[int, ...]
    upsampling: tuple[int, ...]

    def modulated(self, stage: int) -> ModulatedConv2d | None:
        """The modulated convolution with which a stage begins; None where it has none."""
        raise NotImplementedError

    def reach(self, stage: int) -> int:
        """How many pixels of its input around one a stage's output depends on."""
        raise NotImplementedError

    def run_stage(
        self,
        stage: int,
        x: Tensor,
        params: Any,
        *,
        statistics: Statistics | None = None,
        masks: Tensor | None = None,
    ) -> Tensor:
        """x: the stage before's output, or a tile of it. params: the stage's own; with masks [N,R,h,w], one
        NamedTuple per region. statistics: of the whole x, where x is a tile or a frame of a clip.
        """
        raise NotImplementedError

    def predict(self, style: Tensor) -> list[Any]:
        """Style descriptor -> the parameters of each stage, coarse to fine."""
        layers = (self.modulated(stage) for stage in range(len(self.scales)))
        return [layer.predict(style) for layer in layers if layer is not None]

    def forward(self, x: Tensor, params: Sequence[Any] | None, masks: Tensor | None = None) -> Tensor:
        """params: one NamedTuple per stage; with masks [N,R,h,w], one per region in each stage's sequence."""
        for stage in range(len(self.scales)):
            x = self.run_stage(stage, x, None if params is None else params[stage], masks=masks)
        return x


def apply_modulated(
    layer: ModulatedConv2d, x: Tensor, params: Any, statistics: Statistics | None, masks: Tensor | None
) -> Tensor:
    """`layer` with the parameters of one style, or of one per region."""
    if masks is None:
        return layer.apply_params(x, params, statistics=statistics)
    return layer.apply_regions(x, params, masks)
