"""If this fails, `ganmod translate` gives an image of another source, style or domain than was asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from small_images import picture
from tiny_starganv2 import tiny_spec

from ganmod.io.images import read_image, resize, to_uint8, write_image
from ganmod.starganv2 import Generator, MappingNetwork, StarGANv2, StyleEncoder, save_starganv2
from ganmod.starganv2.translation import reference_codes, seed_codes, translate, walk_codes


@pytest.fixture(scope="module")
def model() -> StarGANv2:
    torch.manual_seed(0)
    spec = tiny_spec(img_size=16)
    networks = StarGANv2(Generator(spec), MappingNetwork(spec), StyleEncoder(spec))
    for network in networks:
        network.eval().requires_grad_(False)
    return networks


@pytest.fixture
def place(tmp_path: Path, model: StarGANv2) -> Path:
    """A folder with the model, two sources and a reference in each domain's folder."""
    save_starganv2(tmp_path / "m.safetensors", model)
    for i, name in enumerate(("in/x.png", "in/y.png", "ref/cat/c.png", "ref/dog/d.png")):
        write_image(tmp_path / name, picture(i, height=20 + i, width=24))
    return tmp_path


def expected(model: StarGANv2, source: Path, code: torch.Tensor) -> np.ndarray:
    pixels = resize(read_image(source), (16, 16), resample="bilinear").transpose(2, 0, 1)
    return to_uint8((model.G(torch.from_numpy(pixels)[None] / 127.5 - 1, code[None])[0] + 1) / 2)


def near(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal but for rounding at the borders between two values."""
    return bool(np.abs(a.astype(int) - b.astype(int)).max() <= 1)


def test_every_source_in_every_reference_style_and_a_grid(
    place: Path, model: StarGANv2, ganmod_command: Callable
):
    options = ["--source", place / "in", "--reference", place / "ref", "-o", place / "out"]
    ended = ganmod_command("translate", place / "m.safetensors", *options)
    assert ended.code == 0, ended.err
    assert "wrote 4 images" in ended.out
    for reference, domain in (("c", "cat"), ("d", "dog")):
        pixels = read_image(place / "ref" / domain / f"{reference}.png")
        (code,) = reference_codes(model, [pixels], [domain])
        for source in ("x", "y"):
            written = read_image(place / "out" / f"{source}--{reference}.png")
            assert near(written, expected(model, place / "in" / f"{source}.png", code))
    assert not near(read_image(place / "out/x--c.png"), read_image(place / "out/x--d.png"))
    assert (place / "out" / "grid.png").is_file()


def test_seeds_of_a_domain(place: Path, model: StarGANv2, ganmod_command: Callable):
    common = ["translate", place / "m.safetensors", "--source", place / "in/x.png"]
    ended = ganmod_command(*common, "--latent", "3", "--domain", "dog", "-o", place / "one.png")
    assert ended.code == 0, ended.err
    z = torch.from_numpy(np.random.RandomState(3).randn(1, 4)).float()
    code = model.mapping(z, torch.tensor([1]))[0]
    assert near(read_image(place / "one.png"), expected(model, place / "in/x.png", code))
    ended = ganmod_command(*common, "--latent", "2-4", "--domain", "dog", "-o", place / "many")
    assert ended.code == 0, ended.err
    assert near(read_image(place / "many/x--dog-seed0003.png"), read_image(place / "one.png"))


def test_a_walk_begins_and_ends_at_its_styles(place: Path, model: StarGANv2, ganmod_command: Callable):
    options = ["--latent", "0,1,2", "--domain", "cat", "--interpolate", "--frames-per-step", 2]
    ended = ganmod_command(
        "translate", place / "m.safetensors", "--source", place / "in", *options, "-o", place / "walk"
    )
    assert ended.code == 0, ended.err
    frames = [read_image(file) for file in sorted((place / "walk").iterdir())]
    assert len(frames) == 5
    codes = seed_codes(model, [0, 1, 2], "cat")
    for frame, code in ((frames[0], codes[0]), (frames[1], (codes[0] + codes[1]) / 2), (frames[4], codes[2])):
        sides = [expected(model, place / "in" / f"{name}.png", code) for name in "xy"]
        assert near(frame, np.concatenate(sides, axis=1))


def test_walks_are_straight():
    codes = torch.tensor([[0.0, 1.0], [4.0, 1.0], [4.0, 3.0]])
    walk = walk_codes(codes, frames_per_step=4)
    assert walk.tolist() == [[float(i), 1.0] for i in range(5)] + [
        [4.0, 1.5],
        [4.0, 2.0],
        [4.0, 2.5],
        [4.0, 3.0],
    ]
    with pytest.raises(ValueError, match="got 1 style code, expected two or more"):
        walk_codes(codes[:1], frames_per_step=4)


def test_batches_change_nothing(model: StarGANv2):
    sources = [picture(i) for i in range(5)]
    (code,) = seed_codes(model, [0], "cat")
    one, all_at_once = (list(translate(model, sources, code, batch_size=n)) for n in (1, 8))
    assert all(near(a, b) for a, b in zip(one, all_at_once, strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--latent", "0", "--domain", "bird"],
            "--domain bird: no domain of the model, expected one of cat, dog",
        ),
        (["--latent", "0"], "--latent needs --domain NAME: expected one of cat, dog"),
        (["--reference", "in/y.png"], "needs --domain NAME: expected one of cat, dog"),
        (["--reference", "in/y.png", "--latent", "0"], "expected one of --reference and --latent"),
        (["--latent", "0-1", "--domain", "cat"], "is a file, but several results need a folder"),
        (["--latent", "0", "--domain", "cat", "--interpolate"], "cannot write"),
        (["--latent", "0", "--domain", "cat", "--fps", "25"], "--fps is for --interpolate"),
    ],
)
def test_wrong_use_is_explained(place: Path, ganmod_command: Callable, options: list[str], message: str):
    write_image(place / "out.png", picture(0))
    given = [str(place / option) if option.startswith("in/") else option for option in options]
    ended = ganmod_command(
        "translate", place / "m.safetensors", "--source", place / "in/x.png", *given, "-o", place / "out.png"
    )
    assert ended.code == 2
    assert message in ended.err


def test_several_results_make_no_folder_that_is_named_as_a_picture(place: Path, ganmod_command: Callable):
    given = ["--latent", "0-1", "--domain", "cat", "-o", place / "grid.png"]
    ended = ganmod_command("translate", place / "m.safetensors", "--source", place / "in/x.png", *given)
    assert ended.code == 2
    assert "is named as a file, but several results need a folder" in ended.err
    assert not (place / "grid.png").exists()


def test_bad_images_of_folders_are_left_out_and_counted(place: Path, ganmod_command: Callable):
    (place / "in" / "bad.png").write_bytes(b"no picture")
    (place / "ref" / "cat" / "worse.png").write_bytes(b"")
    options = ["--source", place / "in", "--reference", place / "ref", "-o", place / "out"]
    ended = ganmod_command("translate", place / "m.safetensors", *options)
    assert ended.code == 1
    assert "wrote 4 images" in ended.out
    assert "Error: left out 2 images:\n" in ended.err
    assert "in/bad.png: not an image" in ended.err
    assert "ref/cat/worse.png: it is empty" in ended.err
    written = {f"{source}--{reference}.png" for source in "xy" for reference in "cd"}
    assert {file.name for file in (place / "out").iterdir()} == {*written, "grid.png"}
