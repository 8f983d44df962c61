"""The base classes of style encoders, and of those that read mean and deviation of every channel."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ganmod.features.style_losses import Features
from ganmod.features.vgg import calibration_images
from ganmod.io.images import to_tensor
from ganmod.modulation.statistics import mean_variance, weighted_mean_variance
from style_transfer.masks import pool_mask
from style_transfer.procedural_styles import draw_style_set

NUM_DRAWN = 20  # styles for the calibration


class StyleEncoder(nn.Module):
    """The frozen encoder's features of style images -> the input of `StagedDecoder.predict`."""

    def forward(self, features: Features, mask: Tensor | None = None) -> Any:
        """Encode style images.

        Args:
            features: {layer: [N,C,h,w]} of the images.
            mask: how much each pixel counts, [N or 1,1,H,W] in [0,1] of the images' size.
        """
        raise NotImplementedError

    def calibrate(self, encode: Callable[[Tensor], Features]) -> None:
        """Compute the scales of the inputs, if any, with encode: RGB [N,3,H,W] in [0,1] -> features."""

    def calibration(self) -> dict[str, Tensor]:
        """The buffers that `calibrate` sets, by name."""
        return {}


class StandardizedStatistics(StyleEncoder):
    """Base of style encoders that read statistics, which it standardises by those of varied images."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.center: Tensor
        self.spread: Tensor
        self.widths = tuple(widths)
        self.register_buffer("center", torch.zeros(2 * sum(widths)))  # of means, then of deviations
        self.register_buffer("spread", torch.ones(2 * sum(widths)))

    @staticmethod
    def statistics(features: Features, mask: Tensor | None = None) -> Tensor:
        """Means of all channels of all layers, then their deviations: [N, 2 * sum of widths]."""
        moments = [
            mean_variance(x) if mask is None else weighted_mean_variance(x, pool_mask(mask, x))
            for x in features.values()
        ]
        means = [mean.flatten(1) for mean, _ in moments]
        return torch.cat(means + [(var + 1e-5).sqrt().flatten(1) for _, var in moments], dim=1)

    def standardized(self, features: Features, mask: Tensor | None = None) -> Tensor:
        """`statistics`, less their center and divided by their spread."""
        return (self.statistics(features, mask) - self.center) / self.spread

    @torch.no_grad()
    def calibrate(self, encode: Callable[[Tensor], Features]) -> None:
        """Compute mean and spread of the statistics of varied images, which standardise all statistics."""
        statistics = self.statistics(encode(_varied_images()))
        self.center.copy_(statistics.mean(dim=0))
        self.spread.copy_(statistics.std(dim=0) + 0.1 * statistics.std(dim=0).mean())

    def calibration(self) -> dict[str, Tensor]:
        """See `StyleEncoder`."""
        return {"center": self.center, "spread": self.spread}


@functools.cache
def _varied_images() -> Tensor:
    """[N,3,128,128] in [0,1]: two photos and drawn styles."""
    drawn = [to_tensor(image) for _, image in draw_style_set(NUM_DRAWN, 128)]
    return torch.cat([calibration_images(128), torch.stack(drawn)])
