"""The base class of style encoders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ganmod.features.style_losses import Features


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
