"""If this fails, the first command a new user types breaks, needs the network or reports what was not so."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from command_checks import assert_fails

from configs.schema import AnyRun, load_style_config
from ganmod.cli import quickstart
from ganmod.features.style_losses import content_loss, mean_std_loss
from ganmod.io.images import read_image, resize_short_side, to_tensor, write_image
from style_transfer import load
from style_transfer.procedural_styles import PROCEDURAL_STYLES, builtin_contents

PHOTOS = {"astronaut": (64, 64), "chelsea": (64, 96), "coffee": (64, 96), "rocket": (64, 96)}
SECONDS = 0.3  # of training


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pictures, small crops, and no network."""

    def refuse(*_: object) -> None:
        raise AssertionError("the network was used")

    def with_small_crops(source: str, changes: Mapping[str, Any]) -> AnyRun:
        return load_style_config(source, {**changes, "data.crop": 32, "data.short_side": 64})

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(quickstart, "load_style_config", with_small_crops)
    monkeypatch.setattr(quickstart, "SHORT_SIDE", 64)
    monkeypatch.setattr(quickstart, "STYLE_SIDE", 64)


@pytest.mark.usefixtures("small")
def test_quickstart_twice_in_one_folder(tmp_path: Path, ganmod_command: Callable) -> None:
    out, own = tmp_path / "out", tmp_path / "mine.jpg"
    write_image(own, np.full((90, 200, 3), 128, dtype=np.uint8))
    ended = ganmod_command("quickstart", own, "--out", out, "--minutes", SECONDS / 60)
    assert ended.code == 0, ended.err

    # Every photo in every style, in the photo's aspect; the user's image, brought to the limit.
    for photo, size in PHOTOS.items():
        for style in PROCEDURAL_STYLES:
            assert read_image(out / "stylized" / f"{photo}--{style}.png").shape[:2] == size, photo
    for style in PROCEDURAL_STYLES:
        assert read_image(out / "your-images" / f"mine--{style}.png").shape[:2] == (64, 142)
        assert read_image(out / "styles" / f"{style}.png").shape == (64, 64, 3)
    for grid in ("stylized.png", "your-images.png", "before-and-after.png"):
        assert read_image(out / grid).size > 0

    # The model after is the shipped one, trained: another picture, and the one that its file gives.
    after, style = load(out / "finetuned" / "model-latest.safetensors"), read_image(out / "styles/mosaic.png")
    assert after.spec == load().spec
    for name, model in (("before", load()), ("after", after)):
        expected = model.stylize(builtin_contents()["coffee"], style, size=64)
        assert np.array_equal(read_image(out / name / "coffee.png"), expected)
        assert read_image(out / name / "mine.png").shape == (64, 142, 3)
    assert not np.array_equal(read_image(out / "before/coffee.png"), read_image(out / "after/coffee.png"))
    config = yaml.safe_load((out / "finetuned" / "config.yaml").read_text())
    assert config["data"]["style"] == [str(out / "styles" / "mosaic.png")]
    assert config["model"]["width"] == after.spec.width

    # The report tells the losses of these pictures.
    text = re.sub(r"<[^>]*>", " ", (out / "report.html").read_text())
    network = load().encoder
    for name in ("before", "after"):
        found = []
        for photo, image in (builtin_contents() | {"mine": read_image(own)}).items():
            pair = (read_image(out / name / f"{photo}.png"), resize_short_side(image, 64))
            result, content = (network.normalized(to_tensor(x)[None]) for x in pair)
            target = network.normalized(to_tensor(style)[None])
            found.append([content_loss(result, content).item(), mean_std_loss(result, target).item()])
        words = [name, *(f"{value:.4g}" for value in np.mean(found, axis=0))]
        assert re.search(r"\s+".join(map(re.escape, words)), text), words
    for words in ("Your images", f"torch {torch.__version__}", "on the style of mosaic.png"):
        assert words in text

    # The terminal: three steps, where the report is, the commands.
    lines = ended.out.splitlines()
    assert [line[:3] for line in lines if re.match(r"\d/3", line)] == ["1/3", "2/3", "3/3"]
    at = lines.index(f"report: {out / 'report.html'}")
    assert lines[at + 1] == "next:"
    commands = lines[at + 2 :]
    assert len(commands) == 4
    assert all(command.strip() in text for command in commands)

    # Again, in the same folder, with a style of the user: the training starts again.
    (out / "report.html").unlink()
    arguments = ("--minutes", SECONDS / 60, "--seed", 1, "--style", own)
    again = ganmod_command("quickstart", "--out", out, *arguments)
    assert again.code == 0, again.err
    lines = (out / "finetuned" / "stats.jsonl").read_text().splitlines()
    assert [json.loads(line)["nimg"] for line in lines] == [2 * (i + 1) for i in range(len(lines))]
    assert "Your images" not in (out / "report.html").read_text()
    assert "on the style of mine.jpg" in (out / "report.html").read_text()


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("damage", "code"), [("missing", 2), ("cut short", 1), ("tiny", 1)])
def test_a_bad_image_is_named_before_the_work(
    tmp_path: Path, damage: str, code: int, ganmod_command: Callable
) -> None:
    bad = tmp_path / "bad.png"
    side = 1 if damage == "tiny" else 64
    write_image(bad, np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8))
    if damage == "missing":
        bad.unlink()
    elif damage == "cut short":
        bad.write_bytes(bad.read_bytes()[:500])
    for arguments in ((bad,), ("--style", bad)):
        ended = ganmod_command("quickstart", *arguments, "--out", tmp_path / "out")
        assert_fails(ended, code, "bad.png")
        assert not (tmp_path / "out").exists()


def test_the_followed_commands_can_be_typed_as_they_stand(ganmod_command: Callable, tmp_path: Path) -> None:
    for _, command in quickstart.next_commands(tmp_path, tmp_path / "m.safetensors"):
        words = command.split("ganmod ", 1)[1].split()
        assert ganmod_command(*words[: 2 if words[0] == "train" else 1], "--help").code == 0
        known = ganmod_command(*words[: 2 if words[0] == "train" else 1], "--help").out
        assert all(word in known for word in words if word.startswith("-"))


def test_own_images_of_one_name_stay_apart(tmp_path: Path) -> None:
    for folder, side in (("a", 20), ("b", 500)):
        write_image(tmp_path / folder / "x.png", np.zeros((side, 2 * side, 3), dtype=np.uint8))
    own = quickstart.read_user_images([tmp_path / "a" / "x.png", tmp_path / "b" / "x.png"])
    assert {name: image.shape for name, image in own.items()} == {
        "x": (20, 40, 3),
        "x-again": (384, 768, 3),
    }


def test_curves_of_known_losses() -> None:
    seconds, values = np.arange(1, 601) / 10, np.arange(600.0)
    xs, ys = quickstart.thin_curve(seconds, values)
    assert len(xs) == len(ys) == quickstart.CURVE_POINTS
    assert (xs[0], ys[0]) == (pytest.approx(0.55), pytest.approx(4.5))  # ten steps each
    assert quickstart.thin_curve(seconds[:3], values[:3]) == ([0.1, 0.2, 0.3], [0.0, 1.0, 2.0])
