"""Stylisation of consecutive frames without flicker: statistics and features are smoothed over time.

Frames that are stylised one by one flicker for two reasons. Camera noise changes every stroke, so encoded
features are blended with the previous frame's where the picture hardly changes. As each of them covers 8 x 8
or 4 x 4 pixels, motion by a pixel or two is not smeared, as it would be in a blend of pictures. And an object
that enters changes the normalisation of the entire picture, so its statistics are averaged over time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ganmod.io.images import to_uint8
from ganmod.layers import half_precision
from ganmod.modulation.statistics import mean_variance
from style_transfer.model import StyleTransferModel
from style_transfer.networks.staged_decoder import InputStatistics
from style_transfer.prepare import (
    interpolate_params,
    pad_to_multiple,
    resize_content,
    spread_params,
    to_batch,
)

SMOOTHING = 0.8
BLEND = 0.6
_TOLERANCE = 0.03  # change of a cell, in [0,1], at which blending has fallen to 1/e; above noise
CUT = 0.15  # mean change of a frame, in [0,1], that begins a new shot
_UNIT = 8  # pixels: frames are padded to multiples


def blend_weights(change: Tensor, blend: float) -> Tensor:
    """Share of the past in each cell, `blend` if nothing changes: mean change [N,1,h,w] -> [N,1,h,w]."""
    return blend * torch.exp(-(change / _TOLERANCE).square())


def frame_change(frame: Tensor, before: Tensor, cell: int = 8) -> Tensor:
    """Mean absolute difference of two frames [N,3,H,W] over cells of cell x cell pixels -> [N,1,h,w]."""
    return F.avg_pool2d((frame - before).abs().mean(dim=1, keepdim=True), cell)


class ClipStylizer:
    """Stylises the frames of a clip in order; the first of each shot exactly as `apply_params` does.

    With smoothing and blend 0, all frames are stylised separately.

    Args:
        smoothing: share of the past in the normalisation statistics of each layer, 0 to below 1. It steadies
            the picture when an object enters, but delays the response to a flickering light.
        blend: share of the past in encoded features where the picture does not change, 0 to below 1.
        dtype: torch.bfloat16 to convolve in it; None: the model's dtype.
    """

    def __init__(
        self,
        model: StyleTransferModel,
        *,
        smoothing: float = SMOOTHING,
        blend: float = BLEND,
        dtype: torch.dtype | None = None,
    ) -> None:
        for name, value in (("smoothing", smoothing), ("blend", blend)):
            if not 0 <= value < 1:
                raise ValueError(f"{name} is {value}, expected a number from 0 (none) to below 1")
        if smoothing > 0:
            model.decoder.check_takes_statistics()
        self.model, self.smoothing, self.blend, self.dtype = model, smoothing, blend, dtype
        self._past: dict[str, Tensor] = {}

    @torch.inference_mode()
    def __call__(self, frame: np.ndarray, params: list[Any], *, size: int | None = None) -> np.ndarray:
        """Stylise the next frame, uint8 [H,W,3] -> uint8; params and size as for `apply_params`."""
        device = self.model.feature_rms.device
        image = torch.from_numpy(np.ascontiguousarray(frame)).to(device)  # bytes: a quarter of the size
        images = resize_content(to_batch(image.movedim(2, 0).float() / 255, "frame"), size)
        out = self._stylize(pad_to_multiple(images, _UNIT), params)
        pixels = out[0, :, : images.shape[2], : images.shape[3]].float().clamp(0, 1)
        return to_uint8(pixels)

    def _stylize(self, x: Tensor, params: list[Any]) -> Tensor:
        change = None
        before = self._past.get("frame")
        if before is not None and before.shape == x.shape:
            change = frame_change(x, before, self.model.feature_stride)
        if change is None or change.mean() > CUT:
            self._past, change = {}, None
        with half_precision(x.device, self.dtype):
            features = self.model.encode(x)  # [1,C,H/s,W/s]
            if change is not None and self.blend:
                weight = blend_weights(change, self.blend).to(features.dtype)
                features = torch.lerp(features, self._past["features"].to(features.dtype), weight)
            self._past["frame"], self._past["features"] = x, features
            y, decoder = features, self.model.decoder
            for stage in range(decoder.num_stages):
                steadied = self.smoothing > 0 and decoder.uses_statistics(stage)
                statistics = self._statistics(stage, y) if steadied else None
                y = decoder.run_stage(stage, y, spread_params(params, 1), statistics=statistics)
        return y

    def _statistics(self, stage: int, x: Tensor) -> InputStatistics:
        """Statistics of x, averaged with the past."""
        mean, var = mean_variance(x)
        if f"mean{stage}" in self._past:
            mean = torch.lerp(mean, self._past[f"mean{stage}"], self.smoothing)
            var = torch.lerp(var, self._past[f"var{stage}"], self.smoothing)
        self._past[f"mean{stage}"], self._past[f"var{stage}"] = mean, var
        return InputStatistics(mean, var, x.shape[2] * x.shape[3])

    def state(self) -> dict[str, Tensor]:
        """What the next frame depends on in addition to itself; empty before the first frame."""
        return dict(self._past)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Resume from a `state`."""
        device = self.model.feature_rms.device
        self._past = {name: tensor.to(device) for name, tensor in state.items()}


@torch.inference_mode()
def morph(
    model: StyleTransferModel,
    content: np.ndarray,
    first: list[Any],
    last: list[Any],
    *,
    num_frames: int,
    size: int | None = None,
) -> Iterator[np.ndarray]:
    """Yield uint8 frames of a still, uint8 [H,W,3], with parameters interpolated from `first` to `last`.

    The content is encoded once. Raises ValueError for fewer than 2 frames, and for a modulation whose styles
    cannot be mixed.
    """
    model.decoder.check_mixes()
    if num_frames < 2:
        raise ValueError(f"num_frames is {num_frames}, expected at least 2: the first style and the last")
    images = resize_content(to_batch(content, "content"), size)
    features = model.encode(pad_to_multiple(images, _UNIT).to(model.feature_rms.device))
    for i in range(num_frames):
        with torch.inference_mode():  # a generator leaves the decorator's mode when it yields
            params = interpolate_params(first, last, i / (num_frames - 1))
            out = model.decode(features, params)[0, :, : images.shape[2], : images.shape[3]]
            frame = to_uint8(out.float().clamp(0, 1))
        yield frame
