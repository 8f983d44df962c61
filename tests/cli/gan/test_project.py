"""If this fails, `ganmod project` does not find a latent as StyleGAN2's appendix D does, or loses it."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_generator import tiny_generator

from ganmod.data.seeding import seed_latents
from ganmod.io.images import read_image, write_image
from ganmod.stylegan2.projection import (
    feature_distance,
    fit_target,
    learning_rate,
    noise_regularization,
    normalize_noise,
    project,
    w_noise_strength,
    w_statistics,
)
from ganmod.stylegan2.sampling import map_latents, render
from ganmod.stylegan2.stylegan2_file import save_stylegan2
from metrics.features.pretrained import load_perceptual_maps


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "g.safetensors"
    save_stylegan2(path, G_ema=tiny_generator())
    return path


@pytest.fixture
def target() -> np.ndarray:
    """The image of seed 8, uint8 [16,24,3]."""
    G = tiny_generator()
    return render(G, map_latents(G, seed_latents([8], G.z_dim)))[0]


def test_the_schedules_are_the_published_ones():
    # Up in a twentieth of the steps, down as a cosine in the last quarter; noise gone after three quarters.
    rates = {0: 0.0, 10: 0.02, 50: 0.1, 750: 0.1, 875: 0.05, 1000: 0.0}
    for step, rate in rates.items():
        assert learning_rate(step, 1000) == pytest.approx(rate, abs=1e-12)
    assert learning_rate(800, 1000) == pytest.approx(0.1 * (0.5 - 0.5 * math.cos(math.pi * 0.8)))
    strengths = {0: 0.1, 375: 0.025, 750: 0.0, 999: 0.0}  # 0.05 * 2 * (1 - t / 0.75)^2
    for step, strength in strengths.items():
        assert w_noise_strength(step, 1000, 2.0) == pytest.approx(strength, abs=1e-12)


def reference_regularization(image: np.ndarray) -> float:
    """Equation of appendix D, pixel by pixel, on one noise image."""
    total = 0.0
    while True:
        height, width = image.shape
        right = sum(image[y, x] * image[y, x - 1] for y in range(height) for x in range(width))
        down = sum(image[y, x] * image[y - 1, x] for y in range(height) for x in range(width))
        total += (right / image.size) ** 2 + (down / image.size) ** 2
        if min(height, width) <= 8:
            return total
        image = image.reshape(height // 2, 2, width // 2, 2).sum(axis=(1, 3)) / 2


def test_noise_regularization_equals_its_formula():
    rng = np.random.default_rng(0)
    images = [rng.normal(size=(4, 6)), rng.normal(size=(32, 48))]
    wanted = sum(reference_regularization(image) for image in images)
    found = noise_regularization([torch.from_numpy(image) for image in images])
    assert found.item() == pytest.approx(wanted, rel=1e-10)
    stripes = torch.ones(8, 8, dtype=torch.float64)
    stripes[:, ::2] = -1  # neighbours differ along rows, agree along columns: 1 + 1
    assert noise_regularization([stripes]).item() == pytest.approx(2)
    noise = normalize_noise(torch.rand(9, 7) * 3 + 5)
    assert noise.mean().item() == pytest.approx(0, abs=1e-6)
    assert noise.square().mean().item() == pytest.approx(1, rel=1e-5)


def test_the_start_is_the_mean_of_the_class():
    G = tiny_generator(c_dim=2)
    label = torch.eye(2)[[1]]
    mean, deviation = w_statistics(G, label, num_samples=300, seed=4)
    z = torch.from_numpy(np.random.RandomState(4).randn(300, G.z_dim)).float()
    w = G.mapping(z, label.expand(300, -1))[:, 0].double()
    torch.testing.assert_close(mean.double(), w.mean(dim=0), rtol=1e-5, atol=1e-6)
    wanted = (w - w.mean(dim=0)).norm(dim=1).square().mean().sqrt()
    assert deviation == pytest.approx(wanted.item(), rel=1e-5)
    other, _ = w_statistics(G, torch.eye(2)[[0]], num_samples=300, seed=4)
    assert (mean - other).abs().max() > 0.01


def test_distance_is_the_mean_over_layers():
    first = {"a": torch.zeros(1, 2, 2, 2), "b": torch.ones(1, 3)}
    second = {"a": torch.full((1, 2, 2, 2), 3.0), "b": torch.tensor([[1.0, 2.0, 3.0]])}
    assert feature_distance(first, second).item() == pytest.approx((9 + 5 / 3) / 2)


def test_the_target_is_brought_to_the_size_of_the_model():
    wide = np.zeros((40, 100, 3), np.uint8)
    wide[:, 30:70] = 255
    with pytest.raises(ValueError, match=r"100 x 40 \(width x height\).* 24 x 16.*--crop"):
        fit_target(wide, (16, 24))
    cropped = fit_target(wide, (16, 24), crop=True)  # the middle 60 x 40
    assert cropped.shape == (16, 24, 3)
    assert cropped[:, 6:18].min() > 200
    assert cropped[:, :2].max() < 50
    assert fit_target(np.zeros((100, 149, 3), np.uint8), (16, 24)).shape == (16, 24, 3)  # 0.2 pixels off
    with pytest.raises(ValueError, match="another aspect"):
        fit_target(np.zeros((100, 140, 3), np.uint8), (16, 24))


def test_projection_comes_nearer_and_repeats_itself(target: np.ndarray):
    G, features = tiny_generator(), load_perceptual_maps("ganmod-slim")
    seen: list[float] = []
    found = project(G, target, features, num_steps=60, seed=3, progress=seen.append)
    assert found.distance < found.start_distance / 3
    assert len(seen) == 60
    assert found.ws.shape == (1, G.num_ws, G.w_dim)
    torch.testing.assert_close(found.ws, found.ws[:, :1].expand_as(found.ws), rtol=0, atol=0)
    difference = [np.abs(i.astype(int) - target).mean() for i in (found.start_image, found.image)]
    assert difference[1] < 0.6 * difference[0]
    for image, shape in zip(found.noise, G.synthesis.noise_shapes(), strict=True):
        assert tuple(image.shape) == shape
        assert image.square().mean().item() == pytest.approx(1, rel=1e-4)

    first, again, other = (project(G, target, features, num_steps=4, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(again.ws, first.ws)
    assert all(torch.equal(a, b) for a, b in zip(again.noise, first.noise, strict=True))
    assert not torch.equal(other.ws, first.ws)


def test_w_plus_comes_nearer_than_w():
    G, features = tiny_generator(), load_perceptual_maps("ganmod-slim")
    ws = map_latents(G, seed_latents([1, 2], G.z_dim))
    mixed = torch.cat([ws[:1, :3], ws[1:, 3:]], dim=1)  # no single w makes this image
    target = render(G, mixed)[0]
    one = project(G, target, features, num_steps=40)
    each = project(G, target, features, num_steps=40, space="w+")
    assert each.distance < 0.7 * one.distance
    assert (each.ws[0, 0] - each.ws[0, -1]).abs().max() > 0.05


def test_a_target_of_another_size_is_refused(target: np.ndarray):
    with pytest.raises(ValueError, match=r"\[16, 16, 3\], expected \[16, 24, 3\]"):
        project(tiny_generator(), target[:, :16], load_perceptual_maps("ganmod-slim"))


def test_the_command_writes_what_generate_reads(
    model: Path, target: np.ndarray, tmp_path: Path, ganmod_command
):
    write_image(tmp_path / "t.png", target)
    out = tmp_path / "out"
    ended = ganmod_command("project", model, tmp_path / "t.png", "-o", out, "--steps", 5, "--space", "w+")
    assert ended.code == 0, ended.err
    start, end = re.findall(r"([0-9.]+) at the", ended.out)
    assert float(end) < float(start)
    assert f"wrote projected.png, comparison.png and projected.npz to {out}" in ended.out
    assert ganmod_command("generate", model, "--ws", out / "projected.npz", "-o", out).code == 0
    result = read_image(out / "projected.png")
    np.testing.assert_array_equal(read_image(out / "ws0000.png"), result)
    picture = read_image(out / "comparison.png")  # labels above, three images with gaps of 4
    assert picture.shape[1] == 4 + 3 * 28
    np.testing.assert_array_equal(picture[-20:-4, 4:28], target)
    np.testing.assert_array_equal(picture[-20:-4, 60:84], result)
