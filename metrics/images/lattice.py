"""The lattice that a network leaves in smooth regions whatever the style: lines of fixed directions.

Spectra of small windows, of the results' smooth regions and of the styles, each divided ring by ring by its
mean, so that only directions count, not how coarse or strong a texture is. What the mean over many results
has beyond the mean over their styles stands at the same directions and periods under all of them: it is the
network's.
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
    """The energy of a lattice in smooth regions.

    share: of the energy at periods from SHORTEST to LONGEST, what lies in excess of the styles' directions, 0
    to 1. peak: (rows, columns) in cycles per pixel of the largest excess. spectrum: the excess [W, W/2+1].
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


class LatticeMeter:
    """Takes results one after the other; see `Lattice`.

    Give it many styles: what ten results have in common by chance is smaller than what two have.
    """

    def __init__(self) -> None:
        self._rings, self._weights = _rings()
        self._excess = np.zeros(self._rings.shape)
        self._energy = np.zeros(self._rings.max() + 1)
        self._count = 0

    def add(self, result: np.ndarray, mask: np.ndarray, style: np.ndarray) -> None:
        """result, style: luma [H,W] in [0,1]; mask: the result's smooth regions, bool, of its size."""
        directions, means = self._directions(window_spectrum(result, mask))
        self._excess += directions - self._directions(window_spectrum(style))[0]
        self._energy += means / max(means.sum(), 1e-12)
        self._count += 1

    def lattice(self) -> Lattice:
        """Of all results so far. Raises ValueError before the first."""
        if self._count == 0:
            raise ValueError("no result was added, expected one at least")
        rings, weights = self._rings, self._weights
        excess = np.where(rings >= 0, np.maximum(self._excess / self._count, 0), 0)
        by_ring = _sums(excess, rings, weights) / np.maximum(_sums(weights, rings, weights), 1)
        row, column = np.unravel_index(int(excess.argmax()), excess.shape)
        peak = (float(np.fft.fftfreq(WINDOW)[row]), float(np.fft.rfftfreq(WINDOW)[column]))
        share = (by_ring * self._energy).sum() / max(self._energy.sum(), 1e-12)
        return Lattice(float(share), peak, excess)

    def _directions(self, spectrum: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(spectrum divided by its mean on each ring, energy of each ring)."""
        rings, weights = self._rings, self._weights
        energy = _sums(spectrum, rings, weights)
        means = energy / np.maximum(_sums(weights, rings, weights), 1)
        return np.where(rings >= 0, spectrum / np.maximum(means[rings], 1e-12), 0), energy


def measure_lattice(
    results: Sequence[np.ndarray], styles: Sequence[np.ndarray], masks: Sequence[np.ndarray]
) -> Lattice:
    """The lattice of pairs of a result and its style.

    Args:
        results: luma [H,W] in [0,1].
        styles: luma [h,w] in [0,1], as many.
        masks: the smooth regions, bool [H,W], of the results' sizes.
    """
    if not len(results) == len(styles) == len(masks) > 0:
        raise ValueError(
            f"got {len(results)} results, {len(styles)} styles, {len(masks)} masks, expected as many of each"
        )
    meter = LatticeMeter()
    for result, style, mask in zip(results, styles, masks, strict=True):
        meter.add(result, mask, style)
    return meter.lattice()


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
