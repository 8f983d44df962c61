"""If this fails, `ganmod generate` makes other images than its seeds, class, truncation or file say."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_checks import Ended, assert_fails
from tiny_generator import tiny_generator

import ganmod
import style_transfer
from ganmod.data.seeding import seed_latents
from ganmod.io.images import read_image
from ganmod.io.model_file import ModelFileError, save_model_file
from ganmod.stylegan2 import Generator
from ganmod.stylegan2.latent_file import load_latents, save_latents
from ganmod.stylegan2.sampling import map_latents, render
from ganmod.stylegan2.stylegan2_file import read_stylegan2, save_stylegan2

CLASSES = ("cat", "dog", "1")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """plain.safetensors and, with three classes, classes.safetensors."""
    folder = tmp_path_factory.mktemp("models")
    save_stylegan2(folder / "plain.safetensors", G_ema=tiny_generator())
    G = tiny_generator(c_dim=3, modulation="adaconv", num_half_res=1)
    save_stylegan2(folder / "classes.safetensors", G_ema=G, G=tiny_generator(c_dim=3), class_names=CLASSES)
    return folder


def expected_images(G: Generator, seeds: list[int], c: torch.Tensor | None = None, **values: Any) -> Any:
    """uint8 [N,H,W,3] straight from the definition."""
    z = torch.cat([torch.tensor(np.random.RandomState(s).randn(1, G.z_dim)).float() for s in seeds])
    c = None if c is None else c.expand(len(z), -1)
    images = (G(z, c, noise_mode="const", **values) + 1) * 127.5
    return images.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()


def test_a_model_of_nan_is_named_as_such(tmp_path: Path, ganmod_command: Callable[..., Ended]) -> None:
    G = tiny_generator()
    with torch.no_grad():
        next(G.synthesis.parameters()).fill_(float("nan"))
    save_stylegan2(tmp_path / "spoilt.safetensors", G_ema=G)
    ended = ganmod_command(
        "generate", tmp_path / "spoilt.safetensors", "--seeds", "0", "--out", tmp_path / "out"
    )
    assert_fails(ended, 1, "not finite")
    assert "step" not in ended.err


def test_load_gives_the_averaged_generator_in_full_precision(models: Path):
    G = ganmod.load(models / "classes.safetensors")
    wanted = tiny_generator(c_dim=3, modulation="adaconv")
    assert not G.training
    assert G.spec == wanted.spec  # no resolution in half precision
    for name, tensor in wanted.state_dict().items():
        torch.testing.assert_close(G.state_dict()[name], tensor, rtol=0, atol=0)
    assert read_stylegan2(models / "classes.safetensors").class_names == CLASSES
    halved = read_stylegan2(models / "classes.safetensors", half_precision=True).G
    assert halved.spec.num_half_res == 1
    with pytest.raises(ValueError, match="got 1 class_names for a model of 3"):
        save_stylegan2(models / "no", G_ema=wanted, class_names=("cat",))


def test_load_refuses_other_files(tmp_path: Path):
    with pytest.raises(ModelFileError, match=r"style_transfer\.load"):
        ganmod.load(style_transfer.model.SHIPPED_MODEL)
    file = tmp_path / "m.safetensors"
    save_model_file(file, {"G.x": torch.zeros(1)}, kind="stylegan2", config={"generator": {"size": 4}})
    with pytest.raises(ModelFileError, match=r"describes no StyleGAN2 generator.*'size'"):
        ganmod.load(file)
    config = {"generator": tiny_generator().spec.to_dict()}
    save_model_file(file, {"G.x": torch.zeros(1)}, kind="stylegan2", config=config)
    with pytest.raises(ModelFileError, match=r"no averaged generator .*only G;"):
        ganmod.load(file)


def test_seeds_write_one_image_each_and_a_grid(models: Path, tmp_path: Path, ganmod_command):
    plain, out = models / "plain.safetensors", tmp_path / "out"
    ended = ganmod_command(
        "generate",
        plain,
        "--seeds",
        "0-3,11",
        "--trunc",
        0.7,
        "--batch",
        2,
        "-o",
        out,
        "--grid",
        out / "g.png",
    )
    assert ended == (0, f"wrote 5 images to {out}\ngrid: {out / 'g.png'}\n", ended.err)
    names = [f"seed{i:04d}.png" for i in (0, 1, 2, 3, 11)]
    assert sorted(path.name for path in out.iterdir()) == ["g.png", *names]
    wanted = expected_images(ganmod.load(plain), [0, 1, 2, 3, 11], truncation_psi=0.7)
    for name, image in zip(names, wanted, strict=True):
        assert np.abs(read_image(out / name).astype(int) - image).max() <= 1
    grid = read_image(out / "g.png")  # 3 x 2 cells of 16 x 24 with gaps of 2
    assert grid.shape == (2 + 2 * 18, 2 + 3 * 26, 3)
    np.testing.assert_array_equal(grid[20:36, 28:52], read_image(out / names[4]))

    (out / names[1]).unlink()
    (out / names[2]).write_bytes((out / names[3]).read_bytes())
    ended = ganmod_command("generate", plain, "--seeds", "0-3", "-o", out, "--skip-existing")
    assert "wrote 1 images (3 were there)" in ended.out
    np.testing.assert_array_equal(read_image(out / names[2]), read_image(out / names[3]))


def test_class_cutoff_and_mean_image(models: Path, tmp_path: Path, ganmod_command):
    model = models / "classes.safetensors"
    G = ganmod.load(model)
    for options, label, values in (
        (["--class", "dog"], 1, {}),
        (["--class", "0", "--trunc", 0.5, "--cutoff", 2], 0, {"truncation_psi": 0.5, "truncation_cutoff": 2}),
    ):
        assert ganmod_command("generate", model, "--seeds", 4, *options, "-o", tmp_path).code == 0
        wanted = expected_images(G, [4], torch.eye(3)[[label]], **values)[0]
        found = read_image(tmp_path / f"class{label}-seed0004.png")
        assert np.abs(found.astype(int) - wanted).max() <= 1
    ganmod_command("generate", model, "--seeds", "1,2", "--trunc", 0, "--class", "cat", "-o", tmp_path)
    first, second = (read_image(tmp_path / f"class0-seed000{i}.png") for i in (1, 2))
    np.testing.assert_array_equal(first, second)


def test_style_mixing_has_the_sources_on_its_edges(models: Path, tmp_path: Path, ganmod_command):
    plain, out = models / "plain.safetensors", tmp_path / "mix.png"
    assert ganmod_command("generate", plain, "--style-mix", "0-1", "5-7", "0-2", "-o", out).code == 0
    grid = read_image(out)
    assert grid.shape == (2 + 3 * 18, 2 + 4 * 26, 3)
    cells = [[grid[2 + 18 * r : 18 + 18 * r, 2 + 26 * c : 26 + 26 * c] for c in range(4)] for r in range(3)]
    G = ganmod.load(plain)
    ws = map_latents(G, seed_latents([0, 1, 5, 6, 7], G.z_dim))
    sources = render(G, ws)
    mixed = torch.cat([ws[4, :3], ws[1, 3:]])[None]
    assert (cells[0][0] == 255).all()
    for cell, image in (
        (cells[2][0], sources[1]),
        (cells[0][3], sources[4]),
        (cells[2][3], render(G, mixed)[0]),
    ):
        assert np.abs(cell.astype(int) - image).max() <= 1


@pytest.mark.parametrize("options", [[], ["--space", "w"], ["--space", "w", "--curve", "linear"]])
def test_a_walk_starts_at_its_seed(models: Path, tmp_path: Path, options: list[str], ganmod_command):
    plain = models / "plain.safetensors"
    walk = ["--interpolate", "0-2", "--frames-per-step", 4, "--fps", 10]
    ended = ganmod_command("generate", plain, *walk, *options, "-o", tmp_path / "frames")
    assert ended.out == f"wrote 12 frames (1.2 s) to {tmp_path / 'frames'}\n"
    frames = [read_image(path).astype(int) for path in sorted((tmp_path / "frames").iterdir())]
    assert len(frames) == 12
    wanted = expected_images(ganmod.load(plain), [0, 1, 2])
    assert np.abs(np.array(frames[::4]) - wanted).max() <= 1
    assert np.abs(frames[11] - frames[0]).mean() < np.abs(frames[8] - frames[0]).mean()


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_latents_come_back_from_their_file(tmp_path: Path, suffix: str, models: Path, ganmod_command):
    plain = models / "plain.safetensors"
    G = ganmod.load(plain)
    ws, noise = torch.randn(2, G.num_ws, G.w_dim), [torch.randn(s) for s in G.synthesis.noise_shapes()]
    save_latents(tmp_path / f"l{suffix}", ws, noise=noise)
    found = load_latents(tmp_path / f"l{suffix}", G)
    torch.testing.assert_close(found.ws, ws, rtol=0, atol=0)
    assert found.noise is not None
    assert all(torch.equal(a, b) for a, b in zip(found.noise, noise, strict=True))
    for options, values in (([], {"noise": noise}), (["--noise", "const"], {"noise_mode": "const"})):
        command = ["generate", plain, "--ws", tmp_path / f"l{suffix}", "-o", tmp_path, *options]
        assert ganmod_command(*command).code == 0
        np.testing.assert_array_equal(read_image(tmp_path / "ws0001.png"), render(G, ws, **values)[1])


def test_unfit_latents_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    G, file = tiny_generator(), tmp_path / "l.npz"
    for arrays, message in (
        ({"w": np.zeros((1, 3, 5), np.float32)}, r"\[1, 3, 5\], expected floats \[N, 6, 5\]"),
        ({"x": np.zeros(3)}, "holds x, expected an array named w or ws"),
        ({"w": np.array([print], dtype=object)}, "damaged or holds no latents"),
        ({"w": np.zeros((0, 6, 5))}, "holds no latent, expected at least one of finite numbers"),
        ({"w": np.zeros((6, 5)), "noise_0": np.zeros((4, 6))}, "noise_1 is missing"),
    ):
        np.savez(file, **arrays)
        with pytest.raises(ValueError, match=message):
            load_latents(file, G)
    np.savez_compressed(file, w=np.zeros((1 << 20, 6, 5), np.float32))
    monkeypatch.setenv("GANMOD_MAX_FILE_MB", "100")
    with pytest.raises(ValueError, match=r"w\.npy has 125\.829 MB, and the limit is 100"):
        load_latents(file, G)
    with zipfile.ZipFile(file, "w") as archive:
        text = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 6, 5), }"
        archive.writestr("w.npy", b"\x93NUMPY\x01\0" + len(text).to_bytes(2, "little") + text)
    with pytest.raises(ValueError, match=r"w\.npy has 1\.31941e\+08 MB"):
        load_latents(file, G)
    file.write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(ValueError, match="damaged"):
        load_latents(file, G)
