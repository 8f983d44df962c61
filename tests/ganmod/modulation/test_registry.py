"""If this fails, a modulation cannot be found by name, or a mistake in using one is not explained."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from ganmod.layers import StaticConv2d
from ganmod.modulation import (
    AdaConv,
    AdaIN,
    ModulatedConv2d,
    Modulation,
    StyleSpec,
    WeightDemod,
    create_modulation,
    list_modulations,
    modulation_info,
    modulations_for,
    register_modulation,
    registry,
)
from ganmod.modulation.base import StyleKind

VECTOR = StyleSpec("vector", 4)


class Scale(Modulation):
    """Multiplies by one number."""

    def __init__(self, channels: int, style: StyleSpec, *, factor: float = 2.0) -> None:
        super().__init__(channels, style)
        self.factor = factor

    def predict(self, style: Tensor) -> Any:
        return (style,)

    def modulate(self, x: Tensor, params: Any) -> Tensor:
        return self.factor * x


class Masked(Scale):
    style_kinds: ClassVar[tuple[StyleKind, ...]] = ("mask",)


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove what a test registers."""
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))


def test_the_built_in_modulations_have_their_names():
    assert list_modulations("vector") == ["adaconv", "adain", "din", "weight_demod"]
    kinds = {"adaconv": AdaConv, "adain": AdaIN, "weight_demod": WeightDemod}
    assert {name: type(create_modulation(name, 4, VECTOR)) for name in kinds} == kinds


def test_a_registered_modulation_is_created_by_name_with_its_options():
    assert register_modulation("scale")(Scale) is Scale
    assert list_modulations("vector") == ["adaconv", "adain", "din", "scale", "weight_demod"]
    modulation = create_modulation("scale", 3, VECTOR, {"factor": 5.0})
    assert type(modulation) is Scale
    assert (modulation.channels, modulation.style, modulation.factor) == (3, VECTOR, 5.0)
    x, style = torch.randn(2, 3, 4, 4), torch.randn(2, 4)
    layer = ModulatedConv2d(StaticConv2d(3, 2), modulation)
    torch.testing.assert_close(layer(x, style), layer.conv(5 * x))


def test_values_that_fit_arrive_as_they_are():
    """Those of a file, where JSON has no tuples, are brought to the declared type."""

    class Sized(Scale):
        def __init__(self, channels: int, style: StyleSpec, *, sizes: tuple[int, ...] = (), any: Any = None):
            super().__init__(channels, style)
            self.sizes, self.any = sizes, any

    register_modulation("sized")(Sized)
    for sizes in ((1, 2), [1, 2]):
        made = create_modulation("sized", 3, VECTOR, {"sizes": sizes, "any": {1: (2, 3)}})
        assert isinstance(made, Sized)
        assert (made.sizes, made.any) == ((1, 2), {1: (2, 3)})


def test_info_lists_summary_and_options_with_defaults():
    register_modulation("scale")(Scale)
    info = modulation_info("scale")
    assert (info.name, info.summary, info.options) == ("scale", "Multiplies by one number.", {"factor": 2.0})
    assert modulation_info("weight_demod").options == {"demodulate": True, "impl": "unfused", "eps": 1e-8}
    assert modulation_info("adain").options == {"eps": 1e-5}
    assert modulation_info("adaconv").options["kernel_size"] == 3
    assert all(modulation_info(name).summary.endswith((".", ").")) for name in list_modulations())


def test_a_name_is_taken_once():
    register_modulation("scale")(Scale)
    with pytest.raises(
        ValueError, match=r"'scale' exists already \(.*test_registry\.Scale\): choose another name"
    ):
        register_modulation("scale")(type("Other", (Scale,), {}))
    with pytest.raises(ValueError, match=r"'adain' exists already \(ganmod\.modulation\.adain\.AdaIN\)"):
        register_modulation("adain")(Scale)
    assert type(create_modulation("adain", 4, VECTOR)) is AdaIN


