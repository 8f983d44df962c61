"""If this fails, channel means and variances or their gradients are wrong, and all that normalises."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from ganmod.layers import reflect_pad
from ganmod.modulation.functional import adain
from ganmod.modulation.statistics import instance_norm, mean_variance


def image(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(0), dtype=dtype) * 2 + 3


def test_values_and_derivatives_are_those_of_var_mean() -> None:
    x = image().requires_grad_()
    var, mean = torch.var_mean(x, dim=(2, 3), correction=0, keepdim=True)
    got = mean_variance(x)
    torch.testing.assert_close(got, (mean, var), rtol=1e-12, atol=1e-12)
    want_grad, grad = (
        torch.autograd.grad((m.sin() * v.log()).sum(), x)[0] for m, v in ((mean, var), mean_variance(x))
    )
    torch.testing.assert_close(grad, want_grad, rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(mean_variance, [x])
    assert torch.autograd.gradgradcheck(mean_variance, [x])


def test_half_precision_sums_in_float32() -> None:
    x = image(torch.float32).repeat(1, 1, 40, 50).bfloat16().requires_grad_()
    mean, var = mean_variance(x)
    assert mean.dtype == var.dtype == torch.float32
    want_var, want_mean = torch.var_mean(x.double(), dim=(2, 3), correction=0, keepdim=True)
    torch.testing.assert_close(mean.double(), want_mean, rtol=1e-5, atol=0)
    torch.testing.assert_close(var.double(), want_var, rtol=1e-4, atol=0)
    assert torch.autograd.grad(var.sum(), x)[0].dtype == torch.bfloat16


def test_a_mean_far_above_the_deviation_loses_nothing() -> None:
    x = image().float() + 1000
    want = x.double().var(dim=(2, 3), correction=0, keepdim=True)
    torch.testing.assert_close(mean_variance(x)[1].double(), want, rtol=1e-4, atol=0)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("affine", [False, True])
def test_instance_norm_is_the_formula_in_every_layout(layout: torch.memory_format, affine: bool) -> None:
    x = image().contiguous(memory_format=layout).requires_grad_()
    scale, shift = torch.randn(2, 2, 3, dtype=torch.float64)
    var, mean = torch.var_mean(x, dim=(2, 3), correction=0, keepdim=True)
    want = (x - mean) / (var + 1e-5).sqrt()
    if affine:
        want = want * scale[:, :, None, None] + shift[:, :, None, None]
    got = instance_norm(x, *(scale, shift) if affine else (None, None))
    assert got.is_contiguous(memory_format=layout)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    grads = [torch.autograd.grad(y.sin().sum(), x)[0] for y in (got, want)]
    torch.testing.assert_close(*grads, rtol=1e-10, atol=1e-12)
    assert torch.autograd.gradgradcheck(lambda t: instance_norm(t, scale, shift), [x])


def test_one_pixel_becomes_the_shift() -> None:
    x, scale, shift = image()[:, :, :1, :1], *torch.randn(2, 2, 3, dtype=torch.float64)
    torch.testing.assert_close(instance_norm(x, scale, shift)[..., 0, 0], shift, rtol=0, atol=1e-12)


def test_function_transforms_reach_through() -> None:
    x = image()
    got = torch.func.vmap(lambda t: mean_variance(t[None])[1][0])(x)
    torch.testing.assert_close(got, mean_variance(x)[1])
    gradient = torch.func.grad(lambda t: mean_variance(t)[1].sum())(x)
    torch.testing.assert_close(gradient, 2 * (x - x.mean(dim=(2, 3), keepdim=True)) / 20)


def test_padding_keeps_half_precision_under_autocast() -> None:
    x = torch.randn(1, 2, 4, 4).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        padded = reflect_pad(x, 1)
    assert padded.dtype == torch.bfloat16
    assert torch.equal(padded, F.pad(x, (1, 1, 1, 1), mode="reflect"))
    assert reflect_pad(x.to("meta"), 1).shape == (1, 2, 6, 6)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_instance_norm_with_scale_and_shift_is_adain(layout: torch.memory_format) -> None:
    """The form that layers run, against the paper's formula, with its gradients, in float64."""
    torch.manual_seed(0)
    x = (3 * torch.randn(2, 4, 5, 6, dtype=torch.float64) + 1).to(memory_format=layout)
    args = [x.requires_grad_(), *(torch.randn(2, 4, dtype=torch.float64, requires_grad=True) for _ in "sb")]
    results = []
    for form in (instance_norm, adain):
        out = form(*args)
        results.append([out, *torch.autograd.grad(out.sin().sum(), args)])
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)
