"""If this fails, generator or discriminator is not StyleGAN2's, or differs between modulations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from tiny_generator import discriminator, draw, generator
from torch import Tensor, nn
from torch.func import functional_call

from ganmod.modulation import list_modulations
from ganmod.stylegan2 import Generator, GeneratorSpec
from ganmod.stylegan2.spec import Architecture

ARCHITECTURES: tuple[Architecture, ...] = ("skip", "resnet", "orig")
MIX = "adaconv@4-8,weight_demod@16-"


@pytest.mark.parametrize("modulation", [*list_modulations("vector"), MIX])
def test_static_weights_have_the_same_names_under_every_modulation(modulation: str):
    def static(net: Generator) -> dict[str, torch.Size]:
        state = net.state_dict()
        return {
            name: tensor.shape
            for name, tensor in state.items()
            if ".modulation." not in name or ".torgb." in name
        }

    G = generator(modulation=modulation)
    names = static(G)
    assert names == static(generator())
    for name in ("synthesis.b4.const", "synthesis.b16.conv0.conv.weight", "synthesis.b8.torgb.conv.weight"):
        assert name in names
    assert {"mapping.w_avg", "mapping.layers.0.weight", "synthesis.b8.conv1.noise_strength"} <= set(names)
    again = generator(seed=1, modulation=modulation)
    again.load_state_dict(G.state_dict())
    z = draw(2, 5)
    assert torch.equal(again(z, noise_mode="const"), G(z, noise_mode="const"))


OPTIONS: list[dict[str, Any]] = [
    *({"modulation": name} for name in list_modulations("vector")),
    {"modulation": MIX},
    {"modulation": MIX, "modulation_options": {"adaconv": {"normalize": "none"}}},
    {"modulation": "adaconv", "modulation_options": {"normalize": "none", "kernel_budget": 16}},
    {"modulation": "adaconv", "modulation_options": {"normalize": "demod"}},
    {"modulation": "adaconv", "modulation_options": {"rank": 4, "gate": True}},
    {"modulation": "adaconv", "style_lift": "shared", "descriptor_dim": 4},
    {"modulation": "adaconv", "style_lift": "per_layer", "descriptor_dim": 4, "descriptor_size": 2},
    {"modulation": "adain", "style_lift": "shared", "descriptor_dim": 4},
    {"modulation": "adaconv", "modulate_after_upsampling": True},
]


def label(options: dict[str, Any]) -> str:
    return " ".join(str(value) for value in options.values())


@pytest.mark.parametrize("options", OPTIONS, ids=label)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_signal_has_unit_size_at_every_modulated_convolution(
    architecture: Architecture, options: dict[str, Any]
):
    torch.manual_seed(0)
    G = Generator(
        GeneratorSpec(
            img_resolution=32,
            channel_base=1024,
            channel_max=64,
            z_dim=32,
            w_dim=32,
            mapping_layers=2,
            architecture=architecture,
            **options,
        )
    )
    found = []
    for layer in G.synthesis.layers:

        def convolve(x: Tensor, conv, params, original=layer.modulation.convolve) -> Tensor:
            found.append(x.std().item())
            return original(x, conv, params)

        layer.modulation.convolve = convolve  # type: ignore[assignment, method-assign]
    with torch.no_grad():
        img = G(torch.randn(8, 32))
    assert len(found) == 7
    assert all(0.3 <= value <= 3 for value in found), found
    assert 0.1 < img.std() < 5


@pytest.mark.parametrize("options", OPTIONS, ids=label)
def test_samples_do_not_mix_and_every_w_matters(options: dict[str, Any]):
    G = generator(**options)
    ws = draw(3, G.num_ws, G.w_dim)
    noise = G.synthesis.make_noise(3, generator=torch.Generator().manual_seed(1))
    together = G.synthesis(ws, noise=noise)
    alone = G.synthesis(ws[1:2], noise=[n[1:2] for n in noise if n is not None])
    torch.testing.assert_close(alone, together[1:2], rtol=1e-9, atol=1e-9)
    for index in range(G.num_ws):
        changed = ws.clone()
        changed[:, index] += 0.5
        assert (G.synthesis(changed, noise=noise) - together).abs().amax(dim=(1, 2, 3)).min() > 1e-4


@pytest.mark.parametrize("options", OPTIONS, ids=label)
def test_gradients_reach_every_parameter(options: dict[str, Any]):
    G = generator(**options)
    G(draw(2, 5)).square().sum().backward()
    assert not [name for name, p in G.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]


def check_twice_differentiable(net: nn.Module, inputs: tuple[Tensor, ...], **fixed: Any) -> None:
    """First and second derivatives in the inputs and all parameters match finite differences."""
    names, parameters = zip(*net.named_parameters(), strict=True)
    point = tuple(x.detach().clone().requires_grad_() for x in (*inputs, *parameters))
    along, across = ([draw(*x.shape, seed=s + i) for i, x in enumerate(point)] for s in (100, 200))

    def dot(left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
        return torch.stack([(a * b).sum() for a, b in zip(left, right, strict=True)]).sum()

    def value_and_slope(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        """A number that the network gives, and its derivative in the direction `across`."""
        state = dict(zip(names, tensors[len(inputs) :], strict=True))
        out = functional_call(net, state, tensors[: len(inputs)], fixed)
        value = (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)).sum()
        return value, dot(torch.autograd.grad(value, tensors, create_graph=True), across)

    step = 1e-7  # short, so that no leaky ReLU bends on the way
    ahead, behind = (
        value_and_slope(*(x + sign * step * v for x, v in zip(point, along, strict=True))) for sign in (1, -1)
    )
    for derived, after, before in zip(value_and_slope(*point), ahead, behind, strict=True):
        gradients = torch.autograd.grad(derived, point, retain_graph=True, materialize_grads=True)
        torch.testing.assert_close(dot(gradients, along), (after - before) / (2 * step), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("options", OPTIONS, ids=label)
def test_the_generator_is_twice_differentiable(options: dict[str, Any]):
    """For path length regularisation."""
    G = generator(img_resolution=8, channel_max=4, **options)
    check_twice_differentiable(G.synthesis, (draw(2, G.num_ws, G.w_dim),), noise_mode="const")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_discriminator_is_twice_differentiable(architecture: Architecture):
    """For R1, including the minibatch deviation and the label's projection."""
    D = discriminator(
        img_resolution=8,
        channel_max=4,
        architecture=architecture,
        c_dim=2,
        mapping_layers=1,
        mbstd_group_size=2,
    )
    check_twice_differentiable(D, (draw(4, 3, 8, 8), torch.eye(2).double()[[0, 1, 1, 0]]))


