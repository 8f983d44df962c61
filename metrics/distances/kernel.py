"""KID: the kernel distance of two sets of features, unbiased at any number of images."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor

from metrics.distances.feature_checks import check_pair, computing_dtype


class KernelDistance(NamedTuple):
    """Mean and standard deviation over subsets: the deviation of one subset, not of the mean."""

    mean: float
    std: float


def kid(
    first: Tensor | np.ndarray,
    second: Tensor | np.ndarray,
    *,
    subsets: int = 100,
    subset_size: int = 1000,
    seed: int = 0,
) -> KernelDistance:
    """Kernel distance of two sets of features (Binkowski et al. 2018, section 4.1).

    The unbiased squared maximum mean discrepancy (Gretton et al. 2012, Eq. 3) under the kernel
    (x . y / D + 1)^3, in float64, averaged over pairs of random subsets. Two samples of one distribution have
    distance 0 on average, so values may be negative. Only Inception's features give the KID of the
    literature, see `metric_name`.

    Args:
        first: float [N,D].
        second: float [M,D].
        subsets: number of pairs of subsets, 1 or more.
        subset_size: images per subset, 2 or more, drawn without replacement; at most N and M. If it equals
            both, the value is exact and the deviation 0.
        seed: of the subsets.

    Raises:
        ValueError: for fewer than 2 images, NaN, and other shapes.
    """
    if subsets < 1 or subset_size < 2:
        raise ValueError(
            f"got subsets {subsets} and subset_size {subset_size}, expected at least 1 and 2: one image is "
            "no pair"
        )
    x, y = check_pair(first, second, at_least=2)
    size = min(subset_size, len(x), len(y))
    if size == len(x) == len(y):
        return KernelDistance(squared_mmd(x, y), 0.0)
    rng = np.random.default_rng(seed)
    values = [
        squared_mmd(x[rng.choice(len(x), size, replace=False)], y[rng.choice(len(y), size, replace=False)])
        for _ in range(subsets)
    ]
    return KernelDistance(float(np.mean(values)), float(np.std(values)))


def squared_mmd(x: Tensor, y: Tensor) -> float:
    """Unbiased squared maximum mean discrepancy of x [N,D] and y [M,D] under the kernel (x . y / D + 1)^3."""
    x, y = x.to(computing_dtype(x)), y.to(computing_dtype(y))
    within = 0.0
    for one in (x, y):
        kernel = cubic_kernel(one, one)
        # Gretton et al. 2012, Eq. 3 excludes the diagonal.
        within += float(kernel.sum() - kernel.diagonal().sum()) / (len(one) * (len(one) - 1))
    return within - 2 * float(cubic_kernel(x, y).mean())


def cubic_kernel(x: Tensor, y: Tensor) -> Tensor:
    """x [N,D], y [M,D] -> (x . y / D + 1)^3 [N,M]."""
    base = (x @ y.T).div_(x.shape[1]).add_(1)
    return base * base * base
