"""Measures and the report writer. Names are imported on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metrics.distances.feature_statistics import FeatureStatistics as FeatureStats
    from metrics.distances.frechet import frechet_distance
    from metrics.distances.kernel import kid
    from metrics.distances.precision_recall import density_and_coverage, precision_and_recall
    from metrics.images.similarity import psnr, ssim

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
    "FeatureStats": ("metrics.distances.feature_statistics", "FeatureStatistics"),
    "density_and_coverage": ("metrics.distances.precision_recall", "density_and_coverage"),
    "frechet_distance": ("metrics.distances.frechet", "frechet_distance"),
    "kid": ("metrics.distances.kernel", "kid"),
    "precision_and_recall": ("metrics.distances.precision_recall", "precision_and_recall"),
    "psnr": ("metrics.images.similarity", "psnr"),
    "ssim": ("metrics.images.similarity", "ssim"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'metrics' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(importlib.import_module(module), attribute)
