"""Checks shared by the tests of all training loops: the final state of a run, leaf by leaf."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from colour_space import NAME

from ganmod.io.model_file import read_model_file
from training.run.checkpoint import load_latest_checkpoint


def short_schedule(steps: int, batch_size: int) -> dict[str, Any]:
    """Settings of a short run on the CPU: every step is logged, only the last has a checkpoint."""
    return {
        "schedule.batch_size": batch_size,
        "schedule.total_kimg": steps * batch_size / 1000,
        "schedule.log_kimg": batch_size / 1000,
        "schedule.checkpoint_kimg": 100,
        "schedule.snapshot_kimg": 100,
        "runtime.tensorboard": False,
        "runtime.device": "cpu",
    }


def final_state(run_dir: Path) -> dict:
    state = load_latest_checkpoint(run_dir, report=lambda text: None)
    assert state is not None
    return state


def flat(state: object, path: str = "") -> dict[str, object]:
    """Nested containers as {path: leaf}."""
    if isinstance(state, dict):
        items = state.items()
    elif isinstance(state, list | tuple):
        items = enumerate(state)  # type: ignore[assignment]
    else:
        return {path: state}
    return {k: v for key, value in items for k, v in flat(value, f"{path}/{key}").items()}


def assert_same(a: dict, b: dict, ignore: tuple[str, ...] = ("/seconds", "/config", "/changes")) -> None:
    a, b = ({k: v for k, v in flat(state).items() if not k.startswith(ignore or "-")} for state in (a, b))
    assert a.keys() == b.keys()
    for key, value in a.items():
        both_nan = value != value and b[key] != b[key] if isinstance(value, float) else False
        same = torch.equal(value, b[key]) if isinstance(value, torch.Tensor) else value == b[key] or both_nan
        assert same, f"{key} differs"


def read_lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def check_measuring(
    run: Callable[[Path, dict[str, Any]], object], folder: Path, *, step: int, metrics: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Check that metrics every 2 steps leave a run of 5 steps unchanged, and write its best model.

    Args:
        run: trains, from (folder, changes).
        folder: where the runs are written.
        step: images of a step.
        metrics: names for `metric.names`.

    Returns the lines of metrics.jsonl.
    """
    snapshots = {"schedule.snapshot_kimg": 2 * step / 1000}
    measured = {"metric.names": list(metrics), "metric.features": NAME, "metric.num_images": 6}
    run(folder / "plain", snapshots)
    run(folder / "measured", snapshots | measured)
    states = [final_state(folder / name) for name in ("plain", "measured")]
    assert_same(
        *({k: v for k, v in state.items() if k not in ("best", "best_of", "config")} for state in states)
    )
    lines = read_lines(folder / "measured" / "metrics.jsonl")
    assert sorted({line["nimg"] for line in lines}) == [2 * step, 4 * step, 5 * step]
    first = [line for line in lines if line["conditions"]["metric"] == lines[0]["conditions"]["metric"]]
    best = min(first, key=lambda line: line[line["conditions"]["metric"]])
    model = read_model_file(folder / "measured" / "model-best.safetensors")
    assert model.config["training"]["nimg"] == best["nimg"]
    assert not (folder / "plain" / "model-best.safetensors").exists()
    stats = read_lines(folder / "measured" / "stats.jsonl")
    assert all(line["peak_memory_mb"] > 50 for line in stats)
    return lines
