"""If this fails, whether structure changes evenly between two styles is measured wrongly."""

import numpy as np
import pytest
import torch
from stroke_models import Copies, Draws, Ignores, contestant, grating, smooth_content

from metrics.style.interpolation import WEIGHTS, interpolation_response, score_interpolation
from metrics.style.rotation import Strokes, rotate_style_image

SIZE = 128


@pytest.fixture(scope="module")
def stripes():
    return rotate_style_image("stripes", grating(22, size=256), size=SIZE)


def score(model, style, interpolate):
    (found,) = score_interpolation(
        contestant(model), [smooth_content(SIZE)], [style], interpolate=interpolate
    )
    return found


def test_an_oracle_that_turns_the_strokes_goes_evenly_from_end_to_end(stripes):
    found = score(Draws(), stripes, lambda first, last, weight: 22 + 90 * weight)
    assert found.to_first == pytest.approx([90 * w for w in WEIGHTS], abs=3)  # bins are 5 degrees wide
    assert found.to_last == pytest.approx([90 * (1 - w) for w in WEIGHTS], abs=3)
    assert found.monotone
    assert found.halfway == pytest.approx(0.5, abs=0.04)
    assert found.kept_strength > 0.97


def test_overlaid_ends_are_monotone_too_but_lose_their_direction(stripes):
    found = score(Copies(), stripes, torch.lerp)
    assert found.apart == pytest.approx(90, abs=2)
    assert found.monotone
    assert found.kept_strength < 0.6


def test_a_detour_is_not_monotone(stripes):
    found = score(
        Draws(), stripes, lambda first, last, weight: {0.25: 62, 0.5: 42}.get(weight, 2 + 90 * weight)
    )
    assert found.apart == pytest.approx(90, abs=3)
    assert not found.monotone


def test_ends_that_do_not_differ_leave_no_way_to_go(stripes):
    found = score(Ignores(), stripes, torch.lerp)
    assert found.apart < 0.1
    assert not found.monotone
    assert (found.halfway, found.kept_strength) == pytest.approx((0.5, 1), abs=0.01)


def test_the_predictions_of_both_ends_are_mixed_at_every_weight(stripes):
    mixed = []

    def interpolate(first, last, weight):
        mixed.append(weight)
        assert torch.equal(last[0, 0] * 255, torch.from_numpy(stripes.images[6][..., 0].astype(np.float32)))
        return torch.lerp(first, last, weight)

    score(Copies(), stripes, interpolate)
    assert tuple(mixed) == WEIGHTS


def test_one_result_for_each_weight_is_expected():
    with pytest.raises(ValueError, match="2 results"):
        interpolation_response(0, 0, [Strokes(1j, np.full(36, 1 / 36))] * 2)
