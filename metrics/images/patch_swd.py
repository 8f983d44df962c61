"""Patch-SWD: how far apart the small patches of two images are, whatever their place and brightness.

The sliced Wasserstein distance between the sets of all 7 x 7 patches (GPDM: Elnekave & Weiss, ECCV 2022),
here of the luma, and after its histogram is matched, so that what is left is how strokes and shapes are
built: it tells circles from squares of the same grey levels, which means and deviations of pixels cannot.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from metrics.images.structure import luma

PATCH = 7  # pixels
NUM_PROJECTIONS = 256
NUM_SCALES = 3
MAX_PATCHES = 8_192  # twice as many halve the floor that chance sets, below 0.003, at twice the time


def match_histogram(values: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Grey levels that keep the order of `values` and have the distribution of `target` -> float64.

    values, target: floats of any shapes and sizes. Equal values stay equal, at the middle of their ranks;
    matching to the values themselves changes nothing.
    """
    if not values.size or not target.size:
        raise ValueError(f"got {values.size} values and {target.size} targets, expected some of both")
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    quantile = (np.cumsum(counts) - counts / 2) / values.size  # of the middle of each grey level's ranks
    ordered = np.sort(target, axis=None).astype(np.float64)
    matched = np.interp(quantile * target.size - 0.5, np.arange(target.size), ordered)
    return matched[inverse].reshape(values.shape)


class PatchTarget:
    """The patches of one image, sorted along every direction once, to measure many others against."""

    def __init__(
        self,
        image: np.ndarray,
        *,
        num_scales: int = NUM_SCALES,
        max_patches: int | None = MAX_PATCHES,
        seed: int = 0,
    ) -> None:
        """The patches of one image at scales 1, 1/2, 1/4 ...

        Args:
            image: as for `luma`.
            num_scales: how many.
            max_patches: of each scale so many are drawn at random, None takes all.
            seed: of the drawing.

        Raises:
            ValueError: when the smallest scale holds no patch.
        """
        self.grey = luma(image)
        self.num_scales, self.max_patches, self.seed = num_scales, max_patches, seed
        self.directions = unit_projections(seed)
        self.projections = self._sorted(self.grey)

    def distance(self, image: np.ndarray, *, match: bool = True) -> float:
        """Patch-SWD of another image of any size, in grey levels of [0,1]; see `patch_swd`."""
        grey = luma(image)
        distances = []
        for own, other in zip(
            self.projections,
            self._sorted(match_histogram(grey, self.grey) if match else grey),
            strict=True,
        ):
            count = min(own.shape[1], other.shape[1])
            distances.append(float(np.abs(_resampled(own, count) - _resampled(other, count)).mean()))
        return float(np.mean(distances))

    def _sorted(self, grey: np.ndarray) -> list[np.ndarray]:
        """float [H,W] -> per scale, float32 [256,n]."""
        least = PATCH * 2 ** (self.num_scales - 1)
        if min(grey.shape) < least:
            raise ValueError(
                f"got an image {list(grey.shape)}, expected sides of at least {least} for "
                f"{self.num_scales} scales: use larger images or fewer scales"
            )
        projections = []
        for scale in range(self.num_scales):
            grey = _halved(grey) if scale else grey
            projections.append(_sorted_projections(grey, self.directions, self.max_patches, self.seed))
        return projections


def patch_swd(
    image: np.ndarray, target: np.ndarray, *, match: bool = True, max_patches: int | None = MAX_PATCHES
) -> float:
    """Sliced Wasserstein distance between the luma patches of two images, in grey levels; 0 if equal.

    image, target: as for `luma`, sides of at least 28; sizes may differ. Mean over 256 random unit
    projections and the scales 1, 1/2, 1/4 of the mean absolute difference of the sorted projections. match:
    give the image the target's histogram first.
    """
    return PatchTarget(target, max_patches=max_patches).distance(image, match=match)


def unit_projections(seed: int = 0) -> np.ndarray:
    """Random directions of length 1 -> float32 [256,49]; equal seeds give equal directions."""
    drawn = np.random.default_rng(seed).standard_normal((NUM_PROJECTIONS, PATCH * PATCH))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def _sorted_projections(
    grey: np.ndarray, directions: np.ndarray, max_patches: int | None, seed: int
) -> np.ndarray:
    """float [H,W] -> float32 [256,n]: every direction's projections of n patches, ascending."""
    windows = sliding_window_view(grey.astype(np.float32), (PATCH, PATCH))  # [H-6,W-6,7,7], a view
    rows, columns = windows.shape[:2]
    places = np.arange(rows * columns)
    if max_patches is not None and len(places) > max_patches:
        # At random, not on a grid, which would beat with a regular texture; equal sizes give equal places.
        places = np.random.default_rng(seed).choice(len(places), max_patches, replace=False)
    patches = windows[places // columns, places % columns].reshape(len(places), -1)  # [n,49]
    return np.sort(directions @ patches.T, axis=1)


def _resampled(ascending: np.ndarray, count: int) -> np.ndarray:
    """Sorted [P,n] -> [P,count]: values at the middles of `count` equal shares, between neighbours linear."""
    size = ascending.shape[1]
    if size == count:
        return ascending
    position = (np.arange(count) + 0.5) * size / count - 0.5
    below = np.floor(position).astype(int)
    share = (position - below).astype(ascending.dtype)
    above = np.minimum(below + 1, size - 1)
    return (1 - share) * ascending[:, below] + share * ascending[:, above]


def _halved(grey: np.ndarray) -> np.ndarray:
    """[H,W] -> [H//2,W//2], means of 2 x 2 pixels."""
    height, width = (i // 2 for i in grey.shape)
    return grey[: 2 * height, : 2 * width].reshape(height, 2, width, 2).mean(axis=(1, 3))
