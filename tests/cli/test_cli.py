"""If this fails, a command line does something else than its help says, or ends with a wrong exit code."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
import yaml

import style_transfer
from configs.schema import StyleRun, load_style_config
from ganmod import list_modulations
from ganmod.cli.main import COMMANDS
from ganmod.io.images import read_image, write_image
from style_transfer import ModelSpec, StyleTransferModel

ROOT = Path(__file__).parents[2]


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth colour ramps with some noise, uint8 [height,width,3]."""
    rng = np.random.default_rng(seed)
    ramp = np.add.outer(np.linspace(0, 1, height), np.linspace(0, 1, width)) / 2
    colors = ramp[..., None] * rng.uniform(80, 255, 3) + rng.uniform(-20, 20, (height, width, 3))
    return colors.clip(0, 255).astype(np.uint8)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """contents/ with a 37 x 53 and a 48 x 24 image, styles/ with two of 64 x 64."""
    write_image(tmp_path / "contents" / "wide.png", picture(37, 53, seed=1))
    write_image(tmp_path / "contents" / "deep" / "tall.png", picture(48, 24, seed=2))
    for i in range(2):
        write_image(tmp_path / "styles" / f"s{i}.png", picture(64, 64, seed=3 + i))
    return tmp_path


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )


def test_help_lists_every_command_and_needs_no_torch() -> None:
    code = (
        "import sys; sys.argv = ['ganmod', '--help']\n"
        "from ganmod.cli.main import main\n"
        "main()\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules, 'heavy import'\n"
    )
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    for name, (_, _, line) in COMMANDS.items():
        assert name in done.stdout
        assert line.split(":")[0] in " ".join(done.stdout.split())


def test_python_m_ganmod_is_the_same_command() -> None:
    done = python("-m", "ganmod", "--version")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("python -m ganmod, version") or done.stdout.startswith("ganmod, version")
    assert python("-m", "ganmod", "nonsense").returncode == 2


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_help_exists(name: str, ganmod_command) -> None:
    ended = ganmod_command(name, "--help")
    assert ended.code == 0
    assert f"ganmod {name} " in ended.out.splitlines()[0]


def test_the_help_names_all_subcommands() -> None:
    for name, (module, attribute, line) in COMMANDS.items():
        command = getattr(importlib.import_module(module), attribute)
        if isinstance(command, click.Group):
            assert not [sub for sub in command.commands if sub not in line], f"{name}: {line}"


@pytest.mark.parametrize("option", ["--network-weights", "--feature-weights"])
def test_weights_of_a_style_models_networks_are_not_the_metrics(
    option, tmp_path, monkeypatch, ganmod_command
) -> None:
    (tmp_path / "vgg.pth").touch()
    (tmp_path / "space.pth").touch()
    configs: list[StyleRun] = []
    monkeypatch.setattr("ganmod.cli.train.check_run_folder", lambda config, *_: configs.append(config))
    given = ["--encoder", "vgg19", "--loss-network", "vgg19", option, tmp_path / "vgg.pth"]
    ended = ganmod_command("train", "style", *given, "--metric-weights", tmp_path / "space.pth")
    assert ended.code == 0, ended.err
    (config,) = configs
    weights = config.model.encoder_weights, config.loss.network_weights, config.metric.feature_weights
    assert [Path(str(path)).name for path in weights] == ["vgg.pth", "vgg.pth", "space.pth"]


def test_exit_codes_0_1_2(tmp_path: Path, ganmod_command) -> None:
    assert ganmod_command("modulations").code == 0
    assert ganmod_command("train", "style", "--dry-run", "--no-such-option").code == 2
    assert ganmod_command("stylize").code == 2
    (tmp_path / "a.png").write_bytes(b"no image")
    failed = ganmod_command("stylize", tmp_path / "a.png", tmp_path / "a.png", "-o", tmp_path / "b.png")
    assert failed.code == 1
    assert "a.png" in failed.err
    assert "Traceback" not in failed.err


def test_stylize_one_pair_equals_the_library(images: Path, ganmod_command) -> None:
    content, style, out = images / "contents/wide.png", images / "styles/s0.png", images / "new" / "o.png"
    ended = ganmod_command("stylize", content, style, "-o", out)
    assert ended == (0, f"wrote {out}\n", ended.err)
    result = read_image(out)
    assert result.shape == (37, 53, 3)  # no multiple of anything
    expected = style_transfer.load().stylize(read_image(content), read_image(style))
    np.testing.assert_array_equal(result, expected)


