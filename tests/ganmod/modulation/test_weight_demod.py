"""If this fails, weight demodulation is not StyleGAN2's, or its fused and unfused forms differ."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganmod.layers import StaticConv2d
from ganmod.modulation import ModulatedConv2d, StyleSpec, WeightDemod, WeightDemodParams
from ganmod.modulation.fast import demodulation
from ganmod.modulation.functional import weight_demod

CHANNELS, OUT_CHANNELS = 5, 4
SPEC = StyleSpec("vector", 6)


def reference(
    x: Tensor, weight: Tensor, scale: Tensor, *, demodulate: bool, eps: float, padding: int
) -> Tensor:
    """Karras et al. 2020, Eq. 1 and 3: w'_oik = s_i w_oik, then w'_oik / sqrt(sum_ik w'^2 + eps)."""
    outputs = []
    for sample, s in zip(x, scale, strict=True):
        per_sample = torch.empty_like(weight)
        for o in range(weight.shape[0]):
            for i in range(weight.shape[1]):
                per_sample[o, i] = s[i] * weight[o, i]
            if demodulate:
                per_sample[o] /= (per_sample[o] ** 2).sum().add(eps).sqrt()
        outputs.append(F.conv2d(sample[None], per_sample, padding=padding))
    return torch.cat(outputs)


def build(impl: str, *, demodulate: bool = True, conv: StaticConv2d | None = None) -> ModulatedConv2d:
    torch.manual_seed(0)
    conv = conv or StaticConv2d(CHANNELS, OUT_CHANNELS)
    return ModulatedConv2d(conv, WeightDemod(CHANNELS, SPEC, impl=impl, demodulate=demodulate))  # type: ignore[arg-type]


def test_the_formula_is_the_papers() -> None:
    """Entry by entry, in float64."""
    torch.manual_seed(1)
    x, weight = torch.randn(2, CHANNELS, 6, 7).double(), torch.randn(OUT_CHANNELS, CHANNELS, 3, 3).double()
    scale = torch.randn(2, CHANNELS).double()
    expected = reference(x, weight, scale, demodulate=True, eps=1e-8, padding=1)
    torch.testing.assert_close(weight_demod(x, weight, scale), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("kernel_size", [1, 3])
@pytest.mark.parametrize("impl", ["fused", "unfused"])
def test_both_forms_equal_the_formula_in_float64(impl: str, kernel_size: int, demodulate: bool):
    torch.manual_seed(1)
    conv = StaticConv2d(CHANNELS, OUT_CHANNELS, kernel_size)
    layer = build(impl, demodulate=demodulate, conv=conv).double()
    x, scale = torch.randn(3, CHANNELS, 6, 7).double(), torch.randn(3, CHANNELS).double()
    weight = conv.weight.detach() / (CHANNELS * kernel_size**2) ** 0.5
    expected = reference(x, weight, scale, demodulate=demodulate, eps=1e-8, padding=kernel_size // 2)
    torch.testing.assert_close(
        layer.apply_params(x, WeightDemodParams(scale)), expected, rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("padding_mode", ["zeros", "reflect"])
@pytest.mark.parametrize("resample", [None, nn.Upsample(scale_factor=2), nn.AvgPool2d(2)])
def test_fused_equals_unfused_with_padding_and_resampling(padding_mode: str, resample: nn.Module | None):
    torch.manual_seed(1)
    conv = StaticConv2d(CHANNELS, OUT_CHANNELS, padding_mode=padding_mode, resample=resample)  # type: ignore[arg-type]
    fused, unfused = (build(impl, conv=conv).double() for impl in ("fused", "unfused"))
    x, style = torch.randn(3, CHANNELS, 6, 8).double(), torch.randn(3, 6).double()
    torch.testing.assert_close(fused(x, style), unfused(x, style), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("impl", ["fused", "unfused"])
def test_float32_is_near_the_formula(impl: str):
    torch.manual_seed(1)
    layer = build(impl)
    x, scale = torch.randn(2, CHANNELS, 6, 7), torch.randn(2, CHANNELS)
    weight = layer.conv.scaled_weight.detach().double()
    expected = reference(x.double(), weight, scale.double(), demodulate=True, eps=1e-8, padding=1)
    out = layer.apply_params(x, WeightDemodParams(scale))
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-5)


def test_demodulation_of_equal_weights_in_closed_form():
    weight, scale = (
        torch.full((2, 3, 3, 3), 0.5).double(),
        torch.tensor([[1.0, 1.0, 1.0], [2.0, 0.0, 1.0]]).double(),
    )
    expected = torch.tensor([[(27 * 0.25) ** -0.5] * 2, [((4 + 0 + 1) * 9 * 0.25) ** -0.5] * 2]).double()
    torch.testing.assert_close(demodulation(weight, scale), expected, rtol=1e-7, atol=0)


@pytest.mark.parametrize("spread", [0.1, 1.0, 3.0])
def test_unit_noise_comes_out_with_unit_deviation_whatever_the_style(spread: float):
    torch.manual_seed(0)
    conv = StaticConv2d(64, 64)
    layer = ModulatedConv2d(conv, WeightDemod(64, SPEC))
    scale = 1 + spread * torch.randn(2, 64)
    out = layer.apply_params(torch.randn(2, 64, 32, 32), WeightDemodParams(scale))
    inner = out[:, :, 1:-1, 1:-1]  # zero padding lowers the rim
    assert inner.std(dim=(1, 2, 3)).sub(1).abs().max() < 0.05
    assert inner.square().mean(dim=(2, 3)).sqrt().sub(1).abs().max() < 0.25


def test_the_output_does_not_depend_on_the_size_of_scale_or_gain():
    torch.manual_seed(0)
    layer = build("unfused").double()
    x, scale = torch.randn(2, CHANNELS, 6, 6).double(), torch.randn(2, CHANNELS).double()
    expected = layer.apply_params(x, WeightDemodParams(scale))
    torch.testing.assert_close(
        layer.apply_params(x, WeightDemodParams(7 * scale)), expected, rtol=1e-6, atol=1e-6
    )
    layer.conv.gain *= 7
    torch.testing.assert_close(
        layer.apply_params(x, WeightDemodParams(scale)), expected, rtol=1e-6, atol=1e-6
    )

    plain = build("unfused", demodulate=False, conv=layer.conv).double()
    once = plain.apply_params(x, WeightDemodParams(scale))
    torch.testing.assert_close(
        plain.apply_params(x, WeightDemodParams(7 * scale)), 7 * once, rtol=1e-10, atol=1e-10
    )


def test_a_scale_of_zero_gives_zero_and_finite_gradients():
    layer = build("unfused")
    scale = torch.zeros(1, CHANNELS, requires_grad=True)
    out = layer.apply_params(torch.randn(1, CHANNELS, 6, 6), WeightDemodParams(scale))
    assert out.abs().max() == 0
    out.sum().backward()
    assert scale.grad is not None
    assert scale.grad.isfinite().all()


def test_the_scale_starts_around_one_and_is_linear_in_the_style():
    torch.manual_seed(0)
    modulation = WeightDemod(256, StyleSpec("vector", 64)).double()
    styles = torch.randn(200, 64).double()
    (scale,) = modulation.predict(styles)
    assert abs(scale.mean().item() - 1) < 0.02
    assert abs(scale.std().item() - 1) < 0.05
    (zero,) = modulation.predict(torch.zeros(1, 64).double())
    assert torch.equal(zero, torch.ones(1, 256).double())
    (double,) = modulation.predict(2 * styles)
    torch.testing.assert_close(double - 1, 2 * (scale - 1), rtol=1e-10, atol=1e-10)


def test_a_map_is_read_as_its_spatial_mean():
    torch.manual_seed(0)
    vector, as_map = WeightDemod(3, StyleSpec("vector", 6)), WeightDemod(3, StyleSpec("map", 6, size=4))
    as_map.load_state_dict(vector.state_dict())
    style = torch.randn(2, 6, 4, 4)
    torch.testing.assert_close(as_map.predict(style).scale, vector.predict(style.mean(dim=(2, 3))).scale)


@pytest.mark.parametrize("impl", ["fused", "unfused"])
def test_styles_beyond_float16_do_not_overflow(impl: str):
    layer = build(impl)
    x, scale = torch.randn(2, CHANNELS, 6, 6) * 100, torch.randn(2, CHANNELS) * 1e5
    with torch.autocast("cpu", torch.float16):
        half = layer.apply_params(x.half(), WeightDemodParams(scale))
    assert half.dtype == torch.float16
    expected = layer.apply_params(x, WeightDemodParams(scale))
    torch.testing.assert_close(half.float(), expected, rtol=1e-2, atol=0.5)


def rounding_error(dtype: torch.dtype) -> float:
    """Relative rms error of one rounding of numbers x spread evenly over [1, 2).

    The errors are uniform in +-step / 2, of deviation step / sqrt(12), and the mean of 1 / x^2 is 1 / 2.
    """
    return torch.finfo(dtype).eps / 24**0.5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_coefficients_under_autocast_are_formed_in_float32_and_rounded_once(dtype: torch.dtype):
    torch.manual_seed(0)
    weight, scale = torch.randn(256, 128, 3, 3) / 128**0.5, 1 + torch.randn(8, 128)
    exact = demodulation(weight.double(), scale.double())
    with torch.autocast("cpu", dtype):
        coefficients = demodulation(weight, scale)
    assert coefficients.dtype == torch.float32
    assert torch.equal(coefficients, demodulation(weight, scale))
    assert (coefficients / exact - 1).abs().max() < 1e-6
    error = (coefficients.to(dtype) / exact - 1).square().mean().sqrt()  # 1.5e-3 in bfloat16
    assert error < 1.02 * rounding_error(dtype)
    half = demodulation(weight.to(dtype), scale.to(dtype))  # a network in half precision
    expected = demodulation(weight.to(dtype).double(), scale.to(dtype).double())
    torch.testing.assert_close(half.double(), expected, rtol=1e-6, atol=0)


def test_a_fused_weight_in_bfloat16_is_rounded_once():
    """Its relative error is that of one rounding, so the output's is: two roundings give sqrt(2) times it."""
    torch.manual_seed(0)
    layer = ModulatedConv2d(StaticConv2d(128, 128), WeightDemod(128, SPEC, impl="fused"))
    x, scale = torch.randn(2, 128, 8, 8).bfloat16(), 1 + torch.randn(2, 128)
    weight = layer.conv.scaled_weight.detach().double()
    expected = weight_demod(x.double(), weight, scale.double())
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        error = layer.apply_params(x, WeightDemodParams(scale)) - expected
    # The weight's rounding and that of the output: independent, each of one step.
    both = 2**0.5 * rounding_error(torch.bfloat16)
    assert (error.square().mean() / expected.square().mean()).sqrt() < 1.1 * both


@pytest.mark.parametrize("impl", ["fused", "unfused"])
@pytest.mark.parametrize("style", [1e-3, 1.0, 1e5])
@pytest.mark.parametrize("weight", [1e-2, 1.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_equal_weights_and_styles_give_sqrt_of_channels_times_x_in_float16(
    dtype: torch.dtype, weight: float, style: float, impl: str
):
    """C s w x / sqrt(C (s w)^2) = sqrt(C) x: exactly 200 for C = 4 and x = 100, whatever s and w are."""
    conv = StaticConv2d(4, 2, kernel_size=1)
    torch.nn.init.constant_(conv.weight, weight)
    layer = ModulatedConv2d(conv, WeightDemod(4, SPEC, impl=impl))  # type: ignore[arg-type]
    x, scale = torch.full((1, 4, 3, 3), 100.0, dtype=dtype), torch.full((1, 4), style)
    with torch.autocast("cpu", torch.float16):
        out = layer.apply_params(x, WeightDemodParams(scale))
    assert out.dtype == torch.float16
    assert torch.equal(out.float(), torch.full((1, 2, 3, 3), 200.0))
