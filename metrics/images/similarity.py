"""How alike two images of one size are, pixel by pixel: SSIM and PSNR of their luma, through scikit-image."""

from __future__ import annotations

import math

import numpy as np
from skimage.metrics import structural_similarity

from metrics.images.structure import luma

SSIM_SIGMA = 1.5  # pixels; Wang et al. 2004
MIN_SIDE = 11  # of SSIM's window


def ssim(first: np.ndarray, second: np.ndarray) -> float:
    """Structural similarity of the luma -> [-1,1], 1 for equal images (Wang et al. 2004, Gaussian window).

    Images: as for `luma`, both [H,W,3] or [H,W] of one size, sides of at least 11. Figures of other papers
    may be of RGB, of edge maps or of a flat window: compare only those of one definition.
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

    Images: as for `luma`, both of one size.
    """
    a, b = _lumas(first, second)
    error = float(np.square(a - b).mean())
    return -10 * math.log10(error) if error else math.inf


def _lumas(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = luma(first), luma(second)
    if a.shape != b.shape:
        raise ValueError(f"got images {list(a.shape)} and {list(b.shape)}, expected one size: resize one")
    return a, b
