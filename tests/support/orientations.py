"""Directions in degrees, from orientation moments."""

from __future__ import annotations

import math

import numpy as np

from metrics.images.structure import luma, orientation_field, orientation_moment


def from_moment(moment: complex) -> tuple[float, float]:
    """A moment -> (degrees in [0,180), strength)."""
    degrees = math.degrees(np.angle(moment)) / 2 % 180
    return degrees if degrees < 180 else 0.0, abs(moment)  # -1e-17 % 180 is 180.0


def mean_orientation(
    image: np.ndarray, *, window: float = 4.0, mask: np.ndarray | None = None
) -> tuple[float, float]:
    """(degrees in [0,180), strength in [0,1]) of an image's strokes; strength 1 is a single direction."""
    return from_moment(orientation_moment(orientation_field(luma(image), window=window), mask))


def orientation_difference(a: float, b: float) -> float:
    """Degrees between two orientations -> [0,90]."""
    away = abs(a - b) % 180
    return min(away, 180 - away)
