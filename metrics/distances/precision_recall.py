"""Fidelity and variety measured separately: precision and recall, density and coverage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from metrics.distances.feature_checks import check_pair, computing_dtype

TILE = 2048  # images of either set at a time: 32 MiB of distances in float64


class PrecisionRecall(NamedTuple):
    """Shares in [0,1]: of generated images near real ones, and of real images near generated ones."""

    precision: float
    recall: float


class DensityCoverage(NamedTuple):
    """Density: 1 for equal distributions, but not bounded by 1. Coverage: share of real images, in [0,1]."""

    density: float
    coverage: float


def precision_and_recall(
    generated: Tensor | np.ndarray,
    real: Tensor | np.ndarray,
    *,
    k: int = 3,
    real_distances: Tensor | None = None,
) -> PrecisionRecall:
    """Improved precision and recall (Kynkaanniemi et al. 2019, Eqs. 1 and 2).

    A set's manifold is the union of closed balls around its images; a ball's radius is the distance to the
    k-th nearest neighbour in the set, in float64. Published figures use k = 3, VGG-16 features and 50,000
    images.

    Args:
        generated: features, float [N,D].
        real: features, float [M,D].
        real_distances: `neighbour_distances(real, k=k)`, if it is reused.

    Raises:
        ValueError: for NaN, other shapes, and k or fewer images in a set.
    """
    x, y = _check_sets(generated, real, k)
    x_radii, y_radii = neighbour_distances(x, k=k), _radii(y, k, real_distances)
    slack = _slack(x, y)
    x_found = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    y_found = torch.zeros(len(y), dtype=torch.bool, device=x.device)
    for rows, columns, distances in _tiles(x, y):
        x_found[rows] |= (distances <= y_radii[columns] + slack).any(dim=1)
        y_found[columns] |= (distances <= x_radii[rows, None] + slack).any(dim=0)
    return PrecisionRecall(int(x_found.sum()) / len(x), int(y_found.sum()) / len(y))


def density_and_coverage(
    generated: Tensor | np.ndarray,
    real: Tensor | np.ndarray,
    *,
    k: int = 5,
    real_distances: Tensor | None = None,
) -> DensityCoverage:
    """Density and coverage (Naeem et al. 2020, Eqs. 3 and 4).

    A real image's ball reaches to its k-th nearest neighbour. Density is the mean number of balls that
    contain a generated image, divided by k; coverage is the share of balls that contain any. The balls are
    open, as in the authors' code: a set has density 1 against itself. Distances are in float64.

    Args:
        generated: features, float [N,D].
        real: features, float [M,D].
        real_distances: `neighbour_distances(real, k=k)`, if it is reused.

    Raises:
        ValueError: for NaN, other shapes, and k or fewer images in a set.
    """
    x, y = _check_sets(generated, real, k)
    y_radii = _radii(y, k, real_distances) - _slack(x, y)
    num_inside, covered = 0, torch.zeros(len(y), dtype=torch.bool, device=x.device)
    for _, columns, distances in _tiles(x, y):
        inside = distances < y_radii[columns]
        num_inside += int(inside.sum())
        covered[columns] |= inside.any(dim=0)
    return DensityCoverage(num_inside / (k * len(x)), int(covered.sum()) / len(y))


def neighbour_distances(features: Tensor, *, k: int) -> Tensor:
    """Features [N,D] -> squared distance of each image to its k-th nearest other one, [N]; 1 <= k < N."""
    nearest = torch.full((len(features), k), torch.inf, dtype=computing_dtype(features))
    nearest = nearest.to(features.device)
    for rows, columns, distances in _tiles(features, features):
        if rows == columns:  # an image is not its own neighbour, but an equal image is
            distances.fill_diagonal_(torch.inf)
        candidates = torch.cat([nearest[rows], distances], dim=1)
        nearest[rows] = candidates.topk(k, dim=1, largest=False).values
    return nearest.amax(dim=1)


def _radii(real: Tensor, k: int, known: Tensor | None) -> Tensor:
    if known is None:
        return neighbour_distances(real, k=k)
    if known.shape != (len(real),):
        raise ValueError(f"real_distances are {list(known.shape)} for {len(real)} images: give one for each")
    return known


def _tiles(x: Tensor, y: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
    """(rows, columns, squared distances) of x [N,D] to y [M,D], at most TILE x TILE at a time."""
    centre = _centre(y)
    for start in range(0, len(x), TILE):
        rows = slice(start, start + TILE)
        a = x[rows].to(centre.dtype) - centre
        for other in range(0, len(y), TILE):
            columns = slice(other, other + TILE)
            b = y[columns].to(centre.dtype) - centre
            # |a - b|^2 = |a|^2 + |b|^2 - 2 a.b
            norms = (a * a).sum(dim=1)[:, None] + (b * b).sum(dim=1)
            yield rows, columns, norms.addmm_(a, b.T, alpha=-2).clamp_(min=0)


def _centre(features: Tensor) -> Tensor:
    """The mean [D], in double precision; subtracting it keeps a common offset from costing digits."""
    return features.mean(dim=0, dtype=computing_dtype(features))


def _slack(x: Tensor, y: Tensor) -> float:
    """Bound on the rounding of squared distances: images in both sets lie exactly on a ball's surface."""
    centre = _centre(y)
    largest = max(float((f.to(centre.dtype) - centre).square().sum(dim=1).max()) for f in _parts(x, y))
    return 1000 * torch.finfo(centre.dtype).eps * largest


def _parts(*sets: Tensor) -> Iterator[Tensor]:
    for features in sets:
        yield from features.split(TILE)


def _check_sets(generated: Tensor | np.ndarray, real: Tensor | np.ndarray, k: int) -> tuple[Tensor, Tensor]:
    if k < 1:
        raise ValueError(f"k is {k}, expected 1 or more neighbours")
    return check_pair(generated, real, at_least=k + 1)
