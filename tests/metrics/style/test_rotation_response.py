"""If this fails, whether strokes turn with the style is measured wrongly, and so is what AdaConv is for."""

import math

import numpy as np
import pytest
import torch
from orientations import from_moment, orientation_difference
from stroke_models import Copies, Ignores, contestant, grating, smooth_content

from metrics.images.structure import luma
from metrics.style.rotation import (
    ANGLES,
    measure_strokes,
    rotate_and_crop,
    rotate_style_image,
    rotation_response,
    score_rotation,
    score_structure,
)
from style_transfer.procedural_styles import draw_style

SIZE = 128


@pytest.fixture(scope="module")
def stripes():
    return rotate_style_image("stripes", grating(22, size=256), size=SIZE)


@pytest.mark.parametrize("degrees", [0, 15, 30, 47, 90, 133, 165])
@pytest.mark.parametrize("begin", [0, 111])
def test_known_rotations_of_a_grating_are_recovered_within_a_degree(begin, degrees):
    image = grating(begin, size=200)
    before, after = (measure_strokes(luma(rotate_and_crop(image, t))) for t in (0, degrees))
    turned = from_moment(after.moment)[0] - from_moment(before.moment)[0]
    assert orientation_difference(turned, degrees) < 1
    assert abs(after.moment) > 0.99


def test_known_rotations_are_recovered_under_noise():
    rng = np.random.default_rng(0)
    image = grating(20, size=384).astype(float) + rng.normal(0, 0.3 * 255 * 0.4, (384, 384, 1))
    noisy = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    for degrees in (15, 60, 120):
        found = from_moment(measure_strokes(luma(rotate_and_crop(noisy, degrees))).moment)[0]
        assert orientation_difference(found, 20 + degrees) < 1


@pytest.mark.parametrize("degrees", ANGLES)
def test_every_angle_has_one_size_one_scale_and_no_empty_corner(degrees):
    crop = rotate_and_crop(np.full((200, 260, 3), 200, np.uint8), degrees)
    assert crop.shape == (138, 138, 3)  # 200 / sqrt(2) = 141.4, less 2, even as 200 is
    assert crop.min() == crop.max() == 200
    # The wavelength, from the angular frequency at which the power is largest, is that of the image.
    grey = luma(rotate_and_crop(grating(0, size=256, wavelength=8.0), degrees))
    window = np.hanning(len(grey))
    power = np.abs(np.fft.fft2((grey - grey.mean()) * window * window[:, None], (1024, 1024)))
    row, column = np.unravel_index(np.argmax(power), power.shape)
    frequency = math.hypot(np.fft.fftfreq(1024)[row], np.fft.fftfreq(1024)[column])
    assert 1 / frequency == pytest.approx(8, rel=0.02)


def test_a_quarter_turn_is_that_of_the_display():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    np.testing.assert_array_equal(rotate_and_crop(image, 90), np.rot90(rotate_and_crop(image, 0)))


def test_an_oracle_that_copies_the_texture_follows(stripes):
    (score,) = score_rotation(contestant(Copies()), [smooth_content(SIZE)], [stripes])
    assert score.response > 0.97
    assert score.strength > 0.97
    assert score.emd_turned < 2
    assert score.emd_unturned == pytest.approx(45, abs=3)  # mean of 0, 15 ... 90 ... 15
    assert score.emd_across == pytest.approx(90, abs=3)


def test_a_model_that_ignores_the_style_does_not_respond(stripes):
    (score,) = score_rotation(contestant(Ignores()), [smooth_content(SIZE)], [stripes])
    assert score.response < 1e-6
    assert score.stays > 0.9  # its own stripes are strong, and stay
    assert score.emd_turned == pytest.approx(45, abs=3)


def test_a_model_whose_strokes_run_across_is_told_by_the_control(stripes):
    class Across(Copies):
        def decode(self, features, params):
            return super().decode(features, params.rot90(1, (2, 3)))

    (score,) = score_rotation(contestant(Across()), [smooth_content(SIZE)], [stripes])
    assert score.response > 0.97
    assert score.emd_turned > 85
    assert score.emd_across < 2


def test_the_distance_to_the_content_is_reported_over_the_angles(stripes):
    calls = []

    def lpips(content, result):
        calls.append(torch.equal(content, result))
        return torch.tensor([0.25 + 0.5 * (len(calls) == 3)])

    done = []
    (score,) = score_rotation(
        contestant(Ignores()), [smooth_content(SIZE)], [stripes], lpips=lpips, done=lambda: done.append(1)
    )
    assert len(calls) == len(done) == len(ANGLES)
    assert score.lpips == pytest.approx(0.25 + 0.5 / len(ANGLES))
    assert score.lpips_range == 0.5
    assert score_rotation(contestant(Ignores()), [smooth_content(SIZE)], [stripes])[0].lpips is None


def test_only_styles_of_one_direction_pass_the_gate(stripes):
    assert stripes.has_direction
    assert (stripes.strength, stripes.coherence) == pytest.approx((1, 1), abs=0.02)
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    assert not rotate_style_image("noise", noise, size=SIZE).has_direction
    assert not rotate_style_image("circles", draw_style("circles_and_squares", 256), size=SIZE).has_direction
    assert rotate_style_image("hatching", draw_style("hatching", 256), size=SIZE).has_direction


def test_shapes_without_direction_are_told_by_their_patches():
    circles = rotate_style_image("circles", draw_style("circles_and_squares", 256), size=SIZE)
    content = smooth_content(SIZE)
    (copied,) = score_structure(contestant(Copies()), [content], [circles])
    (ignored,) = score_structure(contestant(Ignores()), [content], [circles])
    assert copied == (0, 0, pytest.approx(0, abs=1e-6))
    assert ignored[2] > 0.02


def test_response_separates_what_turns_from_what_stays():
    turn = np.exp(2j * np.radians(ANGLES))
    assert rotation_response(-0.8 * turn, ANGLES).response == pytest.approx(1)
    assert rotation_response([0.5j] * 12, ANGLES).response == pytest.approx(0)
    mixed = rotation_response(0.6 * turn + 0.2, ANGLES)
    assert (mixed.follows, mixed.stays) == pytest.approx((0.6, 0.2))
    assert mixed.response == pytest.approx(0.75)
    assert rotation_response([0j] * 12, ANGLES).response == 0
    assert rotation_response(turn.conj(), ANGLES).follows == pytest.approx(0)  # turned the wrong way


def test_angles_that_leave_the_parts_mixed_are_refused():
    with pytest.raises(ValueError, match="spread evenly"):
        rotation_response([1j] * 3, [0, 10, 20])
    with pytest.raises(ValueError, match="at least 3"):
        rotation_response([1j] * 2, [0, 90])
    with pytest.raises(ValueError, match="3 moments and 12 angles"):
        rotation_response([1j] * 3, ANGLES)
    with pytest.raises(ValueError, match="even number"):
        rotate_style_image("stripes", grating(0), degrees=[0, 60, 120])
    with pytest.raises(ValueError, match="to turn it"):
        rotate_and_crop(np.zeros((4, 4, 3), np.uint8), 30)
