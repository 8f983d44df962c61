"""If this fails, pictures outgrow the repository that keeps them, or a comparison loses its results."""

import numpy as np
import pytest

from ganmod.io.images import read_image
from ganmod.io.small_jpeg import small_jpeg, write_small_jpeg

NOISE = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)


def test_the_best_quality_below_the_limit_is_taken(tmp_path):
    sizes = []
    for limit in (100_000, 10_000):
        write_small_jpeg(tmp_path / "new" / "a.jpg", NOISE, max_bytes=limit)
        sizes.append((tmp_path / "new" / "a.jpg").stat().st_size)
        assert sizes[-1] < limit
        assert read_image(tmp_path / "new" / "a.jpg").shape == NOISE.shape
    assert sizes[0] > sizes[1] > 0.7 * 10_000


def test_a_picture_that_is_still_too_large_is_reduced():
    """Noise compresses least: a sheet of an untrained model's samples."""
    found = small_jpeg(NOISE, max_bytes=4_000)
    assert 0.5 * 4_000 < len(found) < 4_000
    height, width = read_image(found).shape[:2]
    assert height < 96
    assert width / height == pytest.approx(128 / 96, rel=0.05)


def test_a_limit_that_no_jpeg_keeps_is_refused():
    with pytest.raises(ValueError, match="max_bytes is 500, expected 2,000 or more"):
        small_jpeg(NOISE, max_bytes=500)
