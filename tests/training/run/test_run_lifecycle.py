"""If this fails, a run ends or reports at the wrong time, or is continued as a run that it is not."""

from __future__ import annotations

import functools
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from configs.schema import load_starganv2_config, load_style_config, load_stylegan2_config
from ganmod.machine import peak_memory_mb
from training import cost
from training.cost import count_parameters, estimate_memory_mib, kept_for_backward
from training.run import progress as run_progress
from training.run.lifecycle import check_batch_size
from training.run.progress import RunProgress
from training.run.running_means import RunningMeans
from training.run.same_run import find_changes

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[3]


def progress(*, resumed_state: dict | None = None, **changes: object) -> RunProgress:
    """Batches of 4, 40 images in all."""
    config = load_style_config("style-smoke", {"schedule.total_kimg": 0.04, **changes})
    return RunProgress(config.schedule, CPU, batch_size=4, resumed_state=resumed_state, show=False)


def test_what_is_due_after_more_images_than_there_are_is_due_in_the_end_alone() -> None:
    """1e308 thousand images are infinitely many in floating point."""
    at = progress()
    due = []
    while not at.done:
        due.append(at.due(1e308))
        at.begin_step()
        at.end_step()
        at.should_stop()
    assert due == [False] * 10
    assert at.due(1e308)


def test_what_is_due_is_due_in_whole_steps_and_in_the_end() -> None:
    at = progress()
    due = []
    while not at.done:
        if at.due(0.013):  # 3 steps of 4
            due.append(at.nimg)
        at.begin_step()
        at.end_step()
        at.should_stop()
    assert due == [12, 24, 36]
    assert (at.nimg, at.step, at.due(0.013), at.ended, at.interrupted) == (40, 10, True, True, False)


def test_seconds_count_only_steps_and_end_a_run_of_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(run_progress.time, "monotonic", lambda: now[0])
    at = progress(resumed_state={"nimg": 8, "seconds": 3.0}, **{"schedule.minutes": 0.1})
    for _ in range(2):
        now[0] += 50.0  # a snapshot
        at.should_stop()
        assert not at.ended
        at.begin_step()
        now[0] += 1.5
        at.end_step()
    at.should_stop()
    assert (at.nimg, at.seconds, at.done) == (16, 6.0, True)


def test_pace_end_and_pictures_are_told_once_then_a_line_every_half_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr(run_progress.time, "monotonic", lambda: now[0])
    told: list[tuple[str, bool]] = []
    changes = {"schedule.total_kimg": 0.4, "schedule.log_kimg": 0.012, "schedule.snapshot_kimg": 0.1}
    at = RunProgress(
        load_style_config("style-smoke", changes).schedule,
        CPU,
        batch_size=4,
        show=None,  # the tests have no terminal
        log=lambda message, *, echo=True: told.append((message, echo)),
    )
    for step in range(1, 10):
        at.begin_step()
        now[0] += 8.0
        at.end_step()
        if step == 3:
            at.show(loss=0.5)
    first = "0.012 of 0.4 kimg, 2e+03 s/kimg, 13 min to the end"
    assert told == [(f"{first}; next pictures at 0.1 kimg, in 3 min", True), (f"{first}, loss 0.500", False)]
    # At 24 s the pace was told; 32 s later comes the next line.
    assert capsys.readouterr().err == "0.028 of 0.4 kimg, 2e+03 s/kimg, 12 min to the end, loss 0.500\n"


