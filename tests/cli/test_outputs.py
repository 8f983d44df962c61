"""If this fails, a command writes over a file that it reads, or outside of the folder it was given."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from command_checks import assert_fails
from small_images import picture
from tiny_generator import tiny_generator
from tiny_starganv2 import tiny_spec

from ganmod.io.images import write_image
from ganmod.starganv2 import Generator, MappingNetwork, StarGANv2, StyleEncoder, save_starganv2
from ganmod.stylegan2.latent_file import save_latents
from ganmod.stylegan2.stylegan2_file import save_stylegan2

OVERWRITTEN = "which is read and would be overwritten: give another name"
INSIDE = "which is read: give a place elsewhere"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generator, its latents, pictures, and links to them."""
    folder = tmp_path_factory.mktemp("place")
    G = tiny_generator()
    save_stylegan2(folder / "g.safetensors", G_ema=G)
    os.link(folder / "g.safetensors", folder / "hard.pt2")
    (folder / "g.onnx").symlink_to("g.safetensors")
    save_latents(folder / "w.npz", G.mapping(torch.zeros(1, G.z_dim)))
    os.link(folder / "w.npz", folder / "w.png")
    for i, name in enumerate(("photos/a.png", "photos/b.png", "style.png", "out/projected.png")):
        write_image(folder / name, picture(i, 24, 24))
    (folder / "way").symlink_to("photos")
    (folder / "weights.pth").write_bytes(b"weights")
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("export g.safetensors --format pt2 -o hard.pt2", OVERWRITTEN),
        ("export g.safetensors -o g.onnx", OVERWRITTEN),
        ("export hard.pt2 --format pt2 -o .", OVERWRITTEN),
        ("generate g.safetensors --ws w.npz --grid w.png", OVERWRITTEN),
        ("project g.safetensors out/projected.png -o out", OVERWRITTEN),
        ("import starganv2 weights.pth -o photos/../weights.pth", OVERWRITTEN),
        ("import adain weights.pth g.safetensors -o hard.pt2", OVERWRITTEN),
        ("import stylegan2-ada weights.pth -o weights.pth", OVERWRITTEN),
        ("import stylegan2-rosinality weights.pth -o weights.pth", OVERWRITTEN),
        ("optimize style.png photos/a.png -o way/a.png", OVERWRITTEN),
        ("data info photos --sheet photos/a.png", INSIDE),
        ("data info photos --sheet way/sheet.png", INSIDE),
        ("stylize way style.png -o photos/results", INSIDE),
        ("compare style g.safetensors --content photos --styles photos -o way", INSIDE),
        ("compare runs g.safetensors --data photos -o photos", INSIDE),
        ("train stylegan2 --data photos --out photos/run", INSIDE),
        ("train style --content way --out photos", INSIDE),
        ("train stylegan2 --data photos --transfer g.safetensors --out .", "whose models are overwritten"),
        ("train stylegan2 --set data.path=photos --out way/run", INSIDE),
        ("quickstart out/projected.png --style stylized.png --out .", OVERWRITTEN),
    ],
)
def test_no_command_writes_over_what_it_reads(
    place: Path, arguments: str, message: str, ganmod_command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    if "quickstart" in arguments:
        write_image(place / "stylized.png", picture(9, 24, 24))
    before = {file: file.read_bytes() for file in place.rglob("*") if file.is_file()}
    assert_fails(ganmod_command(*arguments.split()), 2, message)
    assert {file: file.read_bytes() for file in place.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize(
    "arguments",
    [
        "stylize photos/a.png style.png -o",
        "optimize photos/a.png style.png -o",
        "generate g.safetensors --seeds 0 -o",
        "project g.safetensors style.png -o",
        "export g.safetensors -o",
        "train style --out",
        "import starganv2 weights.pth -o",
        "data info photos --sheet",
    ],
)
def test_empty_names_and_devices_are_no_outputs(
    place: Path, arguments: str, ganmod_command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    assert_fails(ganmod_command(*arguments.split(), ""), 2, "the path is empty")
    assert_fails(ganmod_command(*arguments.split(), "/dev/null"), 2, "'/dev/null' is a device")


@pytest.mark.parametrize("name", ["../../evil", "/tmp/ganmod-evil", "a\x1b[2J/b"])
def test_names_of_domains_do_not_lead_out_of_the_folder(tmp_path: Path, name: str, ganmod_command) -> None:
    spec = tiny_spec(img_size=16, domains=("cat", name))
    save_starganv2(
        tmp_path / "m.safetensors", StarGANv2(Generator(spec), MappingNetwork(spec), StyleEncoder(spec))
    )
    write_image(tmp_path / "x.png", np.zeros((20, 20, 3), np.uint8))
    out = tmp_path / "one" / "two"
    ended = ganmod_command(
        *("translate", tmp_path / "m.safetensors", "--source", tmp_path / "x.png"),
        *("--latent", "0-1", "--domain", name, "-o", out),
    )
    assert ended.code == 0, ended.err
    safe = {"../../evil": "______evil", "/tmp/ganmod-evil": "_tmp_ganmod-evil", "a\x1b[2J/b": "a__2J_b"}[name]
    written = {f"x--{safe}-seed0000.png", f"x--{safe}-seed0001.png", "grid.png"}
    assert {str(file.relative_to(out)) for file in out.rglob("*")} == written
    assert {file.name for file in tmp_path.iterdir()} == {"m.safetensors", "x.png", "one"}
