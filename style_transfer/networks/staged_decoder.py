"""What decoders have in common: stages, each of which sees the whole image through statistics alone.

A stage may begin with a normalisation, and nothing else in it makes a pixel depend on all others. Given the
mean and variance of a stage's whole input, a tile of it gives a tile of its output: so tiles and clips run a
decoder stage by stage, and masks and parameters of several styles go in stage by stage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from ganmod.modulation import ModulatedConv2d
from ganmod.modulation.base import check_modulate_with
from ganmod.modulation.statistics import Statistics
from style_transfer.prepare import interpolate_params, spread_params


class InputStatistics(NamedTuple):
    """Mean and biased variance [N,C,1,1] of a stage's whole input, and its number of pixels."""

    mean: Tensor
    var: Tensor
    num_pixels: int


class StagedDecoder(nn.Module):
    """Encoded content [N,C,h,w] -> image [N,3,H,W], not clamped, in stages.

    Attributes:
        scales: for each stage the scale that it belongs to, 1 (coarse) to 4 (fine), as in `pick_scales`.
        upsampling: by how much each stage enlarges its input.
        unit_variance: whether relu4_1 has to be divided by its RMS per channel before it is decoded.
    """

    scales: tuple[int, ...]
    upsampling: tuple[int, ...]
    unit_variance: bool = False

    @property
    def num_stages(self) -> int:
        return len(self.scales)

    def modulated(self, stage: int) -> ModulatedConv2d:
        """The modulated convolution with which a stage begins."""
        raise NotImplementedError

    def reach(self, stage: int) -> int:
        """How many pixels of its input around one a stage's output depends on."""
        raise NotImplementedError

    def uses_statistics(self, stage: int) -> bool:
        """Whether a stage depends on the mean and variance of its input."""
        return self.modulated(stage).modulation.uses_statistics

    def check_takes_statistics(self) -> None:
        """Raise ValueError where a modulation cannot be given statistics; see `Modulation.modulate_with`."""
        for stage in range(self.num_stages):
            check_modulate_with(self.modulated(stage).modulation)

    def predict(self, style: Any) -> list[Any]:
        """What the style encoder returns -> parameters, one NamedTuple per stage, coarse to fine."""
        return [self.modulated(stage).predict(style) for stage in range(self.num_stages)]

    def weaken(
        self, styles: Sequence[list[Any]], predict_content: Callable[[], list[Any]], alpha: float
    ) -> list[list[Any]]:
        """Parameters of styles at strength alpha, 0 to below 1; see `StyleTransferModel.with_strength`.

        predict_content: predicts the parameters of the content's own style.
        """
        content = predict_content()
        samples = len(content[0][0])
        return [interpolate_params(content, spread_params(params, samples), alpha) for params in styles]

    def run_stage(
        self,
        stage: int,
        x: Tensor,
        params: Sequence[Any],
        *,
        statistics: InputStatistics | None = None,
        masks: Tensor | None = None,
    ) -> Tensor:
        """One stage: [N,C,h,w] -> [N,C',h',w'], of the last one the image.

        Args:
            stage: its index, 0 for the one that reads encoded content.
            x: the output of the stage before, or a tile of it.
            params: of all stages, as `predict` returns them; with masks, of each stage one NamedTuple per
                region.
            statistics: of the whole x, where x is a tile or a frame of a clip and the stage
                `uses_statistics`. None: x is whole.
            masks: [N,R,h,w], each region's share of every pixel, sum 1.
        """
        raise NotImplementedError

    def forward(self, x: Tensor, params: Sequence[Any], masks: Tensor | None = None) -> Tensor:
        """All stages of a whole image; params and masks as for `run_stage`."""
        for stage in range(self.num_stages):
            x = self.run_stage(stage, x, params, masks=masks)
        return x


def apply_modulated(
    layer: ModulatedConv2d, x: Tensor, params: Any, statistics: InputStatistics | None, masks: Tensor | None
) -> Tensor:
    """`layer` with the parameters of one style, or of one per region."""
    if masks is not None:
        return layer.apply_regions(x, params, masks)
    known = None if statistics is None else Statistics(statistics.mean, statistics.var)
    return layer.apply_params(x, params, statistics=known)
