"""Runs with known figures, for tests of comparisons."""

from __future__ import annotations

from typing import Any

from metrics.compare.runs import MeasuredRun, RunFacts

SETTINGS = {"generator.channel_max": 64, "schedule.batch_size": 32, "data.mirror": False}


def facts(name: str, modulation: str = "adain", **changes: Any) -> RunFacts:
    """A StyleGAN2 run of 100 kimg in 1,000 seconds with seed 0; `changes` are other fields of RunFacts."""
    usual: dict[str, Any] = {"options": {}, "settings": SETTINGS, "seed": 0, "kimg": 100.0, "seconds": 1000.0}
    return RunFacts(name=name, recipe="stylegan2", modulation=modulation, **{**usual, **changes})


def measured_run(run: RunFacts, *draws: float, metric: str = "fd_x", **changes: Any) -> MeasuredRun:
    """A run whose draws have these values of one metric."""
    values = [{metric: value} for value in draws]
    return MeasuredRun(run, parameters=300_000, draws=values, num_images=10 * len(draws), **changes)
