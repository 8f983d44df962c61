"""Directions of the strokes in an image: structure tensor, orientation histograms and their distance.

Angles are in degrees in [0,180), counter-clockwise as displayed: 0 is a horizontal stroke, 90 a vertical one.
Internally, an orientation is a complex number whose argument is *twice* the angle (Bigun & Granlund 1987):
strokes have no sign, 0 and 180 degrees give the same number, and averages need no special cases.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import gaussian_filter

from ganmod.io.images import LUMA

GRADIENT_SIGMA = 1.0  # pixels
WINDOWS = (2.0, 4.0, 8.0)  # pixels, from fine strokes to broad ones
NUM_BINS = 36


def luma(image: np.ndarray) -> np.ndarray:
    """Rec. 601 luma -> float64 [H,W] in [0,1].

    The image is uint8 [H,W,3] in 0..255, float [H,W,3] in [0,1], or float [H,W], which is returned unchanged.
    """
    if image.ndim == 2 and np.issubdtype(image.dtype, np.floating):
        return image.astype(np.float64)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype not in (np.uint8, np.float32, np.float64):
        got = f"{image.dtype} {list(image.shape)}"
        raise ValueError(f"got image {got}, expected uint8 or float [H,W,3], or float [H,W]")
    return image @ np.array(LUMA) / (255 if image.dtype == np.uint8 else 1)


def orientation_field(grey: np.ndarray, *, window: float = 4.0) -> np.ndarray:
    """Local stroke orientation of float [H,W] -> complex [H-2m,W-2m], with m = ceil(2 * window).

    The argument is twice the stroke's angle; the modulus is the difference of the structure tensor's
    eigenvalues, 0 where no direction prevails. `window` is the sigma of the neighbourhood in pixels. Raises
    ValueError if the margin m leaves nothing.
    """
    margin = math.ceil(2 * window)  # mirrored borders bend strokes
    if grey.ndim != 2 or min(grey.shape) <= 2 * margin:
        raise ValueError(
            f"got an image {list(grey.shape)}, expected [H,W] above {2 * margin} pixels at window "
            f"{window:g}: give a larger image or a smaller window"
        )
    down, right = _gradient(grey)
    # (right + i up)^2 has twice the gradient's angle; the perpendicular stroke adds 180 degrees, a factor -1.
    doubled = -((right - 1j * down) ** 2)
    smooth = gaussian_filter(doubled.real, window) + 1j * gaussian_filter(doubled.imag, window)
    return smooth[margin : grey.shape[0] - margin, margin : grey.shape[1] - margin]


def orientation_moment(field: np.ndarray, mask: np.ndarray | None = None) -> complex:
    """Sum of the field / sum of its modulus: twice the mean angle, and the agreement with it as modulus.

    Args:
        field: from `orientation_field`; a field of zeros gives 0.
        mask: bool or weights, of the field's shape or of the image's, see `flat_mask`.
    """
    weight = np.ones(field.shape) if mask is None else _fit_mask(mask, field.shape)
    total = float((weight * np.abs(field)).sum())
    # Below 1e-12 the image is flat up to rounding, which would set the direction.
    return complex((weight * field).sum() / total) if total > 1e-12 * field.size else 0j


def orientation_histogram(
    field: np.ndarray, *, bins: int = NUM_BINS, mask: np.ndarray | None = None
) -> np.ndarray:
    """Strength-weighted shares of orientations -> [bins], sum 1; bin i holds [i, i + 1) * 180 / bins degrees.

    A field of zeros gives equal shares.
    """
    weight = np.abs(field) * (1.0 if mask is None else _fit_mask(mask, field.shape))
    bin_of = (np.angle(field) / (2 * math.pi) % 1 * bins).astype(int) % bins
    counts = np.bincount(bin_of.ravel(), weights=weight.ravel(), minlength=bins)
    return counts / counts.sum() if counts.sum() > 0 else np.full(bins, 1 / bins)


def circular_emd(p: np.ndarray, q: np.ndarray) -> float:
    """Earth mover's distance of two orientation histograms, in degrees -> [0,90].

    On a circle, the optimal flow subtracts the median of the cumulated differences (Werman, Peleg &
    Rosenfeld 1985).
    """
    if p.shape != q.shape or p.ndim != 1 or not math.isclose(p.sum(), q.sum(), rel_tol=1e-6):
        raise ValueError(
            f"got histograms {list(p.shape)} and {list(q.shape)}, expected one length and one sum"
        )
    cumulated = np.cumsum(p - q)
    return float(np.abs(cumulated - np.median(cumulated)).sum() * 180 / len(p) / p.sum())


def coherence(grey: np.ndarray, *, window: float = 4.0) -> float:
    """Share of the change in float [H,W] that has a direction within each neighbourhood -> [0,1].

    Differences of the structure tensor's eigenvalues over their sums, both summed over the image. Directions
    may vary over the image: `orientation_moment` measures whether they agree. A flat image gives 0.
    """
    directed = float(np.abs(orientation_field(grey, window=window)).sum())
    down, right = _gradient(grey)
    margin = math.ceil(2 * window)
    energy = gaussian_filter(down**2 + right**2, window)[margin:-margin, margin:-margin]
    total = float(energy.sum())
    return directed / total if total > 1e-12 * energy.size else 0.0


def flat_mask(image: np.ndarray, *, share: float = 0.5, window: float = 4.0) -> np.ndarray:
    """bool [H,W]: the `share` of pixels around which the image changes least.

    In this region of the content, strokes of a stylized image come from the style, not from edges.
    """
    down, right = _gradient(luma(image))
    energy = gaussian_filter(down**2 + right**2, window)
    return energy <= np.quantile(energy, share)


def _gradient(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Derivatives (downwards, to the right), each [H,W], of the slightly blurred image."""
    down = gaussian_filter(grey, GRADIENT_SIGMA, order=(1, 0))
    return down, gaussian_filter(grey, GRADIENT_SIGMA, order=(0, 1))


def _fit_mask(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Crop a mask of the image's shape to the field's shape."""
    cut = [(mask.shape[i] - shape[i]) / 2 for i in range(2)] if mask.ndim == 2 else [-1]
    if min(cut) < 0 or cut[0] != cut[-1] or cut[0] % 1:
        raise ValueError(
            f"got a mask {list(mask.shape)} for a field {list(shape)}: give one of the image's shape"
        )
    margin = int(cut[0])
    return mask[margin : margin + shape[0], margin : margin + shape[1]].astype(np.float64)
