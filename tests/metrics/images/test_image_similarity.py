"""If this fails, SSIM or PSNR in a table differ from scikit-image's and the papers' definitions."""

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from metrics import psnr, ssim
from metrics.images.structure import luma


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    first = rng.integers(0, 256, (40, 52, 3), np.uint8)
    return first, np.clip(first + rng.normal(0, 30, first.shape), 0, 255).astype(np.uint8)


def test_ssim_equals_that_of_scikit_image(images):
    a, b = map(luma, images)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    assert ssim(*images) == pytest.approx(structural_similarity(a, b, data_range=1, **options), abs=1e-12)
    # 255 levels or the range [0,1], bytes or floats: the same.
    bytewise = structural_similarity(255 * a, 255 * b, data_range=255, **options)
    assert ssim(images[0] / 255, images[1] / 255) == pytest.approx(bytewise, abs=1e-12)


def test_ssim_equals_its_formula(images):
    """Wang et al. 2004, Eq. 13, Gaussian window of 11 pixels; the border of 5 is left out."""
    a, b = map(luma, images)

    def mean(x):
        return gaussian_filter(x, 1.5, truncate=3.5)

    c1, c2 = 0.01**2, 0.03**2
    variances = mean(a * a) - mean(a) ** 2 + mean(b * b) - mean(b) ** 2
    covariance = mean(a * b) - mean(a) * mean(b)
    top = (2 * mean(a) * mean(b) + c1) * (2 * covariance + c2)
    values = top / ((mean(a) ** 2 + mean(b) ** 2 + c1) * (variances + c2))
    assert ssim(*images) == pytest.approx(values[5:-5, 5:-5].mean(), abs=1e-9)


def test_closed_forms():
    a, b = np.full((16, 16), 0.2), np.full((16, 16), 0.6)
    assert ssim(a, b) == pytest.approx((2 * 0.12 + 1e-4) / (0.04 + 0.36 + 1e-4))
    assert ssim(a, a) == pytest.approx(1)
    assert psnr(a, b) == pytest.approx(-20 * math.log10(0.4))
    assert psnr(a, a) == math.inf


def test_psnr_equals_that_of_scikit_image(images):
    a, b = map(luma, images)
    assert psnr(*images) == pytest.approx(peak_signal_noise_ratio(a, b, data_range=1))


def test_images_that_cannot_be_compared_are_refused():
    with pytest.raises(ValueError, match="one size"):
        ssim(np.zeros((16, 16)), np.zeros((16, 17)))
    with pytest.raises(ValueError, match="at least 11"):
        ssim(np.zeros((10, 16)), np.zeros((10, 16)))
