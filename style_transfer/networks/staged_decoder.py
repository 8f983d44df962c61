"""The base class of decoders: stages that depend on the entire image only through mean and variance.

A stage may begin with a normalisation; everything else in it is local. With the mean and variance of the full
input, a tile of the input yields a tile of the output. Tiles, clips and masks are processed stage by stage.
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
    """Mean and biased variance [N,C,1,1] of a stage's full input, and its number of pixels."""

    mean: Tensor
    var: Tensor
    num_pixels: int | Tensor  # a tensor [1] in an exported network


class StagedDecoder(nn.Module):
    """Encoded content [N,C,h,w] -> image [N,3,H,W], not clamped, in stages.

    Attributes:
        scales: the scale of each stage, 1 (coarse) to 4 (fine), as in `pick_scales`.
        upsampling: the factor by which each stage enlarges its input.
        unit_variance: whether relu4_1 must be divided by its RMS per channel before decoding.
    """

    scales: tuple[int, ...]
    upsampling: tuple[int, ...]
    unit_variance: bool = False

    @property
    def num_stages(self) -> int:
        return len(self.scales)

    def modulated_conv(self, stage: int) -> ModulatedConv2d:
        """The modulated convolution with which a stage begins."""
        raise NotImplementedError

    def reach(self, stage: int) -> int:
        """How far around a pixel, in pixels of its input, a stage's output depends on it."""
        raise NotImplementedError

    def uses_statistics(self, stage: int) -> bool:
        """Whether a stage depends on the mean and variance of its input."""
        return self.modulated_conv(stage).modulation.uses_statistics

    def check_takes_statistics(self) -> None:
        """Raise ValueError if a modulation does not accept statistics; see `Modulation.modulate_with`."""
        for stage in range(self.num_stages):
            check_modulate_with(self.modulated_conv(stage).modulation)

    def check_mixes(self) -> None:
        """Raise ValueError if parameters between those of two styles make no style."""

    def predict(self, style: Any) -> list[Any]:
        """What the style encoder returns -> parameters, one NamedTuple per stage, coarse to fine."""
        return [self.modulated_conv(stage).predict(style) for stage in range(self.num_stages)]

    def weaken(
        self, styles: Sequence[list[Any]], predict_content: Callable[[], list[Any]], alpha: float
    ) -> list[list[Any]]:
        """Reduce styles to strength alpha, 0 to below 1; see `StyleTransferModel.with_strength`.

        predict_content predicts parameters from the content.
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
        """Run one stage: [N,C,h,w] -> [N,C',h',w'], for the last stage the image.

        Args:
            stage: its index, 0 for the one that reads encoded content.
            x: the output of the previous stage, or a tile of it.
            params: of all stages, from `predict`; with masks, one NamedTuple per region for each stage.
            statistics: of the full input, if x is a tile or a frame of a clip and the stage
                `uses_statistics`. None: those of x.
            masks: [N,R,h,w], each region's share of every pixel, sum 1.
        """
        raise NotImplementedError

    def forward(self, x: Tensor, params: Sequence[Any], masks: Tensor | None = None) -> Tensor:
        """Run all stages on a full image; params and masks as for `run_stage`."""
        for stage in range(self.num_stages):
            x = self.run_stage(stage, x, params, masks=masks)
        return x


def apply_modulated(
    layer: ModulatedConv2d, x: Tensor, params: Any, statistics: InputStatistics | None, masks: Tensor | None
) -> Tensor:
    """Apply `layer` with the parameters of one style, or of one per region."""
    known = None if statistics is None else Statistics(statistics.mean, statistics.var)
    if masks is not None:
        return layer.apply_regions(x, params, masks, statistics=known)
    return layer.apply_params(x, params, statistics=known)
