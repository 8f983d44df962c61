"""Run folders as written by training, made without training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tiny_generator import tiny_generator

from configs.schema import load_stylegan2_config, to_yaml
from ganmod.stylegan2.stylegan2_file import save_stylegan2


def run_folder(path: Path, *, nimg: int = 2000, size: tuple[int, int] = (16, 24), **changes: Any) -> Path:
    """A run folder with a tiny model after nimg images in nimg / 100 seconds; statistics every 1,000.

    size: height and width of the model's images.
    """
    path.mkdir(parents=True)
    modulation = changes.pop("model.modulation", "adain")
    settings = {"data.path": "/data/set.zip", "model.modulation": modulation, **changes}
    (path / "config.yaml").write_text(to_yaml(load_stylegan2_config("stylegan2-smoke", settings)))
    training = {"nimg": nimg, "seconds": nimg / 100}
    G = tiny_generator(modulation=modulation, img_resolution=size)
    save_stylegan2(path / "model-latest.safetensors", G_ema=G, training=training)
    lines = [
        {"nimg": n, "seconds": n / 100, "peak_memory_mb": 7.0 * n, "nonfinite_steps": n / 1000}
        for n in range(1000, nimg + 2000, 1000)
    ]
    (path / "stats.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (path / "metrics.jsonl").write_text(json.dumps({"nimg": 1000, "fd_x": 3.0}) + "\n")
    return path
