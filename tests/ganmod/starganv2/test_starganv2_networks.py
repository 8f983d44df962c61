"""If this fails, the StarGAN v2 networks are not the published ones, or differ between modulations."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from tiny_starganv2 import build, draw, generate, high_pass_formula, mlp, tiny_spec, trunk
from torch import Tensor, nn

from ganmod.io.images import resize, to_tensor
from ganmod.layers import EqualizedLinear, fold_gains
from ganmod.modulation import AdaConv, StyleSpec, WeightDemod, list_modulations
from ganmod.starganv2 import (
    Discriminator,
    Generator,
    MappingNetwork,
    StarGANv2Spec,
    StyleEncoder,
    high_pass,
)
from style_transfer.procedural_styles import builtin_contents

MIX = "adaconv@16,weight_demod@32-"
NETWORKS: list[type[nn.Module]] = [Generator, MappingNetwork, StyleEncoder, Discriminator]


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("num_domains", "w_hpf", "expected"),
    [(3, 0, [33.89, 3.26, 20.95, 20.85]), (2, 1, [43.47, 2.44, None, None])],
    ids=["afhq", "celeba_hq"],
)
def test_parameter_counts_are_the_published_ones(num_domains: int, w_hpf: float, expected: list):
    spec = StarGANv2Spec(domains=tuple(map(str, range(num_domains))), w_hpf=w_hpf)
    with torch.device("meta"):
        counts = [sum(p.numel() for p in kind(spec).parameters()) / 1e6 for kind in NETWORKS]
    for count, published in zip(counts, expected, strict=True):
        assert published is None or round(count, 2) == published


@pytest.mark.parametrize("img_size", [16, 32, 64])
def test_the_adain_generator_is_the_published_one(img_size: int):
    G = build(Generator, img_size=img_size)
    x, s = draw(2, 3, img_size, img_size), draw(2, 5, seed=1)
    close(G(x, s), generate(G.state_dict(), x, s))


def test_the_high_pass_generator_is_the_published_one():
    G = build(Generator, img_size=64, w_hpf=0.5)
    x, s = draw(2, 3, 64, 64), draw(2, 5, seed=1)
    masks = draw(2, 1, 32, 32).sigmoid(), draw(2, 1, 64, 64, seed=2).sigmoid()
    close(G(x, s, masks), generate(G.state_dict(), x, s, w_hpf=0.5, masks=masks))
    close(G(x, s), generate(G.state_dict(), x, s, w_hpf=0.5))
    without = torch.zeros(2, 1, 1, 1, dtype=torch.float64)
    assert (G(x, s) - G(x, s, (without, without))).abs().max() > 0.1
    small = torch.ones(2, 1, 4, 4, dtype=torch.float64)  # masks of any size are brought to the features'
    close(G(x, s, (small, small)), G(x, s))


def test_the_high_pass_filter_is_its_kernel():
    x = draw(2, 3, 6, 5)
    close(high_pass(x, 2.0), high_pass_formula(x, 2.0))
    impulse = torch.zeros(1, 1, 3, 3)
    impulse[0, 0, 1, 1] = 1
    assert high_pass(impulse, 4.0)[0, 0].tolist() == [[-0.25] * 3, [-0.25, 2.0, -0.25], [-0.25] * 3]
    assert high_pass(torch.ones(1, 1, 5, 5), 1.0)[0, 0, 1:-1, 1:-1].abs().max() == 0


def test_networks_with_an_output_per_domain_are_the_published_ones():
    y = torch.tensor([1, 0, 1])
    mapping, z = build(MappingNetwork), draw(3, 4)
    t = mapping.state_dict()
    h = mlp(t, z, "shared", last_linear=False)
    expected = [mlp(t, h[i : i + 1], f"heads.{k}", last_linear=True) for i, k in enumerate(y.tolist())]
    close(mapping(z, y), torch.cat(expected))
    assert [len(mapping.shared), len(mapping.heads[0])] == [8, 7]  # 4 and 4 layers with their ReLUs

    x = draw(3, 3, 32, 32)
    for net in (build(StyleEncoder), build(Discriminator)):
        t = net.state_dict()
        features = trunk(t, x)[:, :, 0, 0]
        if isinstance(net, StyleEncoder):
            rows = [features[i] @ t[f"heads.{k}.weight"].t() + t[f"heads.{k}.bias"] for i, k in enumerate(y)]
        else:
            rows = [features[i] @ t["head.weight"][k, :, 0, 0] + t["head.bias"][k] for i, k in enumerate(y)]
        close(net(x, y), torch.stack(rows).reshape(3, -1))


def test_weights_start_as_the_published_ones():
    """N(0, 2 / fan-in) in every layer, AdaIN's affine map too; biases zero, norms the identity."""
    spec = StarGANv2Spec(domains=("a", "b"), img_size=64, channel_base=4096, channel_max=128)
    torch.manual_seed(0)
    for kind in NETWORKS:
        net = kind(spec)
        for name, parameter in net.named_parameters():
            if "norm" in name or name.endswith("bias"):
                assert (parameter == (1 if name.endswith("weight") else 0)).all(), name
            elif parameter.numel() > 1000:
                std = (2 / parameter[0].numel()) ** 0.5
                assert parameter.std().item() == pytest.approx(std, rel=0.1), name


