"""Patch-SWD: distance of the small patches of two images, regardless of position and brightness.

The sliced Wasserstein distance between the sets of all 7 x 7 patches (GPDM: Elnekave & Weiss, ECCV 2022),
here of the luma after histogram matching. It measures the form of strokes and shapes: it distinguishes
circles from squares of equal grey levels, which means and deviations of pixels cannot.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from metrics.images.structure import luma

PATCH = 7  # pixels
NUM_PROJECTIONS = 256
NUM_SCALES = 3
MAX_PATCHES = 8_192  # twice as many halve the error of sampling, below 0.003, at twice the time


def match_histogram(values: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Map `values` monotonically to the distribution of `target`: floats of any shapes -> float64.

    Equal values stay equal, at the middle of their ranks. Matching values to themselves changes nothing.
    """
    if not values.size or not target.size:
        raise ValueError(f"got {values.size} values and {target.size} targets, expected some of both")
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    quantile = (np.cumsum(counts) - counts / 2) / values.size  # the middle of each grey level's ranks
    ordered = np.sort(target, axis=None).astype(np.float64)
    matched = np.interp(quantile * target.size - 0.5, np.arange(target.size), ordered)
    return matched[inverse].reshape(values.shape)


class PatchTarget:
    """The patches of one image, sorted once along every direction, for distances to many others."""

    def __init__(
        self,
        image: np.ndarray,
        *,
        num_scales: int = NUM_SCALES,
        max_patches: int | None = MAX_PATCHES,
        seed: int = 0,
    ) -> None:
        """Sort the patches of an image at scales 1, 1/2, 1/4 ...

        Args:
            image: see `luma`.
            max_patches: size of a random subset at each scale; None takes all patches.
            seed: of the directions and the subset.

        Raises:
            ValueError: if the smallest scale holds no patch.
        """
        self.grey = luma(image)
        self.num_scales, self.max_patches, self.seed = num_scales, max_patches, seed
        self.directions = unit_projections(seed)
        self.projections = self._sort_patches(self.grey)

    def distance(self, image: np.ndarray, *, match: bool = True) -> float:
        """Patch-SWD of another image of any size, in grey levels of [0,1]; see `patch_swd`."""
        grey = luma(image)
        distances = []
        others = self._sort_patches(match_histogram(grey, self.grey) if match else grey)
        for first, second in zip(self.projections, others, strict=True):
            count = min(first.shape[1], second.shape[1])
            distances.append(float(np.abs(_resample(first, count) - _resample(second, count)).mean()))
        return float(np.mean(distances))

    def _sort_patches(self, grey: np.ndarray) -> list[np.ndarray]:
        """float [H,W] -> float32 [256,n] for each scale."""
        least = PATCH * 2 ** (self.num_scales - 1)
        if min(grey.shape) < least:
            raise ValueError(
                f"got an image {list(grey.shape)}, expected sides of at least {least} for "
                f"{self.num_scales} scales: use larger images or fewer scales"
            )
        projections = []
        for scale in range(self.num_scales):
            grey = _halve(grey) if scale else grey
            projections.append(_sort_projections(grey, self.directions, self.max_patches, self.seed))
        return projections


def patch_swd(
    image: np.ndarray, target: np.ndarray, *, match: bool = True, max_patches: int | None = MAX_PATCHES
) -> float:
    """Sliced Wasserstein distance between the luma patches of two images, in grey levels; 0 if equal.

    The mean absolute difference of the sorted projections, over 256 random unit directions and the scales 1,
    1/2 and 1/4.

    Args:
        image: see `luma`, sides of at least 28.
        target: likewise; the sizes may differ.
        match: match the image's histogram to the target's first.
        max_patches: see `PatchTarget`.
    """
    return PatchTarget(target, max_patches=max_patches).distance(image, match=match)


def unit_projections(seed: int = 0) -> np.ndarray:
    """Random unit vectors -> float32 [256,49]; equal seeds give equal vectors."""
    drawn = np.random.default_rng(seed).standard_normal((NUM_PROJECTIONS, PATCH * PATCH))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def _sort_projections(
    grey: np.ndarray, directions: np.ndarray, max_patches: int | None, seed: int
) -> np.ndarray:
    """float [H,W] -> float32 [256,n]: every direction's projections of n patches, ascending."""
    windows = sliding_window_view(grey.astype(np.float32), (PATCH, PATCH))  # [H-6,W-6,7,7], a view
    rows, columns = windows.shape[:2]
    chosen = np.arange(rows * columns)
    if max_patches is not None and len(chosen) > max_patches:
        # At random: a grid would interfere with a regular texture. Equal sizes give equal positions.
        chosen = np.random.default_rng(seed).choice(len(chosen), max_patches, replace=False)
    patches = windows[chosen // columns, chosen % columns].reshape(len(chosen), -1)  # [n,49]
    return np.sort(directions @ patches.T, axis=1)


def _resample(ascending: np.ndarray, count: int) -> np.ndarray:
    """Sorted [P,n] -> [P,count]: values at the middles of `count` equal parts, linearly interpolated."""
    size = ascending.shape[1]
    if size == count:
        return ascending
    position = (np.arange(count) + 0.5) * size / count - 0.5
    below = np.floor(position).astype(int)
    share = (position - below).astype(ascending.dtype)
    above = np.minimum(below + 1, size - 1)
    return (1 - share) * ascending[:, below] + share * ascending[:, above]


def _halve(grey: np.ndarray) -> np.ndarray:
    """[H,W] -> [H//2,W//2], means of 2 x 2 pixels."""
    height, width = (i // 2 for i in grey.shape)
    return grey[: 2 * height, : 2 * width].reshape(height, 2, width, 2).mean(axis=(1, 3))
