"""The decoder one stage at a time, with given statistics: what tiles and clips have in common."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ganmod.modulation.base import check_modulate_with
from ganmod.modulation.statistics import Statistics
from style_transfer.model import StyleTransferModel
from style_transfer.networks.classic import match_style

_CLASSIC_EPS = 1e-5


def num_stages(model: StyleTransferModel) -> int:
    """Of the model's decoder."""
    return len(model.decoder.scales)


def check_takes_statistics(model: StyleTransferModel) -> None:
    """Raise ValueError where a modulation cannot be given statistics; see `Modulation.modulate_with`."""
    for stage in range(num_stages(model)):
        layer = model.decoder.modulated(stage)
        if layer is not None:
            check_modulate_with(layer.modulation)


def uses_statistics(model: StyleTransferModel, stage: int) -> bool:
    """Whether a stage depends on the mean and variance of its input."""
    layer = model.decoder.modulated(stage)
    return stage == 0 if layer is None else layer.modulation.uses_statistics


def decode_stage(
    model: StyleTransferModel,
    stage: int,
    x: Tensor,
    params: list[Any],
    statistics: Statistics | None,
    *,
    pixels: int,
) -> Tensor:
    """One stage of the decoder: x [N,C,h,w] -> [N,C',h',w'], the last one the image, not clamped.

    x: encoded content for stage 0, the stage before's output for others; or a tile of it. statistics: of the
    whole x, needed where `uses_statistics`; pixels: the whole x's number of them.
    """
    if model.style_encoder is not None:
        return model.decoder.run_stage(stage, x, params[stage], statistics=statistics)
    if stage == 0:
        assert statistics is not None
        unbiased = statistics.var * (pixels / (pixels - 1))
        own = statistics.mean, (unbiased + _CLASSIC_EPS).sqrt()
        x = match_style(x, params[0], content_mean_std=own)
    return model.decoder.run_stage(stage, x, None)
