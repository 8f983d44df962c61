"""How processes share the images of a measurement: batches of global indices, and sums at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from ganmod import distributed


def _identity(tensor: Tensor) -> Tensor:
    return tensor


@dataclass(frozen=True)
class Processes:
    """This process, number `rank` of `count`.

    Args:
        total: sums a tensor over all processes; each of them must call it.
    """

    rank: int = 0
    count: int = 1
    total: Callable[[Tensor], Tensor] = _identity

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.count:
            raise ValueError(f"rank is {self.rank} of {self.count} processes, expected 0 to {self.count - 1}")
        if self.count > 1 and self.total is _identity:
            raise ValueError(f"{self.count} processes need `total`, the sum over them: see current_processes")

    def batches(self, num_images: int, batch_size: int) -> Iterator[Tensor]:
        """Global indices, int64 [<= batch_size], of each batch of this process.

        0..num_images-1 is first cut into batches, which are then distributed: for any number of processes
        the batches are the same, and so is the rounding of a network that reads them.
        """
        for start in range(self.rank * batch_size, num_images, self.count * batch_size):
            yield torch.arange(start, min(start + batch_size, num_images))


ONE_PROCESS = Processes()


def current_processes(device: str | torch.device = "cpu") -> Processes:
    """The processes of torch.distributed, or one process if it was not started.

    device: where tensors are summed; NCCL needs this process's GPU. Sums return to the tensor's device.
    """
    if not dist.is_initialized():
        return ONE_PROCESS

    def total(tensor: Tensor) -> Tensor:
        summed = tensor.to(device, copy=True)
        dist.all_reduce(summed)
        return summed.to(tensor.device)

    rank, world_size = distributed.rank_and_world_size()
    return Processes(rank, world_size, total)
