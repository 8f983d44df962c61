"""Measures and the one report writer.

Names are loaded on first use. `metrics.frechet_distance` takes means and covariances; the function of that
name in `metrics.frechet` takes `GaussianStatistics`, which know their number of images.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metrics.feature_statistics import FeatureStatistics as FeatureStats
    from metrics.frechet import frechet_distance_of_moments as frechet_distance
    from metrics.image_similarity import psnr, ssim
    from metrics.kernel_distance import kid
    from metrics.precision_recall import density_and_coverage, precision_and_recall

__all__ = [
    "FeatureStats",
    "density_and_coverage",
    "frechet_distance",
    "kid",
    "precision_and_recall",
    "psnr",
    "ssim",
]

_HOMES = {
    "FeatureStats": ("metrics.feature_statistics", "FeatureStatistics"),
    "density_and_coverage": ("metrics.precision_recall", "density_and_coverage"),
    "frechet_distance": ("metrics.frechet", "frechet_distance_of_moments"),
    "kid": ("metrics.kernel_distance", "kid"),
    "precision_and_recall": ("metrics.precision_recall", "precision_and_recall"),
    "psnr": ("metrics.image_similarity", "psnr"),
    "ssim": ("metrics.image_similarity", "ssim"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'metrics' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(importlib.import_module(module), attribute)
