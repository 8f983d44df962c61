"""Chooses ADA's augmentation strength p from how often the discriminator is sure of real images."""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
from torch import Tensor

State = dict[str, float | int]


class AdaController:
    """Raises p while E[sign(D(real))] is above `target`, lowers it while below (Karras et al. 2020, eq. 1).

    Every `interval` batches, p moves by batch_size * interval / (ada_kimg * 1000), within [0, p_max]: from 0
    to 1 in ada_kimg thousand images. The published code has no p_max, and p has been seen at 21.8, where
    augmentations leak into the generated images. target None: p stays as given.

    Each process records its own logits; `end_batch` sums over processes, so that p is the same in all.
    device: where the logits are, and where the processes reduce.
    ValueError: p or p_max outside [0, 1], p above p_max, a target outside [-1, 1], counts below 1.
    """

    def __init__(
        self,
        *,
        batch_size: int,
        p: float = 0.0,
        p_max: float = 0.8,
        target: float | None = 0.6,
        interval: int = 4,
        ada_kimg: float = 500.0,
        device: torch.device | str = "cpu",
    ) -> None:
        if batch_size < 1 or interval < 1 or not ada_kimg > 0:
            raise ValueError(
                f"batch_size {batch_size}, interval {interval}, ada_kimg {ada_kimg}: all must be above 0"
            )
        if not 0 <= p_max <= 1 or not 0 <= p <= 1:
            raise ValueError(f"p {p} and p_max {p_max} must lie between 0 and 1")
        if target is not None and not -1 <= target <= 1:
            raise ValueError(f"target {target} is compared with a mean sign: give a value from -1 to 1")
        if target is not None and p > p_max:
            raise ValueError(f"p {p} is above p_max {p_max}: lower p, or raise p_max")
        self.p, self.p_max, self.target, self.interval = p, p_max, target, interval
        self.step = batch_size * interval / (ada_kimg * 1000)
        self.mean_sign = math.nan  # the last E[sign(D(real))] that p was adjusted by, for logs
        self.batches = 0  # since the last adjustment
        self._sums = torch.zeros(2, device=device)  # of signs, of logits; recorded in this process

    def record(self, real_logits: Tensor) -> None:
        """Add D(real) [N,...] of a (part of a) batch; does not wait for the device.

        Logits that are not finite have no sign and are left out: counting and reporting them is the loop's.
        """
        logits = real_logits.detach()
        finite = logits.isfinite()
        signs = torch.where(finite, logits.sign(), 0)
        sums = torch.stack([signs.sum(dtype=torch.float32), finite.sum(dtype=torch.float32)])
        self._sums = self._sums + sums.to(self._sums.device)

    def end_batch(self) -> bool:
        """Count a batch; every `interval` batches, measure and adjust, and return True.

        Call it in every process.
        """
        self.batches += 1
        if self.batches < self.interval:
            return False
        sign_sum, count = self._global_sums()
        self.batches, self._sums = 0, torch.zeros_like(self._sums)
        if count == 0:
            return False
        self.mean_sign = sign_sum / count
        if self.target is not None:
            direction = (self.mean_sign > self.target) - (self.mean_sign < self.target)
            self.p = min(max(self.p + direction * self.step, 0.0), self.p_max)
        return True

    def state_dict(self) -> State:
        """Plain values that continue exactly, sums being over all processes. Call it in every process."""
        sign_sum, count = self._global_sums()
        return {
            "p": self.p,
            "sign_sum": sign_sum,
            "count": count,
            "batches": self.batches,
            "mean_sign": self.mean_sign,
        }

    def load_state_dict(self, state: State, *, rank: int = 0) -> None:
        """Continue from `state_dict`; the first process takes the sums, whatever the process count was.

        A controller with target None keeps the p it was built with. ValueError: keys missing or unknown.
        """
        expected = {"p", "sign_sum", "count", "batches", "mean_sign"}
        if set(state) != expected:
            raise ValueError(f"ADA state has the keys {sorted(state)}, expected {sorted(expected)}")
        if self.target is not None:
            self.p = min(float(state["p"]), self.p_max)
        self.batches, self.mean_sign = int(state["batches"]), float(state["mean_sign"])
        mine = [float(state["sign_sum"]), float(state["count"])] if rank == 0 else [0.0, 0.0]
        self._sums = torch.tensor(mine, device=self._sums.device)

    def _global_sums(self) -> tuple[float, float]:
        sums = self._sums.clone()  # whole numbers, exact in float32 up to 16 million logits
        if dist.is_initialized():
            dist.all_reduce(sums)
        sign_sum, count = sums.tolist()
        return sign_sum, count
