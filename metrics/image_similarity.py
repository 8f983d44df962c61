"""How alike two images of one size are, pixel by pixel: SSIM of their luma, through scikit-image."""

from __future__ import annotations

import numpy as np
from skimage.metrics import structural_similarity

from metrics.structure import luma

SSIM_SIGMA = 1.5  # pixels; Wang et al. 2004
MIN_SIDE = 11  # of SSIM's window


def ssim(first: np.ndarray, second: np.ndarray) -> float:
    """Structural similarity of the luma -> [-1,1], 1 for equal images (Wang et al. 2004, Gaussian window).

    Images: as for `luma`, both [H,W,3] or [H,W] of one size, sides of at least 11. Figures of other papers
    may be of RGB, of edge maps or of a flat window: compare only those of one definition.
    """
    a, b = luma(first), luma(second)
    if a.shape != b.shape:
        raise ValueError(f"got images {list(a.shape)} and {list(b.shape)}, expected one size: resize one")
    if min(a.shape) < MIN_SIDE:
        raise ValueError(
            f"got images {list(a.shape)}, expected sides of at least {MIN_SIDE}: use larger ones"
        )
    return float(
        structural_similarity(
            a, b, data_range=1.0, gaussian_weights=True, sigma=SSIM_SIGMA, use_sample_covariance=False
        )
    )
