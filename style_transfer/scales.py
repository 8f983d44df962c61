"""The decoder one scale at a time, with given statistics: what tiles and clips have in common.

Between two scales lies the only place where a pixel depends on the whole image: the statistics of an instance
normalisation. Nearest upsampling, with which a scale begins, changes neither mean nor biased variance, so
those of a scale's input are those of the output of the scale before.
"""

from __future__ import annotations

from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from ganmod.layers import Conv2d
from ganmod.modulation import ModulatedConv2d
from ganmod.modulation.base import check_modulate_with
from ganmod.modulation.functional import match_statistics
from ganmod.modulation.statistics import Statistics
from style_transfer.mixing import NUM_SCALES
from style_transfer.model import StyleTransferModel

UPSAMPLING = (1, 2, 2, 2)  # of each scale's input; the first reads features at an eighth of the image's size
_CLASSIC_EPS = 1e-5


def check_takes_statistics(model: StyleTransferModel) -> None:
    """Raise ValueError where a modulation cannot be given statistics; see `Modulation.modulate_with`."""
    for scale in range(NUM_SCALES):
        first = model.decoder.first[scale]
        if isinstance(first, ModulatedConv2d):
            check_modulate_with(first.modulation)


def uses_statistics(model: StyleTransferModel, scale: int) -> bool:
    """Whether a scale, 0 coarse to 3 fine, depends on the mean and variance of its input."""
    first = model.decoder.first[scale]
    return first.modulation.uses_statistics if isinstance(first, ModulatedConv2d) else scale == 0


def reach(model: StyleTransferModel, scale: int) -> int:
    """How many pixels around one, at the scale's own resolution, its output depends on."""
    first = model.decoder.first[scale]
    around = first.modulation.reach if isinstance(first, ModulatedConv2d) else 0
    layers = [first, *cast(nn.Sequential, model.decoder.rest[scale])]
    if scale == NUM_SCALES - 1:
        layers.append(model.decoder.to_rgb)
    return around + sum(cast(Conv2d, layer).conv.padding for layer in layers)


def decode_scale(
    model: StyleTransferModel,
    scale: int,
    x: Tensor,
    params: list[Any],
    statistics: Statistics | None,
    *,
    pixels: int,
) -> Tensor:
    """One scale of the decoder: x [N,C,h,w] -> [N,C',h',w'], the last one the image, not clamped.

    x: encoded content for scale 0, the scale before's output for others, which is doubled first; or a tile of
    it. statistics: of the whole x, needed where `uses_statistics`; pixels: the whole x's number of them.
    """
    decoder = model.decoder
    if UPSAMPLING[scale] > 1:
        x = F.interpolate(x, scale_factor=float(UPSAMPLING[scale]), mode="nearest")
    first = decoder.first[scale]
    if isinstance(first, ModulatedConv2d):
        x = first.apply_params(x, params[scale], statistics=statistics)
    else:
        if scale == 0:
            assert statistics is not None
            unbiased = statistics.var * (pixels / (pixels - 1))
            own = statistics.mean, (unbiased + _CLASSIC_EPS).sqrt()
            x = match_statistics(x, *params[0], content_mean_std=own)
        x = first(x)
    x = decoder.rest[scale](x)
    if scale == NUM_SCALES - 1:
        x = decoder.to_rgb(x) * decoder.output_gain + decoder.output_offset
    return x