@pytest.mark.parametrize("modulation", [*list_modulations("vector"), MIX])
@pytest.mark.parametrize("w_hpf", [0, 1])
def test_the_signal_keeps_its_size_at_every_modulated_convolution(modulation: str, w_hpf: float):
    torch.manual_seed(0)
    values = {"img_size": 64, "channel_base": 2048, "channel_max": 64, "style_dim": 32, "w_hpf": w_hpf}
    if modulation == MIX:
        modulation = "adaconv@8-16,weight_demod@32-"
    spec = StarGANv2Spec(domains=("a", "b"), modulation=modulation, **values)  # type: ignore[arg-type]
    G, mapping = Generator(spec), MappingNetwork(spec)
    found = []
    for block in G.decode:
        for layer in (block.conv1, block.conv2):

            def convolve(x: Tensor, conv, params, original=layer.modulation.convolve) -> Tensor:
                found.append(x.std().item())
                return original(x, conv, params)

            layer.modulation.convolve = convolve
    photo = to_tensor(resize(builtin_contents()["chelsea"], (64, 64)))[None] * 2 - 1
    with torch.no_grad():
        style = mapping(torch.randn(4, 16), torch.arange(4) % 2)
        img = G(photo.expand(4, -1, -1, -1), style)
    assert len(found) == (8 if w_hpf == 0 else 10)
    # What the high-pass filter adds has no fixed size, and weight demodulation does not normalise its input.
    largest = 4 if w_hpf and "demod" in modulation else 3
    assert all(0.3 <= value <= largest for value in found), found
    assert 0.1 < img.std() < 5


OPTIONS: list[dict[str, Any]] = [
    *({"modulation": name} for name in list_modulations("vector")),
    {"modulation": MIX, "modulation_options": {"adaconv": {"normalize": "none"}}},
    {"modulation": "adaconv", "w_hpf": 1.0},
]


def label(options: dict[str, Any]) -> str:
    return " ".join(str(value) for value in options.values())


@pytest.mark.parametrize("options", OPTIONS, ids=label)
def test_samples_do_not_mix_and_image_and_style_matter(options: dict[str, Any]):
    G = build(Generator, **options)
    x, s = draw(3, 3, 32, 32), draw(3, 5, seed=1)
    together = G(x, s)
    close(G(x[1:2], s[1:2]), together[1:2])
    close(G.render(x, G.predict(s)), together)
    for other in (G(x, s + 0.5), G(x + draw(3, 3, 32, 32, seed=2), s)):
        assert (other - together).abs().amax(dim=(1, 2, 3)).min() > 1e-3