def test_a_class_that_would_do_nothing_is_refused():
    class Idle(Modulation):
        def predict(self, style: Tensor) -> Any:
            return (style,)

    with pytest.raises(ValueError, match=r"Idle overrides neither modulate\(\) nor convolve\(\)"):
        register_modulation("idle")(Idle)

    class Speechless(Modulation):
        def modulate(self, x: Tensor, params: Any) -> Tensor:
            return 2 * x

    with pytest.raises(ValueError, match=r"Speechless does not override predict\(\)"):
        register_modulation("speechless")(Speechless)
    assert list_modulations("vector") == ["adaconv", "adain", "din", "weight_demod"]


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [
        ("adacnv", " (did you mean 'adaconv'?)"),
        ("weight-demod", " (did you mean 'weight_demod'?)"),
        ("AdaIN", " (did you mean 'adain'?)"),
        ("xyz", ""),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest_and_the_list(wrong: str, nearest: str):
    for ask in (lambda: create_modulation(wrong, 4, VECTOR), lambda: modulation_info(wrong)):
        with pytest.raises(ValueError, match="unknown modulation") as error:
            ask()
        assert str(error.value) == (
            f"unknown modulation {wrong!r}{nearest}. Registered: {', '.join(list_modulations())}. "
            "A module of your own is loaded with --plugin pkg.module"
        )


def test_an_unknown_option_is_answered_with_the_nearest_and_the_list():
    with pytest.raises(ValueError, match="has no option") as error:
        create_modulation("weight_demod", 4, VECTOR, {"demodulat": False})
    assert str(error.value) == (
        "modulation 'weight_demod' has no option 'demodulat' (did you mean 'demodulate'?). "
        "Its options: demodulate, impl, eps"
    )
    with pytest.raises(
        ValueError, match=r"'adaconv' has no option 'kernelsize' \(did you mean 'kernel_size'\?\)"
    ):
        create_modulation("adaconv", 4, VECTOR, {"kernelsize": 3})


@pytest.mark.parametrize("reserved", ["channels", "style", "self"])
def test_the_hosts_own_arguments_are_no_options(reserved: str):
    with pytest.raises(ValueError, match=f"has no option '{reserved}'"):
        create_modulation("adain", 4, VECTOR, {reserved: 3})


def test_an_unfit_style_is_answered_with_the_modulations_that_fit(monkeypatch: pytest.MonkeyPatch):
    register_modulation("masked")(Masked)
    mask = StyleSpec("mask", 4)
    assert modulations_for(mask) == ["masked"]
    assert modulations_for(VECTOR) == ["adaconv", "adain", "din", "weight_demod"]
    with pytest.raises(ValueError, match="needs a style of kind") as error:
        create_modulation("adain", 4, mask)
    assert str(error.value) == (
        "modulation 'adain' needs a style of kind vector or map, but this host supplies 'mask'. "
        "Modulations that fit: masked"
    )
    with pytest.raises(ValueError, match=r"Modulations that fit: adaconv, adain, din, weight_demod$"):
        create_modulation("masked", 4, VECTOR)
    monkeypatch.setattr(registry, "_REGISTRY", {"masked": Masked})
    with pytest.raises(ValueError, match=r"Modulations that fit: none$"):
        create_modulation("masked", 4, VECTOR)


def test_an_unfit_style_is_refused_without_the_registry_too():
    with pytest.raises(
        ValueError, match=r"AdaIN needs a style of kind vector or map, but the host supplies 'id'"
    ):
        AdaIN(4, StyleSpec("id", 4))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("adaconv", {"kernel_size": 4}, "kernel_size is 4, expected an odd number"),
        ("adaconv", {"kernel_size": -1}, "kernel_size is -1, expected an odd number"),
        ("adaconv", {"kernel_budget": -1}, "kernel_budget is -1, expected a whole number"),
        ("adaconv", {"lr_mul": 0}, "lr_mul is 0, expected a positive number"),
        (
            "adaconv",
            {"normalize": "batch"},
            "unknown normalize 'batch': expected one of instance, none, demod",
        ),
        ("weight_demod", {"impl": "fast"}, "unknown impl 'fast': expected 'unfused' or 'fused'"),
    ],
)
def test_an_impossible_value_is_refused_by_the_class(name: str, options: dict[str, Any], message: str):
    cls = {"adaconv": AdaConv, "weight_demod": WeightDemod}[name]
    with pytest.raises(ValueError, match=message):
        cls(4, VECTOR, **options)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("adaconv", {"kernel_size": "3"}, "option kernel_size: Input should be a valid integer, got '3'"),
        ("adaconv", {"kernel_size": 3.0}, "option kernel_size: Input should be a valid integer, got 3.0"),
        ("adaconv", {"kernel_budget": -1}, "option kernel_budget: Input should be greater than 0, got -1"),
        ("adaconv", {"lr_mul": None}, "option lr_mul: Input should be a valid number, got None"),
        (
            "adaconv",
            {"normalize": "batch"},
            "option normalize: Input should be 'instance', 'none' or 'demod'",
        ),
        ("weight_demod", {"impl": "fast"}, "option impl: Input should be 'unfused' or 'fused', got 'fast'"),
        ("weight_demod", {"demodulate": 1}, "option demodulate: Input should be a valid boolean, got 1"),
    ],
)
def test_an_option_of_another_type_or_out_of_range_is_refused(
    name: str, options: dict[str, Any], message: str
):
    with pytest.raises(ValueError, match=f"modulation '{name}', {message}"):
        create_modulation(name, 4, VECTOR, options)
