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
from metrics.features.pretrained import load_feature_space

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "runs"))
import adaconv_in_gan
from adaconv_in_gan import (
    SHEET_COLUMNS,
    SHEET_ROWS,
    VARIANTS,
    is_measured,
    lattice_figures,
    measured_runs,
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


def test_all_runs_of_a_folder_are_found_whatever_their_seed(tmp_path: Path) -> None:
    names = ["defaults", "zero_sum_s1", "zero_sum_s9", "zero_sum_s42", "demod_mixed_512_s7", "none"]
    for name in (*reversed(names), "real", "adaconv_in_gan", "unknown_s3", "reference-0123"):
        (tmp_path / f"{name}.json").write_text("{}")
    assert measured_runs(tmp_path) == names


@pytest.mark.parametrize(
    "change", [{"minutes": 10}, {"fakes": 5000}, {"data_sha256": "b"}, {"real_images": 999}, {"more": None}]
)
def test_what_was_measured_under_other_conditions_is_measured_again(
    change: dict[str, object], tmp_path: Path
) -> None:
    file, conditions = tmp_path / "gate.json", {"minutes": 5, "fakes": 100, "data_sha256": "a"}
    conditions["real_images"] = 1000
    assert not is_measured(file, conditions)
    file.write_text(json.dumps({"kimg": 30.0, **conditions}))
    assert is_measured(file, conditions)
    assert not is_measured(file, conditions | change)


def test_real_images_are_measured_again_when_they_or_their_number_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sheet's first row and the figures are those of the images that the command names."""
    for folder, shade in (("dark", 20), ("light", 220)):
        for i in range(6):
            write_image(tmp_path / folder / f"{i}.png", np.full((32, 32, 3), shade + i, dtype=np.uint8))
    monkeypatch.setattr(adaconv_in_gan, "VARIANTS", {})  # nothing is trained
    monkeypatch.setattr(adaconv_in_gan.torch, "set_num_threads", lambda _: None)
    space = load_feature_space("ganmod-slim")
    monkeypatch.setattr(adaconv_in_gan, "load_feature_space", lambda *_: space)
    out = tmp_path / "out"

    def measured(*arguments: str) -> tuple[dict[str, object], list[int]]:
        command = ["adaconv_in_gan.py", f"--out={out}", *arguments]
        monkeypatch.setattr(sys, "argv", command)
        adaconv_in_gan.main()
        return json.loads((out / "real.json").read_text()), list(np.load(out / "real.npy")[:, 0, 0, 0])

    dark, light = f"--data={tmp_path / 'dark'}", f"--data={tmp_path / 'light'}"
    first, shades = measured(dark)
    assert (first["data"], first["real_images"], first["num"]) == ("dark", 6, 5000)
    assert shades == [20, 21, 22, 23, 24, 25]
    (out / "real.json").write_text(json.dumps(first | {"line_share": 0.5}))
    assert measured(dark)[0]["line_share"] == 0.5  # not measured again
    other, shades = measured(light)
    assert (other["data"], shades[0]) == ("light", 220)
    assert other["line_share"] == pytest.approx(0, abs=1e-6)  # plain images have no lines
    fewer, shades = measured(light, "--num-real=3")
    assert (fewer["real_images"], len(shades)) == (3, 3)
    assert measured(light, "--num-real=3", "--num=4")[0]["num"] == 4


def test_figures_of_a_lattice() -> None:
    assert lattice_figures(np.array([0.0, 0.01, 0.2, 0.19])) == {
        "line_share": pytest.approx(0.1),
        # Deviations -0.1, -0.09, 0.1, 0.09: sqrt(0.0362 / 3 / 4).
        "standard_error": pytest.approx(0.0549242, rel=1e-5),
        "images_with_lines": 0.5,
    }


def test_results_hold_every_measured_variant_and_the_same_latents_in_a_column(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    share = {"line_share": 0.01, "images_with_lines": 0.0}
    (tmp_path / "real.json").write_text(json.dumps(share))
    np.save(tmp_path / "real.npy", np.full((SHEET_COLUMNS, 32, 32, 3), 200, dtype=np.uint8))
    for number, name in enumerate(("gate", "defaults_s42")):
        figures = share | {"kimg": 30.0, "seconds_per_kimg": 20.0, "fd_cifar_resnet56": 12.5 + number}
        (tmp_path / f"{name}.json").write_text(json.dumps(figures))
        samples = np.full((SHEET_ROWS * SHEET_COLUMNS, 32, 32, 3), 50 + 50 * number, dtype=np.uint8)
        np.save(tmp_path / f"{name}.npy", samples)
    write_results(tmp_path, {"minutes": 10})
    record = json.loads((tmp_path / "adaconv_in_gan.json").read_text())
    assert [(v["name"], v["fd_cifar_resnet56"]) for v in record["variants"]] == [
        ("defaults_s42", 13.5),
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
