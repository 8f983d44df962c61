"""If this fails, Muon's steps have other directions or sizes than its description says."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from training.muon import Muon, orthogonalized


@pytest.mark.parametrize("shape", [(8, 8), (5, 40), (40, 5)])
def test_singular_values_become_one(shape: tuple[int, int]):
    """Roughly: the published coefficients leave 0.7 to 1.2; the singular vectors stay."""
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u, _, vt = torch.linalg.svd(matrix, full_matrices=False)
    found = orthogonalized(matrix)
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.6
    assert values.max() < 1.25
    inner = u.T @ found @ vt.T  # diagonal: the same singular vectors
    torch.testing.assert_close(inner, torch.diag(inner.diagonal()), rtol=0, atol=1e-6)


def test_a_step_is_as_large_as_lr_says():
    """Root mean square of the entries, for a gradient of any size."""
    for scale in (1e-6, 1e3):
        weight = nn.Parameter(torch.zeros(6, 4, 3, 3, dtype=torch.float64))
        optimizer = Muon([weight], 0.1)
        weight.grad = torch.randn(6, 4, 3, 3, dtype=torch.float64) * scale
        optimizer.step()
        assert 0.06 < float(weight.detach().square().mean().sqrt()) < 0.125


def test_the_first_two_steps_written_out():
    torch.manual_seed(0)
    gradients = [torch.randn(3, 2, 1, 1, dtype=torch.float64) for _ in range(2)]
    weight = nn.Parameter(torch.ones(3, 2, 1, 1, dtype=torch.float64))
    optimizer = Muon([weight], 0.01, momentum=0.9)
    expected, momentum = torch.ones(3, 2, dtype=torch.float64), torch.zeros(3, 2, dtype=torch.float64)
    for gradient in gradients:
        weight.grad = gradient
        optimizer.step()
        flat = gradient.flatten(1)
        momentum = 0.9 * momentum + 0.1 * flat
        expected = expected - 0.01 * 3**0.5 * orthogonalized(0.1 * flat + 0.9 * momentum)
    torch.testing.assert_close(weight.detach().flatten(1), expected)


def test_state_goes_on():
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.ones(4, 3, 3, 3)) for _ in range(2)]
    first = Muon([weights[0]], 0.01)
    gradients = torch.randn(3, 4, 3, 3, 3)
    for i, gradient in enumerate(gradients):
        weights[0].grad = gradient
        first.step()
        if i == 1:
            saved, value = copy.deepcopy(first.state_dict()), weights[0].detach().clone()
    with torch.no_grad():
        weights[1].copy_(value)
    second = Muon([weights[1]], 0.5)
    second.load_state_dict(saved)
    weights[1].grad = gradients[2]
    second.step()
    assert torch.equal(weights[0], weights[1])


def test_parameters_without_a_gradient_stay():
    weight = nn.Parameter(torch.ones(2, 2, 3, 3))
    Muon([weight], 0.1).step()
    assert torch.equal(weight.detach(), torch.ones(2, 2, 3, 3))
