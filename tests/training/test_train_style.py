"""If this fails, a resumed or distributed run is not the run the user started, or a bad step damages it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from colour_space import NAME
from processes import run_by
from run_checks import assert_same, check_measuring, final_state, read_lines, short_schedule

from configs.schema import StyleRun, load_style_config
from configs.style import StyleSchedule
from ganmod.io.images import read_image, write_image
from style_transfer import load, prepare_style
from training import train_style
from training.ema import ema_decay, update_ema
from training.run.checkpoint import CheckpointError
from training.run.nonfinite import NonFiniteError
from training.style.build import build_data, build_loss_network, build_model, draw_origin, lr_factor, resolve
from training.style.samples import METRIC_POSITION, style_images, stylized_by_index
from training.train_style import train

ROOT = Path(__file__).parents[2]
BATCH = 2
NUM_DRAWN = 8  # styles, of a training without data (conftest.py)


def smoke(steps: int, **changes: object) -> StyleRun:
    """A run of a few tiny steps; checkpoints only where it ends."""
    return load_style_config(
        "style-smoke",
        {
            "model.style_dim": 8,
            "data.crop": 32,
            "data.short_side": 64,
            "model.style_image_size": 64,
            **short_schedule(steps, BATCH),
            **changes,
        },
    )


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    """Options for a command that shall not draw styles either."""
    rng = np.random.default_rng(0)
    for i in range(4):
        kind = "styles" if i % 2 else "photos"
        write_image(tmp_path / kind / f"{i}.png", rng.integers(0, 256, (70, 80, 3), dtype=np.uint8))
    return ["--content", str(tmp_path / "photos"), "--style", str(tmp_path / "styles")]


def assert_close(a: dict, b: dict) -> None:
    """Weights equal to 1e-4, of runs in float64.

    In float32 rounding turns a few ReLUs over, and Adam, which divides by the gradient, makes steps of it.
    """
    assert a["model"].keys() == b["model"].keys()
    for name, value in a["model"].items():
        assert value.dtype == torch.float64
        torch.testing.assert_close(b["model"][name], value, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("modulation", ["adaconv", "adain", "weight_demod", "classic"])
def test_interrupted_run_equals_uninterrupted_run_bitwise(tmp_path: Path, modulation: str) -> None:
    key = "model.architecture" if modulation == "classic" else "model.modulation"
    changes = {key: modulation}
    train(smoke(7, **changes), tmp_path / "whole", show_progress=False)
    train(smoke(3, **changes), tmp_path / "parts", show_progress=False)
    train(smoke(7, **changes), tmp_path / "parts", show_progress=False)

    assert_same(final_state(tmp_path / "whole"), final_state(tmp_path / "parts"))
    lines = [
        [json.loads(line) for line in (tmp_path / name / "stats.jsonl").read_text().splitlines()]
        for name in ("whole", "parts")
    ]
    for whole, parts in zip(*lines, strict=True):
        assert whole["nimg"] == parts["nimg"]
        assert whole["loss/total"] == parts["loss/total"]


@pytest.mark.parametrize("damage", ["cut", "zeros"])
def test_a_damaged_last_line_of_the_statistics_does_not_end_a_resume(tmp_path: Path, damage: str) -> None:
    """As a full disk or a power cut leaves it; the log says what was left out."""
    train(smoke(3), tmp_path / "run", show_progress=False)
    stats = tmp_path / "run" / "stats.jsonl"
    whole = stats.read_bytes()
    stats.write_bytes(whole[:-25] if damage == "cut" else whole + b"\0" * 40)
    train(smoke(5), tmp_path / "run", show_progress=False)
    counts = [line["nimg"] for line in read_lines(stats)]
    assert counts == [n for n in (2, 4, 6, 8, 10) if damage == "zeros" or n != 6]
    assert "left out 1 damaged line" in (tmp_path / "run" / "log.txt").read_text()


def test_the_learning_rate_rises_and_falls() -> None:
    schedule = smoke(7).schedule.model_copy(
        update={"batch_size": 4, "total_kimg": 1.0, "warmup_kimg": 0.1, "decay_kimg": 0.5}
    )
    factors = [lr_factor(nimg, schedule) for nimg in (0, 46, 96, 500, 750, 1000, 1004)]
    assert factors == pytest.approx([0.04, 0.5, 1, 1, 0.5, 0, 0])
    assert lr_factor(0, StyleSchedule()) == lr_factor(10**9, StyleSchedule(total_kimg=10**7)) == 1


RESIDUAL = {"model.architecture": "residual", "model.width": 16, "model.num_blocks": 1}


def test_a_transfer_begins_with_the_other_models_weights_and_is_of_its_kind(tmp_path: Path) -> None:
    first = build_model(smoke(3, **RESIDUAL))
    file = tmp_path / "first.safetensors"
    first.save(file)
    given = {"model": {}, "transfer": str(file), "loss.network": "model"}
    run = train(smoke(1, **given, **{"optimizer.lr": 1e-12}), tmp_path / "run", show_progress=False)
    written = load(run)
    assert written.spec == first.spec
    for name, tensor in first.state_dict().items():
        torch.testing.assert_close(written.state_dict()[name], tensor, msg=name)
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["model"]["width"] == 16  # the file's, so that the run folder tells what was trained
    other = smoke(1, **{**given, "model": {"width": 32}})
    with pytest.raises(
        ValueError, match=r"model\.width is 32, but .*first\.safetensors holds a model with 16"
    ):
        train(other, tmp_path / "other", show_progress=False)


def test_the_shipped_model_is_a_start_and_its_encoder_a_loss_network(tmp_path: Path) -> None:
    write_image(
        tmp_path / "style.png", np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    )
    changes = {"data.style": [str(tmp_path / "style.png")], "data.crop": 32, "data.short_side": 64}
    config = resolve(load_style_config("style-finetune", {**changes, **short_schedule(2, BATCH)}))
    model = build_model(config)
    assert build_loss_network(config.loss, model) is model.encoder
    trained = load(train(config, tmp_path / "run", show_progress=False))
    assert trained.spec == load().spec
    losses = [line["loss/style"] for line in read_lines(tmp_path / "run" / "stats.jsonl")]
    assert len(losses) == 2
    changed = (
        trained.state_dict()["decoder.to_rgb.conv.weight"] - load().state_dict()["decoder.to_rgb.conv.weight"]
    )
    assert 0 < changed.abs().max() < 0.1


def test_noise_origins_are_the_steps_own() -> None:
    origins = [draw_origin(0, nimg) for nimg in range(0, 200, 4)]
    assert len(set(origins)) == 50
    assert origins[3] == draw_origin(0, 12) != draw_origin(1, 12)
    assert all(0 <= value < 4096 for origin in origins for value in origin)


def test_metrics_change_nothing_and_the_best_model_is_kept(tmp_path: Path) -> None:
    def run(folder: Path, changes: dict) -> None:
        train(smoke(5, **changes), folder, show_progress=False)

    for line in check_measuring(run, tmp_path, step=BATCH, metrics=("fd",)):
        assert (line["conditions"]["num_real"], line["conditions"]["num_generated"]) == (NUM_DRAWN, 6)


@pytest.mark.filterwarnings("ignore:skipped")
def test_what_is_measured_is_stylized_crops_against_prepared_style_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for folder, size in (("c", (40, 50)), ("s", (70, 90))):
        for i in range(3):
            write_image(tmp_path / folder / f"{i}.png", rng.integers(0, 256, (*size, 3), dtype=np.uint8))
    (tmp_path / "s" / "2.png").write_bytes(b"no image")
    folders = {"data.content": [str(tmp_path / "c")], "data.style": [str(tmp_path / "s")]}
    config = smoke(1, **folders, **{"data.short_side": 96})
    data, model = build_data(config.data, 0), build_model(config)
    real = style_images(data, 64)
    assert real.num_images == 3
    first, _, corrupt = real.load(torch.arange(3))
    assert corrupt is None
    assert first is not None
    # Short side resized to 64, then the centre.
    pixels = torch.from_numpy(read_image(tmp_path / "s" / "0.png")).permute(2, 0, 1)[None].float() / 255
    resized = F.interpolate(pixels, size=(64, 82), mode="bicubic", antialias=True).clamp(0, 1)
    torch.testing.assert_close(first.float() / 255, resized[0, :, :, 9:73], rtol=0, atol=0.51 / 255)
    digest = real.content_hash()
    assert style_images(build_data(config.data, 1), 64).content_hash() == digest
    assert style_images(data, 128).content_hash() != digest
    os.utime(tmp_path / "s" / "0.png", (1, 1))
    assert style_images(build_data(config.data, 0), 64).content_hash() != digest

    fakes = stylized_by_index(model, data, torch.device("cpu"), torch.float32)
    with torch.no_grad():
        batch, alone = fakes(torch.arange(4)), fakes(torch.tensor([2]))
        content, style = (x[None] / 255 for x in data[METRIC_POSITION + 2])
        expected = model(content, prepare_style(style, 64)).clamp(0, 1)
    assert (batch[2:3].int() - alone.int()).abs().max() <= 1
    torch.testing.assert_close(alone.float() / 255, expected, rtol=0, atol=0.51 / 255)


def test_sigterm_writes_a_checkpoint_exits_3_and_the_same_command_goes_on(
    tmp_path: Path, folders: list[str]
) -> None:
    command = [sys.executable, "-m", "ganmod", "train", "style", "--config", "style-smoke", *folders, "--out"]
    tiny = ["--set", "data.short_side=64", "--size", "32", "--batch", "2", "--device", "cpu"]
    tiny += ["--set", "schedule.checkpoint_kimg=100", "--set", "schedule.snapshot_kimg=100"]
    tiny += ["--set", "runtime.tensorboard=false", "--set", "schedule.log_kimg=0.002"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    long = [*command, str(tmp_path / "run"), *tiny, "--kimg", "100"]
    process = subprocess.Popen(long, cwd=ROOT, env=environment, stderr=subprocess.PIPE)
    stats = tmp_path / "run" / "stats.jsonl"
    deadline = time.monotonic() + 120
    while not (stats.exists() and stats.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 3, error
    stopped = final_state(tmp_path / "run")["nimg"]
    assert stopped > 0

    kimg = str((stopped + 2 * BATCH) / 1000)
    for name in ("run", "whole"):
        done = subprocess.run(
            [*command, str(tmp_path / name), *tiny, "--kimg", kimg], cwd=ROOT, env=environment, check=False
        )
        assert done.returncode == 0
    assert_same(final_state(tmp_path / "whole"), final_state(tmp_path / "run"))


def test_two_processes_equal_one(tmp_path: Path, folders: list[str]) -> None:
    options = ["--config", "style-smoke", *folders, "--size", "32", "--batch", "4", "--kimg", "0.012"]
    options += ["--device", "cpu", "--set", "data.short_side=64", "--set", "runtime.precision=float64"]
    options += ["--set", "runtime.tensorboard=false", "--metrics", "fd0.005k", "--metric-features", NAME]
    for count, name in ((1, "one"), (2, "two")):
        run_by(count, "train", "style", "--out", tmp_path / name, *options)
    one, two = final_state(tmp_path / "one"), final_state(tmp_path / "two")
    assert one["nimg"] == two["nimg"] == 12
    assert_close(one, two)
    for file, value in (("stats.jsonl", "loss/total"), ("metrics.jsonl", "fd_colour_space_colour_features")):
        first, second = (read_lines(tmp_path / name / file)[-1] for name in ("one", "two"))
        assert first[value] == pytest.approx(second[value], rel=1e-4)


def test_accumulated_gradients_equal_the_whole_batch(tmp_path: Path) -> None:
    changes = {"schedule.batch_size": 4, "schedule.total_kimg": 0.008, "runtime.precision": "float64"}
    train(smoke(1, **changes), tmp_path / "whole", show_progress=False)
    train(smoke(1, **changes, **{"schedule.microbatch": 1}), tmp_path / "parts", show_progress=False)
    assert_close(final_state(tmp_path / "whole"), final_state(tmp_path / "parts"))


def test_non_finite_steps_are_left_out_then_stop_the_run_and_keep_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(smoke(2), tmp_path, show_progress=False)
    before = final_state(tmp_path)
    real = train_style.style_transfer_losses

    def poison(*args: object, **kwargs: object) -> object:
        losses = real(*args, **kwargs)  # type: ignore[arg-type]
        return losses._replace(total=losses.total * float("nan"), style=losses.style * float("nan"))

    monkeypatch.setattr(train_style, "style_transfer_losses", poison)
    with pytest.raises(NonFiniteError, match="total, style for 3 steps in a row"):
        train(smoke(9, **{"schedule.max_nonfinite_steps": 3}), tmp_path, show_progress=False)
    assert_same(before, final_state(tmp_path), ignore=())


def test_full_disk_keeps_the_previous_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(smoke(2), tmp_path, show_progress=False)
    before = final_state(tmp_path)

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(CheckpointError, match="No space left"):
            train(smoke(3), tmp_path, show_progress=False)
    assert_same(before, final_state(tmp_path), ignore=())


def test_another_configuration_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    train(smoke(1), tmp_path, show_progress=False)
    with pytest.raises(ValueError, match=r"model.modulation = 'adaconv', this command says 'adain'"):
        train(smoke(2, **{"model.modulation": "adain"}), tmp_path, show_progress=False)


def test_loss_falls_and_the_model_file_holds_the_average(tmp_path: Path) -> None:
    import style_transfer

    path = train(smoke(30, **{"optimizer.lr": 2e-3}), tmp_path, show_progress=False)
    lines = [json.loads(line)["loss/total"] for line in (tmp_path / "stats.jsonl").read_text().splitlines()]
    assert sum(lines[-5:]) < 0.7 * sum(lines[:5])
    saved = style_transfer.load(path).trainable()
    for name, value in final_state(tmp_path)["ema"].items():
        assert torch.equal(saved[name].detach(), value), name


def test_ema_half_life_and_ramp_up() -> None:
    decay = ema_decay(8, 10**6, half_life_kimg=0.8, rampup=0.05)
    assert decay**100 == pytest.approx(0.5)  # 800 images later
    assert ema_decay(8, 1600, half_life_kimg=100, rampup=0.05) == pytest.approx(0.5 ** (8 / 80))
    average = {"w": torch.tensor([1.0])}
    update_ema(average, {"w": torch.nn.Parameter(torch.tensor([3.0]))}, 0.75)
    assert average["w"].item() == pytest.approx(1.5)
