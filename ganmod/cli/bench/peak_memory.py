"""Memory that a computation needs: the peak during it, minus the memory in use before."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

from ganmod.machine import peak_memory_mb, resident_mib


def start_peak(device: torch.device) -> float | None:
    """Memory in use now in MiB, of this process or of the GPU's allocator; the peak counts from here.

    None where the system does not report it. On a CPU, measure in a new process: an allocator keeps the
    memory of earlier computations, which the next one then seems not to need.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device) / 2**20
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return resident_mib("VmRSS")


def peak_since(before: float | None, device: torch.device) -> float | None:
    """Peak memory since `start_peak` in MiB, minus the `before` that it returned."""
    return None if before is None else peak_memory_mb(device) - before


def run_in_new_process(measure: Callable[..., float | None], *arguments: object) -> float | None:
    """measure(*arguments) in a new process; pickle must be able to send both."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(measure, *arguments).result()