def test_stylize_folders_give_every_pair_and_a_grid(images: Path, ganmod_command) -> None:
    ended = ganmod_command("stylize", images / "contents", images / "styles", "-o", images / "out")
    assert ended.code == 0
    assert "wrote 4 images" in ended.out
    written = {path.name: read_image(path).shape for path in (images / "out").iterdir()}
    assert written.pop("grid.png")[0] > 0
    assert written == {
        "wide--s0.png": (37, 53, 3),
        "wide--s1.png": (37, 53, 3),
        "tall--s0.png": (48, 24, 3),
        "tall--s1.png": (48, 24, 3),
    }
    results = [read_image(images / "out" / f"wide--s{i}.png").astype(int) for i in range(2)]
    assert np.abs(results[0] - results[1]).mean() > 1  # the style matters


def test_stylize_a_file_with_a_folder(images: Path, ganmod_command) -> None:
    ended = ganmod_command("stylize", images / "contents/wide.png", images / "styles", "-o", images / "out")
    assert ended.code == 0
    names = {path.name for path in (images / "out").iterdir()}
    assert names == {"wide--s0.png", "wide--s1.png", "grid.png"}


def test_files_of_equal_names_do_not_overwrite_each_other(images: Path, ganmod_command) -> None:
    write_image(images / "contents" / "deep" / "wide.png", picture(20, 30))
    ended = ganmod_command("stylize", images / "contents", images / "styles/s0.png", "-o", images / "out")
    assert ended.code == 0
    shapes = {path.name: read_image(path).shape[:2] for path in (images / "out").glob("*--*")}
    assert shapes == {
        "wide.png--s0.png": (37, 53),
        "deep_wide.png--s0.png": (20, 30),
        "tall--s0.png": (48, 24),
    }


@pytest.mark.parametrize(("size", "wide", "tall"), [(16, (16, 23), (32, 16)), (40, (40, 57), (80, 40))])
def test_size_is_the_exact_short_side_and_keeps_the_aspect(
    images: Path, ganmod_command, size: int, wide: tuple[int, int], tall: tuple[int, int]
) -> None:
    arguments = (images / "contents", images / "styles/s0.png", "-o", images / "out", "--size", size)
    assert ganmod_command("stylize", *arguments).code == 0
    assert read_image(images / "out" / "wide--s0.png").shape[:2] == wide
    assert read_image(images / "out" / "tall--s0.png").shape[:2] == tall


def test_alpha_goes_from_the_content_to_the_style(images: Path, ganmod_command) -> None:
    content, style = images / "contents/wide.png", images / "styles/s0.png"
    results = {}
    for name, arguments in {"0": ("--alpha", 0), "0.5": ("--alpha", 0.5), "1": ()}.items():
        out = images / f"alpha{name}.png"
        assert ganmod_command("stylize", content, style, "-o", out, *arguments).code == 0
        results[name] = read_image(out).astype(float)
    own_style = images / "own.png"
    assert ganmod_command("stylize", content, content, "-o", own_style).code == 0
    np.testing.assert_allclose(results["0"], read_image(own_style), atol=1)
    whole = np.abs(results["0"] - results["1"]).mean()
    assert 0 < np.abs(results["0.5"] - results["1"]).mean() < whole
    assert ganmod_command("stylize", content, style, "-o", out, "--alpha", 1.5).code == 2


def test_skip_existing_leaves_results_alone(images: Path, ganmod_command) -> None:
    arguments = ("stylize", images / "contents", images / "styles", "-o", images / "out", "--skip-existing")
    marked = picture(37, 53, seed=9)
    write_image(images / "out" / "wide--s1.png", marked)
    ended = ganmod_command(*arguments)
    assert ended.code == 0
    assert "wrote 3 images (1 were there)" in ended.out
    np.testing.assert_array_equal(read_image(images / "out" / "wide--s1.png"), marked)
    assert "wrote 0 images (4 were there)" in ganmod_command(*arguments).out


def test_results_inside_an_input_folder_are_refused(images: Path, ganmod_command) -> None:
    ended = ganmod_command(
        "stylize", images / "contents", images / "styles", "-o", images / "contents" / "out"
    )
    assert ended.code == 2
    assert "lies inside" in ended.err
    assert not (images / "contents" / "out").exists()


