"""Similarity of two images of equal size: SSIM and PSNR of their luma, through scikit-image."""

from __future__ import annotations

import math

import numpy as np
from skimage.metrics import structural_similarity

from metrics.images.structure import luma

SSIM_SIGMA = 1.5  # pixels; Wang et al. 2004
MIN_SIDE = 11  # of SSIM's window


def ssim(first: np.ndarray, second: np.ndarray) -> float:
    """Structural similarity of the luma -> [-1,1], 1 for equal images (Wang et al. 2004, Gaussian window).

    Both images have one size, with sides of at least 11, see `luma`. Definitions differ between papers (RGB,
    edge maps, a flat window): compare only figures of the same one.
    """
    a, b = _lumas(first, second)
    if min(a.shape) < MIN_SIDE:
        raise ValueError(
            f"got images {list(a.shape)}, expected sides of at least {MIN_SIDE}: use larger ones"
        )
    return float(
        structural_similarity(
            a, b, data_range=1.0, gaussian_weights=True, sigma=SSIM_SIGMA, use_sample_covariance=False
        )
    )


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    """Peak signal-to-noise ratio of the luma in dB: -10 log10 of the mean squared difference; inf if equal.

    Both images have one size, see `luma`.
    """
    a, b = _lumas(first, second)
    error = float(np.square(a - b).mean())
    return -10 * math.log10(error) if error else math.inf


def _lumas(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = luma(first), luma(second)
    if a.shape != b.shape:
        raise ValueError(f"got images {list(a.shape)} and {list(b.shape)}, expected one size: resize one")
    return a, b
