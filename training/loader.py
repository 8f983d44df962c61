"""Batches of a seeded stream for one process: which positions it reads, and the loader that reads them."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader, Dataset, Sampler


class StepSampler(Sampler[list[int]]):
    """The stream positions that one process reads, step after step, from image `nimg` on.

    A global step takes `batch_size` consecutive positions; process `rank` of `world_size` takes its part.
    """

    def __init__(self, *, batch_size: int, nimg: int, rank: int = 0, world_size: int = 1) -> None:
        self.batch_size, self.nimg, self.rank = batch_size, nimg, rank
        self.batch_per_process = batch_size // world_size

    def __iter__(self) -> Iterator[list[int]]:
        start = self.nimg + self.rank * self.batch_per_process
        while True:
            yield list(range(start, start + self.batch_per_process))
            start += self.batch_size


def step_loader(dataset: Dataset, sampler: StepSampler, *, num_workers: int = 0) -> DataLoader:
    """Batches for one process; the number of worker processes changes speed, never content."""
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=num_workers > 0,
        worker_init_fn=_ignore_signals,
    )


def _ignore_signals(worker: int) -> None:
    """Keep signals to the process group (Ctrl-C) from ending workers before the checkpoint."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
