"""Mean and covariance of features in one pass over the images, in float64, over several processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from metrics.frechet import GaussianStatistics
from metrics.process_shares import Processes


class FeatureStatistics:
    """Running count, mean [D] and scatter [D,D] (sum of (x - mean)(x - mean)') of features.

    Batches are merged as Chan, Golub & LeVeque (1983, Eq. 2.1) merge: no difference of large sums, so the
    result does not depend on how the features were cut into batches, nor on an offset common to all.
    """

    def __init__(self, dim: int, *, keep: int = 0, device: str | torch.device = "cpu") -> None:
        """keep: also hold on to the first so many features, float32, for precision and recall.

        device: where the sums are formed; it needs float64.
        """
        if dim < 1 or keep < 0:
            raise ValueError(f"got dim {dim} and keep {keep}, expected at least 1 and 0")
        self.dim, self.keep, self.count = dim, keep, 0
        self.mean = torch.zeros(dim, dtype=torch.float64, device=device)
        self.scatter = torch.zeros(dim, dim, dtype=torch.float64, device=device)
        self._kept: list[Tensor] = []

    @property
    def kept(self) -> Tensor:
        """The first features, at most `keep` of them, float32 [K,D] on the CPU, in the order of arrival."""
        return torch.cat([torch.empty(0, self.dim), *self._kept])

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
        x = features.to(self.mean.device, torch.float64)  # in this order: float64 may not exist over there
        mean = x.mean(dim=0)
        centred = x - mean
        self._add(len(x), mean, centred.T @ centred)
        room = self.keep - sum(map(len, self._kept))
        if room > 0:
            self._kept.append(features[:room].to("cpu", torch.float32, copy=True))

    def merge(self, other: FeatureStatistics) -> None:
        """Add what another one has seen; its kept features come after this one's."""
        if other.dim != self.dim:
            raise ValueError(f"cannot merge statistics of {other.dim} features into {self.dim}")
        self._add(other.count, other.mean.to(self.mean.device), other.scatter.to(self.mean.device))
        kept = torch.cat([self.kept, other.kept])[: self.keep]
        self._kept = [kept] if len(kept) else []

    def _add(self, count: int, mean: Tensor, scatter: Tensor) -> None:
        if not count:
            return
        total = self.count + count
        shift = mean - self.mean
        self.scatter = self.scatter + scatter + torch.outer(shift, shift) * (self.count * count / total)
        self.mean = self.mean + shift * (count / total)
        self.count = total

    def over_processes(self, processes: Processes) -> FeatureStatistics:
        """The statistics of all processes together, the same on each; every process must call this.

        Kept features come in the order of ranks, at most `keep` in all.
        """
        result = FeatureStatistics(self.dim, keep=self.keep, device=self.mean.device)
        counts = torch.zeros(processes.count, 2, dtype=torch.float64, device=self.mean.device)
        counts[processes.rank] = counts.new_tensor([self.count, len(self.kept)])
        counts = processes.total(counts)
        result.count = int(counts[:, 0].sum())
        if not result.count:
            return result
        result.mean = processes.total(self.mean * (self.count / result.count))
        shift = self.mean - result.mean
        result.scatter = processes.total(self.scatter + torch.outer(shift, shift) * self.count)
        first = int(counts[: processes.rank, 1].sum())
        num_kept = min(self.keep, int(counts[:, 1].sum()))
        if num_kept:
            kept = torch.zeros(num_kept, self.dim)
            own = self.kept[: max(0, num_kept - first)]
            kept[first : first + len(own)] = own
            result._kept = [processes.total(kept)]
        return result

    def finish(self) -> GaussianStatistics:
        """Mean and unbiased covariance. ValueError when fewer than two images were seen."""
        covariance = self.scatter / max(1, self.count - 1)
        return GaussianStatistics(self.mean.cpu().numpy(), covariance.cpu().numpy(), self.count)

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors on the CPU, which `torch.load(weights_only=True)` reads."""
        return {
            "dim": self.dim,
            "keep": self.keep,
            "count": self.count,
            "mean": self.mean.cpu().clone(),
            "scatter": self.scatter.cpu().clone(),
            "kept": self.kept,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a `state_dict`; the device stays. ValueError when it is of another dim or keep."""
        if (state["dim"], state["keep"]) != (self.dim, self.keep):
            raise ValueError(
                f"got statistics with dim {state['dim']} and keep {state['keep']}, expected {self.dim} and "
                f"{self.keep}: they were made for another measurement"
            )
        device = self.mean.device
        self.count = state["count"]
        self.mean = state["mean"].to(device, torch.float64, copy=True)
        self.scatter = state["scatter"].to(device, torch.float64, copy=True)
        self._kept = [state["kept"].clone()] if len(state["kept"]) else []


def to_saved_uint8(images: Tensor) -> Tensor:
    """Float [N,3,H,W] in [-1,1] -> uint8 of the same shape and device: the values a saved file would hold.

    Rounded, out of range clamped. Raises ValueError for NaN and for integers.
    """
    if not images.is_floating_point():
        raise ValueError(f"got {images.dtype} {list(images.shape)}, expected float images in [-1,1]")
    x = images.detach().to(torch.promote_types(images.dtype, torch.float32))
    if torch.isnan(x).any():
        raise ValueError(f"images {list(images.shape)} hold NaN: look for the step that made it")
    return (x / 2 + 0.5).mul(255).round().clamp(0, 255).to(torch.uint8)
