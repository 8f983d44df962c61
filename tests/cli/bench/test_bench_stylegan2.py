"""If this fails, `ganmod bench stylegan2` compares steps that do not compute the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ganmod.cli.bench.stylegan2 import VARIANTS, TrainingStep, compare_steps

SETTINGS = {"schedule.batch_size": 4, "model.channel_max": 8, "model.z_dim": 8, "model.w_dim": 8}
SETTINGS |= {"augmentation.kind": "none"}
CPU = torch.device("cpu")


@pytest.mark.parametrize("modulation", ["weight_demod", "adaconv"])
def test_channels_last_makes_the_same_steps_as_plain(modulation: str) -> None:
    steps = [
        TrainingStep(modulation, variant, preset="stylegan2-auto", size=16, settings=SETTINGS, device=CPU)
        for variant in VARIANTS[:2]
    ]
    for step in steps:
        for run, _ in step.phases.values():
            run()
    for name, value in steps[0].G.state_dict().items():
        torch.testing.assert_close(steps[1].G.state_dict()[name], value, rtol=1e-3, atol=2e-4, msg=name)


def test_a_step_counts_lazy_phases_by_their_share() -> None:
    (row,) = compare_steps(["adain"], VARIANTS[:1], size=16, settings=SETTINGS, repeats=1, device=CPU)
    p = row.phases
    assert row.step == pytest.approx(
        p["generator"] + p["discriminator"] + p["path length"] / 4 + p["R1"] / 16
    )
    assert row.seconds_per_kimg == pytest.approx(row.step / 4 * 1000)


def test_command_prints_each_variant_and_writes_json(tmp_path: Path, ganmod_command) -> None:
    options = ["--size", 16, "--batch", 4, "--channel-max", 8, "--repeats", 1, "--no-compile"]
    ended = ganmod_command(
        "bench", "stylegan2", *options, "--modulation", "adain", "--json", tmp_path / "b.json"
    )
    assert ended.code == 0, ended.err
    assert "1.00x plain" in ended.out
    rows = json.loads((tmp_path / "b.json").read_text())["results"]
    assert [row["variant"] for row in rows][:2] == ["plain", "channels-last"]