def test_the_end_of_a_timed_run_is_told_by_its_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    now, processor = [100.0], [7.0]
    monkeypatch.setattr(run_progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(run_progress.time, "process_time", lambda: processor[0])
    at = progress(**{"schedule.minutes": 1, "schedule.clock": "cpu", "schedule.total_kimg": 4})
    assert math.isnan(at.wall_seconds_per_kimg)
    at.begin_step()
    now[0] += 30.0
    processor[0] += 10.0
    at.end_step()
    # 50 s of processor time are left, each of which takes 3 s; all images would take 999 steps of 30 s.
    assert (at.wall_seconds_per_kimg, at.seconds_left) == (7500.0, 150.0)


@pytest.mark.parametrize(
    ("seconds", "words"), [(40.4, "40 s"), (720, "12 min"), (12600, "3.5 h"), (4 * 86400, "4 days")]
)
def test_durations_have_the_unit_that_one_reads(seconds: float, words: str) -> None:
    assert run_progress.duration(seconds) == words


def test_what_a_pass_keeps_is_counted_once_and_changes_no_draw() -> None:
    layer = torch.nn.Linear(8, 16, bias=False)
    x = torch.ones(4, 8)

    def forward() -> torch.Tensor:
        hidden = layer(x).relu()  # keeps x for the layer, and the result for relu
        return hidden * torch.rand(4, 16) + hidden.exp()  # keeps the factor, hidden again, exp's result

    torch.manual_seed(0)
    before = torch.get_rng_state()
    # The layer's weight is a parameter.
    assert kept_for_backward(forward, without=layer.parameters()) == 4 * (4 * 8 + 3 * 4 * 16)
    assert torch.equal(torch.get_rng_state(), before)
    sizes = {"G": [layer.weight], "D": [torch.zeros(1000, 1230), torch.zeros(1230)]}
    assert count_parameters(sizes) == "G 0.00 M, D 1.23 M"


def test_memory_is_what_is_there_gradients_averages_and_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "resident_mib", lambda key: 100.0)
    trained, frozen = torch.nn.Linear(1024, 1024, bias=False), torch.nn.Linear(1024, 1024, bias=False)
    frozen.requires_grad_(False)
    x = torch.zeros(2, 2**18).requires_grad_()

    def forward() -> torch.Tensor:
        return frozen(x.clone().square().reshape(-1, 1024))  # keeps the copy, and the weight that is there

    estimate = functools.partial(
        estimate_memory_mib, [trained.weight], [trained, frozen], forward, images=2, microbatch=6, device=CPU
    )
    assert estimate() == 100 + 3 * 4 + 2 * 3  # 1024^2 floats thrice; 2 MiB for thrice the images
    assert estimate(has_averages=True) == 100 + 4 + 2 * 3


def test_a_signal_asks_for_the_end_and_the_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with progress() as at:
        os.kill(os.getpid(), signal.SIGTERM)
        at.should_stop()
        assert (at.stopping, at.done, at.interrupted) == (True, False, True)
    assert signal.getsignal(signal.SIGTERM) == before


def test_means_are_of_all_values_since_the_last_report() -> None:
    means = RunningMeans(("a", "b", "never"), CPU)
    means.add("a", torch.tensor([1.0, 2.0]))
    step = means.empty()
    step.add_each(("a", "b"), (torch.tensor(6.0), torch.full((2, 2), -1.0)))
    assert step.totals("a") == {"a": 6}
    means.add_all(step)
    assert torch.equal(means.over_processes(), torch.tensor([[9, 3], [-4, 4], [0, 0]], dtype=torch.float64))
    assert means.report() == {"a": 3.0, "b": -1.0}
    assert means.report() == {}
    means.add("b", torch.tensor(math.nan))
    assert math.isnan(means.report()["b"])
    left_out = means.empty()
    left_out.add_each(("a", "b"), (torch.tensor([math.inf, 1.0]), torch.tensor(5.0)))
    assert left_out.totals("a") == {"a": math.inf}
    means.add_all(left_out)
    assert means.report() == {"b": 5.0}
    with pytest.raises(ValueError, match="not in tuple"):
        means.add("c", torch.tensor(0.0))


@pytest.mark.parametrize(("batch", "num_processes", "per_pass", "next_one"), [(30, 4, 2, 32), (4, 3, 1, 6)])
def test_a_batch_that_does_not_divide_says_what_would(
    batch: int, num_processes: int, per_pass: int, next_one: int
) -> None:
    check_batch_size(next_one, num_processes, per_pass)
    with pytest.raises(
        ValueError, match=f"{batch} is not a multiple of .* {per_pass} per pass: try {next_one}"
    ):
        check_batch_size(batch, num_processes, per_pass)