def test_modulations_as_text_and_json(ganmod_command) -> None:
    entries = json.loads(ganmod_command("modulations", "--json").out)
    assert [entry["name"] for entry in entries] == list_modulations()
    assert all(entry["summary"] and isinstance(entry["options"], dict) for entry in entries)
    text = ganmod_command("modulations").out
    assert all(entry["name"] in text and entry["summary"] in text for entry in entries)
    kinds = {entry["name"]: entry["kinds"] for entry in entries}
    assert (kinds["adaconv"], kinds["wct"]) == (["vector", "map"], ["features"])
    assert "reads a style of kind vector or map" in text


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--config", "style-smoke", "--modulation", "adain", "--batch", "6", "--minutes", "2.5"),
        ("--set", "optimizer.lr=0.001", "--set", "data.flip=false", "--set", "optimizer.clip_grad_norm=1"),
    ],
)
def test_dry_run_prints_a_configuration_that_can_be_read_back(
    tmp_path: Path, ganmod_command, arguments: tuple[str, ...]
) -> None:
    ended = ganmod_command("train", "style", "--dry-run", *arguments)
    assert ended.code == 0
    file = tmp_path / "run.yaml"
    file.write_text(ended.out)
    config = load_style_config(str(file), {})
    assert config.model_dump(mode="json") == yaml.safe_load(ended.out)
    if "--modulation" in arguments:
        assert (config.model.modulation, config.schedule.batch_size, config.schedule.minutes) == (
            "adain",
            6,
            2.5,
        )
    if "data.flip=false" in arguments:
        assert (config.optimizer.lr, config.data.flip, config.optimizer.clip_grad_norm) == (1e-3, False, 1.0)
    again = ganmod_command("train", "style", "--dry-run", "--config", file)
    assert again.out == ended.out
    assert list(tmp_path.iterdir()) == [file]  # nothing was begun


def test_training_writes_a_model_that_stylize_reads_and_resumes(images: Path, ganmod_command) -> None:
    run = images / "run"
    folders = ("--content", images / "contents", "--style", images / "styles")
    tiny = ("--config", "style-smoke", "--size", 32, "--set", "data.short_side=48", "--batch", 2)
    tiny += ("--device", "cpu", "--set", "runtime.tensorboard=false", "--set", "schedule.log_kimg=0.002")
    command = ("train", "style", "--out", run, *folders, *tiny)
    first = ganmod_command(*command, "--kimg", 0.004)
    assert first.code == 0, first.err
    assert first.out == f"model: {run / 'model-latest.safetensors'}\n"
    second = ganmod_command(*command, "--kimg", 0.008)
    assert "resumed at 4 images" in second.err
    lines = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    assert [line["nimg"] for line in lines] == [2, 4, 6, 8]

    out = images / "o.png"
    arguments = (images / "contents/wide.png", images / "styles/s0.png", "-o", out)
    assert ganmod_command("stylize", *arguments, "--model", run / "model-latest.safetensors").code == 0
    assert read_image(out).shape == (37, 53, 3)


PLUGIN = """
from ganmod.modulation import AdaIN, register_modulation
@register_modulation("{name}")
class Mine(AdaIN):
    "AdaIN by another name."
"""


def test_a_plugin_in_the_working_folder_is_found_by_every_command(
    images: Path, ganmod_command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ganmod.modulation import registry

    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.chdir(images)
    name = "modulation_of_a_test"
    (images / f"{name}.py").write_text(PLUGIN.format(name=name))
    assert f"{name}  AdaIN by another name." in ganmod_command("modulations", "--plugin", name).out
    dry = ganmod_command("train", "style", "--dry-run", "--plugin", name, "--modulation", name)
    assert dry.code == 0, dry.err

    shipped = style_transfer.load()
    spec = ModelSpec("ganmod-slim", shipped.spec.encoder_widths, modulation=name, style_dim=8)
    StyleTransferModel(spec, shipped.encoder).save(images / "mine.safetensors")
    arguments = (images / "contents/wide.png", images / "styles/s0.png", "-o", images / "o.png")
    ended = ganmod_command("stylize", *arguments, "--model", images / "mine.safetensors", "--plugin", name)
    assert ended.code == 0, ended.err
    sys.modules.pop(name)
