"""If this fails, KID is biased, changes from call to call, or differs from other libraries."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor

import metrics
from metrics.distances.frechet import GaussianStatistics
from metrics.distances.frechet import frechet_distance_of_statistics as distance_of_statistics
from metrics.distances.kernel import KernelDistance, kid, squared_mmd


def features(num: int, seed: int, *, dim: int = 6, offset: float = 0) -> Tensor:
    return torch.randn(num, dim, generator=torch.Generator().manual_seed(seed)) + offset


def by_definition(x: Tensor, y: Tensor) -> float:
    """Gretton et al. 2012, Eq. 3, pair by pair."""

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return (float(a @ b) / len(a) + 1) ** 3

    a, b = x.double().numpy(), y.double().numpy()
    n, m = len(a), len(b)
    within_a = sum(k(a[i], a[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_b = sum(k(b[i], b[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within_a + within_b - 2 * sum(k(p, q) for p in a for q in b) / (n * m)


def test_whole_sets_are_the_estimator_pair_by_pair():
    x, y = features(12, 0), features(12, 1, offset=0.5)
    found = kid(x, y)
    assert found == KernelDistance(pytest.approx(by_definition(x, y), rel=1e-12), 0.0)
    assert kid(x.numpy(), y.numpy()) == found
    assert squared_mmd(x, features(7, 2)) == pytest.approx(by_definition(x, features(7, 2)), rel=1e-10)


def test_two_points_in_closed_form():
    """x = {1, -1}, y = {0, 0}: k(1,-1) = 0, k(0,.) = 1, and 0 + 1 - 2 = -1."""
    x, y = torch.tensor([[1.0], [-1.0]]), torch.zeros(2, 1)
    assert kid(x, y).mean == -1


def test_subsets_are_seeded_and_average_to_the_whole():
    x, y = features(60, 0), features(50, 1, offset=0.3)
    found = kid(x, y, subsets=400, subset_size=10)
    assert kid(x, y, subsets=400, subset_size=10) == found
    assert kid(x, y, subsets=400, subset_size=10, seed=1).mean != found.mean
    error = found.std / 20
    assert abs(found.mean - squared_mmd(x, y)) < 4 * error
    assert found.std > 0
    state = np.random.get_state()[1].copy()
    kid(x, y, subsets=2, subset_size=10)
    assert np.array_equal(np.random.get_state()[1], state)


def test_one_distribution_is_at_zero_at_any_number_of_images():
    """Frechet distances of the same samples grow with fewer images."""
    for num in (10, 40):
        values = [kid(features(num, 2 * i), features(num, 2 * i + 1)).mean for i in range(200)]
        assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(200)
        assert np.std(values) < 2


def test_a_set_smaller_than_a_subset_lowers_its_size():
    x, y = features(30, 0), features(8, 1)
    assert kid(x, y, subset_size=1000, subsets=5) == kid(x, y, subset_size=8, subsets=5)


def test_equal_to_torch_fidelity():
    other = pytest.importorskip("torch_fidelity.metric_kid", reason="compares with torch-fidelity")
    x, y = features(40, 0, dim=16).double().numpy(), features(40, 1, dim=16, offset=0.2).double().numpy()
    options = {"kid_subsets": 3, "kid_subset_size": 40, "kid_kernel": "poly", "kid_kernel_poly_degree": 3}
    options |= {"kid_kernel_poly_coef0": 1, "rng_seed": 0, "verbose": False}
    expected = other.kid_features_to_metric(torch.from_numpy(x), torch.from_numpy(y), **options)
    assert kid(x, y).mean == pytest.approx(expected["kernel_inception_distance_mean"], rel=1e-9)
    # Its subsets are drawn from a RandomState in turn, first and second.
    rng = np.random.RandomState(0)
    pairs = [(rng.choice(40, 25, replace=False), rng.choice(40, 25, replace=False)) for _ in range(3)]
    ours = [squared_mmd(torch.from_numpy(x[a]), torch.from_numpy(y[b])) for a, b in pairs]
    expected = other.kid_features_to_metric(
        torch.from_numpy(x), torch.from_numpy(y), **{**options, "kid_subset_size": 25}
    )
    assert np.mean(ours) == pytest.approx(expected["kernel_inception_distance_mean"], rel=1e-9)
    assert np.std(ours) == pytest.approx(expected["kernel_inception_distance_std"], rel=1e-9)


def test_bad_features_are_refused():
    x = features(5, 0)
    broken = x.clone()
    broken[1, 2] = float("nan")
    for first, second, message in (
        (broken, x, "the first features of 1 of 5 images hold NaN or infinity"),
        (x, x[:1], "the second set has 1 images, expected at least 2"),
        (x, x[:, :3], "got 6 and 3 features: take both in the same feature space"),
        (x.int(), x, r"the first features are torch.int32 \[5, 6\], expected float \[N, D\]"),
        (x, x[0], r"the second features are torch.float32 \[6\]"),
    ):
        with pytest.raises(ValueError, match=message):
            kid(first, second)
    with pytest.raises(ValueError, match="subsets 0 and subset_size 1, expected at least 1 and 2"):
        kid(x, x, subsets=0, subset_size=1)


def test_public_names():
    assert metrics.kid is kid
    mu, sigma = np.array([1.0, 2]), np.diag([1.0, 4])
    found = metrics.frechet_distance(mu, sigma, mu + 1, 4 * sigma)
    assert found == pytest.approx(2 + 1 + 4, abs=1e-12)  # shift, then (2s - s)^2 for s = 1 and 2
    statistics = [GaussianStatistics(mu, sigma, 9), GaussianStatistics(mu + 1, 4 * sigma, 9)]
    assert found == distance_of_statistics(*statistics)
    stream = metrics.FeatureStats(6)
    stream.update(features(9, 0))
    assert stream.count == 9
    assert {"density_and_coverage", "precision_and_recall"} <= set(metrics.__all__)
    assert all(getattr(metrics, name) for name in metrics.__all__)
    with pytest.raises(AttributeError, match="no attribute 'fid'"):
        metrics.fid  # noqa: B018
    code = "import metrics, sys; assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
