"""Valid files that hostile ones are made from, and that command lines name."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from pathlib import Path

import foreign_stylegan2 as foreign
import numpy as np
import pytest
import torch
from foreign_checkpoints import checkpoint, generator_state
from PIL import Image
from tiny_generator import tiny_generator
from tiny_starganv2 import tiny_spec
from tiny_style_model import make

from configs.schema import PRESETS, list_presets
from ganmod.starganv2 import Generator, MappingNetwork, StyleEncoder
from ganmod.starganv2.starganv2_file import StarGANv2, save_starganv2
from ganmod.stylegan2.latent_file import save_latents
from ganmod.stylegan2.stylegan2_file import save_stylegan2
from tests.fuzz.lines import SMALL_RUN
from tests.fuzz.process import CANARY, OK, run_line

IMAGE_FORMATS = ("png", "jpeg", "webp", "bmp", "tiff", "gif")


def write_seeds(folder: Path) -> None:
    """Write a small file of each kind; the names begin with the kind."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    G = tiny_generator()
    save_stylegan2(folder / "stylegan2.safetensors", G_ema=G, G=tiny_generator())
    classes = {"modulation": "adaconv", "style_lift": "shared", "descriptor_dim": 4, "c_dim": 2}
    save_stylegan2(folder / "classes.safetensors", G_ema=tiny_generator(**classes), class_names=["a", "b"])
    spec = tiny_spec()
    averaged = StarGANv2(Generator(spec), MappingNetwork(spec), StyleEncoder(spec))
    save_starganv2(folder / "starganv2.safetensors", averaged)
    for kind in ("adaconv", "classic", "residual-adain", "johnson-cin"):
        make(kind).save(folder / f"style-{kind}.safetensors")
    for suffix in (".npz", ".safetensors"):
        save_latents(folder / f"latents{suffix}", torch.randn(2, G.num_ws, G.w_dim))
    with pytest.MonkeyPatch.context() as patch:
        foreign.install_official_modules(patch)
        networks = {"G_ema": foreign.generator(), "D": foreign.discriminator()}
        (folder / "ada.pkl").write_bytes(foreign.ada_pickle(networks))
        patch.setattr(foreign, "Z_DIM", foreign.W_DIM)
        torch.save({"g_ema": generator_state(foreign.generator())}, folder / "rosinality.pt")
    torch.save(checkpoint()[0], folder / "official.ckpt")
    torch.save({"0.weight": torch.ones(3, 3, 1, 1), "0.bias": torch.ones(3)}, folder / "weights.pth")
    for form in IMAGE_FORMATS:
        pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"image.{form}")
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for i in range(4):
            buffer = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (16, 24, 3), dtype=np.uint8)).save(buffer, "png")
            archive.writestr(f"{'ab'[i % 2]}/{i}.png", buffer.getvalue())
        labels = [[f"{'ab'[i % 2]}/{i}.png", i % 2] for i in range(4)]
        archive.writestr("dataset.json", json.dumps({"labels": labels}))
    training = f"train stylegan2 --config stylegan2-smoke --data images.zip --out run {SMALL_RUN}"
    outcome = run_line(training.split(), folder)
    (checkpoint_file,) = (folder / "run").glob("checkpoint-*.pt")
    assert outcome.kind == OK, outcome
    checkpoint_file.rename(folder / "checkpoint.pt")
    shutil.rmtree(folder / "run")
    for name in list_presets():
        (folder / f"{name}.yaml").write_text((PRESETS / f"{name}.yaml").read_text())
    # Whoever imports this, for a model file that names it, leaves the canary.
    (folder / "canary_plugin.py").write_text(f"import pathlib\npathlib.Path({CANARY!r}).touch()\n")
