"""Frechet distance of two Gaussians fitted to features (Dowson & Landau 1982, Heusel et al. 2017)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

MIN_COUNT = 2  # one image has no covariance


@dataclass(frozen=True, eq=False)
class GaussianStatistics:
    """Mean and covariance of a set of images, for the Frechet distance.

    Distances at different counts are not comparable: the distance of two samples of one distribution falls
    as 1 / count. If count <= D, the covariance is singular and this bias is large.

    Args:
        mean: float64 [D].
        covariance: unbiased, float64 [D,D].
        count: number of images.

    Raises:
        ValueError: for fewer than 2 images, wrong shapes, NaN or infinity.
    """

    mean: np.ndarray
    covariance: np.ndarray
    count: int

    def __post_init__(self) -> None:
        if self.count < MIN_COUNT:
            raise ValueError(
                f"statistics of {self.count} images, expected at least {MIN_COUNT}: a covariance needs more "
                "images, and a comparable distance thousands"
            )
        for name in ("mean", "covariance"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float64))
        dim = self.mean.size
        if self.mean.shape != (dim,) or self.covariance.shape != (dim, dim):
            raise ValueError(
                f"got mean {list(self.mean.shape)} and covariance {list(self.covariance.shape)}, "
                "expected [D] and [D, D]"
            )
        if not (np.isfinite(self.mean).all() and np.isfinite(self.covariance).all()):
            raise ValueError("the statistics hold NaN or infinity: look for the image or weights behind it")

    @property
    def dim(self) -> int:
        """D, the number of features."""
        return self.mean.size


def frechet_distance_of_statistics(
    first: GaussianStatistics, second: GaussianStatistics, *, second_root: np.ndarray | None = None
) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)): 0 for equal statistics, in squared feature units.

    tr (S1 S2)^(1/2) is the sum of the square roots of the eigenvalues of r' S1 r, with r r' = S2. That matrix
    is symmetric, so its eigenvalues are real. The value is not clamped: rounding may leave about -1e-8 of the
    traces for equal sets of fewer images than features. For tables see `shown_distance`.

    Args:
        second_root: `covariance_root(second)`; halves the time if it is reused.

    Raises:
        ValueError: if the dimensions differ or the result is not finite.
    """
    if first.dim != second.dim:
        raise ValueError(
            f"got statistics of {first.dim} and {second.dim} features: take both in the same feature space"
        )
    root = covariance_root(second) if second_root is None else second_root
    if root.shape != second.covariance.shape:
        raise ValueError(f"second_root is {list(root.shape)}, expected {list(second.covariance.shape)}")
    product = root.T @ first.covariance @ root
    eigenvalues = np.linalg.eigvalsh((product + product.T) / 2)
    trace_of_root = np.sqrt(eigenvalues.clip(min=0)).sum()
    shift = first.mean - second.mean
    distance = shift @ shift + np.trace(first.covariance) + np.trace(second.covariance) - 2 * trace_of_root
    if not math.isfinite(distance):
        raise ValueError(f"the Frechet distance is {distance}: the features are too large for float64")
    return float(distance)


def covariance_root(statistics: GaussianStatistics) -> np.ndarray:
    """A root r [D,D] of the covariance, r r' = S: by Cholesky, or by eigenvalues if S is singular.

    Both reproduce S up to rounding (Higham 2002, theorem 10.3); Cholesky takes a tenth of the time.
    Eigenvalues that are negative by rounding are set to 0.
    """
    try:
        return np.linalg.cholesky(statistics.covariance)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(statistics.covariance)
        return vectors * np.sqrt(values.clip(min=0))


def shown_distance(distance: float) -> float:
    """A distance for tables: never negative. Raises ValueError for NaN."""
    if math.isnan(distance):
        raise ValueError("the distance is NaN: the measurement failed, there is nothing to show")
    return max(0.0, distance)


def frechet_distance(mu1: np.ndarray, sigma1: np.ndarray, mu2: np.ndarray, sigma2: np.ndarray) -> float:
    """The Frechet distance of two Gaussians with means [D] and covariances [D,D].

    See `frechet_distance_of_statistics`. Raises ValueError for wrong shapes, different dimensions, NaN or
    infinity.
    """
    return frechet_distance_of_statistics(
        GaussianStatistics(mu1, sigma1, MIN_COUNT), GaussianStatistics(mu2, sigma2, MIN_COUNT)
    )
