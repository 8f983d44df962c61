"""If this fails, channel means and variances or their gradients are wrong, and all that normalises."""

from __future__ import annotations

import torch

from ganmod.modulation.statistics import mean_variance


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
