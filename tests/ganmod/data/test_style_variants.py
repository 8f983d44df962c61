"""If this fails, training sees styles of other scales, colours or origin than the configuration says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ganmod.data.crops import CropStream, Pairs
from ganmod.data.style_colors import change_colors, hue_rotation

CROP, SHORT = 16, 64


def stream(purpose: str, enlarge: float = 1.0) -> CropStream:
    """Images whose red channel is their column and whose green one is their row, blue tells the purpose."""
    rows, columns = np.mgrid[:SHORT, : SHORT + 20]
    blue = np.full_like(rows, 200 if purpose == "content" else 50)
    image = np.stack([columns, rows, blue], axis=-1).astype(np.uint8)
    return CropStream(
        [image], purpose=purpose, crop=CROP, short_side=SHORT, seed=0, flip=False, enlarge=enlarge
    )


def sides(enlarge: float, count: int = 400) -> np.ndarray:
    """Of the squares cut out: what a step of one pixel in the crop is in the image, times the crop."""
    found = []
    for i in range(count):
        pixels = stream("style", enlarge).pixels(i).astype(float)
        found.append((pixels[8, 12, 0] - pixels[8, 4, 0]) / 8 * CROP)
    return np.array(found)


def test_enlarged_crops_cover_all_scales_evenly():
    """From crop / enlarge to the short side, evenly on a logarithmic scale; without it from the crop on."""
    found = sides(4.0)
    assert 3 <= found.min() < 5
    assert 60 < found.max() < 66
    middle = np.sqrt(CROP / 4 * SHORT)
    assert 0.4 < (found < middle).mean() < 0.6
    assert sides(1.0, 100).min() > CROP - 1.5


@pytest.mark.parametrize(
    ("shares", "blue"), [({"same_image": 1.0}, 200), ({"photo_styles": 1.0}, 200), ({}, 50)]
)
def test_where_styles_come_from(shares: dict[str, float], blue: int):
    pairs = Pairs(stream("content"), stream("style"), **shares)
    same = 0
    for i in range(10):
        content, style = pairs[i]
        assert content.dtype == style.dtype == torch.uint8
        assert (style[2] == blue).all()
        same += torch.equal(content, style)
    assert same == (10 if "same_image" in shares else 0)


def test_shares_are_shares_and_repeatable():
    pairs = Pairs(stream("content"), stream("style"), photo_styles=0.3, same_image=0.2)
    kinds = [(torch.equal(*pairs[i]), int(pairs[i][1][2, 0, 0])) for i in range(400)]
    assert 0.15 < np.mean([same for same, _ in kinds]) < 0.25
    assert 0.44 < np.mean([blue == 200 for _, blue in kinds]) < 0.56
    assert all(torch.equal(pairs[i][1], pairs[i][1]) for i in range(5))


def test_without_shares_the_style_stream_is_as_it_was():
    style = stream("style")
    pairs = Pairs(stream("content"), style)
    assert torch.equal(pairs[3][1], style[3])


def test_a_turn_of_hues_keeps_greys_and_lengths():
    for angle in (0.3, 2.0, -1.0):
        matrix = hue_rotation(angle).astype(float)
        np.testing.assert_allclose(matrix @ np.ones(3), np.ones(3), atol=1e-6)
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-6)
        assert np.linalg.det(matrix) == pytest.approx(1, abs=1e-6)
    third = hue_rotation(2 * np.pi / 3)
    np.testing.assert_allclose(third @ [1, 0, 0], [0, 1, 0], atol=1e-6)  # red becomes green


def test_changed_colours_keep_the_picture():
    """Brightness stays a rising or, inverted, falling function of what it was; a quarter is grey."""
    ramp = np.repeat(np.linspace(90, 160, 32).astype(np.uint8)[None, :, None], 3, axis=2).repeat(8, axis=0)
    colored = ramp.copy()
    colored[..., 0] += 30
    grey = inverted = 0
    for i in range(300):
        changed = change_colors(colored, np.random.default_rng(i)).astype(int)
        assert changed.shape == colored.shape
        grey += bool((np.ptp(changed, axis=2) <= 1).all())
        steps = np.diff(changed.sum(axis=2)[0])
        assert (steps >= -2).all() or (steps <= 2).all()
        inverted += bool((steps < 0).any() and not (steps > 2).any())
    assert 0.2 < grey / 300 < 0.4  # some are clipped to white or black
    assert 0.08 < inverted / 300 < 0.25
