"""The lattice that a network leaves in smooth regions whatever the style: lines of fixed directions and
periods.

Spectra of small windows, of the results' smooth regions and of the styles, each divided ring by ring by its
mean, so that only directions count, not how coarse or strong a texture is. What the mean over many results
has beyond the mean over their styles stands at the same directions and periods under all of them: the
network's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

WINDOW = 32  # pixels
SHORTEST, LONGEST = 2.0, 12.0  # periods in pixels
SMOOTH = 0.75  # share of a window that must lie in the smooth region


@dataclass(frozen=True)
class Lattice:
    """share: of the energy at periods from SHORTEST to LONGEST, what lies in excess of the styles'
    directions, 0 to 1. peak: (rows, columns) in cycles per pixel of the largest excess; spectrum: the excess
    [W, W/2+1].
    """

    share: float
    peak: tuple[float, float]
    spectrum: np.ndarray


def window_spectrum(luma: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Mean power spectrum [W, W/2+1] of Hann windows of luma [H,W], half overlapping, each without its mean.

    mask: bool [H,W]; windows count that lie in it by SMOOTH, or, where there are fewer than four, the four
    that lie in it most. Raises ValueError for an image smaller than a window.
    """
    if min(luma.shape) < WINDOW:
        raise ValueError(f"the image is {list(luma.shape)}, expected sides of at least {WINDOW} pixels")
    places = [
        (y, x)
        for y in range(0, luma.shape[0] - WINDOW + 1, WINDOW // 2)
        for x in range(0, luma.shape[1] - WINDOW + 1, WINDOW // 2)
    ]
    if mask is not None:
        shares = [mask[y : y + WINDOW, x : x + WINDOW].mean() for y, x in places]
        limit = min(SMOOTH, sorted(shares)[-min(4, len(shares))])
        places = [place for place, share in zip(places, shares, strict=True) if share >= limit]
    hann = np.hanning(WINDOW + 1)[:-1]
    taper = hann[:, None] * hann
    total = np.zeros((WINDOW, WINDOW // 2 + 1))
    for y, x in places:
        part = luma[y : y + WINDOW, x : x + WINDOW].astype(np.float64)
        total += np.abs(np.fft.rfft2((part - part.mean()) * taper)) ** 2
    return total / len(places)


def measure_lattice(
    results: Sequence[np.ndarray], styles: Sequence[np.ndarray], masks: Sequence[np.ndarray]
) -> Lattice:
    """results, styles: luma [H,W] in [0,1], pair by pair; masks: the smooth regions, bool, of the results'
    sizes.

    Give many styles: what ten results have in common by chance is smaller than what two have.
    """
    if not len(results) == len(styles) == len(masks) > 0:
        raise ValueError(
            f"got {len(results)} results, {len(styles)} styles, {len(masks)} masks, expected as many of each"
        )
    rings, weights = _rings()
    excess = np.zeros(rings.shape)
    energy = np.zeros(rings.max() + 1)
    for result, style, mask in zip(results, styles, masks, strict=True):
        spectrum = window_spectrum(result, mask)
        directions, means = _directions(spectrum, rings, weights)
        excess += (directions - _directions(window_spectrum(style), rings, weights)[0]) / len(results)
        energy += means / max(means.sum(), 1e-12) / len(results)
    excess = np.where(rings >= 0, np.maximum(excess, 0), 0)
    counts = _sums(weights, rings, weights)
    by_ring = _sums(excess, rings, weights) / np.maximum(counts, 1)
    row, column = np.unravel_index(int(excess.argmax()), excess.shape)
    peak = (float(np.fft.fftfreq(WINDOW)[row]), float(np.fft.rfftfreq(WINDOW)[column]))
    return Lattice(float((by_ring * energy).sum() / max(energy.sum(), 1e-12)), peak, excess)


def _rings() -> tuple[np.ndarray, np.ndarray]:
    """(ring of each bin, -1 outside; how often each bin of the half plane stands for two)."""
    rows, columns = np.fft.fftfreq(WINDOW)[:, None], np.fft.rfftfreq(WINDOW)[None]
    radius = np.hypot(rows, columns)
    inside = (radius >= 1 / LONGEST - 1e-9) & (radius <= 1 / SHORTEST + 1e-9)
    rings = np.where(inside, np.rint(radius * WINDOW).astype(int), -1)
    weights = np.full(rings.shape, 2.0)
    weights[:, [0, -1]] = 1.0
    return rings, weights


def _sums(values: np.ndarray, rings: np.ndarray, weights: np.ndarray) -> np.ndarray:
    inside = rings >= 0
    scaled = values if values is weights else values * weights
    return np.bincount(rings[inside], scaled[inside], minlength=rings.max() + 1)


def _directions(
    spectrum: np.ndarray, rings: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(spectrum divided by its mean on each ring, energy of each ring)."""
    energy = _sums(spectrum, rings, weights)
    means = energy / np.maximum(_sums(weights, rings, weights), 1)
    return np.where(rings >= 0, spectrum / np.maximum(means[rings], 1e-12), 0), energy
