"""If this fails, the first command a new user types breaks, needs the network or reports what was not so."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from command_checks import assert_fails

import style_transfer
from ganmod.cli import quickstart
from ganmod.images import read_image, write_image
from style_transfer.procedural_styles import PROCEDURAL_STYLES

PHOTOS = {"astronaut": (64, 64), "chelsea": (64, 96), "coffee": (64, 96), "rocket": (64, 96)}
SECONDS = 0.3  # of training, for both models


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smoke preset, small pictures, few training styles, and no network."""

    def refuse(*_: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(quickstart, "PRESET", "style-smoke")
    monkeypatch.setattr(quickstart, "SHORT_SIDE", 64)
    monkeypatch.setattr(quickstart, "OWN_SHORT_SIDE", 80)
    monkeypatch.setattr("training.style_run.BUILTIN_STYLES", 2)


def losses(out: Path, modulation: str) -> np.ndarray:
    """[steps, (seconds, content, style)] from the run folder of one training."""
    lines = (out / f"train-{modulation}" / "stats.jsonl").read_text().splitlines()
    keys = ("seconds", "loss/content", "loss/style")
    return np.array([[json.loads(line)[key] for key in keys] for line in lines])


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
        assert read_image(out / "your-images" / f"mine--{style}.png").shape[:2] == (80, 178)
        assert read_image(out / "styles" / f"{style}.png").shape == (64, 64, 3)
    for grid in ("stylized.png", "your-images.png", "compared.png"):
        assert read_image(out / grid).size > 0

    # Two models that differ in the modulation alone, trained for as long.
    models = {
        name: style_transfer.load(out / f"train-{name}" / "model-latest.safetensors")
        for name in ("adain", "adaconv")
    }
    assert {name: model.spec.modulation for name, model in models.items()} == {
        "adain": "adain",
        "adaconv": "adaconv",
    }
    configs = [(out / f"train-{name}" / "config.yaml").read_text().splitlines() for name in models]
    differing = [pair for pair in zip(*configs, strict=True) if pair[0] != pair[1]]
    assert differing == [("  modulation: adain", "  modulation: adaconv")]

    # The report tells the numbers of these runs.
    text = re.sub(r"<[^>]*>", " ", (out / "report.html").read_text())
    for name, model in models.items():
        steps = losses(out, name)
        assert steps[-1, 0] >= SECONDS / 2 or len(steps) == 20  # the smoke preset's length
        last = steps[-max(len(steps) // 10, 1) :]
        parameters = sum(p.numel() for p in model.trainable().values())
        row = [f"{parameters:,}", str(len(steps)), f"{last[:, 1].mean():.4g}", f"{last[:, 2].mean():.4g}"]
        row.append(f"{steps[-1, 0] / len(steps):.4g}")
        assert re.search(r"\s+".join(map(re.escape, row)), text), row
    for words in ("Your images", f"torch {torch.__version__}", "do not show which modulation wins"):
        assert words in text

    # The terminal: three steps, where the report is, three commands.
    lines = ended.out.splitlines()
    assert [line[:3] for line in lines if re.match(r"\d/3", line)] == ["1/3", "2/3", "2/3", "3/3"]
    at = lines.index(f"report: {out / 'report.html'}")
    assert lines[at + 1] == "next:"
    commands = lines[at + 2 :]
    assert len(commands) == 3
    assert all(command.strip() in text for command in commands)

    # Again, in the same folder: both trainings begin anew.
    (out / "report.html").unlink()
    again = ganmod_command("quickstart", "--out", out, "--minutes", SECONDS / 60, "--seed", 1)
    assert again.code == 0, again.err
    assert (out / "report.html").is_file()
    for name in models:
        lines = (out / f"train-{name}" / "stats.jsonl").read_text().splitlines()
        assert [json.loads(line)["nimg"] for line in lines] == [4 * (i + 1) for i in range(len(lines))]
    assert "Your images" not in (out / "report.html").read_text()


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
    ended = ganmod_command("quickstart", bad, "--out", tmp_path / "out")
    assert_fails(ended, code, "bad.png")
    assert not (tmp_path / "out").exists()


def test_the_followed_commands_can_be_typed_as_they_stand(ganmod_command: Callable, tmp_path: Path) -> None:
    for _, command in quickstart.next_commands(tmp_path):
        words = command.split("ganmod ", 1)[1].split()
        assert ganmod_command(*words[: 2 if words[0] == "train" else 1], "--help").code == 0
        known = ganmod_command(*words[: 2 if words[0] == "train" else 1], "--help").out
        assert all(word in known for word in words if word.startswith("-"))


def test_own_images_of_one_name_stay_apart(tmp_path: Path) -> None:
    for folder, side in (("a", 20), ("b", 500)):
        write_image(tmp_path / folder / "x.png", np.zeros((side, 2 * side, 3), dtype=np.uint8))
    own = quickstart.read_own_images([tmp_path / "a" / "x.png", tmp_path / "b" / "x.png"])
    assert {name: image.shape for name, image in own.items()} == {
        "x": (20, 40, 3),
        "x-again": (384, 768, 3),
    }


def test_curves_and_means_of_known_losses() -> None:
    seconds, values = np.arange(1, 601) / 10, np.arange(600.0)
    xs, ys = quickstart.thinned(seconds, values)
    assert len(xs) == len(ys) == quickstart.CURVE_POINTS
    assert (xs[0], ys[0]) == (pytest.approx(0.55), pytest.approx(4.5))  # ten steps each
    assert quickstart.thinned(seconds[:3], values[:3]) == ([0.1, 0.2, 0.3], [0.0, 1.0, 2.0])
    assert quickstart.last_tenth(values) == pytest.approx(569.5)
    assert quickstart.last_tenth(values[:3]) == 2.0
