"""If this fails, a public name means two things, a function is too long, or a docstring starts badly."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("configs", "ganmod", "style_transfer", "metrics", "training")
# Parts of two models or recipes that deserve the same name in both.
SAME_PART = {
    "Generator",
    "Discriminator",
    "MappingNetwork",
    "StyleEncoder",
    "FirstOrder",
    "build_dataset",
    "build_networks",
    "build_optimizers",
    "discriminator_phase",
    "generator_phase",
    "resolve",
    "run_identity",
    "train",
    "trained_parameters",
    "load",
}
MAX_LINES = 120  # of a function
MAX_LOOP_LINES = 200  # of the three training loops
LOOPS = {f"training/train_{recipe}.py" for recipe in ("style", "stylegan2", "starganv2")}


def library() -> list[Path]:
    """Modules of the packages, except the command line, whose functions are named after commands."""
    return sorted(
        path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if path.relative_to(ROOT).parts[:2] != ("ganmod", "cli")
    )


def public_names(tree: ast.Module) -> Iterator[str]:
    """Names of functions, classes and constants defined in a module."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def duplicates(texts: dict[str, str]) -> dict[str, list[str]]:
    """{public name: modules that define it}, for names with several; `texts` is {module: its text}.

    Constants count only if another module imports them.
    """
    trees = {module: ast.parse(text) for module, text in texts.items()}
    imported = {
        (node.module, alias.name)
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    modules: dict[str, list[str]] = defaultdict(list)
    for module, tree in trees.items():
        for name in dict.fromkeys(public_names(tree)):
            if not name.startswith("_") and (not name.isupper() or (module, name) in imported):
                modules[name].append(module)
    return {name: where for name, where in modules.items() if len(where) > 1}


def test_no_public_name_has_two_meanings() -> None:
    texts = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path.read_text(encoding="utf-8")
        for path in library()
    }
    found = {name: where for name, where in duplicates(texts).items() if name not in SAME_PART}
    assert not found, "\n".join(f"{name}: {', '.join(where)}" for name, where in sorted(found.items()))


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ({"a": "def f(): ...", "b": "class f: ..."}, {"f": ["a", "b"]}),
        ({"a": "def _f(): ...", "b": "def _f(): ..."}, {}),
        ({"a": "SIZE = 3", "b": "SIZE = 4"}, {}),
        ({"a": "SIZE = 3", "b": "SIZE: int = 4", "c": "from a import SIZE"}, {}),
        ({"a": "A = 3", "b": "A: int = 4", "c": "from a import A\nfrom b import A as B"}, {"A": ["a", "b"]}),
        ({"a": "def f(): ...", "b": "from a import f"}, {}),
        ({"a": "try:\n    def f(): ...\nexcept E:\n    pass", "b": "def f(): ..."}, {}),
    ],
)
def test_the_check_finds_doubled_names(texts: dict[str, str], expected: dict[str, list[str]]) -> None:
    assert duplicates(texts) == expected


def test_no_function_is_too_long() -> None:
    lengths = {
        f"{path.relative_to(ROOT)}:{node.name}": node.end_lineno - node.lineno + 1
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.end_lineno is not None
    }
    loops = {name for name in lengths if name.split(":")[0] in LOOPS and name.endswith(":train")}
    assert len(loops) == len(LOOPS)
    long = {
        name: lines
        for name, lines in lengths.items()
        if lines > (MAX_LOOP_LINES if name in loops else MAX_LINES)
    }
    assert not long


def test_the_first_line_of_a_docstring_is_a_sentence_of_its_own() -> None:
    """Lists of functions and editors show only this line."""
    wrapped = [
        f"{path.relative_to(ROOT)}:{getattr(node, 'name', '')}"
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module)
        and "\n" in (ast.get_docstring(node) or "").split("\n\n")[0]
    ]
    assert not wrapped
