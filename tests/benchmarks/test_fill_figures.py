"""If this fails, a page shows other figures than results/: run python benchmarks/fill_figures.py."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from metrics.style.table import FORM as STYLE_FORM

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "fill_figures.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fill_figures", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(script: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
    script.main()


def test_the_pages_show_the_figures_of_results(script, monkeypatch, capsys):
    run(script, monkeypatch, "--check")
    assert capsys.readouterr().out.startswith("4 places agree")


def test_a_changed_figure_fails_the_check_until_it_is_filled_in(script, tmp_path, monkeypatch):
    file = tmp_path / "results" / "gan" / "comparison.json"
    file.parent.mkdir(parents=True)
    record = json.loads((ROOT / "results" / "stylegan2" / "comparison.json").read_text())
    file.write_text(json.dumps(record))
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- figures:gan -->\nold\n<!-- /figures -->\nafter\n")
    where = ["--page", readme, "--results", tmp_path / "results"]
    with pytest.raises(SystemExit, match="differs"):
        run(script, monkeypatch, "--check", *where)
    run(script, monkeypatch, *where)
    run(script, monkeypatch, "--check", *where)
    text = readme.read_text()
    assert text.startswith("before\n<!-- figures:gan -->\n| row | training seeds |")
    assert text.endswith("\n<!-- /figures -->\nafter\n")
    header = [cell.strip() for cell in text.splitlines()[2].split("|")]
    for row in record["rows"]:
        begins = f"| {row['row']} |", f"| {row['row']} (note "
        (line,) = (x for x in text.splitlines() if x.startswith(begins))
        cells = dict(zip(header, (cell.strip() for cell in line.split("|")), strict=True))
        wanted = {
            "G parameters (M)": row["parameters"] / 1e6,
            "kimg": row["kimg"],
            "s/kimg": row["seconds_per_kimg"],
            "fd_squeezenet1_1, lower is better": row["metrics"]["fd_squeezenet1_1"]["mean"],
        }
        assert {name: float(cells[name]) for name in wanted} == pytest.approx(wanted, rel=0.02)
    assert "\nNote 1: " in text
    record["rows"][0]["metrics"]["fd_cifar_resnet56"]["mean"] += 1
    file.write_text(json.dumps(record))
    with pytest.raises(SystemExit, match="differs"):
        run(script, monkeypatch, "--check", *where)


def test_places_without_usable_results_are_named(script, tmp_path):
    text = "<!-- figures:gone -->\n<!-- /figures -->"
    with pytest.raises(ValueError, match=r"no .*gone/comparison\.json"):
        script.filled(text, tmp_path)
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone" / "comparison.json").write_text("{}")
    with pytest.raises(ValueError, match="form None"):
        script.filled(text, tmp_path)


def test_tables_of_style_models_are_those_of_the_command(script, tmp_path):
    table = {"columns": ["model", "style loss"], "lines": [["a|b", "0.1 (0.0)"]]}
    (tmp_path / "style").mkdir()
    record = {"form": STYLE_FORM, "tables": {"losses": table, "responses": table}}
    (tmp_path / "style" / "comparison.json").write_text(json.dumps(record))
    markdown = "| model | style loss |\n|---|---:|\n| a\\|b | 0.1 (0.0) |"
    text = script.filled("<!-- figures:style.losses -->\n<!-- /figures -->", tmp_path)
    assert text == f"<!-- figures:style.losses -->\n{markdown}\n<!-- /figures -->"
    with pytest.raises(ValueError, match="no table 'speed': expected one of losses, responses"):
        script.filled("<!-- figures:style.speed -->\n<!-- /figures -->", tmp_path)
