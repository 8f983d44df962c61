"""If this fails, modulations are no longer interchangeable: one breaks in a host, a precision or a loop."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import pytest
import torch
from modulation_contract import CONTRACT, HEIGHT, HOSTS, STYLES, WIDTH, Case, cases
from torch import Tensor, nn

from ganmod.layers import Conv2d, EqualizedLinear, ScaledReLU, StaticConv2d
from ganmod.modulation import (
    ModulatedConv2d,
    Modulation,
    StyleSpec,
    create_modulation,
    list_modulations,
    register_modulation,
    registry,
)
from ganmod.modulation.base import StyleKind, pool_style


@pytest.mark.parametrize("clause", CONTRACT)
@pytest.mark.parametrize("case", cases(), ids=str)
def test_contract(case: Case, clause: str):
    CONTRACT[clause](case)


def check_compiled(case: Case, backend: str) -> None:
    """torch.compile in one graph gives the same values and gradients."""
    layer, inputs = case.build(), tuple(x.requires_grad_() for x in case.inputs())
    wanted = (*inputs, *layer.parameters())
    expected = layer(*inputs)
    gradients = torch.autograd.grad(expected.square().sum(), wanted)
    torch._dynamo.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler warns about itself
        out = torch.compile(layer, backend=backend, fullgraph=True)(*inputs)
        compiled_gradients = torch.autograd.grad(out.square().sum(), wanted)
    torch.testing.assert_close(out, expected, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(compiled_gradients, gradients, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", list_modulations("map"))
def test_compiles(name: str):
    check_compiled(Case(name, "map_S=K", "noise"), "aot_eager")


@pytest.mark.slow
@pytest.mark.parametrize("style", [style for style in STYLES if style not in ("features", "id")])
@pytest.mark.parametrize("name", list_modulations("map"))
def test_compiles_with_inductor(name: str, style: str):
    check_compiled(Case(name, style, "upsample"), "inductor")


@pytest.fixture
def empty_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove what a test registers."""
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))


class TintParams(NamedTuple):
    color: Tensor  # [N,C]


class Tint(Modulation):
    """Adds a colour that is linear in the style: the smallest modulation that a user might write."""

    style_kinds: ClassVar[tuple[StyleKind, ...]] = ("vector", "map")

    def __init__(self, channels: int, style: StyleSpec, *, strength: float = 1.0) -> None:
        super().__init__(channels, style)
        self.strength = strength
        self.affine = EqualizedLinear(style.dim, channels)

    def predict(self, style: Tensor) -> Any:
        return TintParams(self.strength * self.affine(pool_style(style)))

    def modulate(self, x: Tensor, params: Any) -> Tensor:
        return x + params.color[:, :, None, None]


def test_a_users_modulation_is_held_to_the_same_contract(empty_slot: None):
    register_modulation("tint")(Tint)
    custom = [case for case in cases() if case.name == "tint"]
    assert {case.style for case in custom} == set(STYLES) - {"features", "id"}  # which it does not read
    assert {case.host for case in custom} == set(HOSTS)
    for case in custom:
        for check in CONTRACT.values():
            check(case)


class MixesSamples(Tint):
    def modulate(self, x: Tensor, params: Any) -> Tensor:
        return super().modulate(x, params) - x.mean()


class IgnoresStyle(Tint):
    def predict(self, style: Tensor) -> Any:
        return TintParams(0 * super().predict(style).color)


class CastsToFloat32(Tint):
    def modulate(self, x: Tensor, params: Any) -> Tensor:
        return super().modulate(x.float(), params).to(x.dtype)


class CutsTheGradient(Tint):
    def predict(self, style: Tensor) -> Any:
        return TintParams(super().predict(style).color.detach())


class HasADeadParameter(Tint):
    def __init__(self, channels: int, style: StyleSpec) -> None:
        super().__init__(channels, style)
        self.unused = nn.Parameter(torch.zeros(1))


class PredictsAList(Tint):
    def predict(self, style: Tensor) -> Any:
        return [super().predict(style).color]

    def modulate(self, x: Tensor, params: Any) -> Tensor:
        return x + params[0][:, :, None, None]


class CutsTheSecondDerivative(Tint):
    def modulate(self, x: Tensor, params: Any) -> Tensor:
        return x + (x * params.color[:, :, None, None].detach()) + params.color[:, :, None, None]


class ForgetsItsState(Tint):
    offset: Tensor

    def __init__(self, channels: int, style: StyleSpec) -> None:
        super().__init__(channels, style)
        self.register_buffer("offset", torch.randn(channels, 1, 1), persistent=False)

    def modulate(self, x: Tensor, params: Any) -> Tensor:
        return super().modulate(x + self.offset, params)


class Widens(Tint):
    def convolve(self, x: Tensor, conv: nn.Module, params: Any) -> Tensor:
        return conv(x).double()


BREACHES: Mapping[type[Modulation], str] = {
    MixesSamples: "samples_do_not_mix",
    IgnoresStyle: "style_matters",
    CastsToFloat32: "double_backward",
    CutsTheGradient: "gradients_reach_everything",
    HasADeadParameter: "gradients_reach_everything",
    PredictsAList: "parameters_are_predicted_apart",
    CutsTheSecondDerivative: "double_backward",
    ForgetsItsState: "state_dict_round_trip",
    Widens: "bfloat16",
}


@pytest.mark.parametrize("culprit", BREACHES, ids=lambda cls: cls.__name__)
def test_the_contract_finds_a_breach(empty_slot: None, culprit: type[Modulation]):
    register_modulation("culprit")(culprit)
    with pytest.raises((AssertionError, AttributeError, RuntimeError)):
        CONTRACT[BREACHES[culprit]](Case("culprit", "vector"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_unmodulated_layer_keeps_the_precision_too(dtype: torch.dtype):
    layer, x = Conv2d(2, 3, activation=ScaledReLU()), torch.randn(1, 2, 5, 5)
    if dtype == torch.bfloat16:
        with torch.autocast("cpu", dtype):
            assert layer(x).dtype == dtype
    else:
        assert layer.to(dtype)(x.to(dtype)).dtype == dtype


def test_a_modulation_of_other_width_is_refused():
    spec = STYLES["vector"]
    with pytest.raises(
        ValueError, match=r"acts on 5 channels, but the convolution reads 4: build it with channels=4"
    ):
        ModulatedConv2d(StaticConv2d(4, 3), create_modulation("adain", 5, spec))


def test_noise_needs_a_layer_built_for_it():
    layer = Case("adain", "vector").build()
    x, style = Case("adain", "vector").inputs()
    with pytest.raises(ValueError, match="pass noise=True"):
        layer(x, style, torch.zeros(1, 1, HEIGHT, WIDTH))


@pytest.mark.parametrize("name", list_modulations("vector"))
@pytest.mark.parametrize(
    ("style", "shape"), [("vector", (2, 4)), ("vector", (2, 5, 1, 1)), ("map_S=K", (2, 3, 2, 2))]
)
def test_a_style_of_other_shape_is_refused(name: str, style: str, shape: tuple[int, ...]):
    with pytest.raises(ValueError, match=r"style has shape \[2, .*\], expected \[N, "):
        Case(name, style).build().predict(torch.zeros(shape, dtype=torch.float64))
