"""If this fails, `ganmod bench stylize` reports times or memory of something else than it names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from ganmod.cli.bench import command as bench
from ganmod.cli.bench import stylize as bench_stylize
from ganmod.cli.bench.stylize import Case, Measurement, measure_frames, measure_images, measure_in_new_process
from ganmod.errors import GanmodError


def test_a_case_is_measured_in_a_process_of_its_own():
    """Its peak has nothing of this process, which holds 600 MiB more."""
    ballast = torch.ones(600 * 2**18)
    found = measure_in_new_process(Case("slim", "tiled", 48, 32, tile=16, repeats=1, warm=False, threads=1))
    assert 0 < found.seconds_min <= found.seconds_median < 60
    if found.peak_mib is not None and found.before_mib is not None:
        assert 100 < found.before_mib <= found.peak_mib
        own = bench_stylize._peak_mib(torch.device("cpu"))
        assert own is not None
        assert found.peak_mib < own
    assert ballast.numel()


def test_what_fails_says_why():
    with pytest.raises(GanmodError, match="tile is 20 pixels, expected a multiple of 8"):
        measure_in_new_process(Case("slim", "tiled", 32, 32, tile=20, repeats=1))
    with pytest.raises(ValueError, match="width is 'wide', expected one of slim, full"):
        Case("wide", "whole", 32, 32)  # type: ignore[arg-type]


def pretend(monkeypatch: pytest.MonkeyPatch) -> list[Case]:
    """Measurements that take no time: whole images take twice the tiled ones' time and four times the
    memory.
    """
    cases: list[Case] = []

    def measured(case: Case) -> Measurement:
        cases.append(case)
        whole = case.form == "whole"
        return Measurement(case, 0.5 * (1 + whole), 0.6, 0.4 * (1 + whole), 100.0, 300.0 * (1 + 3 * whole))

    monkeypatch.setattr(bench_stylize, "measure_in_new_process", measured)
    return cases


def test_every_size_is_measured_by_tiles_and_small_ones_whole(monkeypatch: pytest.MonkeyPatch):
    cases = pretend(monkeypatch)
    measure_images(["slim", "full"], [64, 128], tile=32, whole_up_to=64)
    assert [(case.width, case.form, case.rows, case.tile) for case in cases] == [
        (width, *row)
        for width in ("slim", "full")
        for row in (("whole", 64, 0), ("tiled", 64, 32), ("tiled", 128, 32))
    ]
    cases.clear()
    measure_frames(["slim"], [(32, 48)], precisions=[False, True])
    assert [(case.form, case.rows, case.columns, case.bfloat16) for case in cases] == [
        ("clip", 32, 48, False),
        ("clip", 32, 48, True),
    ]


def test_the_command_prints_and_writes_what_was_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    pretend(monkeypatch)
    file = tmp_path / "new" / "bench.json"
    arguments = ["--size", "64", "--size", "4096", "--tile", "32", "--json", str(file)]
    done = CliRunner().invoke(bench.bench, ["stylize", *arguments])
    assert done.exit_code == 0, done.output
    assert "tiles of 32        0.50 s (processor 0.40 s), peak 300 MiB: " in done.output
    assert "1/2.00 of the whole image's time (processor 1/2.00), 0.25 of its memory" in done.output
    assert "slim, 1920 x 1080  clip, float32" in done.output
    assert "2.00 frames/s" in done.output
    report = json.loads(file.read_text())
    forms = [(row["case"]["form"], row["case"]["rows"]) for row in report["results"]]
    assert forms[:3] == [("whole", 64), ("tiled", 64), ("tiled", 4096)]
    assert all(row["frames_per_second"] == 1 / row["seconds_min"] for row in report["results"])
    assert report["machine"]["torch"] == torch.__version__


def test_a_tile_that_does_not_fit_is_a_usage_error():
    done = CliRunner().invoke(bench.bench, ["stylize", "--tile", "100"])
    assert done.exit_code == 2
    assert "try 96" in done.output