def changes_between(
    before: dict[str, object], now: dict[str, object], identities: tuple[str, str] | None = None
) -> dict[str, tuple[object, object]]:
    """`find_changes` of two StyleGAN2 runs; identities: of their images, where both are known."""
    saved, config = (
        load_stylegan2_config("stylegan2-auto", settings).model_dump(mode="json")
        for settings in (before, now)
    )
    first, second = ({} if identities is None else {"data.path": identity} for identity in identities or "  ")
    return find_changes(saved, config, saved_identity=first, identity=second)


def test_what_a_run_survives_may_change_and_is_told() -> None:
    changes: dict[str, object] = {
        "schedule.total_kimg": 9.0,
        "schedule.ema_half_life_kimg": 3.0,
        "optimizer.g_lr": 0.001,
        "optimizer.d_lr": 0.002,
        "data.cache_mb": 1,
        "data.num_workers": 3,
        "metric.names": ["fid10k"],
        "runtime.device": "cpu",
        "runtime.precision": "bfloat16",
        "plugins": ["json"],
    }
    found = changes_between({}, changes)
    assert found.pop("metric.every") == (0, 1)  # naming a metric asks for it
    assert {key: now for key, (_, now) in found.items()} == changes
    assert found["schedule.total_kimg"] == (25000.0, 9.0)


def test_data_are_known_by_their_content_and_not_by_their_path() -> None:
    here, there = {"data.path": "faces"}, {"data.path": "/disk/faces"}
    assert changes_between(here, there, ("abc", "abc")) == {"data.path": ("faces", "/disk/faces")}
    with pytest.raises(ValueError, match=r"other data: data\.path was 'faces' and is 'faces', and names"):
        changes_between(here, here, ("abc", "abd"))
    with pytest.raises(ValueError, match=r"data\.path = 'faces', this command says '/disk/faces'"):
        changes_between(here, there)  # a checkpoint of an earlier version knows the path alone


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("schedule.batch_size", 64, "checkpoints count whole steps"),
        ("runtime.seed", 1, "every random draw"),
        ("loss.r1_gamma", 3.0, "neither loss"),
        ("data.mirror", True, "stream of images"),
        ("freeze_d", 2, "layers that are trained"),
        ("transfer", "model.safetensors", "began with those weights"),
        ("augmentation.pipe", "bg", "strength"),
        ("optimizer.beta2", 0.9, "state was formed"),
    ],
)
def test_what_makes_another_run_is_named_with_the_reason(key: str, value: object, reason: str) -> None:
    message = (
        f"holds a run with {key} = .*, this command says {value!r}.*, as .*{reason}.*: use another --out"
    )
    with pytest.raises(ValueError, match=message):
        changes_between({}, {key: value})


def test_muon_can_be_slowed_but_not_begun() -> None:
    def found(before: float | None, now: float | None) -> dict:
        saved, config = (
            load_style_config("style-smoke", {"optimizer.muon_lr": lr}).model_dump(mode="json")
            for lr in (before, now)
        )
        return find_changes(saved, config, saved_identity={}, identity={})

    assert found(0.02, 0.01) == {"optimizer.muon_lr": (0.02, 0.01)}
    with pytest.raises(ValueError, match="state of other optimizers"):
        found(None, 0.01)


def test_a_folder_of_another_recipe_is_named_as_such() -> None:
    saved = load_stylegan2_config("stylegan2-auto", {}).model_dump(mode="json")
    config = load_starganv2_config("starganv2-smoke", {}).model_dump(mode="json")
    with pytest.raises(ValueError, match="a run with recipe = 'stylegan2', this command says 'starganv2'"):
        find_changes(saved, config, saved_identity={}, identity={})


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells it there")
def test_peak_memory_is_that_of_this_process_alone() -> None:
    """Not, as getrusage has it, that of the process which started it: here one with 400 MB more."""
    held = np.ones(400 * 2**20, dtype=np.uint8)
    lines = ["import torch", "from ganmod.machine import peak_memory_mb", "held = torch.ones(2**25)"]
    lines.append("print(peak_memory_mb(torch.device('cpu')))")
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, cwd=ROOT)
    own = peak_memory_mb(CPU)
    del held
    assert own > 400 + 128
    assert 128 < float(done.stdout) < own - 128, done.stderr
