"""The one layer that hosts know: a static convolution plus a modulation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ganmod.layers import StaticConv2d
from ganmod.modulation.base import Modulation


class ModulatedConv2d(nn.Module):
    """modulate -> activation between -> [resample] -> convolve -> + noise -> + bias -> activation after.

    x [N,C,H,W], style as the modulation expects it -> [N,O,H',W']. The static weight `conv.weight` and the
    bias are the same parameters under every modulation.
    """

    def __init__(
        self,
        conv: StaticConv2d,
        modulation: Modulation,
        *,
        between: nn.Module | None = None,
        activation: nn.Module | None = None,
        noise: bool = False,
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
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.noise_strength = nn.Parameter(torch.zeros([])) if noise else None

    def predict(self, style: Tensor) -> Any:
        """The modulation's parameters for this style: a NamedTuple of tensors."""
        return self.modulation.predict(style)

    def forward(self, x: Tensor, style: Tensor, noise: Tensor | None = None) -> Tensor:
        return self.apply_params(x, self.predict(style), noise)

    def apply_params(self, x: Tensor, params: Any, noise: Tensor | None = None) -> Tensor:
        """The layer with parameters predicted before; noise broadcasts to [N,O,H',W']."""
        x = self.modulation.modulate(x, params)  # [N,C,H,W]
        if self.between is not None:
            x = self.between(x)
        x = self.modulation.convolve(x, self.conv, params)  # [N,O,H',W']
        if noise is not None:
            if self.noise_strength is None:
                raise ValueError("this layer was built without noise: pass noise=True to its constructor")
            x = x + (noise * self.noise_strength).to(x.dtype)
        x = x + self.bias[:, None, None].to(x.dtype)
        return x if self.activation is None else self.activation(x)
