"""If this fails, a layer of StyleGAN2 or the minibatch deviation differs from the formulas."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganmod.layers import Conv2d, EqualizedLinear, ScaledReLU, StaticConv2d
from ganmod.modulation import ModulatedConv2d, StyleSpec, WeightDemod
from ganmod.resample import DownConv2d, Upsample2x
from ganmod.stylegan2 import minibatch_std
from ganmod.stylegan2.spec import Level
from ganmod.stylegan2.synthesis import SynthesisLayer

ROOT2 = 2**0.5


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def blur(x: Tensor, gain: float) -> Tensor:
    """Filter [1,3,3,1] / 8 along both axes, only where it fits."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype) / 8
    kernel = (taps[:, None] * taps[None] * gain).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(x, kernel, groups=x.shape[1])


def layer_reference(
    x: Tensor,
    w: Tensor,
    state: dict[str, Tensor],
    *,
    up: bool,
    demodulate: bool,
    noise: Tensor,
    gain: float,
    clamp: float,
) -> Tensor:
    """Karras et al. 2020, Eq. 1-3, sample by sample; transposed convolution, then the filter, to upsample."""
    affine, outputs = state["modulation.affine.weight"], []
    for sample, style, noise_image in zip(x, w, noise, strict=True):
        s = affine @ style / style.numel() ** 0.5 + state["modulation.affine.bias"] + 1
        weight = state["conv.weight"] * s[None, :, None, None]
        if demodulate:
            weight = weight / (weight.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        else:
            weight = weight / (weight[0].numel()) ** 0.5
        if up:
            large = F.conv_transpose2d(sample[None], weight.transpose(0, 1), stride=2)
            out = blur(F.pad(large, (1, 1, 1, 1)), 4)
        else:
            out = F.conv2d(sample[None], weight, padding=1)
        out = out + state["noise_strength"] * noise_image + state["bias"][:, None, None]
        out = torch.where(out > 0, out, 0.2 * out) * (ROOT2 * gain)
        outputs.append(out.clamp(-clamp, clamp))
    return torch.cat(outputs)


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("impl", ["fused", "unfused"])
@pytest.mark.parametrize(("gain", "clamp"), [(1.0, 256.0), (0.5**0.5, 1.0)])
def test_a_synthesis_layer_equals_the_formulas(
    up: bool, demodulate: bool, impl: str, gain: float, clamp: float
):
    torch.manual_seed(0)
    layer = SynthesisLayer(
        5,
        Level(8, 12, 8, 4, False) if up else Level(4, 6, 4, 4, False),
        StyleSpec("vector", 6),
        modulation="weight_demod",
        options={"impl": impl, "demodulate": demodulate},
        up=up,
        gain=gain,
        conv_clamp=clamp,
    ).double()
    nn.init.normal_(layer.bias)
    nn.init.normal_(layer.modulation.affine.bias)  # type: ignore[union-attr, arg-type]
    nn.init.constant_(layer.noise_strength, 0.3)  # type: ignore[arg-type]
    x, w = draw(3, 5, 4, 6), draw(3, 6, seed=1)
    noise = draw(3, 1, *layer.noise_const.shape, seed=2)
    expected = layer_reference(
        x,
        w,
        layer.state_dict(),
        up=up,
        demodulate=demodulate,
        noise=noise,
        gain=gain,
        clamp=clamp * gain,
    )
    out = layer(x, w, noise)
    assert out.shape == (3, 4, *layer.noise_const.shape)
    # The 1e-8 is added to a sum over weights with their gain here, and without it there.
    torch.testing.assert_close(out, expected, rtol=1e-6, atol=1e-6)
    assert (out.abs() == clamp * gain).any() == (clamp == 1.0)


def test_modulating_after_the_upsampling_changes_the_outermost_pixels_only_where_nothing_is_modulated():
    torch.manual_seed(0)
    layers = [
        SynthesisLayer(
            3,
            Level(8, 8, 8, 4, False),
            StyleSpec("vector", 6),
            modulation="weight_demod",
            options={},
            up=True,
            modulate_after_upsampling=after,
        ).double()
        for after in (False, True)
    ]
    layers[1].load_state_dict(layers[0].state_dict())
    before, after = (layer(draw(2, 3, 4, 4), draw(2, 6, seed=1)) for layer in layers)
    inner = (..., slice(1, -1), slice(1, -1))
    torch.testing.assert_close(after[inner], before[inner], rtol=1e-10, atol=1e-10)
    assert not torch.allclose(after, before)


def test_modulation_sees_the_upsampled_image_when_asked_to():
    layer = ModulatedConv2d(
        StaticConv2d(3, 2), WeightDemod(3, StyleSpec("vector", 4)), resample_first=Upsample2x()
    )
    seen = []
    layer.modulation.modulate = lambda x, params: seen.append(x) or x  # type: ignore[assignment, func-returns-value]
    x = torch.randn(1, 3, 4, 5)
    assert layer(x, torch.randn(1, 4)).shape == (1, 2, 8, 10)
    assert torch.equal(seen[0], Upsample2x()(x))


def test_the_activation_with_gain_and_clamp():
    activation = ScaledReLU(0.2, gain=3.0, clamp=4.0)
    x = torch.tensor([-10.0, -1.0, 0.5, 2.0])
    torch.testing.assert_close(activation(x), torch.tensor([-4.0, -0.6, 1.5, 4.0]))
    torch.testing.assert_close(x, torch.tensor([-10.0, -1.0, 0.5, 2.0]))  # the input is left alone
    torch.testing.assert_close(ScaledReLU(0.2)(x), F.leaky_relu(x, 0.2) * (2 / 1.04) ** 0.5)


def test_the_activation_is_differentiable_twice_where_it_clamps_too():
    x = torch.tensor([-9.0, -1.0, 0.5, 2.0], dtype=torch.float64, requires_grad=True)
    activation = ScaledReLU(0.2, gain=3.0, clamp=4.0)
    (gradient,) = torch.autograd.grad(activation(x).sum(), x)
    assert gradient.tolist() == pytest.approx([0, 0.6, 3, 0])

    def square(x: Tensor) -> Tensor:
        return activation(x).square()

    assert torch.autograd.gradcheck(square, x)
    assert torch.autograd.gradgradcheck(square, x)


@pytest.mark.parametrize("clamp", [None, 1.5])
def test_a_modulated_layer_folds_the_gain_without_changing_the_result(clamp: float | None):
    torch.manual_seed(0)
    activation = ScaledReLU(0.2, gain=1.7, clamp=clamp)
    layer = ModulatedConv2d(
        StaticConv2d(3, 4),
        WeightDemod(3, StyleSpec("vector", 5)),
        activation=activation,
        noise=True,
    ).double()
    nn.init.normal_(layer.bias)
    nn.init.constant_(layer.noise_strength, 0.4)  # type: ignore[arg-type]
    x, style, noise = draw(2, 3, 5, 4), draw(2, 5, seed=1), draw(2, 1, 5, 4, seed=2)
    bare = layer.modulation.convolve(x, layer.conv, layer.predict(style))  # type: ignore[operator]
    expected = activation(bare + 0.4 * noise + layer.bias[:, None, None])
    torch.testing.assert_close(layer(x, style, noise), expected, rtol=1e-12, atol=1e-12)


def test_a_discriminator_layer_equals_the_formulas():
    torch.manual_seed(0)
    conv = Conv2d(3, 4, activation=ScaledReLU(0.2, gain=1.3, clamp=2.0), conv=DownConv2d(3, 4)).double()
    nn.init.normal_(conv.bias)
    x = draw(2, 3, 6, 8)
    out = F.conv2d(blur(F.pad(x, (2, 2, 2, 2)), 1), conv.conv.weight / 27**0.5, conv.bias, stride=2)
    out = (torch.where(out > 0, out, 0.2 * out) * 1.3).clamp(-2, 2)
    torch.testing.assert_close(conv(x), out, rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match=r"weight \[4, 3, 3, 3\], expected \[4, 2, 3, 3\]"):
        Conv2d(2, 4, conv=DownConv2d(3, 4))


def test_the_learning_rate_multiplier_leaves_the_layer_alone_and_scales_its_step():
    torch.manual_seed(0)
    layer = EqualizedLinear(6, 4, lr_mul=0.01, bias_init=0.5).double()
    assert layer.weight.std().item() == pytest.approx(100, rel=0.3)
    torch.testing.assert_close(layer.bias * 0.01, torch.full((4,), 0.5).double())
    x = draw(3, 6)
    expected = x @ (layer.weight * 0.01 / 6**0.5).t() + 0.01 * layer.bias
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)
    # One step of the same size in the stored weight moves the output lr_mul times as far.
    plain = EqualizedLinear(6, 4).double()
    with torch.no_grad():
        moved = [after.clone() for after in (layer(x), plain(x))]
        for each in (layer, plain):
            each.weight += 1
        steps = [each(x) - before for each, before in zip((layer, plain), moved, strict=True)]
    torch.testing.assert_close(steps[0], 0.01 * steps[1], rtol=1e-6, atol=1e-9)


