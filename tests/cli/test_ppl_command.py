"""If this fails, `ganmod ppl` prints another number than the function gives, or hides what it depends on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from command_checks import assert_fails
from run_folders import run_folder
from small_images import folder_of
from tiny_generator import tiny_generator
from torchvision.models import squeezenet1_1

from ganmod.cli.measure import ppl
from ganmod.stylegan2.stylegan2_file import read_stylegan2, save_stylegan2
from metrics import path_length
from metrics.image_sets.sources import read_labels
from metrics.images.lpips import load_lpips
from metrics.path_length import PathSettings, measure_path_length

pytest.importorskip("lpips")

SIDE = 64


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models, a run folder, images in classes, SqueezeNet with random weights."""
    root = tmp_path_factory.mktemp("files")
    save_stylegan2(root / "plain.safetensors", G_ema=tiny_generator(img_resolution=SIDE))
    classes = tiny_generator(img_resolution=SIDE, c_dim=2)
    save_stylegan2(root / "classes.safetensors", G_ema=classes, class_names=("x", "y"))
    run_folder(root / "run", size=(32, 32))
    folder_of(root / "data", [f"{'xy'[i % 2]}/{i}.png" for i in range(4)])
    torch.manual_seed(0)
    torch.save(squeezenet1_1(weights=None).features.state_dict(), root / "squeezenet.pth")
    return root


def measured(ganmod_command: Any, files: Path, model: str, *arguments: object) -> dict[str, Any]:
    weights = ["--lpips-weights", files / "squeezenet.pth"]
    ended = ganmod_command("ppl", files / model, *weights, "--num", 5, *arguments, "--json")
    assert ended.code == 0, ended.err
    return json.loads(ended.out)


def expected(files: Path, model: str, **options: Any) -> float:
    G = read_stylegan2(files / model, half_precision=False).G
    return measure_path_length(G, load_lpips(files / "squeezenet.pth"), 5, **options).value


def test_the_figure_is_that_of_the_function_and_states_what_it_depends_on(files: Path, ganmod_command):
    found = measured(ganmod_command, files, "plain.safetensors")
    assert found["metrics"] == pytest.approx({"ppl_squeeze": expected(files, "plain.safetensors")}, rel=1e-6)
    assert found["num_kept"] == 5
    settings = found["settings"]
    assert (settings["space"], settings["sampling"], settings["crop"]) == ("w", "end", False)
    assert (settings["epsilon"], settings["num_pairs"], settings["seeds"]) == (1e-4, 5, "0-4")
    assert (settings["image_size"], settings["lpips"]) == ("64x64", "v0.1, squeeze")
    assert [note.split(":")[0] for note in found["warnings"]] == [
        "published figures are of LPIPS with VGG-16 (--network vgg)",
        "published figures are of 50,000 pairs",
    ]

    options = ["--space", "z", "--sampling", "full", "--crop", "--seed", 3, "--batch", 2]
    other = measured(ganmod_command, files, "plain.safetensors", *options)["metrics"]["ppl_squeeze"]
    choice = PathSettings(space="z", sampling="full", crop=True)
    value = expected(files, "plain.safetensors", settings=choice, seed=3, batch_size=2)
    assert other == pytest.approx(value, rel=1e-6)
    assert other != pytest.approx(found["metrics"]["ppl_squeeze"], rel=1e-2)


def test_labels_come_from_a_class_or_a_data_set(files: Path, ganmod_command):
    one = measured(ganmod_command, files, "classes.safetensors", "--class", "y")
    value = expected(files, "classes.safetensors", labels=torch.tensor([[0.0, 1.0]]))
    assert one["metrics"]["ppl_squeeze"] == pytest.approx(value, rel=1e-6)
    drawn = measured(ganmod_command, files, "classes.safetensors", "--data", files / "data")
    value = expected(files, "classes.safetensors", labels=read_labels(files / "data", c_dim=2))
    assert drawn["metrics"]["ppl_squeeze"] == pytest.approx(value, rel=1e-6)
    assert (one["settings"]["labels"], drawn["settings"]["labels"]) == (
        "class y",
        f"drawn from {files / 'data'}",
    )


def test_a_run_folder_counts_by_its_latest_model_and_lines_are_for_people(files: Path, ganmod_command):
    weights = files / "squeezenet.pth"
    ended = ganmod_command("ppl", files / "run", "--lpips-weights", weights, "--num", 2)
    assert ended.code == 0, ended.err
    assert ended.out.startswith("ppl_squeeze  ")
    assert f"model: {files / 'run' / 'model-latest.safetensors'}" in ended.out
    assert "space: w\nsampling: end\nepsilon: 0.0001\ncrop: False\nimage_size: 32x32" in ended.out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["classes.safetensors"], 2, "the model is conditional, but no class is given"),
        (["classes.safetensors", "--class", "x", "--data", "data"], 2, "leave one out"),
        (["plain.safetensors", "--data", "data"], 2, "the model is unconditional: leave it out"),
        (["run", "--crop"], 2, "--crop leaves 16 pixels a side, but LPIPS needs at least 32"),
        (["plain.safetensors", "--network", "vgg"], 1, "Expected VGG-16 in torchvision's layout"),
        (["plain.safetensors", "--space", "x"], 2, "'x' is not one of 'w', 'z'"),
    ],
)
def test_errors_name_the_fix(
    files: Path, ganmod_command, monkeypatch, arguments: list[str], code: int, message: str
):
    monkeypatch.chdir(files)
    ended = ganmod_command("ppl", *arguments, "--lpips-weights", "squeezenet.pth", "--num", 2)
    assert_fails(ended, code, message)


def test_a_missing_file_is_named(files: Path, ganmod_command, monkeypatch, tmp_path: Path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    ended = ganmod_command("ppl", files / "plain.safetensors", "--network", "vgg")
    assert_fails(ended, 1, "vgg16-397923af.pth")
    assert "--lpips-weights PATH" in ended.err


def test_the_default_number_of_pairs_is_the_published_one(ganmod_command):
    assert ppl.NUM_PAIRS == path_length.NUM_PAIRS == 50_000
    assert "[default: 50000;" in " ".join(ganmod_command("ppl", "--help").out.split())
