"""What style encoders have in common: features of style images in, what a decoder predicts from out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ganmod.features.style_losses import Features


class StyleEncoder(nn.Module):
    """The frozen encoder's features of style images -> the input of `StagedDecoder.predict`."""

    def forward(self, features: Features, mask: Tensor | None = None) -> Any:
        """features: {layer: [N,C,h,w]} of the style images.

        mask: [N or 1,1,H,W] in [0,1], of the images' size: how much each pixel counts.
        """
        raise NotImplementedError

    def calibrate(self, encode: Callable[[Tensor], Features]) -> None:
        """Store what inputs are scaled by, if anything. encode: RGB [N,3,H,W] in [0,1] -> features."""

    def calibration(self) -> dict[str, Tensor]:
        """The buffers that `calibrate` sets, by name."""
        return {}
