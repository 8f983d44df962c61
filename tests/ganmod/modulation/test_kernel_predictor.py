"""If this fails, AdaConv's kernels have wrong shapes, start far from the identity, or ignore the style."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ganmod.modulation import AdaConv, AdaConvParams, AdaIN, StyleSpec
from ganmod.modulation.adaconv import largest_group_size
from ganmod.modulation.fast import compose_kernels
from ganmod.modulation.functional import Normalize
from ganmod.modulation.kernel_predictor import KernelPredictor

CHANNELS, DIM = 4, 3


def build(kernel_size: int, size: int, *, group_size: int = 2, residual_gain: float = 0.1) -> KernelPredictor:
    torch.manual_seed(0)
    return KernelPredictor(
        CHANNELS,
        StyleSpec("map", DIM, size=size),
        kernel_size=kernel_size,
        group_size=group_size,
        residual_gain=residual_gain,
    ).double()


def silence(predictor: KernelPredictor) -> None:
    """Set every weight and bias to zero, which leaves the identity."""
    with torch.no_grad():
        for parameter in predictor.parameters():
            parameter.zero_()


def delta_kernels(kernel_size: int, group_size: int) -> Tensor:
    """[C,C/g,K,K] that leaves an image unchanged, entry by entry."""
    kernel = torch.zeros(CHANNELS, group_size, kernel_size, kernel_size).double()
    for channel in range(CHANNELS):
        kernel[channel, channel % group_size, kernel_size // 2, kernel_size // 2] = 1
    return kernel


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("group_size", [1, 2, 4])
def test_any_descriptor_gives_kernels_of_any_size(kernel_size: int, size: int, group_size: int):
    predictor = build(kernel_size, size, group_size=group_size)
    depthwise, pointwise, bias = predictor(torch.randn(2, DIM, size, size).double())
    assert depthwise.shape == (2, CHANNELS, group_size, kernel_size, kernel_size)
    assert pointwise.shape == (2, CHANNELS, group_size, 1, 1)
    assert bias.shape == (2, CHANNELS)
    silence(predictor)
    depthwise, pointwise, bias = predictor(torch.randn(2, DIM, size, size).double())
    assert torch.equal(depthwise, delta_kernels(kernel_size, group_size).expand_as(depthwise))
    assert torch.equal(pointwise, delta_kernels(1, group_size).expand_as(pointwise))
    assert torch.equal(bias, torch.zeros(2, CHANNELS).double())


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_a_vector_is_a_descriptor_of_one_position(kernel_size: int):
    vector, as_map = (
        KernelPredictor(CHANNELS, spec, kernel_size=kernel_size, group_size=2, residual_gain=0.1)
        for spec in (StyleSpec("vector", DIM), StyleSpec("map", DIM, size=1))
    )
    as_map.load_state_dict(vector.state_dict())
    style = torch.randn(2, DIM)
    torch.testing.assert_close(vector(style), as_map(style[:, :, None, None]))


def test_without_residual_adaconv_is_the_normalisation_alone():
    torch.manual_seed(0)
    x, style = 3 * torch.randn(2, CHANNELS, 6, 7).double() + 1, torch.randn(2, DIM, 3, 3).double()
    for normalize, expected in (
        ("none", x),
        ("demod", x),
        ("instance", F.instance_norm(x)),
    ):
        modulation = AdaConv(CHANNELS, StyleSpec("map", DIM, size=3), normalize=normalize).double()  # type: ignore[arg-type]
        silence(modulation.kernel_predictor)
        torch.testing.assert_close(
            modulation.modulate(x, modulation.predict(style)), expected, rtol=1e-7, atol=1e-7
        )


def test_one_style_position_stamps_one_kernel():
    """S < K: a transposed convolution lays the weight down where the descriptor is not zero."""
    predictor = build(3, 2)
    silence(predictor)
    stamp = torch.randn(CHANNELS * 2, 2, 2).double()
    with torch.no_grad():
        predictor.depthwise_weight[:, 1] = stamp
    for row in range(2):
        for column in range(2):
            style = torch.zeros(1, DIM, 2, 2).double()
            style[0, 1, row, column] = 5.0
            expected = torch.zeros(CHANNELS * 2, 3, 3).double()
            expected[:, row : row + 2, column : column + 2] = 5.0 * stamp / (DIM * 4) ** 0.5
            residual = predictor(style)[0] - delta_kernels(3, 2)
            torch.testing.assert_close(residual.reshape(CHANNELS * 2, 3, 3), expected, rtol=1e-12, atol=1e-12)


def test_a_descriptor_as_large_as_the_kernel_is_convolved_in_place():
    """S = K: with a weight of one central tap the kernel is the descriptor, turned neither way."""
    predictor = build(3, 3)
    silence(predictor)
    with torch.no_grad():
        predictor.depthwise_weight[:, 2, 1, 1] = 1.0
    style = torch.randn(2, DIM, 3, 3).double()
    expected = style[:, 2, None, None] / (DIM * 9) ** 0.5 + delta_kernels(3, 2)
    torch.testing.assert_close(predictor(style)[0], expected, rtol=1e-12, atol=1e-12)


def test_turning_the_descriptor_turns_the_kernels():
    predictor = build(3, 3)
    weight = predictor.depthwise_weight.detach()
    with torch.no_grad():  # a weight that looks the same from every side
        predictor.depthwise_weight.copy_(
            torch.stack([torch.rot90(weight, k, (2, 3)) for k in range(4)]).sum(0)
        )
    style = torch.randn(1, DIM, 3, 3).double()
    kernels, turned = predictor(style)[0], predictor(torch.rot90(style, 1, (2, 3)))[0]
    assert (kernels - turned).abs().max() > 0.01
    torch.testing.assert_close(turned, torch.rot90(kernels, 1, (3, 4)), rtol=1e-12, atol=1e-12)


def test_the_bias_of_the_depthwise_head_can_hold_any_kernel():
    predictor = build(3, 3)
    silence(predictor)
    wanted = torch.randn(CHANNELS, 2, 3, 3).double()
    with torch.no_grad():
        predictor.depthwise_bias.copy_(wanted - delta_kernels(3, 2))
    torch.testing.assert_close(predictor(torch.randn(1, DIM, 3, 3).double())[0][0], wanted)


def test_residuals_are_linear_in_the_style():
    predictor = build(3, 2)
    identity = (delta_kernels(3, 2), delta_kernels(1, 2), torch.zeros(CHANNELS).double())
    a, b = torch.randn(2, 1, DIM, 2, 2).double()
    for part, fixed in enumerate(identity):
        left, right, mixed = (predictor(s)[part] - fixed for s in (a, b, 0.3 * a + 2 * b))
        torch.testing.assert_close(mixed, 0.3 * left + 2 * right, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("group_size", [1, 4, 64])
@pytest.mark.parametrize(("kernel_size", "size"), [(3, 1), (3, 3), (3, 2), (5, 3), (1, 3)])
def test_kernels_start_near_the_identity_at_any_size(kernel_size: int, size: int, group_size: int):
    """On white noise the two kernels and the bias each add a deviation near residual_gain, or less."""
    torch.manual_seed(0)
    gain = 0.1
    style_spec = StyleSpec("map", 128, size=size)
    predictor = KernelPredictor(
        64, style_spec, kernel_size=kernel_size, group_size=group_size, residual_gain=gain
    )
    depthwise, pointwise, bias = predictor(torch.randn(4, 128, size, size))
    identity = F.pad(predictor.identity[..., None, None], (kernel_size // 2,) * 4)
    residual = compose_kernels(depthwise, pointwise) - identity  # [N,C,C/g,K,K]
    disturbance = residual.square().sum(dim=(2, 3, 4)).mean().sqrt().item()  # what it makes of white noise
    assert 0.5 * gain < disturbance < 2 * gain
    assert 0.2 * gain < bias.std().item() < 1.2 * gain


def test_the_default_budget_gives_the_known_schedule_of_groups():
    groups = []
    for channels in (512, 256, 128, 64):
        modulation = AdaConv(channels, StyleSpec("vector", 2, host_width=512))
        depthwise, pointwise, _ = modulation.predict(torch.zeros(1, 2))
        assert depthwise.shape[2] == pointwise.shape[2]
        groups.append(channels // depthwise.shape[2])
    assert groups == [512, 128, 32, 8]


@pytest.mark.parametrize(
    ("channels", "budget", "expected"),
    [
        (64, 64, 1),
        (64, 512, 8),
        (96, 512, 4),  # 512 / 96 = 5.3; 5 does not divide 96
        (48, 512, 8),  # 10.7; 10 and 9 do not divide 48
        (7, 512, 7),
        (7, 42, 1),
        (512, 64, 1),  # less than one channel a group
        (4, 10**9, 4),
        (1, 1, 1),
    ],
)
def test_groups_hold_the_largest_divisor_within_the_budget(channels: int, budget: int, expected: int):
    assert largest_group_size(channels, budget) == expected


def test_without_a_host_width_a_group_holds_one_channel():
    assert AdaConv(8, StyleSpec("vector", 2)).predict(torch.zeros(1, 2)).depthwise.shape == (1, 8, 1, 3, 3)
    four = AdaConv(8, StyleSpec("vector", 2), kernel_budget=32).predict(torch.zeros(1, 2))
    assert four.depthwise.shape == (1, 8, 4, 3, 3)


def test_adaconv_of_single_taps_is_adain_weight_for_weight():
    """AdaIN is AdaConv with kernels of one element and groups of one channel (Chandran et al. 2021)."""
    torch.manual_seed(0)
    spec = StyleSpec("vector", 6)
    adain = AdaIN(CHANNELS, spec).double()
    adaconv = AdaConv(CHANNELS, spec, kernel_size=1).double()
    predictor = adaconv.kernel_predictor
    silence(predictor)
    with torch.no_grad():
        centre = predictor.depthwise_weight.shape[-1] // 2
        predictor.depthwise_weight[:, :, centre, centre] = adain.affine.weight[:CHANNELS]
        predictor.bias.weight.copy_(adain.affine.weight[CHANNELS:])
    x, style = 2 * torch.randn(3, CHANNELS, 5, 6).double() + 1, torch.randn(3, 6).double()
    expected = adain.modulate(x, adain.predict(style))
    torch.testing.assert_close(adaconv.modulate(x, adaconv.predict(style)), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("group_size", [1, 2, 4])
def test_delta_kernels_of_any_size_are_adain_too(group_size: int):
    torch.manual_seed(0)
    x, scale, shift = (
        torch.randn(2, CHANNELS, 5, 6).double(),
        torch.randn(2, CHANNELS).double(),
        torch.randn(2, CHANNELS),
    )
    shift = shift.double()
    modulation = AdaConv(CHANNELS, StyleSpec("vector", 2), kernel_budget=CHANNELS * group_size).double()
    depthwise = delta_kernels(3, group_size) * scale[:, :, None, None, None]
    params = AdaConvParams(depthwise, delta_kernels(1, group_size).expand(2, -1, -1, -1, -1), shift)
    adain = AdaIN(CHANNELS, StyleSpec("vector", 2)).double()
    expected = adain.modulate(x, type(adain.predict(torch.zeros(2, 2).double()))(scale, shift))
    torch.testing.assert_close(modulation.modulate(x, params), expected, rtol=1e-12, atol=1e-12)


def test_lr_mul_changes_the_step_but_not_the_start() -> None:
    style = torch.randn(2, DIM, 3, 3).double()
    predictors = []
    for lr_mul in (1.0, 0.25):
        torch.manual_seed(0)
        spec = StyleSpec("map", DIM, size=3)
        predictors.append(
            KernelPredictor(
                CHANNELS, spec, kernel_size=3, group_size=2, residual_gain=0.1, lr_mul=lr_mul
            ).double()
        )
    before = [predictor(style) for predictor in predictors]
    for one, other in zip(*before, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)
    with torch.no_grad():
        for predictor in predictors:
            for parameter in predictor.parameters():
                parameter += 0.01  # as an optimizer step of the same length does
    steps = [
        [after - start for after, start in zip(predictor(style), outputs, strict=True)]
        for predictor, outputs in zip(predictors, before, strict=True)
    ]
    for one, other in zip(*steps, strict=True):
        torch.testing.assert_close(0.25 * one, other, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("rank", [None, 2])
def test_kernels_of_zero_sum_pass_constants_as_the_identity(rank: int | None) -> None:
    """[N,C,C/g,K,K] sums over the taps to the identity of each group; nothing else changes."""
    torch.manual_seed(0)
    spec = StyleSpec("vector", DIM, host_width=8)
    layer = AdaConv(CHANNELS, spec, zero_sum=True, residual_gain=3.0, rank=rank).double()
    with torch.no_grad():
        layer.kernel_predictor.depthwise_bias.normal_()
    style = torch.randn(2, DIM).double()
    params = layer.predict(style)
    sums = params.depthwise.sum(dim=(3, 4))
    torch.testing.assert_close(sums, layer.kernel_predictor.identity.double().expand_as(sums))
    plain = AdaConv(CHANNELS, spec, residual_gain=3.0, rank=rank).double()
    plain.load_state_dict(layer.state_dict())
    free = plain.predict(style)
    torch.testing.assert_close(params.pointwise, free.pointwise)
    difference = params.depthwise - free.depthwise
    torch.testing.assert_close(difference, difference.mean(dim=(3, 4), keepdim=True).expand_as(difference))
    with pytest.raises(ValueError, match="zero_sum is true and kernel_size 1"):
        AdaConv(CHANNELS, spec, zero_sum=True, kernel_size=1)


@pytest.mark.parametrize("normalize", ["instance", "none", "demod"])
def test_a_gate_starts_with_identity_kernels_and_opens_channel_by_channel(normalize: Normalize) -> None:
    torch.manual_seed(0)
    spec = StyleSpec("vector", DIM, host_width=8)
    gated = AdaConv(CHANNELS, spec, normalize=normalize, gate=True).double()
    style = torch.randn(2, DIM).double()
    depthwise, pointwise, bias = gated.predict(style)
    assert torch.equal(depthwise, delta_kernels(3, 2).expand_as(depthwise))
    assert torch.equal(pointwise, delta_kernels(1, 2).expand_as(pointwise))
    assert bias.std() > 0  # the style has an effect from the start

    plain = AdaConv(CHANNELS, spec, normalize=normalize).double()
    gate = gated.kernel_predictor.gate
    assert gate is not None
    plain.load_state_dict({k: v for k, v in gated.state_dict().items() if k != "kernel_predictor.gate"})
    with torch.no_grad():
        gate.copy_(torch.tensor([1.0, 0.5, 0.0, 1.0]))
    for part, fixed in enumerate((delta_kernels(3, 2), delta_kernels(1, 2))):
        residual, ungated = gated.predict(style)[part] - fixed, plain.predict(style)[part] - fixed
        for channel, factor in enumerate(gate.tolist()):
            torch.testing.assert_close(residual[:, channel], factor * ungated[:, channel])


def test_a_gate_of_zero_gets_a_gradient() -> None:
    torch.manual_seed(0)
    gated = AdaConv(CHANNELS, StyleSpec("vector", DIM, host_width=8), gate=True).double()
    x, style = torch.randn(2, CHANNELS, 6, 7).double(), torch.randn(2, DIM).double()
    (gated.modulate(x, gated.predict(style)) * torch.randn(x.shape).double()).sum().backward()
    gate = gated.kernel_predictor.gate
    assert gate is not None
    assert gate.grad is not None
    assert (gate.grad != 0).all()


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("size", [1, 3])
def test_of_low_rank_the_depthwise_residuals_span_that_many_dimensions(size: int, rank: int) -> None:
    torch.manual_seed(0)
    spec = StyleSpec("map", 16, size=size)
    predictor = KernelPredictor(
        CHANNELS, spec, kernel_size=3, group_size=2, residual_gain=0.1, rank=rank
    ).double()
    depthwise, pointwise, _ = predictor(torch.randn(20, 16, size, size).double())
    residual = (depthwise - delta_kernels(3, 2)).flatten(1)
    assert torch.linalg.matrix_rank(residual) == rank
    assert torch.linalg.matrix_rank((pointwise - delta_kernels(1, 2)).flatten(1)) == CHANNELS * 2


def test_low_rank_kernels_start_as_near_the_identity() -> None:
    torch.manual_seed(0)
    residuals = []
    for rank in (None, 1, 8):
        predictor = KernelPredictor(
            64, StyleSpec("vector", 128), kernel_size=3, group_size=4, residual_gain=0.1, rank=rank
        )
        depthwise = predictor(torch.randn(500, 128))[0]
        identity = F.pad(predictor.identity[..., None, None], (1,) * 4)
        residuals.append((depthwise - identity).square().mean().sqrt().item())
    assert residuals[1:] == pytest.approx([residuals[0]] * 2, rel=0.1)


@pytest.mark.parametrize("options", [{"rank": 2}, {"gate": True}])
def test_folded_gains_leave_the_kernels_of_options_alone(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    modulation = AdaConv(CHANNELS, StyleSpec("vector", DIM, host_width=8), lr_mul=0.5, **options).double()
    style = torch.randn(2, DIM).double()
    before = modulation.predict(style)
    modulation.use_plain_gains()
    for one, other in zip(before, modulation.predict(style), strict=True):
        torch.testing.assert_close(one, other)


def test_a_rank_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="rank is 0, expected a whole number from 1 on, or None"):
        AdaConv(CHANNELS, StyleSpec("vector", DIM), rank=0)
