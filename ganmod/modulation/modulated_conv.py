"""The one layer that hosts know: a static convolution plus a modulation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ganmod.layers import ScaledReLU, StaticConv2d
from ganmod.modulation.base import Modulation
from ganmod.modulation.statistics import Statistics


class ModulatedConv2d(nn.Module):
    """modulate -> activation between -> [resample] -> convolve -> + noise -> + bias -> activation after.

    x [N,C,H,W], style as the modulation expects it -> [N,O,H',W']. The static weight `conv.weight` and the
    bias are the same parameters under every modulation. resample_first: a resampling of x before it is
    modulated; the convolution must not resample again then.
    """

    def __init__(
        self,
        conv: StaticConv2d,
        modulation: Modulation,
        *,
        between: nn.Module | None = None,
        activation: nn.Module | None = None,
        noise: bool = False,
        resample_first: nn.Module | None = None,
    ) -> None:
        super().__init__()
        out_channels, in_channels = conv.weight.shape[:2]
        if modulation.channels != in_channels:
            raise ValueError(
                f"the modulation acts on {modulation.channels} channels, but the convolution reads "
                f"{in_channels}: build it with channels={in_channels}"
            )
        self.conv = conv
        self.modulation = modulation
        self.between = between
        self.activation = activation
        self.resample_first = resample_first
        self.rectifier = activation if isinstance(activation, ScaledReLU) else None
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.noise_strength = nn.Parameter(torch.zeros([])) if noise else None

    def predict(self, style: Tensor) -> Any:
        """The modulation's parameters for this style: a NamedTuple of tensors."""
        return self.modulation.predict(style)

    def forward(self, x: Tensor, style: Tensor, noise: Tensor | None = None) -> Tensor:
        return self.apply_params(x, self.predict(style), noise)

    def apply_params(
        self,
        x: Tensor,
        params: Any,
        noise: Tensor | None = None,
        *,
        statistics: Statistics | None = None,
    ) -> Tensor:
        """The layer with parameters predicted before; noise broadcasts to [N,O,H',W'].

        statistics: to be used instead of x's own, where x is a tile or a frame of a clip.
        """
        if self.resample_first is not None:
            x = self.resample_first(x)
        if statistics is None:
            x = self.modulation.modulate(x, params)  # [N,C,H,W]
        else:
            x = self.modulation.modulate_with(x, params, statistics)
        if self.between is not None:
            x = self.between(x)
        x = self.modulation.convolve(x, self.conv, params)  # [N,O,H',W']
        # The gain of a ScaledReLU goes in with the bias: a pass over the image less, forward and backward.
        gain = self.rectifier.gain if self.rectifier is not None else 1.0
        x = torch.add((self.bias * gain)[:, None, None].to(x.dtype), x, alpha=gain)
        if noise is not None:
            if self.noise_strength is None:
                raise ValueError("this layer was built without noise: pass noise=True to its constructor")
            x = x.add_((noise * (self.noise_strength * gain)).to(x.dtype))
        if self.rectifier is not None:
            return self.rectifier.rectify_(x)
        return x if self.activation is None else self.activation(x)
