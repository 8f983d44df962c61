"""If this fails, the direction of strokes is measured wrongly, and so is whether a model turns them."""

import numpy as np
import pytest
from orientations import mean_orientation, orientation_difference

from metrics.images.structure import (
    circular_emd,
    coherence,
    flat_mask,
    luma,
    orientation_field,
    orientation_histogram,
    orientation_moment,
)
from style_transfer.procedural_styles import draw_style

SIZE = 128


def grating(degrees, wavelength=9.0, size=SIZE):
    """Stripes that run at `degrees`, counter-clockwise as displayed (rows count downwards), float [S,S]."""
    y, x = np.mgrid[:size, :size].astype(float)
    t = np.radians(degrees)
    across = -np.sin(t) * x + np.cos(t) * -y
    return 0.5 + 0.4 * np.sin(2 * np.pi * across / wavelength)


@pytest.mark.parametrize("window", [2, 4, 8])
@pytest.mark.parametrize("degrees", [0, 15, 30, 45, 77, 90, 120, 170])
def test_gratings_are_measured_within_a_degree(degrees, window):
    got, strength = mean_orientation(grating(degrees), window=window)
    assert orientation_difference(got, degrees) < 1
    assert strength > 0.99


def test_angles_are_counter_clockwise_on_the_display():
    rising = np.fliplr(np.eye(SIZE))  # from the lower left to the upper right
    assert mean_orientation(rising)[0] == pytest.approx(45, abs=0.5)


def test_noise_has_no_direction_and_a_flat_image_has_none():
    noise = np.random.default_rng(0).random((256, 256))
    assert mean_orientation(noise)[1] < 0.1
    assert mean_orientation(np.full((SIZE, SIZE, 3), 77, np.uint8)) == (0, 0)


def test_a_quarter_turn_gives_ninety_degrees():
    picture = draw_style("hatching", SIZE, seed=3)
    first, strength = mean_orientation(picture)
    second, same = mean_orientation(np.rot90(picture))
    assert orientation_difference(first, second) == pytest.approx(90, abs=1e-6)
    assert same == pytest.approx(strength)


def test_drawn_styles_turn_by_the_angle_asked_for():
    for angle in (0, 30, 90, 150):
        got, strength = mean_orientation(draw_style("stripes", 192, seed=1, angle=angle))
        assert orientation_difference(got, 90 + angle) < 1
        assert strength > 0.9


def test_mask_chooses_what_is_measured():
    half = np.zeros((SIZE, SIZE), bool)
    half[:, : SIZE // 2] = True
    both = np.where(half, grating(20), grating(110))
    inner = np.zeros_like(half)
    inner[:, : SIZE // 2 - 8] = True  # away from the seam
    assert mean_orientation(both, window=2, mask=inner)[0] == pytest.approx(20, abs=1)
    assert mean_orientation(both, window=2)[1] < 0.2
    field = orientation_field(both, window=2)
    assert orientation_moment(field, inner) == orientation_moment(field, inner[4:-4, 4:-4])
    with pytest.raises(ValueError, match="mask"):
        orientation_moment(field, inner[1:])


def test_flat_mask_avoids_edges():
    step = np.zeros((SIZE, SIZE))
    step[:, SIZE // 2 :] = 1
    mask = flat_mask(step + np.linspace(0, 0.01, SIZE), share=0.5, window=2)
    assert 0.45 < mask.mean() < 0.55
    assert not mask[:, SIZE // 2 - 8 : SIZE // 2 + 8].any()


def test_luma_weights_colors_and_scales_bytes():
    image = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], np.uint8)
    np.testing.assert_allclose(luma(image), [[0.299, 0.587, 0.114, 1]])
    np.testing.assert_allclose(luma(image / 255.0), luma(image))
    with pytest.raises(ValueError, match="int64"):
        luma(image.astype(int))


def test_coherence_tells_strokes_from_noise_wherever_they_run():
    """A grating is fully coherent; with one half turned it stays coherent, without a common direction."""
    assert coherence(grating(20)) > 0.99
    both = np.concatenate([grating(20)[:, :64], grating(110)[:, :64]], axis=1)
    assert coherence(both, window=2) > 0.85
    assert mean_orientation(both, window=2)[1] < 0.2
    noise = np.random.default_rng(0).random((256, 256))
    assert coherence(noise, window=2) == pytest.approx(0.28, abs=0.03)
    assert coherence(np.full((SIZE, SIZE), 0.5)) == 0


def test_histogram_puts_orientations_into_their_bins():
    histogram = orientation_histogram(np.exp(2j * np.radians([[2.0, 7.0, 7.5, 178.0]])) * [[1, 1, 2, 4]])
    expected = np.zeros(36)
    expected[[0, 1, 35]] = 1 / 8, 3 / 8, 4 / 8
    np.testing.assert_allclose(histogram, expected)
    np.testing.assert_allclose(orientation_histogram(np.zeros((4, 4), complex)), np.full(36, 1 / 36))


@pytest.mark.parametrize(("shift", "degrees"), [(0, 0), (1, 5), (9, 45), (18, 90), (27, 45), (35, 5)])
def test_emd_of_a_shifted_peak_is_the_shorter_way_round(shift, degrees):
    peak = np.zeros(36)
    peak[4] = 1
    assert circular_emd(peak, np.roll(peak, shift)) == pytest.approx(degrees)
    assert circular_emd(np.roll(peak, shift), peak) == pytest.approx(degrees)


def test_emd_of_a_peak_to_equal_shares():
    peak = np.zeros(36)
    peak[0] = 1
    away = np.minimum(np.arange(36), 36 - np.arange(36))
    assert circular_emd(peak, np.full(36, 1 / 36)) == pytest.approx(5 * away.mean())
    with pytest.raises(ValueError, match=r"\[36\] and \[35\]"):
        circular_emd(peak, peak[1:])


def test_emd_measures_the_turn_of_a_grating():
    first, second = (orientation_histogram(orientation_field(grating(t))) for t in (12.5, 72.5))
    assert circular_emd(first, second) == pytest.approx(60, abs=2)


def test_too_small_an_image_is_refused():
    with pytest.raises(ValueError, match="larger image or a smaller window"):
        orientation_field(np.zeros((16, 64)), window=4)
