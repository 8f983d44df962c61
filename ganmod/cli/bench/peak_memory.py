"""How much memory a computation needs: the most that was in use during it, less what was before."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

from ganmod.machine import peak_memory_mb, resident_mib


def start_of_peak(device: torch.device) -> float | None:
    """Memory in use now in MiB, of this process or of the GPU's allocator; the peak counts from here.

    None where the system does not tell. An allocator that has served a computation before keeps memory that
    the next one then seems not to need: on a CPU, measure in a process of its own.
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
    """MiB in use at most since `start_of_peak`, less the `before` that it returned."""
    return None if before is None else peak_memory_mb(device) - before


def in_own_process(measure: Callable[..., float | None], *arguments: object) -> float | None:
    """measure(*arguments) in a new process; both must be what pickle can name or hold."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(measure, *arguments).result()
