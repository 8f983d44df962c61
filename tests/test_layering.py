"""If this fails, a package imports another that must not depend on it, modules import each other in a circle,
a folder has too many of them, or the command line starts slowly.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# The packages that each may import: layers from ganmod up to ganmod/cli, and configs for all.
ALLOWED: dict[str, set[str]] = {
    "configs": set(),
    "ganmod": {"configs"},
    "style_transfer": {"ganmod", "configs"},
    "metrics": {"ganmod", "style_transfer", "configs"},
    "training": {"ganmod", "style_transfer", "metrics", "configs"},
    "ganmod/cli": {"style_transfer", "metrics", "training", "configs"},
}
OURS = {package.split("/")[0] for package in ALLOWED}
# Names that say nothing about a file, or blur the border between packages.
FORBIDDEN_NAMES = {"utils.py", "helpers.py", "misc.py", "common.py"}
FORBIDDEN_FILES = {"training/style_transfer.py", "training/metrics.py"}
MAX_MODULES = 12  # of a folder, without __init__.py


def sources() -> list[Path]:
    """Every module of the packages."""
    return sorted(path for package in OURS for path in (ROOT / package).rglob("*.py"))


def package_of(path: Path) -> str:
    """The key of ALLOWED for a module."""
    relative = path.relative_to(ROOT)
    return "ganmod/cli" if relative.parts[:2] == ("ganmod", "cli") else relative.parts[0]


def imported_names(tree: ast.AST, module: str) -> Iterator[tuple[int, str]]:
    """(line, absolute module) of every import, including those in functions and through importlib.

    `module` is the dotted name of the importing module, with __init__ as its last part for a package.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(module.split(".")[: -node.level]) if node.level else ""
            start = ".".join(part for part in (base, node.module) if part)
            yield node.lineno, start
            yield from ((node.lineno, f"{start}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value


def violations(text: str, package: str, module: str) -> list[str]:
    """Forbidden imports in a module's text."""
    allowed = ALLOWED[package] | {package.split("/")[0]}
    found = {
        (line, name.split(".")[0])
        for line, name in imported_names(ast.parse(text), module)
        if name.split(".")[0] in OURS - allowed
    }
    # The library must not import its command line.
    if package == "ganmod":
        found |= {
            (line, "ganmod.cli")
            for line, name in imported_names(ast.parse(text), module)
            if f"{name}.".startswith("ganmod.cli.") and module != "ganmod.__main__"
        }
    return [f"line {line} imports {name}" for line, name in sorted(found)]


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_in_the_one_direction(path: Path):
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    found = violations(path.read_text(encoding="utf-8"), package_of(path), module)
    assert not found, f"{path.relative_to(ROOT)}: {'; '.join(found)}; see ALLOWED in this test"


@pytest.mark.parametrize(
    ("text", "package", "module", "expected"),
    [
        ("import training", "ganmod", "ganmod.x", ["line 1 imports training"]),
        ("import training.ema as e", "metrics", "metrics.x", ["line 1 imports training"]),
        ("from training.train_style import train", "metrics", "metrics.x", ["line 1 imports training"]),
        ("def f():\n    import metrics", "style_transfer", "style_transfer.x", ["line 2 imports metrics"]),
        (
            "if TYPE_CHECKING:\n    from metrics.frechet import A",
            "ganmod",
            "ganmod.x",
            ["line 2 imports metrics"],
        ),
        ("importlib.import_module('training.ema')", "ganmod", "ganmod.x", ["line 1 imports training"]),
        ("from ganmod import cli", "ganmod", "ganmod.x", ["line 1 imports ganmod.cli"]),
        ("from .cli import main", "ganmod", "ganmod.x", ["line 1 imports ganmod.cli"]),
        ("from ..cli import main", "ganmod", "ganmod.modulation.x", ["line 1 imports ganmod.cli"]),
        ("import ganmod", "configs", "configs.schema", ["line 1 imports ganmod"]),
        ("import training, metrics, ganmod.layers", "ganmod/cli", "ganmod.cli.x", []),
        ("from . import layers\nimport torch\nimport metricsaside", "ganmod", "ganmod.x", []),
        ("from ganmod.layers import Conv2d", "style_transfer", "style_transfer.x", []),
        ("import configs, metrics, style_transfer, ganmod", "training", "training.x", []),
    ],
)
def test_the_check_finds_every_form_of_import(text: str, package: str, module: str, expected: list[str]):
    assert violations(text, package, module) == expected


def dotted(path: Path) -> str:
    """The dotted name of a module, or of the package for its __init__.py."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def import_graph(texts: dict[str, tuple[str, bool]]) -> dict[str, set[str]]:
    """{module: the modules that it imports, anywhere in its text}.

    `texts` is {module: (text, whether it is a package's __init__.py)}. `from package import module` imports
    only the module.
    """
    graph: dict[str, set[str]] = {}
    for module, (text, is_package) in texts.items():
        names = {name for _, name in imported_names(ast.parse(text), module + ".__init__" * is_package)}
        parents = {name.rpartition(".")[0] for name in names & set(texts)}
        packages = {name.rpartition(".")[0] for name in names - set(texts)}
        graph[module] = {name for name in names & set(texts) if name not in parents - packages} - {module}
    return graph


def circle_of(graph: dict[str, set[str]]) -> list[str]:
    """A cycle of modules, each of which imports the next, or an empty list."""
    finished: set[str] = set()

    def visit(module: str, path: list[str]) -> list[str]:
        if module in path:
            return path[path.index(module) :]
        if module not in finished:
            for target in sorted(graph[module]):
                if found := visit(target, [*path, module]):
                    return found
            finished.add(module)
        return []

    return next((found for module in sorted(graph) if (found := visit(module, []))), [])


def test_no_module_imports_itself_through_others():
    texts = {dotted(path): (path.read_text(encoding="utf-8"), path.stem == "__init__") for path in sources()}
    assert not circle_of(import_graph(texts))


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ({"p.a": "from p import b", "p.b": "def f():\n    from p.a import x"}, ["p.a", "p.b"]),
        ({"p.a": "import p.b", "p.b": "from . import c", "p.c": "from .a import x"}, ["p.a", "p.b", "p.c"]),
        ({"p": "from p.a import x", "p.a": "from p import y"}, ["p", "p.a"]),
        ({"p": "from p.a import x", "p.a": "from p import b", "p.b": ""}, []),
    ],
)
def test_the_check_finds_circles(texts: dict[str, str], expected: list[str]):
    assert circle_of(import_graph({name: (text, name == "p") for name, text in texts.items()})) == expected


@pytest.mark.parametrize(
    "path",
    [path for path in sources() if package_of(path) != "ganmod/cli"],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_only_the_command_line_knows_of_options(path: Path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = [line for line, name in imported_names(tree, dotted(path)) if name.split(".")[0] == "click"]
    found += [line for line, name in imported_names(tree, dotted(path)) if name == "sys.argv"]
    found += [
        node.lineno for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == "argv"
    ]
    assert not found, f"{path.relative_to(ROOT)} uses click or sys.argv in lines {found}: only ganmod/cli may"


@pytest.mark.parametrize("loop", ["train_style", "train_stylegan2", "train_starganv2"])
def test_a_loop_shows_its_step_from_the_gradients_to_the_average(loop: str):
    text = (ROOT / "training" / f"{loop}.py").read_text(encoding="utf-8")
    order = (".backward()", "average_gradients(", ".finite(", "optimizer.step()", "update_ema(")
    positions = [text.index(part, text.index("while True:")) for part in order]
    assert positions == sorted(positions), dict(zip(order, positions, strict=True))


def test_no_folder_has_too_many_modules():
    counts = Counter(
        path.parent.relative_to(ROOT)
        for folder in (*OURS, "benchmarks", "tests")
        for path in (ROOT / folder).rglob("*.py")
        if path.name != "__init__.py"
    )
    assert not {str(folder): count for folder, count in counts.items() if count > MAX_MODULES}


def test_every_package_exists_and_has_modules():
    assert {package_of(path) for path in sources()} == set(ALLOWED)
    assert ROOT / "ganmod" / "modulation" / "functional.py" in sources()


def test_files_are_named_after_what_they_do():
    assert not [str(path) for path in sources() if path.name in FORBIDDEN_NAMES]
    assert not [name for name in FORBIDDEN_FILES if (ROOT / name).exists()]


@pytest.mark.parametrize(
    "path",
    [path for path in sources() if package_of(path) in ("ganmod", "configs")],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_the_library_does_not_print(path: Path):
    calls = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
    ]
    assert not calls, f"{path.relative_to(ROOT)} prints in lines {calls}: return or raise instead"


def modules_after(statement: str) -> set[str]:
    """Names in sys.modules after a statement in a fresh interpreter."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(json.loads(result.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "statement",
    [
        "import ganmod",
        "import ganmod.cli.main",
        "import sys; sys.argv = ['ganmod', '--help']\nfrom ganmod.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code",
    ],
    ids=["library", "command", "help"],
)
def test_starting_does_not_import_what_is_slow(statement: str):
    loaded = modules_after(statement)
    assert "ganmod" in loaded
    slow = {"torch", "torchvision", "scipy", "skimage", "tensorboard", "cleanfid", "pydantic", "numpy", "PIL"}
    assert not loaded & slow


def test_configurations_need_no_torch():
    """`--dry-run` and faulty options must be answered at once."""
    assert "torch" not in modules_after("import configs.schema")
