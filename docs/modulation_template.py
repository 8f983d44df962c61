"""A modulation from nothing, with its tests: copy this file, rename, replace the formulas.

pytest modulation_template.py
ganmod train style --config style-smoke --plugin modulation_template --modulation gate --out runs/gate
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ganmod import Modulation, StyleSpec, register_modulation
from ganmod.layers import EqualizedLinear, StaticConv2d
from ganmod.modulation import ModulatedConv2d, create_modulation
from ganmod.modulation.base import check_style, pool_style
from ganmod.modulation.statistics import Statistics


class GateParams(NamedTuple):
    """What the style determines: any tensors, the first axis of each is N."""

    gate: Tensor  # [N,C]
    gain: Tensor  # [N,1]


@register_modulation("gate")
class Gate(Modulation):
    """gain * conv(gate * x): the style opens and closes channels, and scales the result.

    Args:
        widest: of the gates, which start near 1. Keyword arguments are options of the command line:
            --set model.modulation_options.widest=4.
    """

    def __init__(self, channels: int, style: StyleSpec, *, widest: float = 2.0) -> None:
        super().__init__(channels, style)
        if widest <= 1:
            raise ValueError(f"widest is {widest}, expected more than 1, the gate at the start")
        self.widest = widest
        self.uses_statistics = False  # `modulate` reads neither mean nor variance of x
        self.affine = EqualizedLinear(style.dim, channels + 1, init_std=0.1)

    def predict(self, style: Tensor) -> GateParams:
        """Style [N,dim], or a map [N,dim,S,S], which is averaged here -> the parameters."""
        check_style(style, self.style)
        raw = self.affine(pool_style(style))  # [N,C+1]
        start = math.log(self.widest - 1)  # makes gates of 1 out of zeros
        return GateParams(self.widest * torch.sigmoid(raw[:, :-1] - start), 1 + raw[:, -1:])

    def modulate(self, x: Tensor, params: GateParams) -> Tensor:
        """Features before the convolution: [N,C,H,W] -> [N,C,H,W], in x's precision."""
        return x * params.gate[:, :, None, None].to(x.dtype)

    def modulate_with(self, x: Tensor, params: GateParams, statistics: Statistics) -> Tensor:
        """`modulate` for a tile or a frame, with the whole image's mean and variance, unused here."""
        return self.modulate(x, params)

    def convolve(self, x: Tensor, conv: StaticConv2d, params: GateParams) -> Tensor:
        """The convolution itself, which may resample: [N,C,H,W] -> [N,O,H',W'], in x's precision.

        conv(x) is the static one, conv.apply_weight(x, weight) one with weights of your own, [O,C,K,K] or
        per sample [N,O,C,K,K]; conv.scaled_weight is the static weight.
        """
        out = conv(x)
        return out * params.gain[:, :, None, None].to(out.dtype)


# Tests. Replace the formulas by those of your modulation; the others hold for every one.
SPEC = StyleSpec("vector", dim=5)


def build(style: StyleSpec = SPEC) -> ModulatedConv2d:
    """A layer of 4 -> 3 channels in float64 that enlarges its input to twice the size."""
    torch.manual_seed(0)
    conv = StaticConv2d(4, 3, resample=nn.Upsample(scale_factor=2))
    return ModulatedConv2d(conv, create_modulation("gate", 4, style, {})).double()


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_it_computes_its_formula() -> None:
    layer, x, style = build(), draw(2, 4, 6, 5), draw(2, 5)
    weight, bias = layer.modulation.affine.weight, layer.modulation.affine.bias
    raw = style @ (weight * layer.modulation.affine.gain).T + bias
    gated = x * (2 / (1 + torch.exp(-raw[:, :4])))[:, :, None, None]
    expected = (1 + raw[:, 4])[:, None, None, None] * layer.conv(gated) + layer.bias[:, None, None]
    assert expected.shape == (2, 3, 12, 10)
    torch.testing.assert_close(layer(x, style), expected, rtol=1e-12, atol=1e-12)


def test_parameters_have_the_stated_shapes() -> None:
    for spec, style in ((SPEC, draw(2, 5)), (StyleSpec("map", dim=5, size=3), draw(2, 5, 3, 3))):
        params = build(spec).predict(style)
        assert {name: list(p.shape) for name, p in params._asdict().items()} == {
            "gate": [2, 4],
            "gain": [2, 1],
        }


def test_samples_do_not_mix_and_styles_matter() -> None:
    layer, x, style = build(), draw(1, 4, 6, 5).expand(2, -1, -1, -1), draw(2, 5)
    together = layer(x, style)
    torch.testing.assert_close(layer(x[1:], style[1:]), together[1:], rtol=1e-12, atol=1e-12)
    assert (together[0] - together[1]).abs().max() > 1e-3


def test_gradients_reach_style_and_parameters_twice() -> None:
    layer, x = build(), draw(2, 4, 6, 5)
    style = draw(2, 5).requires_grad_()
    (slope,) = torch.autograd.grad(layer(x, style).square().sum(), style, create_graph=True)
    slope.square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
