"""Batches of a seeded stream for one process: which positions it reads, and the loader that reads them."""

from __future__ import annotations

import contextlib
import signal
import sys
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


class LoaderKilledError(GanmodError, RuntimeError):
    """A loader process was killed; the message says what to lower."""


def iterate_steps(loader: DataLoader) -> Iterator[Any]:
    """The batches of a loader; LoaderKilledError, at the next batch if one of its processes is gone.

    Closing the iterator ends the loader's processes, which do not end by signals.
    """
    with _without_torchs_handler():
        batches = iter(loader)
    try:
        while True:
            try:
                batch = next(batches)
            except (RuntimeError, EOFError, ConnectionError) as error:
                if not loader.num_workers or not _tells_of_killed(error):
                    raise
                raise LoaderKilledError(
                    f"one of {loader.num_workers} loader processes was killed, most often for want of "
                    "memory: lower data.num_workers or data.cache_mb, which is per process, with --set"
                ) from error
            yield batch
    finally:
        if loader.num_workers:
            batches._shutdown_workers()  # type: ignore[attr-defined]


@contextlib.contextmanager
def _without_torchs_handler() -> Iterator[None]:
    """Undo what torch does when it starts a loader: its handler raises wherever the training is.

    That could be between two optimizer steps. It is set once for all loaders of the process, so that an
    earlier one may have set it.
    """
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        yield  # torch sets none
        return
    former = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        if former is not None:
            is_torchs = getattr(former, "__module__", "") == "torch.utils.data._utils.signal_handling"
            signal.signal(signal.SIGCHLD, signal.SIG_DFL if is_torchs else former)


def _tells_of_killed(error: Exception) -> bool:
    """Whether torch's loader raised this itself; errors of the data set begin with "Caught"."""
    text = str(error)
    if isinstance(error, RuntimeError):
        return text.startswith(("DataLoader worker (pid", "Pin memory thread exited"))
    return not text.startswith("Caught ")


def _ignore_signals(worker: int) -> None:
    """Keep signals to the process group (Ctrl-C) from ending workers before the checkpoint."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
