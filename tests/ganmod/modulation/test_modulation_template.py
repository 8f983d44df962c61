"""If this fails, docs/modulation_template.py, from which users write a modulation, is wrong."""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path
from types import ModuleType

import pytest
import torch
from modulation_contract import CONTRACT, Case
from tiny_style_model import make

from ganmod.modulation import list_modulations, modulation_info, registry
from style_transfer.piecewise.tiled import stylize_tiled

TEMPLATE = Path(__file__).parents[3] / "docs" / "modulation_template.py"
PAGE = TEMPLATE.with_name("modulations.md")
BUILT_IN = list_modulations()


@pytest.fixture
def template(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The file as a module, its modulation registered for this test."""
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    spec = importlib.util.spec_from_file_location("modulation_template", TEMPLATE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_its_own_tests_pass(template: ModuleType) -> None:
    tests = [f for name, f in vars(template).items() if name.startswith("test_")]
    assert len(tests) == 4
    for test in tests:
        test()


@pytest.mark.parametrize("style", ["vector", "map_S=K"])
@pytest.mark.parametrize("check", CONTRACT)
def test_it_keeps_the_contract(template: ModuleType, check: str, style: str) -> None:
    CONTRACT[check](Case("gate", style))


def test_it_serves_a_style_model_and_its_tiles(template: ModuleType) -> None:
    assert set(list_modulations()) == {*BUILT_IN, "gate"}
    assert modulation_info("gate").options == {"widest": 2.0}
    model = make("residual-gate").double()
    photo, painting = torch.rand(1, 3, 64, 96).double(), torch.rand(1, 3, 64, 64).double()
    params = model.predict_style(painting)
    whole = model.apply_params(photo, params)
    tiled = stylize_tiled(model, photo, params, tile=64)
    torch.testing.assert_close(tiled, whole, rtol=1e-9, atol=1e-9)


def test_the_page_states_the_shapes_of_the_methods(template: ModuleType) -> None:
    """Each row of the page's table is a method of the interface, with the shapes in its docstring."""
    rows = [line.split("|")[1:-1] for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    shapes = {
        method.split("(")[0].strip(" `"): (given.strip(), result.strip())
        for method, given, result, *_ in (row for row in rows if "(" in row[0])
    }
    assert list(shapes) == ["predict", "modulate", "modulate_with", "convolve"]
    assert shapes["convolve"] == ("`[N,C,H,W]`", "`[N,O,H',W']`")
    for name in ("modulate", "convolve"):
        given, result = (text.strip("`") for text in shapes[name])
        for home in (template.Gate, registry.Modulation):
            assert f"{given} -> {result}" in inspect.getdoc(getattr(home, name))
