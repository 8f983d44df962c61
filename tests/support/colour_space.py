"""A feature space that takes no time: mean and spread of each channel."""

from __future__ import annotations

import torch
from torch import Tensor

from metrics.features.base import CallableSpace

NAME = "colour_space:colour_features"  # as --metric-features takes it


def colour_features(images: Tensor) -> Tensor:
    """uint8 [N,3,H,W] -> float32 [N,6]."""
    x = images.float() / 255
    return torch.cat([x.mean(dim=(2, 3)), x.std(dim=(2, 3))], dim=1)


def colour_space(name: str = "test:colours", *, fingerprint: str | None = "colours 1") -> CallableSpace:
    space = CallableSpace(name, colour_features, device="cpu")
    space.fingerprint = fingerprint
    return space
