"""Measure images in several feature spaces in one pass: join the spaces, then split the result."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from metrics.distances.frechet import GaussianStatistics
from metrics.features.base import FeatureSpace
from metrics.image_sets.features import SetFeatures


class JoinedSpaces:
    """A feature space that concatenates the vectors of several spaces."""

    def __init__(self, spaces: Sequence[FeatureSpace]) -> None:
        """spaces: one or more, on one device; ValueError otherwise."""
        devices = {space.device for space in spaces}
        if len(devices) != 1:
            raise ValueError(
                f"got {len(spaces)} spaces on {len(devices)} devices, expected at least one, on one"
            )
        self.spaces = tuple(spaces)
        self.name = "+".join(space.name for space in spaces)
        self.dim = sum(space.dim for space in spaces)
        self.fingerprint: str | None = None  # measured for one comparison, never kept
        self.device = devices.pop()

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 RGB [N,3,H,W] -> float32 [N,dim]."""
        return torch.cat([space(images) for space in self.spaces], dim=1)

    def split(self, joined: SetFeatures) -> list[SetFeatures]:
        """Features in the joined space -> features in each space."""
        parts, start = [], 0
        for space in self.spaces:
            columns = slice(start, start + space.dim)
            gaussian = GaussianStatistics(
                joined.gaussian.mean[columns],
                joined.gaussian.covariance[columns, columns],
                joined.gaussian.count,
            )
            features = None if joined.features is None else joined.features[:, columns].contiguous()
            parts.append(SetFeatures(gaussian, features))
            start += space.dim
        return parts
