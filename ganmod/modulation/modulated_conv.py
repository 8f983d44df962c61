"""The modulated layer of all networks: a static convolution plus a modulation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganmod.layers import ScaledReLU, StaticConv2d
from ganmod.modulation.base import Modulation
from ganmod.modulation.statistics import Statistics


class ModulatedConv2d(nn.Module):
    """modulate -> activation between -> [resample] -> convolve -> + noise -> + bias -> activation after.

    x [N,C,H,W], style as the modulation expects it -> [N,O,H',W']. The static weight `conv.weight` and the
    bias are the same parameters under every modulation.

    Args:
        between: activation between modulation and convolution.
        activation: after the bias.
        noise: whether the layer adds noise, with a learned strength.
        resample_first: resampling before the modulation; the convolution must then not resample.
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
        """`forward` with parameters from `predict`; noise broadcasts to [N,O,H',W'].

        statistics: replace x's, where x is a tile or a frame of a clip.
        """
        if self.resample_first is not None:
            x = self.resample_first(x)
        x = self.modulate(x, params, statistics=statistics)  # [N,C,H,W]
        x = self.modulation.convolve(x, self.conv, params)  # [N,O,H',W']
        return self._finish(x, noise)

    def apply_regions(
        self,
        x: Tensor,
        params: Sequence[Any],
        masks: Tensor,
        noise: Tensor | None = None,
        *,
        statistics: Statistics | None = None,
    ) -> Tensor:
        """`apply_params` with separate parameters for each region of the image.

        Statistics are taken over all of x, unless they are passed. The modulated features are blended, or
        the convolution's results where the modulation acts inside it.

        Args:
            params: one NamedTuple per region.
            masks: each region's share of each pixel, sum 1: [N,R,h,w] of any size, [1,R,h,w] for all samples.
            statistics: as for `apply_params`.
        """
        if len(params) != masks.shape[1]:
            raise ValueError(
                f"got parameters for {len(params)} regions and masks {list(masks.shape)}: "
                "expected one mask [N,R,H,W] per region"
            )
        if self.resample_first is not None:
            x = self.resample_first(x)
        parts = [self.modulate(x, p, statistics=statistics) for p in params]
        if self.modulation.convolves_plainly:  # the same convolution for all regions
            x = self.conv(blend_regions(parts, masks))
        else:
            x = self._convolve_regions(parts, params, masks)
        return self._finish(x, noise)

    def modulate(self, x: Tensor, params: Any, *, statistics: Statistics | None = None) -> Tensor:
        """The first part of `apply_params`: modulation, then the activation between -> [N,C,H,W]."""
        if statistics is None:
            x = self.modulation.modulate(x, params)
        else:
            x = self.modulation.modulate_with(x, params, statistics)
        return x if self.between is None else self.between(x)

    def convolve(self, x: Tensor, params: Any, masks: Tensor | None = None) -> Tensor:
        """The second part of `apply_params`, from features that are modulated -> [N,O,H',W'].

        With masks, as for `apply_regions`, params are one NamedTuple per region.
        """
        if masks is None or self.modulation.convolves_plainly:
            return self._finish(self.modulation.convolve(x, self.conv, params), None)
        return self._finish(self._convolve_regions([x] * len(params), params, masks), None)

    def _convolve_regions(self, parts: Sequence[Tensor], params: Sequence[Any], masks: Tensor) -> Tensor:
        pairs = zip(parts, params, strict=True)
        convolved = [self.modulation.convolve(part, self.conv, p) for part, p in pairs]
        return blend_regions(convolved, masks)  # [N,O,H',W']

    def _finish(self, x: Tensor, noise: Tensor | None) -> Tensor:
        # The gain of a ScaledReLU is applied together with the bias, which saves a pass over the image.
        gain = self.rectifier.gain if self.rectifier is not None else 1.0
        x = torch.add((self.bias * gain)[:, None, None].to(x.dtype), x, alpha=gain)
        if noise is not None:
            if self.noise_strength is None:
                raise ValueError("this layer was built without noise: pass noise=True to its constructor")
            x = x.add_((noise * (self.noise_strength * gain)).to(x.dtype))
        if self.rectifier is not None:
            return self.rectifier.rectify_(x)
        return x if self.activation is None else self.activation(x)


def pool_masks(masks: Tensor, height: int, width: int) -> Tensor:
    """Shares of pixels [N,R,H,W] -> [N,R,height,width], averaged over the area of each pixel."""
    rows, columns = masks.shape[2] // height, masks.shape[3] // width
    if masks.shape[2] == rows * height and masks.shape[3] == columns * width and rows == columns:
        # The same, and torch.export can trace it for any size.
        return masks if rows == 1 else F.avg_pool2d(masks, rows)
    return F.interpolate(masks, size=(height, width), mode="area")


def blend_regions(parts: Sequence[Tensor], masks: Tensor) -> Tensor:
    """Sum over r of masks[:,r] * parts[r]: R times [N,C,H,W], masks [N,R,h,w] averaged to H x W."""
    masks = pool_masks(masks, parts[0].shape[2], parts[0].shape[3]).to(parts[0].dtype)
    out = parts[0] * masks[:, :1]
    for part, mask in zip(parts[1:], masks.split(1, dim=1)[1:], strict=True):
        out = out + part * mask
    return out
