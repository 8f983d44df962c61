"""If this fails, the power spectrum does not distinguish a checkerboard from stripes or noise."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ganmod.io.images import LUMA
from metrics.images.spectrum import band_powers, power_spectrum

SIDE = 16


def pattern(down: int, across: int) -> Tensor:
    """A grey image [1,3,SIDE,SIDE] with pixels of 100 and 150 that alternate down, across, both or not."""
    i = torch.arange(SIDE)
    parity = (i[:, None] * down + i[None, :] * across) % 2
    return (100 + 50 * parity).to(torch.uint8).expand(1, 3, SIDE, SIDE)


def test_an_alternating_pattern_has_all_its_power_at_one_frequency():
    spectrum = power_spectrum([pattern(1, 1), pattern(1, 1)])
    expected = torch.zeros(SIDE, SIDE, dtype=torch.float64)
    expected[SIDE // 2, SIDE // 2] = (25 / 255) ** 2 * SIDE**2  # amplitude 25 grey levels, orthonormal DFT
    torch.testing.assert_close(spectrum, expected, rtol=1e-9, atol=1e-12)


def test_total_power_is_the_variance():
    images = torch.randint(0, 256, (3, 3, SIDE, SIDE), dtype=torch.uint8)
    grey = torch.einsum("nchw,c->nhw", images.double() / 255, torch.tensor(LUMA, dtype=torch.float64))
    variance = grey.var(dim=(1, 2), correction=0).mean()
    assert power_spectrum(images.split(2)).mean().item() == pytest.approx(variance.item(), rel=1e-9)


@pytest.mark.parametrize(
    ("down", "across", "band"), [(1, 1, "checkerboard"), (1, 0, "stripes"), (0, 1, "stripes")]
)
def test_bands_tell_patterns_apart(down: int, across: int, band: str):
    powers = band_powers(power_spectrum([pattern(down, across)]))
    other = {"checkerboard": "stripes", "stripes": "checkerboard"}[band]
    assert powers[band] > 1e-3
    assert powers[other] < 1e-12
    assert powers["high"] > 1e-3


def test_white_noise_is_equal_in_all_bands():
    torch.manual_seed(0)
    powers = band_powers(power_spectrum([torch.randint(0, 256, (400, 3, 32, 32), dtype=torch.uint8)]))
    assert powers["checkerboard"] == pytest.approx(powers["high"], rel=0.03)
    assert powers["stripes"] == pytest.approx(powers["high"], rel=0.03)


def test_no_images_is_an_error():
    with pytest.raises(ValueError, match="got no images"):
        power_spectrum([])