def test_noise_modes():
    G = generator()
    ws = draw(2, G.num_ws, G.w_dim)
    const = G.synthesis(ws, noise_mode="const")
    assert torch.equal(const, G.synthesis(ws, noise_mode="const"))
    assert torch.equal(const, G.synthesis(ws, noise=G.synthesis.make_noise(2, "const")))
    none = G.synthesis(ws, noise_mode="none")
    assert torch.equal(none, G.synthesis(ws, noise=[None] * 5))
    torch.manual_seed(3)
    random = G.synthesis(ws)
    assert not torch.equal(random, G.synthesis(ws))
    torch.manual_seed(3)
    assert torch.equal(random, G.synthesis(ws))
    same_w = G.synthesis(ws[:1].expand(2, -1, -1))
    assert not torch.allclose(same_w[0], same_w[1])  # every sample has separate noise
    assert not torch.allclose(none, const)

    drawn = [G.synthesis.make_noise(2, generator=torch.Generator().manual_seed(5)) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*drawn, strict=True) if a is not None and b is not None)
    assert G.synthesis.noise_shapes() == [(4, 4), (8, 8), (8, 8), (16, 16), (16, 16)]


def test_noise_starts_without_effect():
    G = Generator(GeneratorSpec(img_resolution=8, channel_max=4, z_dim=4, w_dim=4))
    ws = torch.randn(2, G.num_ws, 4)
    assert torch.equal(G.synthesis(ws, noise_mode="random"), G.synthesis(ws, noise_mode="none"))


