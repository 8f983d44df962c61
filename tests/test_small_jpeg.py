"""If this fails, pictures outgrow the repository that keeps them."""

import numpy as np
import pytest

from ganmod.images import read_image
from ganmod.small_jpeg import write_small_jpeg


def test_the_best_quality_below_the_limit_is_taken(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    sizes = []
    for limit in (100_000, 9_000):
        write_small_jpeg(tmp_path / "new" / "a.jpg", image, max_bytes=limit)
        sizes.append((tmp_path / "new" / "a.jpg").stat().st_size)
        assert sizes[-1] < limit
        assert read_image(tmp_path / "new" / "a.jpg").shape == image.shape
    assert sizes[0] > sizes[1] > 0.7 * 9_000


def test_a_picture_that_cannot_be_made_so_small_is_refused(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    with pytest.raises(ValueError, match="96 x 128 pixels do not fit 1,000 bytes"):
        write_small_jpeg(tmp_path / "a.jpg", image, max_bytes=1_000)
    assert not (tmp_path / "a.jpg").exists()
