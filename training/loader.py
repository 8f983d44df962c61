"""Batches of a seeded stream for one process: which positions it reads, and the loader that reads them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from ganmod.errors import GanmodError


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


_TORCH_HANDLERS = "torch.utils.data._utils.signal_handling"


class LoaderKilledError(GanmodError, RuntimeError):
    """A loader process was killed; the message says what to lower."""


def iterate_steps(loader: DataLoader) -> Iterator[Any]:
    """The batches of a loader; LoaderKilledError, at the next batch if one of its processes is gone."""
    in_main = threading.current_thread() is threading.main_thread()
    former = signal.getsignal(signal.SIGCHLD) if in_main else None
    batches = iter(loader)
    if in_main and former is not None:
        # torch's handler raises wherever the training is, perhaps between two optimizer steps. It is set once
        # for all loaders of the process, so that an earlier one may have set it.
        is_torchs = getattr(former, "__module__", "") == _TORCH_HANDLERS
        signal.signal(signal.SIGCHLD, signal.SIG_DFL if is_torchs else former)
    while True:
        try:
            batch = next(batches)
        except (RuntimeError, EOFError, ConnectionError) as error:
            if "DataLoader worker" not in str(error) and isinstance(error, RuntimeError):
                raise
            raise LoaderKilledError(
                f"one of {loader.num_workers} loader processes was killed, most often for want of memory: "
                "lower data.num_workers or data.cache_mb, which is per process, with --set"
            ) from error
        yield batch


def _ignore_signals(worker: int) -> None:
    """Keep signals to the process group (Ctrl-C) from ending workers before the checkpoint."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
