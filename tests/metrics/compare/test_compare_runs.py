"""If this fails, the comparison of runs differs between Python and the command, or accepts wrong input."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from counted_progress import CountedProgress
from run_folders import run_folder
from small_images import picture
from torch import Tensor
from torchvision.models import squeezenet1_1

from ganmod.io.images import write_image
from ganmod.stylegan2.stylegan2_file import read_stylegan2
from metrics.compare import RunProtocol, RunRecord, check_runs, compare_runs
from metrics.features.base import CallableSpace
from metrics.images.lpips import load_lpips
from metrics.path_length import measure_path_length
from training.run.records import read_run


def colours(images: Tensor) -> Tensor:
    x = images.float() / 255
    return torch.cat([x.mean(dim=(2, 3)), x.std(dim=(2, 3))], dim=1)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for i in range(8):
        write_image(tmp_path / "real" / f"{i}.png", picture(i, height=16, width=24))
    return tmp_path / "real"


@pytest.fixture
def runs(tmp_path: Path) -> list[RunRecord]:
    first = run_folder(tmp_path / "a")
    return [read_run(first), read_run(run_folder(tmp_path / "c", **{"model.modulation": "adaconv"}))]


def protocol(folder: Path, **changes: Any) -> RunProtocol:
    spaces = [CallableSpace("colours", colours, device="cpu")]
    return RunProtocol(**{"spaces": spaces, "data": folder, "num": 8, "draws": 2, **changes})


def test_the_table_the_files_and_the_json_are_of_one_record(runs, data: Path, tmp_path: Path):
    comparison = compare_runs(runs, protocol(data), command="this line")
    assert [row[0] for row in comparison.table.rows] == ["adain", "adaconv"]
    comparison.write(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "comparison.json").read_text()) == comparison.record
    means = [row["metrics"]["fd_colours"]["mean"] for row in comparison.record["rows"]]
    lines = list(csv.DictReader((tmp_path / "out" / "table.csv").open()))
    assert [float(line["fd_colours"]) for line in lines] == means
    assert "this line" in (tmp_path / "out" / "report.html").read_text()
    assert sorted(path.name for path in (tmp_path / "out" / "runs").iterdir()) == [
        "adaconv.json",
        "adaconv.yaml",
        "adain.json",
        "adain.yaml",
    ]
    compare_runs(runs, protocol(data)).write(tmp_path / "silent")
    assert "Made by" not in (tmp_path / "silent" / "report.html").read_text()


def test_progress_is_handed_in_and_counts_images(runs, data: Path):
    progress = CountedProgress()
    compare_runs(runs, protocol(data, progress=progress))
    assert progress.counts == {
        "real images, hash": (8, 8),
        "real images, colours": (8, 8),
        **{f"{name}, draw {draw}": (8, 8) for name in "ac" for draw in (1, 2)},
    }


def test_path_lengths_are_a_column_of_their_own(runs, data: Path, tmp_path: Path):
    """Each draw's steps start at its samples; the value is that of `measure_path_length`."""
    pytest.importorskip("lpips")
    for i in range(8):
        write_image(tmp_path / "large" / f"{i}.png", picture(i, height=32, width=32))
    torch.manual_seed(0)
    weights = tmp_path / "squeezenet.pth"
    torch.save(squeezenet1_1(weights=None).features.state_dict(), weights)
    run, progress = read_run(run_folder(tmp_path / "large-run", size=(32, 32))), CountedProgress()
    comparison = compare_runs([run], protocol(tmp_path / "large", lpips_weights=weights, progress=progress))
    G, lpips = read_stylegan2(run.model, half_precision=False).G, load_lpips(weights)
    expected = [measure_path_length(G, lpips, 8, seed=seed, batch_size=8).value for seed in (0, 8)]
    (row,) = comparison.record["rows"]
    assert row["metrics"]["ppl_squeeze"]["draws"][0] == pytest.approx(expected, rel=1e-3)
    assert progress.counts["large-run, draw 2, pairs"] == (8, 8)
    assert "ppl_squeeze" in comparison.table.to_csv().splitlines()[0]
    with pytest.raises(ValueError, match=r"a: its images are 24x16 .* LPIPS needs 32 pixels on both sides"):
        compare_runs(runs, protocol(data, lpips_weights=weights))


@pytest.mark.parametrize(
    ("recipe", "changes", "message"),
    [
        ("stylegan2", {"data": None}, "data is missing: real images"),
        ("starganv2", {"data": None}, "data is missing: real images"),
        ("style", {"data": None}, "content is missing: images to stylize"),
        ("style", {"data": None, "content": "photos"}, "styles is missing: style images"),
        ("style", {}, "data is not for runs of Style transfer"),
        ("stylegan2", {"size": 64}, "size is not for runs of StyleGAN2"),
        (
            "style",
            {"data": None, "content": "photos", "styles": ["paintings"], "lpips_weights": "file"},
            "lpips_weights is not for runs of Style transfer",
        ),
        ("stylegan2", {"truncation_psi": -0.5}, "truncation_psi is -0.5, expected 0 or more"),
        ("starganv2", {"truncation_psi": 0.5}, "truncation_psi is not for runs of StarGAN v2"),
        ("starganv2", {"metrics": ("fid", "kid")}, "metrics are fid, kid"),
        ("stylegan2", {"metrics": ("pr",), "num": 3}, "num 3: pr need at least 4 images"),
    ],
)
def test_a_recipe_refuses_what_it_does_not_read(data: Path, recipe: str, changes: Any, message: str):
    with pytest.raises(ValueError, match=f"^{message}"):
        protocol(data, **changes).check(recipe)


def test_unlike_runs_are_refused_unless_they_are_marked(runs, data: Path, tmp_path: Path):
    wide = read_run(run_folder(tmp_path / "wide", **{"schedule.batch_size": 8}))
    with pytest.raises(ValueError, match=r"schedule\.batch_size: a 4, c 4, wide 8"):
        compare_runs([*runs, wide], protocol(data))
    comparison = compare_runs([*runs, wide], protocol(data, draws=1), allow_differences=True)
    assert comparison.record["differences"] == {"schedule.batch_size": {"a": 4, "c": 4, "wide": 8}}
    with pytest.raises(ValueError, match="spaces is empty, expected one feature space or more"):
        compare_runs(runs, protocol(data, spaces=()))
    with pytest.raises(ValueError, match="no run is given"):
        check_runs([])
    with pytest.raises(ValueError, match="equal down to training seed 0"):
        check_runs([runs[0], read_run(run_folder(tmp_path / "copy"))])
    with pytest.raises(ValueError, match="several runs are named same, expected a name for each"):
        check_runs([read_run(run_folder(tmp_path / "x" / str(i)), name="same") for i in range(2)])
