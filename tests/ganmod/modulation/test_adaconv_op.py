"""If this fails, AdaConv no longer computes p * (f * norm(x)) + b, so no trained model gives its picture."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ganmod.modulation.fast import compose_kernels, fast_adaconv
from ganmod.modulation.functional import Normalize, adaconv, adain
from ganmod.modulation.per_sample_conv import ConvImpl

IMPLS: tuple[ConvImpl, ...] = ("auto", "loop", "grouped", "samples", "chunks", "unfold", "shifted", "matmul")
CHANNELS = 6


def inputs(group_size: int, size: int, *, n: int = 2, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """x, depthwise, pointwise, bias."""
    torch.manual_seed(0)
    c = CHANNELS
    shapes = [(n, c, 7, 6), (n, c, group_size, size, size), (n, c, group_size, 1, 1), (n, c)]
    x, *kernels = [torch.randn(shape, dtype=dtype) for shape in shapes]
    return [t.requires_grad_() for t in (2 * x + 0.7, *kernels)]


def results(out: Tensor, args: list[Tensor]) -> list[Tensor]:
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).reshape(out.shape)
    return [out, *torch.autograd.grad((out * weights).sum(), args)]


@pytest.mark.parametrize("normalize", ["instance", "none", "demod"])
@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("group_size", [1, 2, CHANNELS])
@pytest.mark.parametrize("impl", IMPLS)
def test_equals_the_formula(impl: ConvImpl, group_size: int, size: int, normalize: Normalize) -> None:
    args = inputs(group_size, size)
    got = results(fast_adaconv(*args, normalize=normalize, impl=impl), args)
    want = results(adaconv(*args, normalize=normalize), args)
    for g, w in zip(got, want, strict=True):
        torch.testing.assert_close(g, w, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("normalize", ["instance", "none", "demod"])
@pytest.mark.parametrize("impl", IMPLS)
def test_float32_keeps_four_digits(impl: ConvImpl, normalize: Normalize) -> None:
    args = inputs(2, 3)
    single = [t.detach().float().requires_grad_() for t in args]
    got = results(fast_adaconv(*single, normalize=normalize, impl=impl), single)
    want = results(adaconv(*args, normalize=normalize), args)
    for g, w in zip(got, want, strict=True):
        assert (g.double() - w).abs().max() <= 1e-4 * w.abs().max()


@pytest.mark.parametrize("impl", IMPLS)
def test_one_by_one_delta_kernels_are_adain(impl: ConvImpl) -> None:
    x, _, _, shift = inputs(1, 1)
    scale = torch.randn(2, CHANNELS, dtype=torch.float64)
    for group_size in (1, 2, CHANNELS):
        identity = torch.eye(group_size, dtype=torch.float64).repeat(CHANNELS // group_size, 1)  # [C,C/g]
        pointwise = identity.expand(2, -1, -1)[..., None, None]
        depthwise = pointwise * scale[:, :, None, None, None]
        got = fast_adaconv(x, depthwise, pointwise, shift, impl=impl)
        torch.testing.assert_close(got, adain(x, scale, shift), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("impl", IMPLS)
def test_first_and_second_derivatives(impl: ConvImpl) -> None:
    torch.manual_seed(0)
    shapes = [(2, 2, 3, 3), (2, 2, 2, 3, 3), (2, 2, 2, 1, 1), (2, 2)]
    args = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]

    def run(*tensors: Tensor) -> Tensor:
        return fast_adaconv(*tensors, eps=1e-2, impl=impl)

    assert torch.autograd.gradcheck(run, args, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, args, fast_mode=True)


def test_composed_kernel_is_the_product_of_both() -> None:
    _, depthwise, pointwise, _ = inputs(2, 3)
    got = compose_kernels(depthwise, pointwise)
    for o in range(CHANNELS):
        first = o - o % 2  # the group's first channel
        want = sum(pointwise[:, o, i][..., None] * depthwise[:, first + i] for i in range(2))
        torch.testing.assert_close(got[:, o], want, rtol=1e-12, atol=1e-12)


def test_a_constant_image_becomes_the_bias() -> None:
    x, depthwise, pointwise, bias = inputs(2, 3)
    out = fast_adaconv(torch.full_like(x, 3.0), depthwise, pointwise, bias)
    torch.testing.assert_close(out, bias[:, :, None, None].expand_as(out), rtol=0, atol=1e-12)


def test_demodulated_kernels_keep_unit_variance() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 8, 64, 64)
    f, p = 5 * torch.randn(2, 8, 4, 3, 3), torch.randn(2, 8, 4, 1, 1)
    out = fast_adaconv(x, f, p, torch.zeros(2, 8), normalize="demod")
    assert out.std(dim=(2, 3)).sub(1).abs().max() < 0.1


@pytest.mark.parametrize("impl", IMPLS)
def test_bfloat16_autocast_stays_within_its_rounding(impl: ConvImpl) -> None:
    args = [t.detach() for t in inputs(2, 3, dtype=torch.float32)]
    with torch.autocast("cpu", torch.bfloat16):
        got = fast_adaconv(*args, impl=impl)
    want = adaconv(*args)
    assert (got - want).abs().max() <= 0.03 * want.abs().max()


@pytest.mark.parametrize("size", [1.0, 300.0])
def test_demodulation_in_float16_squares_kernels_in_float32(size: float):
    """A single entry of `size` becomes 1: x itself. 300^2 is beyond float16."""
    x = torch.randn(1, 2, 4, 4).half()
    depthwise = torch.zeros(1, 2, 1, 3, 3)
    depthwise[..., 1, 1] = size
    with torch.autocast("cpu", torch.float16):
        out = fast_adaconv(x, depthwise, torch.ones(1, 2, 1, 1, 1), torch.zeros(1, 2), normalize="demod")
    assert torch.equal(out, x)
