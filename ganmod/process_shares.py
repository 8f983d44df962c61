"""How processes share the images of a measurement: whole batches of fixed global indices, sums at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from ganmod import distributed


def _itself(tensor: Tensor) -> Tensor:
    return tensor


@dataclass(frozen=True)
class Processes:
    """This process among `count`. total: a tensor -> its sum over all processes, which all of them call."""

    rank: int = 0
    count: int = 1
    total: Callable[[Tensor], Tensor] = _itself

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.count:
            raise ValueError(f"rank is {self.rank} of {self.count} processes, expected 0 to {self.count - 1}")
        if self.count > 1 and self.total is _itself:
            raise ValueError(f"{self.count} processes need `total`, the sum over them: see current_processes")

    def batches(self, num_images: int, batch_size: int) -> Iterator[Tensor]:
        """Global indices [<= batch_size] of this process's batches, int64.

        The indices 0..num_images-1 are cut into batches first and dealt out after, so that every batch is the
        same whatever the number of processes, down to the rounding of a network that sees it.
        """
        for start in range(self.rank * batch_size, num_images, self.count * batch_size):
            yield torch.arange(start, min(start + batch_size, num_images))


ONE_PROCESS = Processes()


def current_processes(device: str | torch.device = "cpu") -> Processes:
    """The processes of torch.distributed, or one where it was not started.

    device: where sums over processes take place; NCCL wants this process's GPU. Results come back to the
    device of what was given.
    """
    if not dist.is_initialized():
        return ONE_PROCESS

    def total(tensor: Tensor) -> Tensor:
        summed = tensor.to(device, copy=True)
        dist.all_reduce(summed)
        return summed.to(tensor.device)

    rank, world_size = distributed.rank_and_world_size()
    return Processes(rank, world_size, total)
