"""A stand-in for the published Inception file: small TorchScript with `layers`."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from metrics.features.inception import PUBLISHED, InceptionFile


class SmallInception(nn.Module):
    """8 channels on a grid of side x side."""

    def __init__(self, side: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 7, stride=4), nn.Tanh(), nn.AdaptiveAvgPool2d(side), nn.Flatten()
        )

    def forward(self, x: Tensor, return_features: bool = True) -> Tensor:
        return self.layers((x - 128) / 128)


def write_inception(folder: Path, *, side: int = 16) -> InceptionFile:
    """Write a network of 8 side^2 features (2048 for 16) under the published name -> its description."""
    path = folder / PUBLISHED.name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(SmallInception(side).eval()).save(str(path))
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    return InceptionFile(PUBLISHED.name, len(data), digest, "https://there/it.pt", 8 * side**2)
