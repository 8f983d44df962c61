"""If this fails, a run that blew up, lost a loader or was told to stop is worse off than its message says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from command_checks import Ended
from run_checks import final_state, read_lines
from torch.utils.data import DataLoader, Dataset

from configs.style import StyleRun
from ganmod.data.crops import CropStream
from ganmod.io.model_file import read_model_file, save_model_file
from training.loader import LoaderKilledError, StepSampler, iterate_steps, step_loader
from training.run.checkpoint import save_checkpoint
from training.run.nonfinite import NonFiniteError

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks" / "runs"))
from kill_resume import compare_runs, train_tiny, write_images


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("data") / "images")


@pytest.mark.parametrize(("lr", "what"), [(1e6, "pictures hold NaN at 4"), (1e39, "weights are not finite")])
def test_a_model_that_blew_up_is_an_error_before_its_snapshot(
    tmp_path: Path, images: Path, lr: float, what: str
) -> None:
    with pytest.raises(NonFiniteError, match=f"{what} .*lower learning rates") as error:
        train_tiny("style", images, tmp_path, steps=4, **{"optimizer.lr": lr})
    kept = sorted(path.name for path in tmp_path.glob("*-*"))
    assert kept == (["checkpoint-000000002.pt"] if lr == 1e6 else [])
    assert (kept[0] if kept else "There is no checkpoint yet") in str(error.value)


def test_a_lower_learning_rate_and_moved_data_go_on_and_are_noted(tmp_path: Path, images: Path) -> None:
    """The optimizers' state holds the former rates: the new ones must act."""
    run, moved = tmp_path / "run", write_images(tmp_path / "moved")
    train_tiny("stylegan2", images, run, steps=2)
    before = final_state(run)
    slow = {"optimizer.g_lr": 1e-12, "optimizer.d_lr": 1e-12}
    train_tiny("stylegan2", moved, run, steps=4, **slow)
    after = final_state(run)
    assert after["nimg"] == 16
    assert before["g_optimizer"]["param_groups"][0]["lr"] == pytest.approx(0.0025 * 4 / 5)
    assert after["g_optimizer"]["param_groups"][0]["lr"] == pytest.approx(1e-12 * 4 / 5)
    for network in ("G", "D"):
        for name, value in before[network].items():
            if not name.endswith("w_avg"):  # follows the latents, not the optimizer
                torch.testing.assert_close(after[network][name], value, rtol=0, atol=1e-9)
    noted = {line["key"]: (line["nimg"], line["now"]) for line in read_lines(run / "changes.jsonl")}
    assert noted == {
        "data.path": (8, str(moved)),
        "optimizer.g_lr": (8, 1e-12),
        "optimizer.d_lr": (8, 1e-12),
        "schedule.total_kimg": (8, 0.016),
    }
    assert "from here on optimizer.g_lr is 1e-12, before 0.0025" in (run / "log.txt").read_text()
    train_tiny("stylegan2", moved, run, steps=5, **slow)
    assert [line["nimg"] for line in read_lines(run / "changes.jsonl")] == [8, 8, 8, 8, 16]


