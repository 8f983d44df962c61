"""Lattices: the lines that a network adds to smooth regions under any style, and those of a single image.

`measure_lattice` compares spectra of small windows, from the results' smooth regions and from the styles.
Each spectrum is divided by its mean on every ring, which removes the scale and strength of a texture and
leaves directions. The excess of the mean over many results over the mean of their styles has the same
directions and periods under all styles: it comes from the network.

`line_share` needs no styles: a photo's power falls with frequency along every direction, a lattice's stands
in a few lines apart from the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

WINDOW = 32  # pixels
SHORTEST, LONGEST = 2.0, 12.0  # periods in pixels
SMOOTH = 0.75  # share of a window that must lie in the smooth region
ABOVE_AROUND = 8.0  # a line's power over the median of the bins around it; white noise has 0.4 % of such bins
TOWARDS_ZERO = 0.3, 0.4, 0.5, 0.6  # of a line's frequency, where it must have more power than there


@dataclass(frozen=True)
class Lattice:
    """The energy of a lattice in smooth regions.

    Args:
        share: part of the energy at periods SHORTEST to LONGEST that exceeds the styles', in [0,1].
        peak: frequency (rows, columns) of the largest excess, in cycles per pixel.
        spectrum: the excess [W, W/2+1].
    """

    share: float
    peak: tuple[float, float]
    spectrum: np.ndarray


def window_spectrum(luma: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Mean power spectrum [W, W/2+1] of half-overlapping Hann windows, each with its mean removed.

    Args:
        luma: [H,W].
        mask: bool [H,W]; restricts the mean to windows that lie in it by at least SMOOTH, or to the four
            best ones if there are fewer.

    Raises:
        ValueError: for an image smaller than a window.
    """
    if min(luma.shape) < WINDOW:
        raise ValueError(f"the image is {list(luma.shape)}, expected sides of at least {WINDOW} pixels")
    corners = [
        (y, x)
        for y in range(0, luma.shape[0] - WINDOW + 1, WINDOW // 2)
        for x in range(0, luma.shape[1] - WINDOW + 1, WINDOW // 2)
    ]
    if mask is not None:
        shares = [mask[y : y + WINDOW, x : x + WINDOW].mean() for y, x in corners]
        limit = min(SMOOTH, sorted(shares)[-min(4, len(shares))])
        corners = [corner for corner, share in zip(corners, shares, strict=True) if share >= limit]
    hann = np.hanning(WINDOW + 1)[:-1]
    taper = hann[:, None] * hann
    total = np.zeros((WINDOW, WINDOW // 2 + 1))
    for y, x in corners:
        part = luma[y : y + WINDOW, x : x + WINDOW].astype(np.float64)
        total += np.abs(np.fft.rfft2((part - part.mean()) * taper)) ** 2
    return total / len(corners)


class LatticeMeter:
    """Measures the lattice of results that are added one by one; see `Lattice`.

    Use many styles: ten results have less in common by chance than two.
    """

    def __init__(self) -> None:
        self._rings, self._weights = _rings()
        self._excess = np.zeros(self._rings.shape)
        self._energy = np.zeros(self._rings.max() + 1)
        self._count = 0

    def add(self, result: np.ndarray, mask: np.ndarray, style: np.ndarray) -> None:
        """Add a result.

        Args:
            result: luma [H,W] in [0,1].
            mask: its smooth regions, bool [H,W].
            style: luma [h,w] in [0,1].
        """
        directions, means = self._directions(window_spectrum(result, mask))
        self._excess += directions - self._directions(window_spectrum(style))[0]
        self._energy += means / max(means.sum(), 1e-12)
        self._count += 1

    def lattice(self) -> Lattice:
        """The lattice of all results added. Raises ValueError if there is none."""
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
        """Spectrum -> (spectrum divided by its mean on each ring, energy of each ring)."""
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


def line_share(luma: np.ndarray) -> float:
    """Share of an image's energy in isolated spectral lines, in [0,1]: 0.01 in photos, more in lattices.

    Counted is the power, at periods SHORTEST to LONGEST, that exceeds both ABOVE_AROUND times the median of
    the bins two or three away and the power nearer to zero in the same direction, where edges and textures
    have most of theirs. Energy is without the mean. Contrast and brightness do not count.

    Args:
        luma: [H,W].

    Raises:
        ValueError: for an image smaller than a window.
    """
    half = window_spectrum(luma)
    mirrored = half[-np.arange(WINDOW) % WINDOW, WINDOW // 2 - 1 : 0 : -1]
    power = np.concatenate([half, mirrored], axis=1)  # [W,W]
    floor = np.maximum(ABOVE_AROUND * np.median(power[_AROUND], axis=0), power[_NEARER].max(axis=0))
    lines = np.where(_IN_BAND, np.maximum(power - floor, 0), 0)
    return float(lines.sum() / max(power.sum() - power[0, 0], 1e-12))


def _rings() -> tuple[np.ndarray, np.ndarray]:
    """(ring of each bin, -1 outside; weight of each bin of the half plane: 2, or 1 in its edge columns)."""
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


def _bins_for_lines() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray], np.ndarray]:
    """For each bin of a spectrum [W,W]: indices [K,W,W] around it and nearer to zero; if it may be a line."""
    rows = np.fft.fftfreq(WINDOW)[:, None] * WINDOW + np.zeros(WINDOW)
    columns = rows.T
    steps = [(i, j) for i in range(-3, 4) for j in range(-3, 4) if max(abs(i), abs(j)) > 1]
    around = np.array([(rows + i, columns + j) for i, j in steps]).astype(int) % WINDOW
    nearer = np.array([(rows * part, columns * part) for part in TOWARDS_ZERO])
    nearer = np.rint(nearer).astype(int) % WINDOW
    radius = np.hypot(rows, columns) / WINDOW
    in_band = (radius >= 1 / LONGEST - 1e-9) & (radius <= 1 / SHORTEST + 1e-9)
    return (around[:, 0], around[:, 1]), (nearer[:, 0], nearer[:, 1]), in_band


_AROUND, _NEARER, _IN_BAND = _bins_for_lines()