@pytest.mark.parametrize("options", OPTIONS, ids=label)
def test_static_weights_are_the_same_under_every_modulation_and_gradients_reach_all(options: dict[str, Any]):
    def static(net: nn.Module) -> dict[str, torch.Size]:
        return {name: p.shape for name, p in net.named_parameters() if ".modulation." not in name}

    G = build(Generator, **options)
    w_hpf = options.get("w_hpf", 0)
    assert static(G) == static(build(Generator, w_hpf=w_hpf))
    G(draw(2, 3, 32, 32), draw(2, 5, seed=1)).square().sum().backward()
    unreached = [n for n, p in G.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    unused = [n for n, p in G.named_parameters() if not p.requires_grad]
    # An instance norm takes out the bias of the convolution before it, as in the published networks.
    assert set(unused) <= set(unreached)
    assert all(name in unused or name.endswith(("conv1.bias", "conv2.bias")) for name in unreached), unreached
    assert all(".skip." in name for name in unused)
    assert bool(unused) == (w_hpf > 0)


def test_the_discriminator_is_twice_differentiable():
    """For R1."""
    D = build(Discriminator, img_size=16, channel_max=4)
    x, direction, y = draw(2, 3, 16, 16).requires_grad_(), draw(2, 3, 16, 16, seed=1), torch.tensor([0, 1])

    def slope(x: Tensor) -> Tensor:
        return torch.autograd.grad(D(x, y).sum(), x, create_graph=True)[0].square().sum()

    (gradient,) = torch.autograd.grad(slope(x), x)
    step = 1e-6
    ahead, behind = (slope(x + sign * step * direction) for sign in (1, -1))
    expected = (ahead - behind) / (2 * step)
    torch.testing.assert_close((gradient * direction).sum(), expected.detach(), rtol=1e-5, atol=1e-7)


def test_folded_gains_leave_the_function_alone():
    style = StyleSpec("vector", 6, host_width=16)
    params = {}
    for folded in (False, True):
        torch.manual_seed(0)
        layers = [
            AdaConv(8, style, lr_mul=0.3).double(),
            WeightDemod(8, style).double(),
            EqualizedLinear(6, 4, lr_mul=0.1, bias_init=1).double(),
        ]
        for layer in layers:
            if folded:
                fold_gains(layer)
                fold_gains(layer)  # a second time changes nothing
        linear = layers[2]
        params[folded] = [*layers[0].predict(draw(2, 6)), layers[1].predict(draw(2, 6)).scale]
        params[folded].append(linear(draw(2, 6)))
        assert linear.gain == pytest.approx(0.1 if folded else 0.1 * 6**-0.5)
    for a, b in zip(params[False], params[True], strict=True):
        close(a, b)


def test_half_precision_is_near_and_gives_float32():
    for modulation in list_modulations("vector"):
        G = build(Generator, modulation=modulation).float()
        D = build(Discriminator).float()
        x, s, y = draw(2, 3, 32, 32).float(), draw(2, 5, seed=1).float(), torch.tensor([0, 1])
        exact, logits = G(x, s), D(x, y)
        with torch.autocast("cpu", torch.bfloat16):
            near, near_logits = G(x, s), D(x, y)
        assert near.dtype == near_logits.dtype == torch.float32
        assert 0 < (near - exact).square().mean().sqrt() < 0.05 * exact.std()
        torch.testing.assert_close(near_logits, logits, rtol=0.1, atol=0.1)


def test_the_specification_survives_json():
    spec = tiny_spec(modulation=MIX, w_hpf=1.5)
    assert StarGANv2Spec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert spec.domain_index("dog") == 1
    assert tiny_spec(img_size=256, channel_base=2**14, channel_max=512).generator_widths() == [
        64,
        128,
        256,
        512,
        512,
    ]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"img_size": 96}, "img_size is 96, expected a power of two from 16: try 64 or 128"),
        ({"img_size": 8}, "img_size is 8, expected a power of two from 16: try 16 or 32"),
        ({"domains": ("cat",)}, r"domains are \['cat'\], expected two or more different names"),
        ({"domains": ("cat", "cat")}, "expected two or more different names"),
        ({"style_dim": 0}, "style_dim is 0, expected a number from 1"),
        ({"w_hpf": -1}, "w_hpf is -1, expected a number from 0"),
    ],
)
def test_specifications_that_cannot_be_built_say_what_can(values: dict, message: str):
    with pytest.raises(ValueError, match=message):
        tiny_spec(**values)


def test_mistakes_are_explained():
    G, mapping, D = build(Generator), build(MappingNetwork), build(Discriminator)
    x, s, y = draw(2, 3, 32, 32), draw(2, 5), torch.tensor([0, 1])
    with pytest.raises(ValueError, match=r"img has shape \[2, 3, 32, 16\], expected \[N, 3, 32, 32\]"):
        G(x[..., :16], s)
    with pytest.raises(ValueError, match=r"img has shape \[2, 3, 16, 16\], expected .* resize it"):
        build(StyleEncoder)(x[..., :16, :16], y)
    with pytest.raises(ValueError, match=r"got 2 images and 1 style codes"):
        G(x, s[:1])
    with pytest.raises(ValueError, match=r"style has shape \[2, 4\], expected \[N, 5\]"):
        G(x, s[:, :4])
    with pytest.raises(ValueError, match="has no high-pass filter"):
        G(x, s, (x[:, :1], x[:, :1]))
    with pytest.raises(ValueError, match=r"z has shape \[2, 5\], expected \[N, 4\]"):
        mapping(s, y)
    with pytest.raises(ValueError, match=r"domains are torch.int64 \[1\], expected whole numbers \[2\]"):
        D(x, y[:1])
    with pytest.raises(ValueError, match=r"domains are torch.float64 \[2\]"):
        D(x, y.double())
    with pytest.raises(ValueError, match="unknown domain 'bird': expected one of cat, dog"):
        tiny_spec().domain_index("bird")
    with pytest.raises(ValueError, match="leaves out resolution 32"):
        build(Generator, modulation="adaconv@16")
