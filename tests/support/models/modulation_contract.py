"""The contract of modulations: checks that test_modulation_contract.py applies to each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ganmod.layers import ScaledReLU, StaticConv2d
from ganmod.modulation import ModulatedConv2d, StyleSpec, create_modulation, list_modulations
from ganmod.modulation.per_sample_conv import ConvImpl

CHANNELS, OUT_CHANNELS, HEIGHT, WIDTH, SAMPLES = 4, 3, 6, 5, 3

# host_width 8 gives AdaConv groups of two channels at 4 channels. AdaConv's kernels have size 3.
STYLES = {
    "vector": StyleSpec("vector", 5, host_width=8),
    "map_S=K": StyleSpec("map", 3, size=3, host_width=8),
    "map_S<K": StyleSpec("map", 3, size=2, host_width=8),
    "map_S>K": StyleSpec("map", 3, size=4, host_width=8),
    "features": StyleSpec("features", CHANNELS),
    "id": StyleSpec("id", 5),
}
# Of a mapping network, a style encoder, a frozen encoder, a table of learned styles.
MAIN_STYLES = ("vector", "map_S=K", "features", "id")
FEATURES_SIZE = (5, 7)  # pixels of a style's features
HOSTS = ("plain", "upsample", "between", "noise", "reflect_relu")

# Options that select another path through a built-in modulation; the contract holds for every path.
VARIANTS: dict[str, tuple[Mapping[str, Any], ...]] = {
    "adaconv": (
        {"normalize": "none"},
        {"normalize": "demod"},
        {"kernel_size": 1},
        {"kernel_size": 5, "kernel_budget": 16},
        {"rank": 2},
        {"gate": True},
        {"zero_sum": True},
        {"gate": True, "rank": 3, "normalize": "demod", "lr_mul": 0.5},
        *({"impl": impl} for impl in get_args(ConvImpl)),
    ),
    "din": ({"max_offset": 2}, {"kernel_budget": CHANNELS}),
    "weight_demod": ({"impl": "fused"}, {"demodulate": False}),
    "style_swap": ({"patch_size": 1},),
    "style_decorator": ({"patch_size": 3},),
}


@dataclass(frozen=True)
class Case:
    """One modulation in one host with one kind of style."""

    name: str
    style: str
    host: str = "plain"
    options: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        options = ",".join(f"{key}={value}" for key, value in self.options)
        return "-".join(part for part in (self.name, options, self.style, self.host) if part)

    @property
    def spec(self) -> StyleSpec:
        return STYLES[self.style]

    def build(self, seed: int = 0) -> ModulatedConv2d:
        """The layer in float64, with random values for parameters that start at zero."""
        torch.manual_seed(seed)
        conv = StaticConv2d(
            CHANNELS,
            OUT_CHANNELS,
            padding_mode="reflect" if self.host == "reflect_relu" else "zeros",
            resample=nn.Upsample(scale_factor=2) if self.host == "upsample" else None,
        )
        layer = ModulatedConv2d(
            conv,
            create_modulation(self.name, CHANNELS, self.spec, dict(self.options)),
            between=nn.LeakyReLU(0.2) if self.host == "between" else None,
            activation=ScaledReLU(0.2) if self.host == "reflect_relu" else None,
            noise=self.host == "noise",
        ).double()
        with torch.no_grad():
            layer.bias.normal_()
            if layer.noise_strength is not None:
                layer.noise_strength.fill_(0.5)
            for name, parameter in layer.named_parameters():
                if name.endswith(".gate"):
                    parameter.normal_()
        return layer

    def inputs(self, seed: int = 1, samples: int = SAMPLES) -> tuple[Tensor, ...]:
        """x, style and, if the host takes it, noise, in float64."""
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        x, spec = draw(samples, CHANNELS, HEIGHT, WIDTH), self.spec
        style = (
            draw(samples, spec.dim)
            if spec.kind in ("vector", "id")
            else draw(samples, spec.dim, *(FEATURES_SIZE if spec.kind == "features" else (spec.size,) * 2))
        )
        return (x, style, draw(samples, 1, HEIGHT, WIDTH)) if self.host == "noise" else (x, style)


def cases() -> list[Case]:
    """Every modulation in every host, with every style, in every variant; not every product of the three."""
    hosts = [Case(name, style, host) for style in MAIN_STYLES for name in readers(style) for host in HOSTS]
    styles = [Case(name, style) for style in STYLES if style not in MAIN_STYLES for name in readers(style)]
    variants = [
        Case(name, style, options=tuple(options.items()))
        for name, several in VARIANTS.items()
        for options in several
        for style in MAIN_STYLES
        if name in readers(style)
    ]
    return hosts + styles + variants


def readers(style: str) -> list[str]:
    """The modulations that read a style of STYLES."""
    return list_modulations(STYLES[style].kind)


def check_shape(case: Case) -> None:
    factor = 2 if case.host == "upsample" else 1
    out = case.build()(*case.inputs())
    assert out.shape == (SAMPLES, OUT_CHANNELS, factor * HEIGHT, factor * WIDTH)
    assert out.isfinite().all()


def check_float64_is_kept_and_float32_agrees(case: Case) -> None:
    layer, inputs = case.build(), case.inputs()
    exact = layer(*inputs)
    assert exact.dtype == torch.float64
    single = layer.float()(*(x.float() for x in inputs))
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact, rtol=1e-4, atol=1e-4)


def check_bfloat16(case: Case) -> None:
    """Autocast gives bfloat16, whatever the input's precision; so does a layer in bfloat16.

    Rounded features may have other nearest patches: where there is a choice, the precision alone is checked.
    """
    layer, inputs = case.build(), case.inputs()
    exact = layer(*inputs)
    layer, inputs = layer.float(), tuple(x.float() for x in inputs)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = [layer(*inputs), layer(inputs[0].bfloat16(), *inputs[1:])]
    pure = layer.bfloat16()(*(x.bfloat16() for x in inputs))
    for out in (*mixed, pure):
        assert out.dtype == torch.bfloat16
        if layer.modulation.mixes:
            assert (out - exact).square().mean().sqrt() < 0.05 * exact.square().mean().sqrt()


def check_samples_do_not_mix(case: Case) -> None:
    layer, inputs = case.build(), case.inputs()
    together = layer(*inputs)
    for n in range(SAMPLES):
        alone = layer(*(x[n : n + 1] for x in inputs))
        torch.testing.assert_close(alone, together[n : n + 1], rtol=1e-10, atol=1e-10)


def check_style_matters(case: Case) -> None:
    layer, (x, style, *noise) = case.build(), case.inputs()
    x = x[:1].expand(SAMPLES, -1, -1, -1)
    noise = [n[:1] for n in noise]
    out = layer(x, style, *noise)
    for other in (1, 2):
        assert (out[0] - out[other]).square().mean() > (1e-3 * out.std()) ** 2


def check_gradients_reach_everything(case: Case) -> None:
    """Every element of the input, the style and the parameters has an effect.

    Where patches are chosen, the content chooses and the rest of the style is not seen: then the style as a
    whole has one.
    """
    layer, inputs = case.build(), tuple(x.requires_grad_() for x in case.inputs())
    out = layer(*inputs)
    (
        out * torch.randn(out.shape, dtype=out.dtype, generator=torch.Generator().manual_seed(2))
    ).sum().backward()
    for name, tensor in [*zip(("x", "style", "noise"), inputs, strict=False), *layer.named_parameters()]:
        if name == "x" and not layer.modulation.mixes:
            continue
        assert tensor.grad is not None, f"{name} gets no gradient"
        assert tensor.grad.isfinite().all(), f"{name} gets a gradient that is not finite"
        if name == "style" and not layer.modulation.mixes:
            assert bool((tensor.grad != 0).any())
            continue
        dead = (tensor.grad == 0).sum().item()
        assert dead == 0, f"{dead} of {tensor.numel()} elements of {name} get no gradient"


def check_double_backward(case: Case) -> None:
    """First and second derivatives by the input, the style and all parameters match finite differences."""
    layer, inputs = case.build(), case.inputs(samples=2)
    names, parameters = zip(*layer.named_parameters(), strict=True)
    point = tuple(x.detach().requires_grad_() for x in (*inputs, *parameters))
    generator = torch.Generator().manual_seed(3)
    along, across = (
        [torch.randn(x.shape, generator=generator, dtype=x.dtype) for x in point] for _ in range(2)
    )

    def value_and_slope(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        """A scalar function of the layer's output, and its derivative in the direction `across`."""
        state = dict(zip(names, tensors[len(inputs) :], strict=True))
        out = functional_call(layer, state, tensors[: len(inputs)])
        value = (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)).sum()
        slopes = torch.autograd.grad(value, tensors, create_graph=True, materialize_grads=True)
        return value, dot(slopes, across)

    def dot(left: Iterable[Tensor], right: Iterable[Tensor]) -> Tensor:
        return torch.stack([(a * b).sum() for a, b in zip(left, right, strict=True)]).sum()

    step = 1e-5
    after, before = (
        value_and_slope(*(x + sign * step * v for x, v in zip(point, along, strict=True))) for sign in (1, -1)
    )
    for derived, ahead, behind in zip(value_and_slope(*point), after, before, strict=True):
        gradients = torch.autograd.grad(derived, point, retain_graph=True, materialize_grads=True)
        torch.testing.assert_close(dot(gradients, along), (ahead - behind) / (2 * step), rtol=1e-5, atol=1e-5)


