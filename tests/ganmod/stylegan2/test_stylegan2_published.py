"""If this fails, the networks are not the published StyleGAN2: its formulas, or its parameter counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny_generator import discriminator, draw, generator
from torch import Tensor, nn

from ganmod.stylegan2 import Discriminator, DiscriminatorSpec, Generator, GeneratorSpec
from ganmod.stylegan2.spec import Architecture

ROOT2 = 2**0.5
ARCHITECTURES: tuple[Architecture, ...] = ("skip", "resnet", "orig")


# The published networks, written from their formulas once more: no class of ours, only state dictionaries.


def fir(x: Tensor, gain: float = 1.0) -> Tensor:
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype) / 8
    return F.conv2d(x, (taps[:, None] * taps[None] * gain).expand(x.shape[1], 1, 4, 4), groups=x.shape[1])


def up2(x: Tensor) -> Tensor:
    zeros = torch.zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3], dtype=x.dtype)
    zeros[:, :, ::2, ::2] = x
    return fir(F.pad(zeros, (2, 1, 2, 1)), 4)


def down2(x: Tensor) -> Tensor:
    return fir(F.pad(x, (1, 1, 1, 1)))[:, :, ::2, ::2]


def lrelu(x: Tensor, gain: float = 1.0) -> Tensor:
    return torch.maximum(x, 0.2 * x) * (ROOT2 * gain)


def modulate(s: Mapping[str, Tensor], name: str, x: Tensor, w: Tensor, *, up: bool, demod: bool) -> Tensor:
    affine = s[f"{name}.modulation.affine.weight"]
    style = w @ affine.t() / w.shape[1] ** 0.5 + s[f"{name}.modulation.affine.bias"] + 1
    out = []
    for sample, scale in zip(x, style, strict=True):
        weight = s[f"{name}.conv.weight"] * scale[:, None, None]
        if demod:
            weight = weight * (weight.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).rsqrt()
        else:
            weight = weight / weight[0].numel() ** 0.5
        if up:
            y = F.conv_transpose2d(sample[None], weight.transpose(0, 1), stride=2)
            out.append(fir(F.pad(y, (1, 1, 1, 1)), 4))
        else:
            out.append(F.conv2d(sample[None], weight, padding=weight.shape[-1] // 2))
    return torch.cat(out)


def synthesis_reference(s: Mapping[str, Tensor], ws: Tensor, levels: list[int], architecture: str) -> Tensor:
    """Constant noise, no clamp."""
    x, img, index = s["b4.const"].expand(len(ws), -1, -1, -1), None, 0
    for level in levels:
        block, before = f"b{level}", x
        gain = 0.5**0.5 if architecture == "resnet" and level > 4 else 1.0
        for layer in ("conv0", "conv1") if level > 4 else ("conv1",):
            name = f"{block}.{layer}"
            x = modulate(s, name, x, ws[:, index], up=layer == "conv0", demod=True)
            x = x + s[f"{name}.noise_const"] * s[f"{name}.noise_strength"] + s[f"{name}.bias"][:, None, None]
            x = lrelu(x, gain if layer == "conv1" else 1.0)
            index += 1
        if gain != 1:
            skip = s[f"{block}.skip.weight"]
            x = up2(F.conv2d(before, skip / skip.shape[1] ** 0.5)) * gain + x
        if img is not None:
            img = up2(img)
        if architecture == "skip" or level == levels[-1]:
            rgb = modulate(s, f"{block}.torgb", x, ws[:, index], up=False, demod=False)
            rgb = rgb + s[f"{block}.torgb.bias"][:, None, None]
            img = rgb if img is None else img + rgb
    assert img is not None
    return img


def conv_layer(
    s: Mapping[str, Tensor], name: str, x: Tensor, *, down: bool = False, gain: float = 1.0
) -> Tensor:
    weight = s[f"{name}.conv.weight"]
    weight, size = weight / weight[0].numel() ** 0.5, weight.shape[-1]
    if down:
        x = F.conv2d(fir(F.pad(x, (2, 2, 2, 2))), weight, stride=2)
    else:
        x = F.conv2d(x, weight, padding=size // 2)
    return lrelu(x + s[f"{name}.bias"][:, None, None], gain)


def discriminator_reference(
    s: Mapping[str, Tensor], img: Tensor, levels: list[int], architecture: str
) -> Tensor:
    """Unconditional, one group for the entire batch, no clamp."""
    x: Tensor | None = None
    for level in levels:
        block = f"b{level}"
        if x is None or architecture == "skip":
            rgb = conv_layer(s, f"{block}.fromrgb", img)
            x = rgb if x is None else x + rgb
            img = down2(img)
        gain = 0.5**0.5 if architecture == "resnet" else 1.0
        out = conv_layer(s, f"{block}.conv1", conv_layer(s, f"{block}.conv0", x), down=True, gain=gain)
        if architecture == "resnet":
            skip = s[f"{block}.skip.weight"]
            out = F.conv2d(down2(x), skip / skip.shape[1] ** 0.5) * gain + out
        x = out
    assert x is not None
    if architecture == "skip":
        x = x + conv_layer(s, "epilogue.fromrgb", img)
    std = ((x - x.mean(dim=0)).square().mean(dim=0) + 1e-8).sqrt().mean()
    x = torch.cat([x, std.expand(len(x), 1, *x.shape[2:])], dim=1)
    x = conv_layer(s, "epilogue.conv", x).flatten(1)
    x = lrelu(x @ s["epilogue.fc.weight"].t() / x.shape[1] ** 0.5 + s["epilogue.fc.bias"])
    return x @ s["epilogue.out.weight"].t() / x.shape[1] ** 0.5 + s["epilogue.out.bias"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("impl", ["unfused", "fused"])
def test_the_synthesis_network_equals_the_published_one(architecture: Architecture, impl: str):
    G = generator(architecture=architecture, modulation_options={"impl": impl})
    ws = draw(2, G.num_ws, G.w_dim)
    expected = synthesis_reference(G.synthesis.state_dict(), ws, [4, 8, 16], architecture)
    out = G.synthesis(ws, noise_mode="const")
    torch.testing.assert_close(out, expected, rtol=1e-6, atol=1e-6)
    assert out.shape == (2, 3, 16, 16)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_discriminator_equals_the_published_one(architecture: Architecture):
    D = discriminator(architecture=architecture)
    img = draw(3, 3, 16, 16)
    expected = discriminator_reference(D.state_dict(), img, [16, 8], architecture)
    torch.testing.assert_close(D(img), expected, rtol=1e-10, atol=1e-10)
    assert expected.std() > 0.01


def test_the_label_is_projected_on():
    D = discriminator(c_dim=4, cmap_dim=7, mapping_layers=2)
    img, labels = draw(3, 3, 16, 16), torch.eye(4).double()[[1, 3, 1]]
    features = []
    D.epilogue.register_forward_hook(lambda module, args, out: features.append(out))
    logits = D(img, labels)
    assert D.mapping is not None
    embedded = D.mapping(None, labels)
    torch.testing.assert_close(logits, (features[0] * embedded).sum(1, keepdim=True) / 7**0.5)
    assert features[0].shape == (3, 7)
    assert not torch.allclose(logits, D(img, labels.roll(1, 1)))


def million_parameters(net: nn.Module) -> float:
    return round(sum(parameter.numel() for parameter in net.parameters()) / 1e6, 2)


@pytest.mark.parametrize(
    ("common", "of_g", "of_d", "expected"),
    [
        ({"img_resolution": 32}, {"mapping_layers": 2}, {"architecture": "orig"}, (19.95, 20.72)),
        (
            {"img_resolution": 32, "c_dim": 10},
            {"mapping_layers": 2},
            {"architecture": "orig"},
            (20.22, 23.09),
        ),
        ({"img_resolution": 256, "channel_base": 16384}, {}, {}, (24.77, 24.00)),
        ({"img_resolution": 256}, {}, {}, (30.03, 28.86)),
        ({"img_resolution": 1024}, {}, {}, (30.37, 29.01)),
    ],
    ids=["cifar10", "cifar10 conditional", "ffhq256", "256 wide", "1024"],
)
def test_the_published_networks_have_the_published_number_of_parameters(
    common: dict[str, Any], of_g: dict[str, Any], of_d: dict[str, Any], expected: tuple[float, float]
):
    with torch.device("meta"):
        G = Generator(GeneratorSpec(**common, **of_g))
        D = Discriminator(DiscriminatorSpec(**common, **of_d))
    assert (million_parameters(G), million_parameters(D)) == expected
    assert G.num_ws == {32: 8, 256: 14, 1024: 18}[common["img_resolution"]]
