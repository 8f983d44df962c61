"""If this fails, a comparison's table, CSV, JSON or page differs from the measurements."""

from __future__ import annotations

import csv
import json
import math
from html.parser import HTMLParser
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from measured_runs import SETTINGS, facts, measured_run
from PIL import Image

from ganmod.io.small_jpeg import small_jpeg
from metrics.compare.report import (
    Logs,
    display_table,
    figures_table,
    make_record,
    statements,
    table_parts,
    write_comparison,
)
from metrics.compare.runs import differences, unknowns
from metrics.compare.sample_sheet import sample_sheet
from metrics.compare.words import column_words, curve_words
from metrics.html_report import Report


def record(runs: list[Any], **changes: Any) -> dict[str, Any]:
    known = [run.facts for run in runs]
    usual: dict[str, Any] = {
        "equal": "kimg",
        "conditions": {"truncation_psi": 1.0, "spaces": {"x": "x, 32 px"}},
        "notes": ["a note"],
        "machine": {"cpu": "a <cpu>"},
        "versions": {"torch": "2"},
    }
    return make_record(runs, differences(known), unknowns(known), **{**usual, **changes})


def three_seeds() -> list[Any]:
    runs = [measured_run(facts(f"a{i}", seed=i), 10.0 + i, 10.5 + i) for i in range(3)]
    return runs + [measured_run(facts(f"c{i}", "adaconv", seed=i), 20.0 + i, 20.5 + i) for i in range(3)]


def test_markdown_tells_the_spreads_apart_and_marks_the_best():
    lines = display_table(record(three_seeds())).to_markdown().splitlines()
    columns = [cell.strip() for cell in lines[0].strip("|").split("|")]
    rows = [dict(zip(columns, (c.strip() for c in x.strip("|").split("|")), strict=True)) for x in lines[2:]]
    assert [row["row"] for row in rows] == ["adain", "adaconv"]
    assert [row["training seeds"] for row in rows] == ["3", "3"]
    assert [row["fd_x, lower is better"] for row in rows] == ["**11.25**", "21.25"]
    assert [row["sd over 2 sampling draws"] for row in rows] == ["0.35", "0.35"]  # 0.5 / sqrt 2
    assert [row["sd over training seeds"] for row in rows] == ["1", "1"]
    assert [row["s/kimg"] for row in rows] == ["10", "10"]
    assert rows[0]["peak memory (MiB)"] == ""
    short = display_table(record(three_seeds()), drop_empty=True, leave_out=["s/kimg"]).columns
    assert not {"peak memory (MiB)", "s/kimg"} & set(short)


def test_only_figures_are_bold():
    table = display_table(record([measured_run(facts("x", title="adain (best)"), 1.0)]))
    lines = table.to_markdown().splitlines()
    assert lines[2].startswith("| adain (best) |")


def test_differences_stand_in_the_row_and_below():
    wide = facts("wide", "adaconv", settings={**SETTINGS, "generator.channel_max": 88})
    found = record([measured_run(facts("a"), 1.0), measured_run(wide, 2.0, num_repeated=3)])
    assert "| adaconv (note 1) |" in display_table(found).to_markdown()
    assert "1 seed" in display_table(found).to_markdown()
    lines = statements(found)
    assert lines[0] == "Note 1: generator.channel_max differs: a 64, wide 88"
    assert "a note" in lines
    assert any("adaconv: 3 of 10 samples equal another" in line for line in lines)
    assert "No winner is marked: all rows but one differ in what must be equal." in lines
    single = statements(record([measured_run(facts("a"), 1.0), measured_run(facts("b", "adaconv"), 2.0)]))
    assert any(line.startswith("No winner is marked: a row has 1 training seed,") for line in single)
    among_equals = statements(record([*three_seeds(), measured_run(wide, 0.1)]))
    assert any(line.startswith("Bold: ahead of every other row") for line in among_equals)
    bare = facts("bare", "adaconv", settings={}, seed=None)
    unknown = statements(record([measured_run(facts("a"), 1.0), measured_run(bare, 2.0)]))
    assert "not known, so not compared: training seed of bare" in unknown


def test_csv_has_every_figure_in_full():
    rows = list(csv.DictReader(StringIO(figures_table(record(three_seeds())).to_csv())))
    assert [row["num_training_seeds"] for row in rows] == ["3", "3"]
    assert float(rows[1]["fd_x, sd over sampling draws"]) == pytest.approx(math.sqrt(0.125))
    assert float(rows[1]["fd_x, sd over training seeds"]) == pytest.approx(1.0)
    assert float(rows[0]["seconds"]) == 1000.0


def test_what_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="measurement failed"):
        record([measured_run(facts("a"), math.inf)])
    with pytest.raises(ValueError, match="JSON"):
        record([measured_run(facts("a"), 1.0, power_to_real={"high": math.nan})])