def test_truncation_from_end_to_end():
    G = generator(c_dim=3)
    G.mapping.update_w_avg(draw(7, 6))
    z, c = draw(2, 5), torch.eye(3).double()[:2]
    ws = G.mapping(z, c)
    expected = torch.cat([G.mapping.w_avg.lerp(ws[:, :2], 0.7), ws[:, 2:]], dim=1)
    out = G(z, c, truncation_psi=0.7, truncation_cutoff=2, noise_mode="const")
    torch.testing.assert_close(out, G.synthesis(expected, noise_mode="const"))
    mean = G(z, c, truncation_psi=0, noise_mode="none")
    torch.testing.assert_close(mean[0], mean[1])


@pytest.mark.parametrize("size", [(16, 24), (12, 8), (28, 28), (16, 64)])
@pytest.mark.parametrize("modulation", list_modulations("vector"))
def test_images_need_not_be_square_or_a_power_of_two(size: tuple[int, int], modulation: str):
    G = generator(img_resolution=size, modulation=modulation)
    img = G(draw(2, 5))
    assert img.shape == (2, 3, *size)
    assert G.img_resolution == size
    for architecture in ARCHITECTURES:
        assert discriminator(img_resolution=size, architecture=architecture)(img).shape == (2, 1)


def test_the_discriminator_compares_consecutive_samples_only():
    D = discriminator(mbstd_group_size=2)
    img = draw(6, 3, 16, 16)
    full = D(img)
    for start in (0, 2, 4):
        torch.testing.assert_close(D(img[start : start + 2]), full[start : start + 2], rtol=1e-9, atol=1e-9)
    assert not torch.allclose(D(img[:1]), full[:1])
    alone = discriminator(mbstd_num_channels=0)
    torch.testing.assert_close(alone(img[:1]), alone(img)[:1], rtol=1e-9, atol=1e-9)


def test_layers_of_the_discriminator_come_in_the_image_s_order():
    D = discriminator(c_dim=2)
    names = {id(module): name for name, module in D.named_modules()}
    assert [names[id(layer)] for layer in D.layers()] == [
        "b16.fromrgb", "b16.conv0", "b16.conv1", "b16.skip", "b8.conv0", "b8.conv1", "b8.skip",
        "epilogue.conv", "epilogue.fc", "epilogue.out",
    ]  # fmt: skip


