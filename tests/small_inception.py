"""A stand-in for the published Inception file: TorchScript with `layers`, small, of 2048 features."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from ganmod.inception import PUBLISHED, InceptionFile


class SmallInception(nn.Module):
    """8 channels on a grid of 16 x 16."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 7, stride=4), nn.Tanh(), nn.AdaptiveAvgPool2d(16), nn.Flatten()
        )

    def forward(self, x: Tensor, return_features: bool = True) -> Tensor:
        return self.layers((x - 128) / 128)


def write_inception(folder: Path) -> InceptionFile:
    """Write it under the published name; returns what a load should expect."""
    path = folder / PUBLISHED.name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(SmallInception().eval()).save(str(path))
    data = path.read_bytes()
    return InceptionFile(PUBLISHED.name, len(data), hashlib.sha256(data).hexdigest(), "https://there/it.pt")
