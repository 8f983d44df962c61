"""If this fails, the package ganmod-lite disagrees with ganmod, starts slowly, or has a faulty file."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ganmod
import ganmod_lite

ROOT = Path(__file__).parents[2]
LITE = ROOT / "lite"
SOURCES = sorted((LITE / "src").rglob("*.py"))
README = LITE / "README.md"


def test_version_and_licence_are_ganmods() -> None:
    assert ganmod_lite.__version__ == ganmod.__version__
    assert (LITE / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


def test_it_needs_three_packages_and_av_for_clips() -> None:
    project = tomllib.loads((LITE / "pyproject.toml").read_text())["project"]
    names = {re.split(r"\W", need)[0] for need in project["dependencies"]}
    assert names == {"numpy", "pillow", "onnxruntime"}
    extras = project["optional-dependencies"]
    assert {extra: [re.split(r"\W", need)[0] for need in needs] for extra, needs in extras.items()} == {
        "video": ["av"],
        "small": ["onnxruntime"],  # a version that takes less
    }
    imported = {
        name.split(".")[0]
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
        )
    }
    known = set(sys.stdlib_module_names) | {"ganmod_lite", "numpy", "PIL", "onnxruntime", "av"}
    assert not imported - known


def test_functions_are_short_and_docstrings_begin_with_a_sentence() -> None:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.end_lineno:
                assert node.end_lineno - node.lineno < 120, f"{path}:{node.name}"
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                first = (ast.get_docstring(node) or "").split("\n\n")[0]
                assert "\n" not in first, f"{path}: {first}"
    assert len([path for path in SOURCES if path.name != "__init__.py"]) <= 12


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["--list"], ["photo.jpg", "a.jpg", "--alpha", "3"]]
)
def test_help_and_mistakes_are_answered_before_anything_slow_is_imported(arguments: list[str]) -> None:
    code = (
        "import sys, json\nfrom ganmod_lite.cli import main\ntry:\n"
        f"    main({arguments})\nexcept SystemExit:\n    pass\nprint(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=LITE / "src",
    )
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert "ganmod_lite.cli" in loaded
    assert not loaded & {"numpy", "PIL", "onnxruntime", "torch", "click", "av"}


def test_the_help_says_what_the_wheels_of_av_contain() -> None:
    from ganmod_lite.cli import make_parser

    text = " ".join(make_parser().format_help().split())
    assert "x264 under the GPL" in text


def test_the_readme_renders_alone_and_its_options_exist() -> None:
    text = README.read_text()
    assert not [target for target in re.findall(r"\]\(([^)]+)\)", text) if not target.startswith("http")]
    from ganmod_lite.cli import make_parser

    known = {option for action in make_parser()._actions for option in action.option_strings}
    used = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)) - {
        "--stages",
        "--no-compile",
    }  # of other commands
    assert used
    assert used <= known


def test_a_build_without_the_model_names_the_command_that_writes_it(tmp_path: Path) -> None:
    (tmp_path / "setup.py").write_text((LITE / "setup.py").read_text())
    done = subprocess.run(
        [sys.executable, "setup.py", "--version"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("ganmod-lite:"))
    assert "run `make lite`" in line


def test_suffixes_are_ganmods() -> None:
    from ganmod.io import clip, images
    from ganmod_lite import files

    assert files.CLIP_SUFFIXES == clip.CLIP_SUFFIXES
    assert files.READ_SUFFIXES == images.IMAGE_SUFFIXES
    assert files.WRITE_FORMATS == images._WRITE_FORMATS


def test_folders_are_listed_as_ganmods(tmp_path: Path) -> None:
    from ganmod.io.images import list_images
    from ganmod_lite.files import list_pictures

    for name in ("photos/a.png", "photos/.hidden/b.png", "elsewhere/c.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "photos" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos" / "again").symlink_to(tmp_path / "photos")
    (tmp_path / "photos" / "up").symlink_to("..")
    (tmp_path / "elsewhere" / "on").symlink_to(tmp_path / "far")
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "d.png").touch()
    found = list_pictures(tmp_path / "photos")
    assert found == list_images(tmp_path / "photos")
    assert [path.name for path in found] == ["a.png", "c.jpg"]


def test_a_network_that_rewriting_changes_is_refused(
    lite_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import make_model
    import onnx

    from ganmod.io.program_file import ExportError

    def spoil(file: Path) -> None:
        network = onnx.load(file)
        weight = next(w for w in network.graph.initializer if len(w.dims) == 4)
        spoilt = 1.1 * onnx.numpy_helper.to_array(weight)
        weight.CopyFrom(onnx.numpy_helper.from_array(spoilt.astype(np.float32), weight.name))
        onnx.save(network, file)

    for name in ("encode", "stage0"):
        file = tmp_path / f"{name}.onnx"
        file.write_bytes((lite_model.folder / file.name).read_bytes())
        make_model.rewrite(file)
    monkeypatch.setattr(make_model, "fold_constants", spoil)
    with pytest.raises(ExportError, match=r"encode\.onnx computes something else"):
        make_model.rewrite(tmp_path / "encode.onnx")


@pytest.mark.slow
def test_the_shipped_model_makes_ganmods_pictures(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs the package onnxruntime")
    from ganmod_lite.files import MODEL
    from ganmod_lite.stylizer import Stylizer

    if not (MODEL / "model.json").is_file():
        pytest.skip("needs the files that `make lite` writes")
    import style_transfer
    from ganmod_lite.styles import builtin_names, load_builtin
    from style_transfer.procedural_styles import BUILTIN_STYLES, builtin_contents, builtin_style

    network, stylizer = style_transfer.load(), Stylizer()
    content = builtin_contents()["coffee"][:301, :453]
    style = builtin_contents()["rocket"]
    for size in (None, 250):
        wanted = network.stylize(content, style, size=size).astype(int)
        got = stylizer.apply(content, stylizer.predict(style), size=size)
        assert np.abs(got - wanted).max() <= 2
    assert builtin_names(MODEL) == sorted(BUILTIN_STYLES)
    for name in BUILTIN_STYLES:
        wanted = network.stylize(content, builtin_style(name), size=128).astype(int)
        got = stylizer.apply(content, load_builtin(stylizer, name), size=128)
        assert np.abs(got - wanted).max() <= 2, name