@pytest.mark.parametrize("half_dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("modulation", [*list_modulations("vector"), MIX])
def test_half_precision_at_the_finest_resolutions(half_dtype: str, modulation: str):
    values: dict[str, Any] = {"img_resolution": 32, "num_half_res": 2}
    G = generator(modulation=modulation, **values, half_dtype=half_dtype)
    D = discriminator(**values, half_dtype=half_dtype)
    plain_d = discriminator(img_resolution=32)
    dtypes: dict[str, torch.dtype] = {}
    for net in (G.synthesis, D):
        for name in ("b8", "b16", "b32"):
            getattr(net, name).conv1.register_forward_hook(
                lambda m, a, out, name=name: dtypes.update({name: out.dtype})
            )
    G, D = G.float(), D.float()
    ws = draw(4, G.num_ws, G.w_dim).float()
    img = G.synthesis(ws, noise_mode="const")
    exact = generator(modulation=modulation, img_resolution=32).synthesis(ws.double(), noise_mode="const")
    assert img.dtype == torch.float32
    assert (img - exact).square().mean().sqrt() < 0.05 * exact.std()
    assert not torch.equal(img.double(), exact)
    logits = D(img)
    assert logits.dtype == torch.float32
    expected = plain_d(img.double())
    assert (logits - expected).abs().max() < 0.05 * expected.abs().max().clamp_min(1)
    half = getattr(torch, half_dtype)
    assert dtypes == {"b8": torch.float32, "b16": half, "b32": half}
    (logits.square().sum() + img.square().mean()).backward()
    gradients = [p.grad for net in (G.synthesis, D) for p in net.parameters() if p.grad is not None]
    assert len(gradients) > 40
    assert all(g.isfinite().all() and g.dtype == torch.float32 for g in gradients)


@pytest.mark.parametrize("modulation", list_modulations("vector"))
def test_channels_last_gives_the_same_image(modulation: str):
    G, D = generator(modulation=modulation), discriminator()
    z = draw(2, 5)
    img = G(z, noise_mode="const")
    logits = D(img)
    G, D = (net.to(memory_format=torch.channels_last) for net in (G, D))
    torch.testing.assert_close(G(z, noise_mode="const"), img, rtol=1e-10, atol=1e-10)
    last = D(img.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(last, logits, rtol=1e-10, atol=1e-10)


def test_the_clamp_bounds_activations_and_images():
    G = generator(conv_clamp=0.5)
    ws = draw(2, G.num_ws, G.w_dim)
    x, img = G.synthesis.b4(None, None, G.synthesis.predict(ws)[0], [None])  # type: ignore[operator]
    assert x.abs().max() == 0.5
    assert img.abs().max() <= 0.5
    assert generator(conv_clamp=None).synthesis(ws).abs().max() > 0.5


def test_the_clamp_bounds_the_discriminator_before_its_branches_are_added():
    D = discriminator(conv_clamp=0.5)
    found: dict[str, float] = {}
    for name in ("conv0", "conv1"):
        layer = getattr(D.b16, name)
        layer.register_forward_hook(lambda m, a, out, name=name: found.update({name: out.abs().max().item()}))
    D(draw(2, 3, 16, 16))
    assert found == pytest.approx({"conv0": 0.5, "conv1": 0.5 * 0.5**0.5})


def test_parameters_can_be_predicted_once():
    G = generator(modulation=MIX)
    ws = draw(2, G.num_ws, G.w_dim)
    params = G.synthesis.predict(ws)
    assert [len(of_block) for of_block in params] == [2, 3, 3]
    expected = G.synthesis(ws, noise_mode="const")
    assert torch.equal(G.synthesis.render(params, G.synthesis.make_noise(2, "const")), expected)


def test_mistakes_are_explained():
    G, D = generator(), discriminator(mbstd_group_size=4)
    with pytest.raises(
        ValueError, match=r"ws has shape \[2, 6\], expected \[N, 6, 6\]; one w for all layers"
    ):
        G.synthesis(torch.zeros(2, 6))
    with pytest.raises(ValueError, match="noise_mode is 'rand', expected random, const, none"):
        G(draw(1, 5), noise_mode="rand")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="noise has 2 entries, expected 5"):
        G(draw(1, 5), noise=[None, None])
    with pytest.raises(ValueError, match=r"img has shape \[2, 3, 16, 8\], expected \[N, 3, 16, 16\]"):
        D(draw(2, 3, 16, 8))
    with pytest.raises(
        ValueError, match=r"batch of 6 does not divide .* use a batch of 4 or 8, or a group size"
    ):
        D(draw(6, 3, 16, 16))
    with pytest.raises(ValueError, match=r"c has shape \[4, 2\], but this network is unconditional"):
        D(draw(4, 3, 16, 16), torch.zeros(4, 2))
    conditional = discriminator(c_dim=3, mapping_layers=1)
    with pytest.raises(ValueError, match=r"c is missing, expected \[N, 3\] for this conditional network"):
        conditional(draw(4, 3, 16, 16))
    with pytest.raises(ValueError, match="c has 2 rows, expected 4: one per image"):
        conditional(draw(4, 3, 16, 16), torch.eye(3).double()[:2])
    with pytest.raises(ValueError, match="leaves out resolution 16"):
        generator(modulation="adaconv@4-8")
    with pytest.raises(ValueError, match="has no option 'normalise'"):
        generator(modulation="adaconv", modulation_options={"normalise": "none"})
