"""What tests of every training loop look at: the final state of a run, leaf by leaf."""

from __future__ import annotations

from pathlib import Path

import torch

from training.checkpoint import load_latest_checkpoint


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


def assert_same(a: dict, b: dict, ignore: tuple[str, ...] = ("/seconds", "/config")) -> None:
    a, b = flat(a), flat(b)
    assert a.keys() == b.keys()
    for key, value in a.items():
        if key.startswith(ignore):
            continue
        same = torch.equal(value, b[key]) if isinstance(value, torch.Tensor) else value == b[key]
        assert same, f"{key} differs"
