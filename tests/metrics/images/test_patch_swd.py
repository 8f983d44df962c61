"""If this fails, patch-SWD differs from its definition, or depends on brightness."""

import math

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from metrics.images.patch_swd import PatchTarget, match_histogram, patch_swd, unit_projections
from style_transfer.procedural_styles import draw_style


@pytest.fixture(scope="module")
def textures():
    return draw_style("circles_and_squares", 96), draw_style("hatching", 96)


def test_equal_images_have_no_distance(textures):
    for image in textures:
        assert patch_swd(image, image) == 0
        assert patch_swd(image, image, match=False) == 0
    assert patch_swd(*textures) > 0.02


def test_constant_images_differ_by_the_projected_step():
    """A patch of equal greys g projects to g times the direction's sum: mean |sum| is a half-normal's."""
    low, high = np.full((40, 44), 0.2), np.full((60, 33), 0.7)
    sums = np.abs(unit_projections().sum(axis=1))
    assert patch_swd(low, high, match=False) == pytest.approx(0.5 * sums.mean(), rel=1e-5)
    # E|sum of a unit vector of 49| = 7 Gamma(49/2) / (sqrt(pi) Gamma(25)): 256 directions come near.
    expected = 7 * math.exp(math.lgamma(24.5) - math.lgamma(25)) / math.sqrt(math.pi)
    assert sums.mean() == pytest.approx(expected, rel=0.15)
    assert patch_swd(low, high) == pytest.approx(0, abs=1e-6)  # matched


def test_a_shift_or_stretch_of_the_grey_levels_vanishes_when_matched(textures):
    image = textures[0][..., 0] / 255.0
    assert patch_swd(0.6 * image + 0.3, image) == pytest.approx(0, abs=1e-7)
    assert patch_swd(np.sqrt(image), image) == pytest.approx(0, abs=1e-7)
    sums = np.abs(unit_projections().sum(axis=1))
    assert patch_swd(image + 0.25, image, match=False) == pytest.approx(0.25 * sums.mean(), rel=1e-4)


def test_each_projection_is_the_wasserstein_distance_of_its_patches():
    """Written out for one scale of two small images of one size, in float64."""
    rng = np.random.default_rng(1)
    a, b = rng.random((12, 15)), rng.random((12, 15)) ** 2
    windows = np.lib.stride_tricks.sliding_window_view
    patches = [windows(i, (7, 7)).reshape(-1, 49) for i in (a, b)]
    expected = np.mean(
        [wasserstein_distance(patches[0] @ d, patches[1] @ d) for d in unit_projections().astype(float)]
    )
    found = PatchTarget(b, num_scales=1, max_patches=None).distance(a, match=False)
    assert found == pytest.approx(expected, rel=1e-5)


def test_other_sizes_compare_the_same_texture_as_near():
    """Half of an image has about the patches of the full image; another texture does not."""
    image = draw_style("hatching", 256)
    near = patch_swd(image[:128], image)
    far = patch_swd(draw_style("circles_and_squares", 256)[:128], image)
    assert near < 0.3 * far


def test_drawn_patches_stand_for_all(textures):
    image, target = (draw_style(name, 160) for name in ("circles_and_squares", "hatching"))
    exact = patch_swd(image, target, max_patches=None)
    assert patch_swd(image, target, max_patches=6000) == pytest.approx(exact, rel=0.05)
    assert patch_swd(image, target, max_patches=6000) == patch_swd(image, target, max_patches=6000)


def test_directions_have_length_one():
    directions = unit_projections(3)
    assert directions.shape == (256, 49)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(directions, unit_projections(3))


def test_matching_gives_the_targets_levels_in_the_order_of_the_values():
    values, target = np.array([[3.0, 1.0], [2.0, 4.0]]), np.array([10.0, 40.0, 20.0, 30.0])
    np.testing.assert_allclose(match_histogram(values, target), [[30, 10], [20, 40]])
    np.testing.assert_allclose(match_histogram(values, values), values)
    # Equal values stay equal, at the middle of their ranks; of another number, quantiles are interpolated.
    np.testing.assert_allclose(match_histogram(np.array([5.0, 5.0, 9.0, 9.0]), target), [15, 15, 35, 35])
    np.testing.assert_allclose(match_histogram(np.array([1.0, 2.0]), target), [15, 35])
    with pytest.raises(ValueError, match="0 values"):
        match_histogram(np.zeros(0), target)


def test_images_without_a_patch_at_the_smallest_scale_are_refused():
    with pytest.raises(ValueError, match="at least 28"):
        patch_swd(np.zeros((27, 64)), np.zeros((64, 64)))
