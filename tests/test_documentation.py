"""If this fails, an example in the README or a page of docs/ does not work."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from run_folders import run_folder
from small_images import folder_of
from tiny_style_model import make as tiny_style_model

from ganmod.io.images import write_image
from ganmod.modulation import registry
from style_transfer.export import export_style_model

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.fixture(autouse=True)
def _leave_the_registry_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))


@pytest.fixture
def example_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with small versions of the files in examples; comparisons skip their slow parts."""
    folder_of(tmp_path / "photos", ["a.png", "b.png"], height=32, width=40)
    folder_of(tmp_path / "paintings", ["a.png", "b.png"], height=48, width=48)
    tiny_style_model("adain").save(tmp_path / "mine.safetensors")
    run_folder(tmp_path / "runs" / "gan", **{"model.modulation": "adaconv"})
    run_folder(tmp_path / "runs" / "other")
    monkeypatch.setattr("metrics.compare.style.pairs.DRAWN_STYLES", ("dots",))
    monkeypatch.setattr("metrics.style.table.TIMED_SIZES", (32,))
    return tmp_path


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), flags=re.DOTALL)


EXAMPLES = {block: page for page in reversed(PAGES) for block in blocks(page, "python")}


@pytest.mark.parametrize("block", EXAMPLES, ids=lambda block: f"{EXAMPLES[block].name}: {block[:40]}")
def test_python_example_runs(block: str, example_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(example_folder)
    if "exported/" in block:
        pytest.importorskip("onnxscript", reason="the package onnxscript is not installed")
        export_style_model(tiny_style_model("residual-weight_demod"), example_folder / "exported")
        for name in ("photo.jpg", "a.jpg", "b.jpg"):
            write_image(example_folder / name, np.full((40, 56, 3), 90, np.uint8))
    exec(compile(block, EXAMPLES[block].name, "exec"), {"__name__": "__main__"})


def test_own_modulation_example_is_twelve_lines_and_trains_a_model_that_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (block,) = (b for b in blocks(README, "python") if "@register_modulation" in b)
    assert len([line for line in block.splitlines() if line.strip()]) <= 12
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {"__name__": "__main__"})
    import style_transfer

    (model_file,) = tmp_path.rglob("model-latest.safetensors")
    assert style_transfer.load(model_file).spec.modulation == "half_adain"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_name_existing_options(page: Path) -> None:
    """In every `ganmod ...` line of a shell block, the command exists and so does each --option."""
    import click

    from ganmod.cli.main import cli

    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = line.split("#")[0].split()
            if words[:1] != ["ganmod"]:
                continue
            words = words[1:]
            command: click.Command = cli
            while isinstance(command, click.Group) and words:
                _, found, words = command.resolve_command(click.Context(command), words)
                assert found is not None, line
                command = found
            known = {name for p in command.params for name in (*p.opts, *p.secondary_opts)}
            known |= {"--help", "--version"}
            assert {w for w in words if w.startswith("--")} <= known, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page} links to {target}, which is missing"


def test_the_readme_is_short_and_every_page_is_in_the_index() -> None:
    assert len(README.read_text().splitlines()) <= 150
    index = (ROOT / "docs" / "index.md").read_text()
    for page in PAGES[1:]:
        name = str(page.relative_to(ROOT / "docs").with_suffix(""))
        assert name == "index" or f"\n{name}\n" in index, f"docs/index.md does not list {name}"


def test_the_version_stands_in_one_place_and_the_citation_agrees() -> None:
    import ganmod

    assert f"\nversion: {ganmod.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert 'dynamic = ["version"]' in (ROOT / "pyproject.toml").read_text()
    assert f"## {ganmod.__version__}" in (ROOT / "CHANGELOG.md").read_text()
