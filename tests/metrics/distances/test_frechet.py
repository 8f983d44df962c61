"""If this fails, Frechet distances in logs and tables are wrong, or a broken measurement looks like one."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg

from metrics.distances.frechet import (
    GaussianStatistics,
    covariance_root,
    frechet_distance_of_statistics,
    shown_distance,
)

DIM = 6


def gaussian(mean: np.ndarray, covariance: np.ndarray, count: int = 1000) -> GaussianStatistics:
    return GaussianStatistics(mean, covariance, count)


def random_covariance(seed: int, dim: int = DIM) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(dim, 3 * dim))
    return x @ x.T / 10


def rotation(seed: int, dim: int = DIM) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, dim)))[0]


def test_equal_covariances_leave_the_squared_shift():
    shift = np.array([3.0, -4.0, 0, 0, 0, 12])
    covariance = random_covariance(0)
    distance = frechet_distance_of_statistics(
        gaussian(np.zeros(DIM), covariance), gaussian(shift, covariance)
    )
    assert distance == pytest.approx(169, abs=1e-10)


def test_one_dimension():
    """(m1 - m2)^2 + (s1 - s2)^2."""
    first, second = (
        gaussian(np.array([1.0]), np.array([[4.0]])),
        gaussian(np.array([3.0]), np.array([[25.0]])),
    )
    assert frechet_distance_of_statistics(first, second) == pytest.approx(4 + 9, abs=1e-12)


def test_diagonal_and_other_commuting_covariances():
    """sum of (sqrt(a) - sqrt(b))^2 over the eigenvalues in the shared basis."""
    a, b = np.array([1.0, 4, 9, 0.25, 0, 2]), np.array([4.0, 1, 9, 0, 0, 8])
    expected = ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    for basis in (np.eye(DIM), rotation(1)):
        first = gaussian(np.zeros(DIM), basis * a @ basis.T)
        second = gaussian(np.zeros(DIM), basis * b @ basis.T)
        distance = frechet_distance_of_statistics(first, second)
        assert distance == pytest.approx(expected, abs=1e-6)  # 1e-12 without the zeros


def test_agrees_with_the_matrix_square_root():
    rng = np.random.default_rng(2)
    for seed in range(5):
        s1, s2 = random_covariance(10 + seed), random_covariance(20 + seed)
        m1, m2 = rng.normal(size=(2, DIM))
        expected = ((m1 - m2) ** 2).sum() + np.trace(s1 + s2 - 2 * scipy.linalg.sqrtm(s1 @ s2).real)
        first, second = gaussian(m1, s1), gaussian(m2, s2)
        assert frechet_distance_of_statistics(first, second) == pytest.approx(expected, rel=1e-10)
        assert frechet_distance_of_statistics(
            first, second, second_root=covariance_root(second)
        ) == pytest.approx(expected, rel=1e-10)


def test_is_symmetric_and_does_not_depend_on_the_basis():
    first, second = (gaussian(np.arange(DIM) * k, random_covariance(k)) for k in (1, 2))
    distance = frechet_distance_of_statistics(first, second)
    assert frechet_distance_of_statistics(second, first) == pytest.approx(distance, rel=1e-12)
    q = rotation(3)
    turned = [gaussian(q @ g.mean, q @ g.covariance @ q.T) for g in (first, second)]
    assert frechet_distance_of_statistics(*turned) == pytest.approx(distance, rel=1e-10)


def test_rank_one_covariances():
    """S1 = u u', S2 = v v': the trace of the root is |u . v|."""
    u, v = np.random.default_rng(4).normal(size=(2, 40))
    distance = frechet_distance_of_statistics(
        gaussian(np.zeros(40), np.outer(u, u)), gaussian(np.zeros(40), np.outer(v, v))
    )
    assert distance == pytest.approx(u @ u + v @ v - 2 * abs(u @ v), rel=1e-5)


@pytest.mark.parametrize("count", [200, 20])
def test_equal_sets_are_at_zero_even_when_singular(count: int):
    x = np.random.default_rng(5).normal(size=(count, 50))
    statistics = gaussian(x.mean(0), np.cov(x, rowvar=False), count)
    assert abs(frechet_distance_of_statistics(statistics, statistics)) < (1e-10 if count > 50 else 1e-5)
    zero = gaussian(np.zeros(3), np.zeros((3, 3)))
    assert frechet_distance_of_statistics(zero, zero) == 0


def test_only_shown_values_are_clamped():
    assert shown_distance(-4.2e-12) == 0
    assert shown_distance(3.25) == 3.25
    with pytest.raises(ValueError, match="NaN"):
        shown_distance(float("nan"))


def test_broken_statistics_are_refused():
    with pytest.raises(ValueError, match=r"statistics of 1 images, expected at least 2"):
        gaussian(np.zeros(2), np.eye(2), count=1)
    with pytest.raises(ValueError, match="NaN or infinity"):
        gaussian(np.zeros(2), np.full((2, 2), np.nan))
    with pytest.raises(ValueError, match="NaN or infinity"):
        gaussian(np.array([0, np.inf]), np.eye(2))
    with pytest.raises(ValueError, match=r"mean \[2\] and covariance \[3, 3\], expected \[D\] and \[D, D\]"):
        gaussian(np.zeros(2), np.eye(3))
    with pytest.raises(ValueError, match=r"2 and 3 features: take both in the same feature space"):
        frechet_distance_of_statistics(gaussian(np.zeros(2), np.eye(2)), gaussian(np.zeros(3), np.eye(3)))
    two = gaussian(np.zeros(2), np.eye(2))
    with pytest.raises(ValueError, match=r"second_root is \[3, 3\], expected \[2, 2\]"):
        frechet_distance_of_statistics(two, two, second_root=np.eye(3))
    huge = gaussian(np.full(2, 1e200), np.eye(2))
    with pytest.raises(ValueError, match="too large for float64"), np.errstate(over="ignore"):
        frechet_distance_of_statistics(huge, gaussian(np.zeros(2), np.eye(2)))


def test_float32_statistics_are_widened():
    statistics = GaussianStatistics(np.zeros(2, np.float32), np.eye(2, dtype=np.float32), 10)
    assert statistics.mean.dtype == statistics.covariance.dtype == np.float64
