"""Wall times of several forms of a computation, measured in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch

Advance = Callable[[], None]  # moves a progress bar by one


def interleaved_ms(
    forms: Mapping[str, Callable[[], object]], repeats: int, device: torch.device, progress: Advance
) -> dict[str, list[float]]:
    """Wall times in ms of `repeats` calls of each form, in turn; the caller warms up."""
    times: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(repeats):
        for name, form in forms.items():
            synchronize(device)
            begin = time.perf_counter()
            form()
            synchronize(device)
            times[name].append((time.perf_counter() - begin) * 1000)
            progress()
    return times


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