def check_state_dict_round_trip(case: Case) -> None:
    first, second, inputs = case.build(seed=0), case.build(seed=1), case.inputs()
    assert not torch.equal(first(*inputs), second(*inputs))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(*inputs), second(*inputs))


def check_static_state_is_shared(case: Case) -> None:
    """Tensors outside the modulation have the same names and shapes under every modulation."""
    static = {k: v.shape for k, v in case.build().state_dict().items() if not k.startswith("modulation.")}
    reference = replace(case, name="adain", style="vector", options=()).build().state_dict()
    assert static == {k: v.shape for k, v in reference.items() if not k.startswith("modulation.")}
    assert static["conv.weight"] == (OUT_CHANNELS, CHANNELS, 3, 3)


def check_parameters_are_predicted_apart(case: Case) -> None:
    """Parameters can be cached, spread over video frames, mixed between styles."""
    layer, (x, style, *noise) = case.build(), case.inputs()
    params = layer.predict(style)
    assert isinstance(params, tuple)
    assert hasattr(params, "_fields")  # a NamedTuple
    assert all(isinstance(p, Tensor) and len(p) == SAMPLES for p in params)
    expected = layer(x, style, *noise)
    assert torch.equal(layer.apply_params(x, params, *noise), expected)

    one = layer.predict(style[:1])
    spread = type(one)(*(p.expand(SAMPLES, *p.shape[1:]) for p in one))
    repeated = layer(x, style[:1].expand(SAMPLES, *style.shape[1:]), *noise)
    torch.testing.assert_close(layer.apply_params(x, spread, *noise), repeated, rtol=1e-10, atol=1e-10)

    other = layer.predict(style.flip(0))
    ends = [layer.apply_params(x, p, *noise) for p in (params, other)]
    for weight in (0.0, 0.5, 1.0) if layer.modulation.mixes else (0.0, 1.0):
        mixed = type(params)(*(torch.lerp(a, b, weight) for a, b in zip(params, other, strict=True)))
        out = layer.apply_params(x, mixed, *noise)
        assert out.isfinite().all()
        near = [torch.allclose(out, end, rtol=1e-10, atol=1e-10) for end in ends]
        assert near == [weight == 0.0, weight == 1.0]


def check_channels_last(case: Case) -> None:
    layer, (x, *rest) = case.build(), case.inputs()
    expected = layer(x, *rest)
    out = layer.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last), *rest)
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-10)


CONTRACT: dict[str, Callable[[Case], None]] = {
    check.__name__.removeprefix("check_"): check
    for check in (
        check_shape,
        check_float64_is_kept_and_float32_agrees,
        check_bfloat16,
        check_samples_do_not_mix,
        check_style_matters,
        check_gradients_reach_everything,
        check_double_backward,
        check_state_dict_round_trip,
        check_static_state_is_shared,
        check_parameters_are_predicted_apart,
        check_channels_last,
    )
}