def test_the_page_has_words_for_every_column() -> None:
    words = column_words("fd_squeezenet1_1, lower is better", ["squeezenet1_1"])
    assert words.title == "Frechet distance in SqueezeNet 1.1"
    assert words.meaning.endswith("not comparable with published FID; lower is better")
    assert column_words("latent/lpips_squeeze, higher is better").title == "LPIPS, styles from latents"
    assert column_words("fid, lower is better").title == "FID"
    assert column_words("precision, higher is better").title == "precision"
    own = column_words("kd_mine_colours, lower is better", ["mine:colours"])
    assert own.title == "kernel distance in mine:colours"
    assert column_words("sd over 3 sampling draws") == (
        "± sampled again",
        "standard deviation over 3 sets of samples of one run",
    )
    assert curve_words("seconds_per_kimg") == "seconds per thousand images"
    assert curve_words("fd_cifar_resnet56") == "Frechet distance in a ResNet-56 of CIFAR-10"
    costs, metrics, bands = table_parts(record(three_seeds()))
    for heading, _ in (*costs, *(column for columns in metrics for column in columns), *bands):
        title, meaning = column_words(heading, ["x"])
        assert len(meaning) > 10
        assert not set("_/[") & set(title)


def test_real_images_stand_above_the_samples_with_their_label() -> None:
    black = [[np.zeros((64, 64, 3), np.uint8)]] * 2
    real = np.full((100, 80, 3), 200, np.uint8)
    plain = sample_sheet({"a": black})
    sheet = sample_sheet({"a": black}, [real], header_label="real images")
    extra = len(sheet) - len(plain)
    assert extra > 64
    assert (sheet[extra // 2, -30] == 200).all()
    assert (sheet[extra + len(plain) // 4, -30] == 0).all()
    label = sheet[: extra - 4, : sheet.shape[1] - 70]
    assert (label < 128).any()


def test_the_sheet_shows_equal_places_below_each_other():
    def cells(level: int) -> list[list[np.ndarray | None]]:
        return [[np.full((8, 8, 3), level + 10 * r + c, np.uint8) for c in range(3)] for r in range(2)]

    sheet = sample_sheet({"a": cells(100), "b": cells(200)})
    column = sheet[:, -34, 0]  # the middle of the last column: 8 px cells are enlarged to 64
    shown = [int(v) for v in dict.fromkeys(column.tolist()) if v != 255]
    assert shown == [102, 202, 112, 212]
    assert len(small_jpeg(sheet)) < 600_000


def test_noise_fits_into_page_and_picture():
    """Samples of an untrained model are noise, which compresses least."""
    noise = np.random.default_rng(0).integers(0, 256, (500, 700, 3), dtype=np.uint8)
    assert len(small_jpeg(noise)) < 600_000
    report = Report("noise")
    report.figure(noise)
    assert "data:image/" in report.html()


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for key, value in attributes if key in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_all_files_are_written_and_the_page_needs_nothing_else(tmp_path: Path):
    found = record(three_seeds())
    line = {"nimg": 1000, "seconds": 60.0, "fd_x": 5.0, "kid": 0.1, "kd_x": 0.2, "conditions": {"num": 5}}
    stats = [{"nimg": 500, "seconds": 30.0, "loss/G": 1.0, "seconds_per_kimg": None}]
    logs = {"adain": Logs(stats, [line]), "adaconv": Logs([], [{**line, "conditions": {"num": 6}}])}
    sheet = np.zeros((20, 30, 3), np.uint8)
    write_comparison(tmp_path / "r", found, sheet, logs, title="T & U", command="ganmod compare <a>")
    names = sorted(path.name for path in (tmp_path / "r").iterdir())
    assert names == ["comparison.json", "report.html", "samples.jpg", "table.csv", "table.md"]
    assert json.loads((tmp_path / "r" / "comparison.json").read_text()) == found
    with Image.open(BytesIO((tmp_path / "r" / "samples.jpg").read_bytes())) as picture:
        assert picture.size == (30, 20)
    assert (tmp_path / "r" / "table.md").read_text().startswith(display_table(found).to_markdown())
    page = Page((tmp_path / "r" / "report.html").read_text())
    assert page.sources
    assert all(source.startswith("data:") for source in page.sources)
    text = " ".join(page.words)
    for stated in (
        "T & U",
        "11.25 (best)",
        "a <cpu>",
        "x, 32 px",
        "ganmod compare <a>",
        "loss of the generator over",
    ):
        assert stated in text
    assert "KID over minutes" in text
    assert "kernel distance in x over minutes" in text
    assert "Frechet distance in x over minutes: measured under different conditions" in text
    assert "seconds_per_kimg" not in text  # nothing was logged of it
