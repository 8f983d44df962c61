"""If this fails, a resumed, split or distributed StyleGAN2 run is not the run the user started."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from processes import run_by
from run_checks import assert_same, check_measuring, final_state, short_schedule

from configs.schema import StyleGAN2Run, list_presets, load_stylegan2_config, to_yaml
from configs.stylegan2 import ResolvedStyleGAN2
from ganmod.io.model_file import read_model_file, save_model_file
from ganmod.stylegan2.stylegan2_file import save_stylegan2
from training import train_stylegan2
from training.run.checkpoint import (
    CheckpointError,
    checkpoint_path,
    load_latest_checkpoint,
    save_checkpoint,
)
from training.run.nonfinite import NonFiniteError
from training.stylegan2 import build as stylegan2_run
from training.stylegan2.automatic import describe_batch
from training.stylegan2.build import build_networks, resolve, resolve_precision, transfer_weights
from training.train_stylegan2 import train

ROOT = Path(__file__).parents[2]
BATCH = 8
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images of 8 x 8 pixels in two classes."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (folder / name).mkdir()
        for i in range(6):
            pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


def tiny(images: Path, steps: int, **changes: object) -> StyleGAN2Run:
    """Everything on: labels, flips, ADA, style mixing, path length every 4 and R1 every 16 steps."""
    return load_stylegan2_config(
        "stylegan2-smoke",
        {
            "data.path": str(images),
            "data.conditional": True,
            "data.mirror": True,
            "model.z_dim": 8,
            "model.w_dim": 8,
            "model.channel_max": 8,
            "augmentation.p": 0.4,
            "augmentation.ada_kimg": 2.0,
            **short_schedule(steps, BATCH),
            **changes,
        },
    )


@pytest.mark.parametrize(
    ("modulation", "precision"),
    [("adaconv", "bfloat16"), ("adaconv", "float32"), ("weight_demod", "float32")],
)
def test_37_steps_equal_17_and_20_bitwise(
    tmp_path: Path, images: Path, modulation: str, precision: str
) -> None:
    changes = {"model.modulation": modulation, "runtime.precision": precision}
    train(tiny(images, 37, **changes), tmp_path / "whole", show_progress=False)
    train(tiny(images, 17, **changes), tmp_path / "parts", show_progress=False)
    train(tiny(images, 37, **changes), tmp_path / "parts", show_progress=False)

    whole, parts = (final_state(tmp_path / name) for name in ("whole", "parts"))
    assert_same(whole, parts)
    assert whole["ada"]["p"] != 0.4
    assert whole["pl_mean"] > 0
    for name in ("whole", "parts"):
        lines = [json.loads(line) for line in (tmp_path / name / "stats.jsonl").read_text().splitlines()]
        assert [line["nimg"] for line in lines] == [BATCH * (i + 1) for i in range(37)]
        assert ["loss/r1" in line for line in lines] == [i % 16 == 0 for i in range(37)]
        assert ["loss/path_length" in line for line in lines] == [i % 4 == 0 for i in range(37)]


def test_metrics_change_nothing_and_the_best_model_is_kept(tmp_path: Path, images: Path) -> None:
    def run(folder: Path, changes: dict) -> None:
        train(tiny(images, 5, **{"data.mirror": False, **changes}), folder, show_progress=False)

    lines = check_measuring(run, tmp_path, step=BATCH, metrics=("fd", "kd0.004k"))
    names = ("fd_colour_space_colour_features", "kd_colour_space_colour_features")
    for i, line in enumerate(lines):  # of different numbers of samples: a line each
        assert names[i % 2] in line
        assert names[1 - i % 2] not in line
        conditions = line["conditions"]
        assert (conditions["num_real"], conditions["num_generated"]) == (12, (6, 4)[i % 2])


def networks_of(config: ResolvedStyleGAN2, img_size: tuple[int, int], c_dim: int) -> tuple:
    """G and D of a resolved run."""
    precision = config.runtime.precision
    return build_networks(config.model, img_size, c_dim, precision=precision, freeze_d=config.freeze_d)


def assert_close(a: dict, b: dict) -> None:
    for network in ("G", "D", "G_ema"):
        for name, value in a[network].items():
            if not name.endswith("noise_const"):
                torch.testing.assert_close(b[network][name], value, rtol=1e-4, atol=1e-6, msg=name)
    assert a["ada"] == b["ada"]
    torch.testing.assert_close(a["pl_mean"], b["pl_mean"], rtol=1e-4, atol=0)


def test_accumulated_gradients_equal_the_whole_batch(tmp_path: Path, images: Path) -> None:
    changes = {"runtime.precision": "float64"}
    train(tiny(images, 5, **changes), tmp_path / "whole", show_progress=False)
    train(tiny(images, 5, **changes, **{"schedule.microbatch": 2}), tmp_path / "parts", show_progress=False)
    assert_close(final_state(tmp_path / "whole"), final_state(tmp_path / "parts"))


@pytest.mark.parametrize(
    "changes",
    [{}, {"schedule.batch_size": 2, "schedule.total_kimg": 0.01, "model.mbstd_group_size": 1}],
    ids=["groups", "one sample each, of which every second has no path length"],
)
def test_two_processes_equal_one(tmp_path: Path, images: Path, changes: dict[str, object]) -> None:
    config = tiny(images, 5, **{"runtime.precision": "float64", **changes})
    (tmp_path / "run.yaml").write_text(to_yaml(config))
    for count, name in ((1, "one"), (2, "two")):
        run_by(count, "train", "stylegan2", "--config", tmp_path / "run.yaml", "--out", tmp_path / name)
    assert_close(final_state(tmp_path / "one"), final_state(tmp_path / "two"))


def test_transfer_keeps_static_weights_and_freeze_d_keeps_layers(tmp_path: Path, images: Path) -> None:
    first = train(
        tiny(images, 1, **{"model.modulation": "weight_demod"}), tmp_path / "a", show_progress=False
    )
    changes = {"model.modulation": "adaconv", "transfer": str(first), "freeze_d": 2}
    config = tiny(images, 1, **changes, **{"optimizer.g_lr": 1e-9, "optimizer.d_lr": 1e-2})
    train(config, tmp_path / "b", show_progress=False)
    before, after = final_state(tmp_path / "a"), final_state(tmp_path / "b")
    static = [name for name in before["G"] if ".conv.weight" in name]
    assert len(static) > 2
    for name in static:
        torch.testing.assert_close(after["G"][name], before["G"][name], rtol=0, atol=1e-6)
    same = [name for name in before["D"] if torch.equal(before["D"][name], after["D"][name])]
    frozen = [name for name in same if name.startswith(("b8.fromrgb", "b8.conv0"))]
    assert sorted(frozen) == sorted(n for n in before["D"] if n.startswith(("b8.fromrgb", "b8.conv0")))
    assert len(same) < len(before["D"])
    assert "start untrained" in (tmp_path / "b" / "log.txt").read_text()


def test_a_non_finite_loss_is_left_out_and_then_stops_the_run(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = train_stylegan2.generator_phase

    def poison(*args: object) -> tuple[torch.Tensor, torch.Tensor]:
        losses, ws = real(*args)  # type: ignore[arg-type]
        return losses * float("nan"), ws

    monkeypatch.setattr(train_stylegan2, "generator_phase", poison)
    with pytest.raises(NonFiniteError, match="loss/G for 3 steps in a row"):
        train(tiny(images, 9, **{"schedule.max_nonfinite_steps": 3}), tmp_path, show_progress=False)
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert sum("step left out" in line for line in lines) == 3


@pytest.mark.parametrize(("batch", "group"), [(1, 1), (3, 3), (8, 2)])
def test_the_path_length_counts_every_second_sample_fully(
    tmp_path: Path, images: Path, batch: int, group: int
) -> None:
    changes = {
        "schedule.batch_size": batch,
        "schedule.total_kimg": 4 * batch / 1000,
        "model.mbstd_group_size": group,
        "loss.pl_interval": 1,
        "loss.style_mixing_prob": 0,
    }
    seen: list[tuple[int, torch.Tensor]] = []
    real = train_stylegan2.path_length_phase

    def count(*args: object) -> tuple[torch.Tensor, torch.Tensor]:
        penalties, lengths = real(*args)  # type: ignore[arg-type]
        penalties.register_hook(lambda weights: seen.append((len(lengths), weights)))
        return penalties, lengths

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_stylegan2, "path_length_phase", count)
        train(tiny(images, 0, **changes), tmp_path, show_progress=False)
    assert [count for count, _ in seen] == [(batch + 1) // 2] * 4
    for _, weights in seen:
        assert weights.sum().item() == pytest.approx(2.0)  # pl_weight 2 x interval 1
    assert np.isfinite(final_state(tmp_path)["pl_mean"].item())


@pytest.mark.parametrize(
    ("again", "message"),
    [
        ({"freeze_d": 1}, "freeze_d = 0, this command says 1"),
        ({"transfer": "model.safetensors"}, "transfer = None"),
    ],
)
def test_a_run_is_not_continued_as_another(
    tmp_path: Path, images: Path, again: dict[str, object], message: str
) -> None:
    train(tiny(images, 1), tmp_path, show_progress=False)
    with pytest.raises(ValueError, match=message):
        train(tiny(images, 2, **again), tmp_path, show_progress=False)


def test_a_run_that_cannot_start_again_leaves_the_old_one(tmp_path: Path, images: Path) -> None:
    train(tiny(images, 1), tmp_path, show_progress=False)
    files = {file.name for file in tmp_path.iterdir()}
    missing = {"metric.every": 1, "metric.features": "cifar-resnet56", "metric.feature_weights": "missing.th"}
    with pytest.raises(ValueError, match=r"missing\.th"):
        train(tiny(images, 1, **missing), tmp_path, resume=False, show_progress=False)
    assert {file.name for file in tmp_path.iterdir()} == files
    assert {"reals.png", "model-latest.safetensors"} <= files
    (tmp_path / "mine.png").write_bytes(b"a picture of the user's")
    train(tiny(images, 2, **{"schedule.log_kimg": 100}), tmp_path, resume=False, show_progress=False)
    assert (tmp_path / "mine.png").exists()
    assert [path.name for path in tmp_path.glob("checkpoint-*.pt")] == [f"checkpoint-{2 * BATCH:09d}.pt"]


def test_a_best_model_is_the_best_of_one_metric(tmp_path: Path, images: Path) -> None:
    def measure_each_step(steps: int, num_images: int) -> StyleGAN2Run:
        metric = {"metric.every": 1, "metric.features": "ganmod-slim", "metric.num_images": num_images}
        return tiny(images, steps, **metric, **{"schedule.snapshot_kimg": BATCH / 1000})

    train(measure_each_step(2, 8), tmp_path, show_progress=False)
    (tmp_path / "model-best.safetensors").unlink()
    train(measure_each_step(3, 6), tmp_path, show_progress=False)
    assert (tmp_path / "model-best.safetensors").exists()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    counts = [(line["nimg"] // BATCH, line["conditions"]["num_generated"]) for line in lines]
    assert counts == [(1, 8), (2, 8), (2, 6), (3, 6)]  # the last checkpoint is measured in the new way, too


def test_transfer_takes_a_mapping_network_whole_or_not_at_all(tmp_path: Path, images: Path) -> None:
    deep = {"model.mapping_layers": 3}
    path = train(tiny(images, 1, **deep), tmp_path / "deep", show_progress=False)
    config = resolve(tiny(images, 1), (8, 8), 1, CPU)
    G, D = networks_of(config, (8, 8), 2)
    before = {k: v.clone() for k, v in G.mapping.state_dict().items()}
    result = transfer_weights(path, {"G": G, "D": D})
    for name, value in G.mapping.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(name.startswith("mapping.") for name in result.missing["G"])
    assert len(result.unused["G"]) > len(result.missing["G"])
    assert result.missing["D"] == []


def test_a_transfer_refuses_weights_that_are_no_real_numbers(tmp_path: Path, images: Path) -> None:
    path, name = tmp_path / "m.safetensors", "G.synthesis.b4.conv1.bias"
    G, D = networks_of(resolve(tiny(images, 1), (8, 8), 1, CPU), (8, 8), 2)
    save_stylegan2(path, G_ema=G, G=G, D=D)
    file = read_model_file(path)
    changed = file.tensors | {name: file.tensors[name].to(torch.complex64)}
    save_model_file(path, changed, kind=file.kind, config=file.config)
    with pytest.raises(ValueError, match=rf"{name} is torch\.complex64, expected real numbers"):
        transfer_weights(path, {"G": G, "D": D})


def test_options_of_a_modulation_that_is_not_used_are_refused(images: Path) -> None:
    options = {"adaconv": {"normalize": "none"}}
    unused = tiny(images, 1, **{"model.modulation": "adain", "model.modulation_options": options})
    with pytest.raises(ValueError, match="options are given for adaconv, but the modulation is 'adain'"):
        networks_of(resolve(unused, (8, 8), 1, CPU), (8, 8), 2)


def test_a_checkpoint_with_a_foreign_state_is_refused_in_one_line(tmp_path: Path, images: Path) -> None:
    train(tiny(images, 1), tmp_path, show_progress=False)
    state = load_latest_checkpoint(tmp_path, report=print)
    assert state is not None
    for change in (
        {"nimg": -4},
        {"sums": torch.zeros(2)},
        {"config": {}},
        {"G": {}},
        {"g_optimizer": {"state": {}, "param_groups": [3]}},
        {"pl_mean": "one"},
        {"nonfinite": []},
        {"nimg": 8.0},
        {"seconds": float("inf")},
        {"best_of": [1]},
        {"changes": [4]},
        {"identity": 3},
    ):
        save_checkpoint(tmp_path, 100_000, state | change)
        with pytest.raises((CheckpointError, ValueError), match=r"another (run|recipe)") as refused:
            train(tiny(images, 2), tmp_path, show_progress=False)
        assert "\n" not in str(refused.value)
        checkpoint_path(tmp_path, 100_000).unlink()


@pytest.mark.parametrize("preset", [name for name in list_presets() if name.startswith("stylegan2-")])
def test_a_transfer_begins_as_the_published_one_does(preset: str) -> None:
    """Also under stylegan2-cifar10, whose ramp-up is that of a run from random weights."""
    plain, given = (
        resolve(
            load_stylegan2_config(preset, {"transfer": "m.safetensors", **changes}),
            (64, 64),
            1,
            CPU,
        )
        for changes in ({}, {"augmentation.ada_kimg": 500, "schedule.ema_rampup": 0.05})
    )
    assert (plain.augmentation.ada_kimg, plain.schedule.ema_rampup) == (100, None)
    assert (given.augmentation.ada_kimg, given.schedule.ema_rampup) == (500, 0.05)


def test_a_transfer_leaves_the_ramp_up_of_a_configuration_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("recipe: stylegan2\nschedule: {ema_rampup: 0.1}")
    config = load_stylegan2_config(str(file), {"transfer": "m.safetensors"})
    assert resolve(config, (64, 64), 1, CPU).schedule.ema_rampup == 0.1
    section = {"transfer": "m.safetensors", "schedule": {"ema_rampup": 0.2}}
    assert load_stylegan2_config("stylegan2-cifar10", section).schedule.ema_rampup == 0.2


def describe(preset: str, changes: dict[str, Any], *, world_size: int = 1) -> list[str]:
    config = load_stylegan2_config(preset, changes)
    return describe_batch(config, resolve(config, (64, 64), world_size, CPU), (64, 64), world_size)


def test_a_dry_run_says_what_follows_the_batch() -> None:
    """At 64 px one process has the automatic batch 32: R1's weight is 0.0002 * 64^2 / 32 = 0.0256."""
    assert describe("stylegan2-auto", {}) == [
        "loss.r1_gamma 0.0256: follows the automatic batch of 32",
        "schedule.ema_half_life_kimg 10: follows the automatic batch of 32",
    ]
    assert describe("stylegan2-auto", {"schedule.batch_size": 8}) == [
        "loss.r1_gamma 0.1024: follows the batch of 8; the automatic batch of 32 would give 0.0256",
        "schedule.ema_half_life_kimg 2.5: follows the batch of 8; the automatic batch of 32 would give 10",
    ]
    assert describe("stylegan2-ffhq256", {"schedule.batch_size": 16}, world_size=2) == [
        "loss.r1_gamma 1: as given, whatever the batch; automatic: 0.0128",  # of a batch of 64
        "schedule.ema_half_life_kimg 20: as given, whatever the batch; automatic: 20",
    ]
    assert describe("stylegan2-auto", {"loss.objective": "r3"}) == [
        "schedule.ema_half_life_kimg 10: follows the automatic batch of 32"
    ]


