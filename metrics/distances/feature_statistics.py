"""Mean and covariance of features in one pass over the images, in float64 and over processes."""

from __future__ import annotations

import torch
from torch import Tensor

from ganmod.layers import widen
from ganmod.process_shares import Processes
from metrics.distances.frechet import GaussianStatistics


class FeatureStatistics:
    """Running count, mean [D] and scatter [D,D] (sum of (x - mean)(x - mean)') of features.

    Batches are merged by Eq. 2.1 of Chan, Golub & LeVeque (1983). It takes no difference of large sums: the
    result depends neither on the batch size nor on a common offset.
    """

    def __init__(self, dim: int, *, device: str | torch.device = "cpu") -> None:
        """Start with no images; `device` holds the sums and must support float64."""
        if dim < 1:
            raise ValueError(f"got dim {dim}, expected at least 1")
        self.dim, self.count = dim, 0
        self.mean = torch.zeros(dim, dtype=torch.float64, device=device)
        self.scatter = torch.zeros(dim, dim, dtype=torch.float64, device=device)

    @torch.no_grad()
    def update(self, features: Tensor) -> None:
        """Add features [N,D], any float dtype and device. ValueError for another shape, NaN or infinity."""
        if features.ndim != 2 or features.shape[1] != self.dim or not features.is_floating_point():
            raise ValueError(
                f"got features {features.dtype} {list(features.shape)}, expected float [N, {self.dim}]"
            )
        if len(features) == 0:
            return
        bad = int((~torch.isfinite(features).all(dim=1)).sum())
        if bad:
            raise ValueError(
                f"the features of {bad} of {len(features)} images hold NaN or infinity, nothing was added: "
                "look at the images and at the network's weights"
            )
        x = features.to(self.mean.device, torch.float64)  # the features' device may not support float64
        mean = x.mean(dim=0)
        centred = x - mean
        self._add(len(x), mean, centred.T @ centred)

    def merge(self, other: FeatureStatistics) -> None:
        """Add the images of other statistics."""
        if other.dim != self.dim:
            raise ValueError(f"cannot merge statistics of {other.dim} features into {self.dim}")
        self._add(other.count, other.mean.to(self.mean.device), other.scatter.to(self.mean.device))

    def _add(self, count: int, mean: Tensor, scatter: Tensor) -> None:
        if not count:
            return
        total = self.count + count
        shift = mean - self.mean
        self.scatter = self.scatter + scatter + torch.outer(shift, shift) * (self.count * count / total)
        self.mean = self.mean + shift * (count / total)
        self.count = total

    def over_processes(self, processes: Processes) -> FeatureStatistics:
        """The combined statistics of all processes, the same on each; every process must call this."""
        result = FeatureStatistics(self.dim, device=self.mean.device)
        result.count = int(processes.total(self.mean.new_tensor([self.count])))
        if not result.count:
            return result
        result.mean = processes.total(self.mean * (self.count / result.count))
        shift = self.mean - result.mean
        result.scatter = processes.total(self.scatter + torch.outer(shift, shift) * self.count)
        return result

    def finish(self) -> GaussianStatistics:
        """Mean and unbiased covariance. Raises ValueError for fewer than two images."""
        covariance = self.scatter / max(1, self.count - 1)
        return GaussianStatistics(self.mean.cpu().numpy(), covariance.cpu().numpy(), self.count)


def to_saved_uint8(images: Tensor) -> Tensor:
    """Float [N,3,H,W] in [-1,1] -> uint8 of the same shape and device, clamped and rounded as when saved.

    Raises ValueError for NaN and for integers.
    """
    if not images.is_floating_point():
        raise ValueError(f"got {images.dtype} {list(images.shape)}, expected float images in [-1,1]")
    x = widen(images.detach())
    if torch.isnan(x).any():
        raise ValueError(f"images {list(images.shape)} hold NaN: look for the step that made it")
    return (x / 2 + 0.5).mul(255).round().clamp(0, 255).to(torch.uint8)