def mbstd_reference(x: Tensor, group_size: int, num_channels: int) -> Tensor:
    """Karras et al. 2018, section 3, group by group and feature by feature."""
    n, channels = x.shape[:2]
    maps = torch.zeros(n, num_channels, *x.shape[2:], dtype=x.dtype)
    per_map = channels // num_channels
    for start in range(0, n, group_size):
        group = x[start : start + group_size]
        for f in range(num_channels):
            part = group[:, f * per_map : (f + 1) * per_map]
            deviation = ((part - part.mean(dim=0)) ** 2).mean(dim=0).add(1e-8).sqrt()
            maps[start : start + group_size, f] = deviation.mean()
    return torch.cat([x, maps], dim=1)


@pytest.mark.parametrize(
    ("n", "group_size", "num_channels"), [(4, 4, 1), (8, 4, 1), (6, 2, 3), (3, 4, 1), (2, 1, 2)]
)
def test_minibatch_deviation_equals_the_formula(n: int, group_size: int, num_channels: int):
    x = draw(n, 6, 3, 2)
    out = minibatch_std(x, group_size=group_size, num_channels=num_channels)
    expected = mbstd_reference(x, min(group_size, n), num_channels)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)


def test_minibatch_deviation_by_hand():
    """Two samples 2 and 4: deviation 1. Consecutive samples form a group, whatever else is in the batch."""
    x = torch.tensor([2.0, 4.0, 0.0, 0.0]).reshape(4, 1, 1, 1)
    out = minibatch_std(x, group_size=2)
    torch.testing.assert_close(out[:, 1].flatten(), torch.tensor([1.0, 1.0, 1e-4, 1e-4]))
    torch.testing.assert_close(out[:2], minibatch_std(x[:2], group_size=2))


def test_a_batch_that_does_not_group_is_told_what_would():
    with pytest.raises(ValueError, match="batch of 6 does not divide") as error:
        minibatch_std(torch.zeros(6, 2, 2, 2), group_size=4)
    assert str(error.value).endswith("groups of 4: use a batch of 4 or 8, or a group size of 1, 2, 3")


def test_minibatch_deviation_is_differentiable_twice():
    x = draw(4, 2, 2, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: minibatch_std(x, group_size=2), x)
    assert torch.autograd.gradgradcheck(lambda x: minibatch_std(x, group_size=2), x)