@pytest.mark.parametrize(
    ("preset", "size", "c_dim", "expected"),
    [
        ("stylegan2-cifar10", 32, 0, (19.95, 20.72)),
        ("stylegan2-cifar10", 32, 10, (20.22, 23.09)),
        ("stylegan2-ffhq256", 256, 0, (24.77, 24.00)),
        ("stylegan2-ffhq1024", 1024, 0, (30.37, 29.01)),
    ],
)
def test_presets_have_the_published_number_of_parameters(
    preset: str, size: int, c_dim: int, expected: tuple[float, float]
) -> None:
    config = resolve(load_stylegan2_config(preset, {}), (size, size), 1, CPU)
    with torch.device("meta"):
        networks = networks_of(config, (size, size), c_dim)
    assert tuple(round(sum(p.numel() for p in n.parameters()) / 1e6, 2) for n in networks) == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"augmentation.kind": "ada", "augmentation.pipe": "bgd"}, "unknown augmentation pipe 'bgd'"),
        (
            {"augmentation.kind": "diffaugment", "augmentation.diffaugment_policy": "colour"},
            "policy is 'colour'",
        ),
        ({"augmentation.kind": "fixed", "augmentation.p": 0}, "augments nothing"),
        ({"freeze_d": 99}, "freeze_d is 99, but D has"),
    ],
)
def test_what_cannot_train_is_refused_before_the_first_step(
    images: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        networks_of(resolve(tiny(images, 1, **changes), (8, 8), 1, CPU), (8, 8), 2)


def test_auto_follows_the_published_table() -> None:
    auto = load_stylegan2_config("stylegan2-auto", {})
    small, large = resolve(auto, (32, 32), 1, CPU), resolve(auto, (256, 256), 1, CPU)
    assert (small.schedule.batch_size, large.schedule.batch_size) == (32, 16)
    assert small.loss.r1_gamma == pytest.approx(0.0064)
    assert large.loss.r1_gamma == pytest.approx(0.8192)
    assert (small.schedule.ema_half_life_kimg, large.schedule.ema_half_life_kimg) == (10, 5)
    assert (small.model.channel_base, resolve(auto, (512, 512), 1, CPU).model.channel_base) == (16384, 32768)
    assert resolve(auto, (1024, 1024), 8, CPU).optimizer.g_lr == 0.002
    assert resolve(auto, (256, 256), 8, CPU).schedule.batch_size == 64


def test_the_generator_alone_can_be_wider(images: Path) -> None:
    plain, wide = (
        networks_of(resolve(tiny(images, 1, **changes), (8, 8), 1, CPU), (8, 8), 2)
        for changes in ({}, {"model.g_channel_max": 16})
    )
    assert [level.channels for level in wide[0].spec.levels()] == [16, 16]
    assert [level.channels for level in plain[0].spec.levels()] == [8, 8]
    assert wide[1].spec == plain[1].spec


@pytest.mark.parametrize(
    ("device", "has_bf16", "expected"),
    [
        ("cpu", True, "bfloat16"),
        ("cpu", False, "float32"),
        ("cuda", True, "bfloat16"),
        ("cuda", False, "float16"),
    ],
)
def test_auto_precision_follows_the_device(
    monkeypatch: pytest.MonkeyPatch, device: str, has_bf16: bool, expected: str
) -> None:
    monkeypatch.setattr(stylegan2_run, "bf16_instructions", lambda device: ["bf16"] * has_bf16)
    assert resolve_precision("auto", torch.device(device)) == expected
    assert resolve_precision("float64", torch.device(device)) == "float64"


@pytest.mark.parametrize(
    ("changes", "processes", "message"),
    [
        ({"schedule.batch_size": 30}, 4, r"batch_size 30 is not a multiple of 4 processes x 2 .* try 32"),
        ({"schedule.microbatch": 3}, 1, r"microbatch 3 is not a multiple of .* 2: try 4"),
    ],
)
def test_a_batch_that_does_not_divide_says_what_would(
    images: Path, changes: dict, processes: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        resolve(tiny(images, 1, **changes), (8, 8), processes, CPU)


def test_labels_missing_for_a_conditional_run(tmp_path: Path, images: Path) -> None:
    with pytest.raises(ValueError, match="has no labels, but a conditional model needs them"):
        train(tiny(images / "cats", 1), tmp_path, show_progress=False)


def test_dry_run_prints_the_configuration_and_parameter_counts(images: Path, ganmod_command) -> None:
    options = ["--config", "stylegan2-smoke", "--data", images, "--modulation", "adaconv"]
    ended = ganmod_command("train", "stylegan2", *options, "--dry-run")
    assert ended.code == 0, ended.err
    assert "modulation: adaconv" in ended.out
    assert "# 12 images of 8x8" in ended.out
    lines = [line for line in ended.out.splitlines() if "parameters of" in line]
    counts = [int(line.split(": ")[1].replace(",", "")) for line in lines]
    assert len(counts) == 2
    assert min(counts) > 1000
    # Batch 4 against min(4096 / 8, 32) = 32, for which R1's weight is 0.0002 * 8^2 / 32.
    gamma = "# loss.r1_gamma 0.0032: follows the batch of 4; the automatic batch of 32 would give 0.0004"
    assert gamma in ended.out.splitlines()


def test_a_resolved_run_has_nothing_left_to_follow() -> None:
    auto = load_stylegan2_config("stylegan2-auto", {"data.path": "faces"})
    resolved = resolve(auto, (64, 64), 2, CPU)
    followed = [resolved.model.channel_base, resolved.model.mbstd_group_size, resolved.loss.r1_gamma]
    followed += [resolved.optimizer.g_lr, resolved.optimizer.d_lr, resolved.schedule.batch_size]
    assert followed == [16384, 4, 0.0002 * 64**2 / 64, 0.0025, 0.0025, 64]
    assert resolved.runtime.precision in ("float32", "bfloat16")
    assert resolved.data == auto.data
    with pytest.raises(ValueError, match="channel_base"):
        ResolvedStyleGAN2.model_validate(resolved.model_dump() | {"model": {"mbstd_group_size": 4}})
