"""Means of named statistics between two reports, over all processes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ganmod import distributed


class RunningMeans:
    """Sum and number of each name's values, float64 [names,2] on the device, so that adding never waits."""

    def __init__(self, names: Sequence[str], device: torch.device) -> None:
        self.names = tuple(names)
        self.sums = torch.zeros(len(self.names), 2, dtype=torch.float64, device=device)

    def add(self, name: str, values: Tensor) -> None:
        """Values of any shape. ValueError for a name that is not counted."""
        row = self.names.index(name)
        self.sums[row, 0] += values.detach().double().sum()
        self.sums[row, 1] += values.numel()

    def add_each(self, names: Iterable[str], values: Iterable[Tensor]) -> None:
        """`add` of as many names as values."""
        for name, value in zip(names, values, strict=True):
            self.add(name, value)

    def add_all(self, other: RunningMeans) -> None:
        """Add the values of another one of the same names, but for those that are not finite.

        A single skipped step would otherwise hide all others until the next report.
        """
        self.sums += torch.where(other.sums.isfinite().all(dim=1, keepdim=True), other.sums, 0)

    def empty(self) -> RunningMeans:
        """Another one of the same names, without values."""
        return RunningMeans(self.names, self.sums.device)

    def totals(self, *names: str) -> dict[str, Tensor]:
        """The sums of some names' values on this process, [] each."""
        return {name: self.sums[self.names.index(name), 0] for name in names}

    def over_processes(self) -> Tensor:
        """The sums as a mean over processes, which all call this: what a checkpoint holds."""
        return distributed.average(self.sums.clone())

    def report(self) -> dict[str, float]:
        """Means over all processes, which all call this, of the names that have values; then starts again."""
        values = self.over_processes().tolist()
        self.sums.zero_()
        return {name: v / n for name, (v, n) in zip(self.names, values, strict=True) if n}
