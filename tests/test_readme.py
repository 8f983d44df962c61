"""If this fails, the first thing a reader copies out of the README does not work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ganmod.modulation import registry

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


@pytest.fixture(autouse=True)
def _leave_the_registry_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))


def python_blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("block", python_blocks(), ids=lambda block: block.split("\n")[0][:40])
def test_python_example_runs(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {"__name__": "__main__"})


def test_own_modulation_example_is_twelve_lines_and_trains_a_model_that_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (block,) = (b for b in python_blocks() if "@register_modulation" in b)
    assert len([line for line in block.splitlines() if line.strip()]) <= 12
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {"__name__": "__main__"})
    import style_transfer

    (model_file,) = tmp_path.rglob("model-latest.safetensors")
    assert style_transfer.load(model_file).spec.modulation == "half_adain"


def test_commands_name_existing_options() -> None:
    """Every `ganmod ...` line of a shell block parses: the command exists and so does each --option."""
    import click

    from ganmod.cli.main import cli

    for block in re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = line.split("#")[0].split()
            if words[:1] != ["ganmod"]:
                continue
            words = words[1:]
            command: click.Command = cli
            while isinstance(command, click.Group) and words:
                found = command.get_command(click.Context(command), words[0])
                assert found is not None, line
                command, words = found, words[1:]
            known = {name for p in command.params for name in (*p.opts, *p.secondary_opts)}
            known |= {"--help", "--version"}
            assert {w for w in words if w.startswith("--")} <= known, line


def test_figures_in_the_readme_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), f"README links to {target}, which is missing"
