"""If this fails, a seed, class, walk or style mix gives other latents, or an animation other frames."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_generator import tiny_generator

from ganmod.data.seeding import seed_latents
from ganmod.io.animation import write_animation
from ganmod.stylegan2.sampling import (
    class_label,
    map_latents,
    mix_layers,
    parse_ranges,
    render,
    seed_noise,
    slerp,
    walk_w,
    walk_z,
)

CLASSES = ("cat", "dog", "1")


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("5", [5]), ("0-3", [0, 1, 2, 3]), ("7, 2-4,2", [7, 2, 3, 4, 2]), ("4294967295", [2**32 - 1])],
)
def test_ranges_are_read_as_written(text: str, numbers: list[int]):
    assert parse_ranges(text) == numbers


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no list of numbers"),
        ("1-", "no list of numbers"),
        ("-3", "no list of numbers"),
        ("1,,2", "no list of numbers"),
        ("1.5", "no list of numbers"),
        ("٣", "no list of numbers"),
        ("9-4", "write 4-9"),
        ("0-4294967296", "from 0 to 4294967295"),
        ("0-2000000", "more than 1000000"),
    ],
)
def test_malformed_ranges_are_refused(text: str, message: str):
    with pytest.raises(ValueError, match=message):
        parse_ranges(text)


def test_a_seed_gives_the_published_latent():
    z = seed_latents([3, 0], 4)
    assert z.dtype == torch.float32
    # The first normal of RandomState(0), and those that one draw of [1, 4] gives for seed 3.
    assert z[1, 0].item() == pytest.approx(1.764052345967664)
    np.testing.assert_allclose(z[0], np.random.RandomState(3).randn(1, 4)[0], rtol=1e-7)


def test_a_class_is_chosen_by_name_before_index():
    chosen = {which: class_label(which, c_dim=3, class_names=CLASSES) for which in ("dog", "0", "1", 1)}
    indices = {which: int(label.argmax()) for which, label in chosen.items() if label is not None}
    assert indices == {"dog": 1, "0": 0, "1": 2, 1: 1}
    assert class_label(None, c_dim=0) is None
    np.testing.assert_array_equal(class_label("2", c_dim=4), [[0, 0, 1, 0]])


@pytest.mark.parametrize(
    ("which", "c_dim", "message"),
    [
        ("3", 3, r"unknown class '3': expected one of 0 to 2 \(0 cat, 1 dog, 2 1\)"),
        ("bird", 3, "unknown class 'bird'"),
        ("-1", 3, "unknown class"),
        (None, 3, "conditional, but no class is given"),
        ("cat", 0, "unconditional"),
    ],
)
def test_a_wrong_class_is_refused(which: str | None, c_dim: int, message: str):
    with pytest.raises(ValueError, match=message):
        class_label(which, c_dim=c_dim, class_names=CLASSES if c_dim else ())


def test_slerp_follows_the_great_circle():
    a, b = torch.tensor([3.0, 0, 0, 0]), torch.tensor([0, 0.5, 0, 0])
    for t in (0, 0.25, 0.5, 1):
        angle = t * math.pi / 2
        wanted = 2 * torch.tensor([math.cos(angle), math.sin(angle), 0, 0])
        torch.testing.assert_close(slerp(a, b, t), wanted, atol=1e-6, rtol=0)
    assert slerp(a, -a, 0.3).isfinite().all()
    torch.testing.assert_close(slerp(a, a * 2, 0.5), torch.tensor([2.0, 0, 0, 0]))


def test_walks_pass_their_keys_and_close():
    keys = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    frames = walk_z(keys, frames_per_step=4)
    assert frames.shape == (12, 8)
    torch.testing.assert_close(frames[::4], keys / keys.norm(dim=1, keepdim=True) * 8**0.5)
    torch.testing.assert_close(frames[10], slerp(keys[2], keys[0], 0.5))
    ws = keys.reshape(3, 2, 4)
    linear = walk_w(ws, frames_per_step=4)
    torch.testing.assert_close(linear[::4], ws)
    torch.testing.assert_close(linear[9], 0.75 * ws[2] + 0.25 * ws[0])
    # Eight points of a circle: the periodic spline is the circle but for (pi/8)^4 / 384 or so at its middles.
    turn = torch.arange(8, dtype=torch.float64) * math.pi / 4
    circle = torch.stack([turn.cos(), turn.sin()], dim=1)[:, None]
    radii = walk_w(circle, frames_per_step=5, curve="spline").norm(dim=2)
    assert (radii - 1).abs().max() < 2e-3
    assert (walk_w(circle, frames_per_step=5).norm(dim=2) - 1).abs().max() > 0.05
    with pytest.raises(ValueError, match="two or more"):
        walk_z(keys[:1], frames_per_step=4)


def test_mixing_takes_the_layers_of_the_column():
    rows, columns = torch.randn(2, 4, 3), torch.randn(3, 4, 3)
    mixed = mix_layers(rows, columns, [0, 2])
    assert mixed.shape == (2, 3, 4, 3)
    torch.testing.assert_close(mixed[1, 2, [0, 2]], columns[2, [0, 2]])
    torch.testing.assert_close(mixed[1, 2, [1, 3]], rows[1, [1, 3]])
    with pytest.raises(ValueError, match="layer 4 is out of range: the model has layers 0 to 3"):
        mix_layers(rows, columns, [1, 4])


def test_random_noise_belongs_to_the_seed_not_to_the_batch():
    G = tiny_generator()
    ws = map_latents(G, seed_latents([5, 6], G.z_dim))
    pair = render(G, ws, noise_mode="random", seeds=[5, 6])
    alone = render(G, ws[1:], noise_mode="random", seeds=[6])
    np.testing.assert_array_equal(pair[1], alone[0])
    assert (pair[1] != render(G, ws[1:], noise_mode="random", seeds=[7])[0]).any()
    layers = seed_noise(G, [6])
    assert [tuple(layer.shape[2:]) for layer in layers] == G.synthesis.noise_shapes()
    zeros = [torch.zeros_like(layer) for layer in layers]
    np.testing.assert_array_equal(render(G, ws[1:], noise_mode="none"), render(G, ws[1:], noise=zeros))


def test_animations_keep_frames_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    frames = [np.full((16, 24, 3), value, dtype=np.uint8) for value in (0, 100, 200, 40, 160)]
    for name in ("a.gif", "a.webp"):
        assert write_animation(tmp_path / name, iter(frames), fps=20) == 5
        with Image.open(tmp_path / name) as image:
            assert (image.n_frames, image.info["loop"]) == (5, 0)  # type: ignore[attr-defined]
            image.seek(3)
            image.load()
            assert image.info["duration"] == 50
            assert np.abs(np.array(image.convert("RGB")).astype(int) - frames[3]).max() <= 3
    for count in (5, 3):  # of the longer one before, nothing is left
        write_animation(tmp_path / "folder", iter(frames[:count]), fps=20)
    assert sorted(file.name for file in (tmp_path / "folder").iterdir()) == [f"{i:06d}.png" for i in range(3)]
    with pytest.raises(ValueError, match="no frames"):
        write_animation(tmp_path / "b.gif", [], fps=20)
    assert not (tmp_path / "b.gif").exists()
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ValueError, match=r"pip install 'ganmod\[video\]'"):
        write_animation(tmp_path / "a.mp4", frames, fps=20)


def test_video(tmp_path: Path):
    av = pytest.importorskip("av", reason="the package av is not installed")
    frames = [np.full((16, 24, 3), value, dtype=np.uint8) for value in (0, 100, 200)]
    assert write_animation(tmp_path / "a.mp4", frames, fps=25) == 3
    with av.open(str(tmp_path / "a.mp4")) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert float(container.streams.video[0].average_rate) == 25
    assert np.abs(np.array(decoded).astype(int) - np.array(frames)).max() <= 6
