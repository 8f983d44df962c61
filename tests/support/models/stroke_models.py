"""Stand-ins for style-transfer models with known strokes, and gratings as styles."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from metrics.style.pair_scores import Contestant


def grating(degrees: float, *, size: int = 192, wavelength: float = 9.0) -> np.ndarray:
    """Stripes that run at `degrees`, counter-clockwise as displayed (rows count downwards), uint8 [S,S,3]."""
    y, x = np.mgrid[:size, :size].astype(float)
    t = np.radians(degrees)
    grey = 0.5 + 0.4 * np.sin(2 * np.pi * (-np.sin(t) * x + np.cos(t) * -y) / wavelength)
    return np.repeat(np.rint(255 * grey).astype(np.uint8)[..., None], 3, axis=2)


class Ignores:
    """Adds fixed horizontal stripes to the content, for any style."""

    def encode(self, x: Tensor) -> Tensor:
        return x

    def predict(self, style: Tensor) -> Any:
        return style

    def decode(self, features: Tensor, params: Any) -> Tensor:
        rows = torch.arange(features.shape[2])[:, None] * 2 * torch.pi / 9
        return 0.5 * features + 0.25 + 0.2 * torch.sin(rows)


class Copies(Ignores):
    """Returns the style instead of the content; both have one size."""

    def decode(self, features: Tensor, params: Any) -> Tensor:
        return params.expand_as(features)


class Draws(Ignores):
    """Returns stripes at the angle of its parameter, in degrees."""

    def decode(self, features: Tensor, params: Any) -> Tensor:
        drawn = torch.from_numpy(grating(float(params), size=features.shape[2]).copy())
        return drawn.permute(2, 0, 1)[None].float() / 255


def contestant(model: Any, name: str = "model") -> Contestant:
    """The model as a contestant of a comparison, with unprepared styles."""
    return Contestant(name, model, lambda style: style, 0, 0)


def smooth_content(size: int = 128) -> Tensor:
    """[1,3,S,S] without strokes: a slow wave, in another phase for each channel."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    waves = [torch.sin((x + 2 * y) * 2 * torch.pi / (3 * size) + phase) for phase in (0, 1, 2)]
    return 0.5 + 0.2 * torch.stack(waves)[None]
