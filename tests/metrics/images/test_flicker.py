"""If this fails, a clip's flicker is measured wrongly: still clips flicker, or motion counts as flicker."""

from __future__ import annotations

import numpy as np
import pytest

from metrics.images.flicker import mean_change, measure_flicker, warped_change

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)


def pan(count: int, step: int = 2) -> list[np.ndarray]:
    """The camera moves right: frame t shows the columns from t * step on."""
    return [PHOTO[:, t * step : t * step + 16].copy() for t in range(count)]


def motion(count: int, right: float, down: float = 0.0) -> list[np.ndarray]:
    return [np.full((20, 16, 2), (right, down)) for _ in range(count - 1)]


def test_a_still_clip_does_not_flicker():
    assert mean_change([PHOTO] * 4) == 0
    assert warped_change([PHOTO[:, :16]] * 4, motion(4, 0)) == 0


def test_a_change_of_known_size_is_its_mean():
    """Grey 10, 20, 50: changes of 10 and 30."""
    frames = [np.full((4, 6, 3), grey, np.uint8) for grey in (10, 20, 50)]
    assert mean_change(iter(frames)) == pytest.approx(20 / 255)
    assert mean_change(reversed(frames)) == pytest.approx(20 / 255)  # no wrap around zero


def test_motion_that_is_given_explains_the_change():
    frames = pan(5)
    assert mean_change(frames) > 0.2
    assert warped_change(frames, motion(5, 2.0)) == pytest.approx(0, abs=1e-12)
    assert warped_change(frames, motion(5, -2.0)) > 0.2
    down = [PHOTO[t : t + 15, :16] for t in range(3)]
    fields = [np.full((15, 16, 2), (0.0, 1.0)) for _ in range(2)]
    assert warped_change(down, fields) == pytest.approx(0, abs=1e-12)


def test_half_a_pixel_of_a_ramp_is_exact():
    ramp = np.repeat(np.arange(0, 160, 10, dtype=np.uint8)[None, :, None], 20, axis=0).repeat(3, axis=2)
    assert warped_change([ramp, ramp], motion(2, 0.5)) == pytest.approx(5 / 255)


def test_hidden_pixels_are_left_out():
    frames = pan(2)
    frames[1][:10] = 0
    fields = motion(2, 2.0)
    assert warped_change(frames, fields) > 0.1
    fields[0][:10] = np.nan
    assert warped_change(frames, fields) == pytest.approx(0, abs=1e-12)


def test_the_ratio_compares_with_the_input():
    inputs = [np.full((20, 16, 3), grey, np.uint8) for grey in (10, 20, 10)]
    outputs = [np.full((20, 16, 3), grey, np.uint8) for grey in (50, 80, 50)]
    found = measure_flicker(iter(outputs), iter(inputs))
    assert found.ratio == pytest.approx(3)
    assert found.warped is None
    assert measure_flicker(outputs, inputs, motion=motion(3, 0)).warped == pytest.approx(30 / 255)
    assert np.isnan(measure_flicker(outputs, [inputs[0]] * 3).ratio)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="fewer than two frames"):
        mean_change([PHOTO])
    with pytest.raises(ValueError, match=r"uint8 \[20, 30, 3\] and uint8 \[19, 30, 3\]"):
        mean_change([PHOTO, PHOTO[1:]])
    with pytest.raises(ValueError, match="expected uint8"):
        mean_change([PHOTO / 255, PHOTO / 255])
    with pytest.raises(ValueError, match=r"motion \[4, 4, 2\] for frames of 20 x 16"):
        warped_change(pan(2), [np.zeros((4, 4, 2))])
    with pytest.raises(ValueError, match="no pixel"):
        warped_change(pan(2), motion(2, 99.0))