def test_other_images_under_the_same_path_are_refused(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images")
    train_tiny("starganv2", images, tmp_path / "run", steps=1)
    (images / "cat" / "1.png").unlink()
    with pytest.raises(ValueError, match=r"other data: data\.path .*stream of images.*--out"):
        train_tiny("starganv2", images, tmp_path / "run", steps=2)


def test_a_killed_loader_process_leaves_a_checkpoint_and_one_line(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(DataLoader(torch.arange(2), num_workers=1))  # an earlier loader of the process set torch's handler
    pixels, training = CropStream.pixels, os.getpid()

    def killed(self: CropStream, position: int) -> object:
        if position == 6 and os.getpid() != training:
            os.kill(os.getpid(), signal.SIGKILL)  # as the system does when memory runs out
        return pixels(self, position)

    workers = {"data.num_workers": 1}
    with monkeypatch.context() as patch:
        patch.setattr(CropStream, "pixels", killed)
        rare = {"schedule.checkpoint_kimg": 100, "schedule.log_kimg": 100}
        with pytest.raises(LoaderKilledError, match=r"processes was killed.*lower data\.num_workers"):
            train_tiny("style", images, tmp_path / "run", steps=4, **workers, **rare)
    assert final_state(tmp_path / "run")["nimg"] in (4, 6)  # a batch under way may be lost
    train_tiny("style", images, tmp_path / "run", steps=4, **{"data.num_workers": 0})
    train_tiny("style", images, tmp_path / "whole", steps=4)
    _, different = compare_runs(tmp_path / "whole", tmp_path / "run")
    assert {name.split("/")[0] for name in different} <= {"stats.jsonl", "stylized-000000004.png"}


class Failing(Dataset):
    """Its images raise `error`."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __getitem__(self, position: int) -> torch.Tensor:
        raise self.error


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize(
    "error", [RuntimeError("no codec"), EOFError("cut off"), ConnectionError("no share")]
)
def test_an_error_of_the_data_is_not_a_killed_loader(error: Exception, num_workers: int) -> None:
    loader = step_loader(Failing(error), StepSampler(batch_size=1, nimg=0), num_workers=num_workers)
    with pytest.raises(type(error), match=str(error)) as found:
        next(iterate_steps(loader))
    assert not isinstance(found.value, LoaderKilledError)


UNCLOSED = """
import torch
from training.loader import StepSampler, iterate_steps, step_loader
loader = step_loader(torch.arange(100), StepSampler(batch_size=1, nimg=0), num_workers=1)
batches = iterate_steps(loader)
next(batches)
batches.close()
raise SystemExit("an error")
"""


def test_loaders_end_with_a_run_that_fails() -> None:
    ended = subprocess.run([sys.executable, "-c", UNCLOSED], capture_output=True, text=True, timeout=100)
    assert (ended.returncode, ended.stderr) == (1, "an error\n")


def test_a_run_that_fails_before_its_first_step_frees_the_folder(tmp_path: Path, images: Path) -> None:
    missing = {"metric.every": 1, "metric.features": "cifar-resnet56", "metric.feature_weights": "missing.th"}
    with pytest.raises(ValueError, match=r"missing\.th"):
        train_tiny("stylegan2", images, tmp_path, steps=1, **missing)
    assert (tmp_path / ".run.lock").read_bytes() == b""  # as `release` leaves it


def test_an_extended_run_keeps_what_was_measured_and_the_best_model(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last model of a run is measured after its checkpoint."""
    values = iter([3.0, 1.0, 2.0])
    monkeypatch.setattr(
        "training.run.training_metric.MetricHook.__call__",
        lambda hook, generators, done: {hook.name: next(values)},
    )
    metric = {"metric.every": 1, "metric.features": "ganmod-slim", "metric.num_images": 4}
    train_tiny("stylegan2", images, tmp_path, steps=3, **metric)  # at 2 steps, and in the end
    train_tiny("stylegan2", images, tmp_path, steps=4, **metric)
    lines = read_lines(tmp_path / "metrics.jsonl")
    (name,) = (key for key in lines[0] if key.startswith("fd_"))
    assert [(line["nimg"], line[name]) for line in lines] == [(8, 3.0), (12, 1.0), (16, 2.0)]
    assert read_model_file(tmp_path / "model-best.safetensors").training_value("nimg") == 12


def test_the_file_that_a_run_began_with_may_change_later(tmp_path: Path, images: Path) -> None:
    first = train_tiny("stylegan2", images, tmp_path / "first", steps=1)
    begun_with = tmp_path / "a.safetensors"
    begun_with.write_bytes(first.read_bytes())
    train_tiny("stylegan2", images, tmp_path / "run", steps=1, transfer=str(begun_with))
    moved = tmp_path / "b.safetensors"
    moved.write_bytes(begun_with.read_bytes())
    begun_with.write_bytes(b"replaced meanwhile")
    train_tiny("stylegan2", images, tmp_path / "run", steps=2, transfer=str(begun_with))
    train_tiny("stylegan2", images, tmp_path / "run", steps=3, transfer=str(moved))
    begun_with.rename(other := tmp_path / "c.safetensors")
    with pytest.raises(ValueError, match=r"other data: transfer .* the run began with those weights"):
        train_tiny("stylegan2", images, tmp_path / "run", steps=4, transfer=str(other))


def test_a_style_runs_encoder_is_that_of_its_beginning(tmp_path: Path, images: Path) -> None:
    """It is read again at each start from the file that the run began with; the trained weights are not."""
    begun_with = train_tiny("style", images, tmp_path / "first", steps=1)
    train_tiny("style", images, tmp_path / "run", steps=1, transfer=str(begun_with))
    train_tiny("style", images, tmp_path / "first", steps=2)  # the file has other trained weights now
    train_tiny("style", images, tmp_path / "run", steps=2, transfer=str(begun_with))
    file = read_model_file(begun_with)
    spoilt = {k: v * 1.01 if k.startswith("encoder.convs") else v for k, v in file.tensors.items()}
    save_model_file(begun_with, spoilt, kind=file.kind, config=file.config)
    with pytest.raises(ValueError, match=r"other data: model\.encoder .*the checkpoint holds the weights"):
        train_tiny("style", images, tmp_path / "run", steps=3, transfer=str(begun_with))


def test_a_checkpoint_without_newer_keys_goes_on(tmp_path: Path, images: Path) -> None:
    train_tiny("stylegan2", images, tmp_path, steps=1)
    state = final_state(tmp_path)
    del state["config"]["loss"]["objective"], state["config"]["model"]["discriminator"]
    save_checkpoint(tmp_path, state["nimg"], state)
    train_tiny("stylegan2", images, tmp_path, steps=2)
    assert final_state(tmp_path)["nimg"] == 8
    assert [line["key"] for line in read_lines(tmp_path / "changes.jsonl")] == ["schedule.total_kimg"]


def test_sigterm_while_loading_exits_with_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ganmod_command: Callable[..., Ended]
) -> None:
    def loads(config: StyleRun, run_dir: Path, **options: object) -> Path:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
        return run_dir

    monkeypatch.setattr("training.train_style.train", loads)
    before = signal.getsignal(signal.SIGTERM)
    ended = ganmod_command("train", "style", "--config", "style-smoke", "--out", tmp_path / "run")
    assert ended.code == 3
    assert "Traceback" not in ended.err
    assert signal.getsignal(signal.SIGTERM) is before


def test_no_resume_asks_before_checkpoints_are_put_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ganmod_command: Callable[..., Ended]
) -> None:
    begun: list[dict[str, object]] = []
    monkeypatch.setattr(
        "training.train_style.train", lambda config, run_dir, **options: begun.append(options)
    )
    run = tmp_path / "run"
    command = ["train", "style", "--config", "style-smoke", "--out", run, "--no-resume"]
    assert ganmod_command(*command).code == 0  # nothing is there
    run.mkdir()
    (run / "checkpoint-000000100.pt").write_bytes(b"kept")
    refused = ganmod_command(*command)
    assert refused.code == 2
    assert f"checkpoint-000000100.pt) will be moved to {tmp_path / 'run.old-1'}" in refused.err
    assert "give --yes" in refused.err
    assert ganmod_command(*command, "--yes", "--no-keep-old").code == 0
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    answers = [False, True]
    questions: list[str] = []
    monkeypatch.setattr("click.confirm", lambda text, **_: questions.append(text) or answers.pop(0))
    assert ganmod_command(*command).code == 1
    assert ganmod_command(*command).code == 0
    assert len(questions) == 2
    assert [options["keep_old"] for options in begun] == [True, False, True]
    assert all(options["resume"] is False for options in begun)
