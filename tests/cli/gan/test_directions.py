"""If this fails, the picture of directions, or an edited image, is not the direction it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_checks import Ended, assert_fails
from tiny_generator import tiny_generator

from ganmod.data.seeding import seed_latents
from ganmod.io.images import read_image
from ganmod.stylegan2.directions import edit_latents, find_directions
from ganmod.stylegan2.sampling import map_latents, render
from ganmod.stylegan2.stylegan2_file import save_stylegan2

Run = Callable[..., Ended]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save_stylegan2(tmp_path / "g.safetensors", G_ema=tiny_generator(modulation="adaconv"))
    return tmp_path / "g.safetensors"


def test_an_edited_image_and_the_picture_of_directions_agree(
    model: Path, tmp_path: Path, ganmod_command: Run
) -> None:
    out = tmp_path / "d.png"
    ended = ganmod_command(
        *("directions", model, "-o", out, "--count", "2", "--layers", "0-2", "--seeds", "4"),
        *("--strength", "2", "--steps", "3", "--trunc", "1"),
    )
    assert ended.code == 0
    assert "direction 1: " in ended.out
    G = tiny_generator(modulation="adaconv")
    found = find_directions(G, layers=[0, 1, 2], num=2)
    ws = map_latents(G, seed_latents([4], G.z_dim))
    expected = render(G, edit_latents(ws, found, 1, 2.0, layers=[0, 1, 2]))[0]
    height, width = expected.shape[:2]
    sheet = read_image(out)
    np.testing.assert_array_equal(sheet[-4 - height : -4, -4 - width : -4], expected)

    ended = ganmod_command(
        *("generate", model, "--seeds", "4", "--edit", "1:2", "--edit-layers", "0-2", "--out", tmp_path / "e")
    )
    assert ended.code == 0
    np.testing.assert_array_equal(read_image(tmp_path / "e" / "seed0004.png"), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--edit", "0"], "expected INDEX:STRENGTH"),
        (["--edit", "9:1"], "num is 10, expected 1 to 5"),
        (["--edit-layers", "0"], "--edit-layers is for --edit"),
    ],
)
def test_edits_that_do_not_fit_are_refused(
    model: Path, tmp_path: Path, ganmod_command: Run, options: list[str], message: str
) -> None:
    assert_fails(
        ganmod_command("generate", model, "--seeds", "0", "--out", tmp_path / "o", *options), 2, message
    )


def test_a_walk_through_parameters_is_written(model: Path, tmp_path: Path, ganmod_command: Run) -> None:
    out = tmp_path / "frames"
    ended = ganmod_command(
        *("generate", model, "--interpolate", "0,1", "--space", "parameters"),
        *("--frames-per-step", "2", "--out", out),
    )
    assert ended.code == 0
    frames = sorted(out.glob("*.png"))
    G = tiny_generator(modulation="adaconv")
    keys = render(G, map_latents(G, seed_latents([0, 1], G.z_dim)))
    assert len(frames) == 4
    np.testing.assert_array_equal(np.stack([read_image(frames[0]), read_image(frames[2])]), keys)
