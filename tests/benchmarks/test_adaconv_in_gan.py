"""If this fails, the variants of AdaConv are trained unequally, or the results lose some of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ganmod.io.images import read_image, write_image
from ganmod.stylegan2 import Generator, GeneratorSpec

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "runs"))
from adaconv_in_gan import (
    SHEET_COLUMNS,
    SHEET_ROWS,
    VARIANTS,
    is_measured,
    lattice_figures,
    run_names,
    training_command,
    write_results,
)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_is_one_that_the_generator_knows(name: str) -> None:
    variant = VARIANTS[name]
    spec = GeneratorSpec(
        img_resolution=32,
        channel_max=4,
        z_dim=4,
        w_dim=4,
        modulation=variant.modulation,
        modulation_options=variant.options,
    )
    assert sum(p.numel() for p in Generator(spec).parameters()) > 0


def test_variants_differ_in_nothing_but_the_modulation(tmp_path: Path) -> None:
    commands = [
        training_command(variant, tmp_path / "run", tmp_path / "data.zip", minutes=7, seed=2)
        for variant in VARIANTS.values()
    ]
    for position, parts in enumerate(zip(*commands, strict=True)):
        varied = commands[0][position - 1] == "--modulation" or "modulation_options" in parts[0]
        assert len(set(parts)) == 1 or varied
    values = " ".join(commands[0])
    assert "--minutes 7 --seed 2" in values
    assert "--set schedule.clock=cpu" in values


@pytest.mark.slow
def test_the_command_line_takes_them(tmp_path: Path) -> None:
    for i in range(4):
        write_image(tmp_path / f"{i}.png", np.full((32, 32, 3), 40 * i, dtype=np.uint8))
    for name in ("gate", "demod_mixed"):
        command = training_command(VARIANTS[name], tmp_path / "run", tmp_path, minutes=1, seed=0)
        done = subprocess.run([*command, "--dry-run"], capture_output=True, text=True, check=False)
        assert "gate: true" in done.stdout if name == "gate" else "normalize: demod" in done.stdout


def test_names_of_further_seeds() -> None:
    assert run_names(["a", "b"], [0, 2]) == ["a", "a_s2", "b", "b_s2"]


def test_a_run_that_was_trained_further_is_measured_again(tmp_path: Path) -> None:
    file = tmp_path / "gate.json"
    assert not is_measured(file, minutes=5, num=100)
    file.write_text(json.dumps({"minutes": 5.0, "fakes": 100}))
    assert is_measured(file, minutes=5, num=100)
    assert not is_measured(file, minutes=10, num=100)
    assert not is_measured(file, minutes=5, num=5000)


def test_figures_of_a_lattice() -> None:
    assert lattice_figures(np.array([0.0, 0.01, 0.2, 0.19])) == {
        "line_share": pytest.approx(0.1),
        "images_with_lines": 0.5,
    }


def test_results_hold_every_measured_variant_and_the_same_latents_in_a_column(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    share = {"line_share": 0.01, "images_with_lines": 0.0}
    (tmp_path / "real.json").write_text(json.dumps(share))
    np.save(tmp_path / "real.npy", np.full((SHEET_COLUMNS, 32, 32, 3), 200, dtype=np.uint8))
    for number, name in enumerate(("gate", "defaults_s1")):
        figures = share | {"kimg": 30.0, "seconds_per_kimg": 20.0, "fd_cifar_resnet56": 12.5 + number}
        (tmp_path / f"{name}.json").write_text(json.dumps(figures))
        samples = np.full((SHEET_ROWS * SHEET_COLUMNS, 32, 32, 3), 50 + 50 * number, dtype=np.uint8)
        np.save(tmp_path / f"{name}.npy", samples)
    write_results(tmp_path, {"minutes": 10})
    record = json.loads((tmp_path / "adaconv_in_gan.json").read_text())
    assert [(v["name"], v["fd_cifar_resnet56"]) for v in record["variants"]] == [
        ("defaults_s1", 13.5),
        ("gate", 12.5),
    ]
    assert record["real_images"] == share
    assert "fd_cifar_resnet56 12.5" in capsys.readouterr().out
    sheet = read_image(tmp_path / "adaconv_in_gan.png")
    column = sheet[:, -30].mean(axis=1)  # through the last images
    levels = [round(float(v)) for v in column if v in (50, 100, 200)]
    assert [level for i, level in enumerate(levels) if i == 0 or level != levels[i - 1]] == [
        200,
        *([100, 50] * SHEET_ROWS),
    ]
