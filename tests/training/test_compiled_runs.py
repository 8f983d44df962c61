"""If this fails, `--compile` breaks a training run, or makes another run of it."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from run_checks import final_state, flat, short_schedule

from configs.schema import load_starganv2_config, load_style_config, load_stylegan2_config
from training import train_starganv2, train_style, train_stylegan2

STEPS, BATCH = 2, 8


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight images of 16 x 16 pixels in two folders."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / name).mkdir()
        for i in range(4):
            Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(
                folder / name / f"{i}.png"
            )
    return folder


@pytest.mark.parametrize("modulation", ["weight_demod", "adaconv"])
@pytest.mark.parametrize(
    ("load", "train", "preset", "changes"),
    [
        (
            load_style_config,
            train_style.train,
            "style-smoke",
            {"data.crop": 32, "data.short_side": 64, "model.style_image_size": 64},
        ),
        (load_stylegan2_config, train_stylegan2.train, "stylegan2-smoke", {"model.channel_max": 8}),
        (
            load_starganv2_config,
            train_starganv2.train,
            "starganv2-smoke",
            {"model.img_size": 16, "model.channel_base": 64, "model.channel_max": 4},
        ),
    ],
    ids=["style", "stylegan2", "starganv2"],
)
def test_a_compiled_run_is_the_run(
    load: Callable[..., Any],
    train: Callable[..., Path],
    preset: str,
    changes: dict[str, Any],
    modulation: str,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    common = {
        "model.modulation": modulation,
        **short_schedule(STEPS, BATCH),
        "runtime.precision": "float64",
        **({"data.path": str(images)} if load is not load_style_config else {}),
        **changes,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler warns about itself
        for compiled in (False, True):
            config = load(preset, common | {"runtime.compile": compiled})
            train(config, tmp_path / str(compiled), show_progress=False)
    plain, compiled_state = (flat(final_state(tmp_path / str(c))) for c in (False, True))
    tensors = {k: v for k, v in plain.items() if isinstance(v, torch.Tensor) and not k.startswith("/sums")}
    assert len(tensors) > 10
    for key, value in tensors.items():
        torch.testing.assert_close(compiled_state[key], value, rtol=1e-6, atol=1e-9, msg=key)
