"""If this fails, a mask puts a style in the wrong region, or an unsuitable mask is accepted silently."""

from __future__ import annotations

import time
import warnings

import numpy as np
import pytest
import torch

from ganmod.io.images import ImageError
from style_transfer.masks import color_regions, fit_masks, make_masks

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def bands(*colors: tuple[int, int, int], height: int = 12, width: int = 8) -> np.ndarray:
    """uint8 [height * len(colors),width,3]: one band per colour, from top to bottom."""
    return np.concatenate([np.full((height, width, 3), color, np.uint8) for color in colors])


def test_grey_is_a_blend_of_two() -> None:
    mask = bands((255, 255, 255), (0, 0, 0), (102, 102, 102), height=1)
    first, second = make_masks([mask], 2)
    torch.testing.assert_close(first[:, 0], torch.tensor([1.0, 0.0, 0.4]))
    torch.testing.assert_close(second, 1 - first)


def test_colours_are_taken_from_light_to_dark() -> None:
    mask = bands(BLUE, GREEN, RED, (0, 0, 0))
    for order, band in enumerate((1, 2, 0, 3)):  # green, red, blue, black
        region = make_masks([mask], 4)[order]
        assert region[band * 12 : band * 12 + 12].min() == 1
        assert region.sum() == 12 * 8
    assert torch.equal(make_masks([bands(RED, GREEN)], 2)[0, 12:], torch.ones(12, 8))  # colours for two


def test_smooth_edges_and_jpeg_noise_make_no_region() -> None:
    mask = bands(RED, BLUE, GREEN, height=40, width=100)
    mask[40, :30] = (128, 0, 127)  # between red and blue
    noise = np.random.default_rng(0).integers(-20, 21, mask.shape)
    noisy = (mask + noise).clip(0, 255).astype(np.uint8)
    exact, found = color_regions(mask, 3), color_regions(noisy, 3)
    assert torch.equal(exact[:, 42:], found[:, 42:])
    assert torch.equal(found.sum(dim=0), torch.ones(120, 100))


def test_a_mask_of_many_colours_takes_no_time_to_speak_of() -> None:
    mask = bands(RED, BLUE, GREEN, height=200, width=600)
    mask[::7] ^= np.random.default_rng(0).integers(0, 16, (86, 600, 3), dtype=np.uint8)
    begin = time.process_time()
    regions = color_regions(mask, 3)
    assert time.process_time() - begin < 5  # sorting rows of three takes far longer
    assert [int(region.argmax() // 600) // 200 for region in regions] == [2, 0, 1]


def test_a_mask_per_style_is_divided_by_the_sum() -> None:
    white, grey, black = (np.full((4, 4, 3), value, np.uint8) for value in (255, 51, 0))
    masks = make_masks([white, grey, white], 3)
    torch.testing.assert_close(masks[:, 0, 0], torch.tensor([1, 0.2, 1]) / 2.2)
    with pytest.raises(ImageError, match=r"100\.0% of the pixels are black in all 2 masks"):
        make_masks([black, black], 2)
    with pytest.raises(ImageError, match=r"the masks are 4 x 4, 4 x 2 pixels, expected one size"):
        make_masks([white, white[:, :2]], 2)


def test_a_mask_without_a_region_warns() -> None:
    """It is the limit in which a mask changes nothing, so it is no error."""
    with pytest.warns(UserWarning, match="gives no pixel to style 2 of 2: expected every region to appear"):
        masks = make_masks([np.full((4, 4, 3), 255, np.uint8)], 2)
    assert masks[0].min() == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_masks([bands((255, 255, 255), (0, 0, 0))], 2)


def test_wrong_numbers_of_masks_and_colours_are_refused() -> None:
    mask = bands(RED, GREEN)
    with pytest.raises(
        ValueError, match="got 5 styles and 4 masks: expected one mask per style, or a single"
    ):
        make_masks([mask] * 4, 5)
    with pytest.raises(ValueError, match="got a mask and 1 style, expected two styles at least"):
        make_masks([mask], 1)
    with pytest.raises(ImageError, match=r"has 2 colours \(#00ff00, #ff0000\), expected 3, one per style"):
        make_masks([mask], 3)
    with pytest.raises(ImageError, match=r"the mask has 1 colours \(#ffffff\), expected 3"):
        make_masks([np.full((4, 4, 3), 255, np.uint8)], 3)


def test_masks_fit_any_size_of_their_aspect() -> None:
    masks = make_masks([bands((255, 255, 255), (0, 0, 0), height=30, width=90)], 2)  # 60 x 90
    for height, width in ((60, 90), (120, 180), (37, 56), (16, 24)):
        fitted = fit_masks(masks, height, width)
        assert fitted.shape == (2, height, width)
        torch.testing.assert_close(fitted.sum(dim=0), torch.ones(height, width))
        torch.testing.assert_close(fitted.mean(dim=(1, 2)), torch.tensor([0.5, 0.5]), rtol=0, atol=0.01)
    full = torch.stack([torch.ones(60, 90), torch.zeros(60, 90)])
    assert torch.equal(fit_masks(full, 37, 56)[0], torch.ones(37, 56))  # exactly
    for height, width in ((90, 60), (60, 94), (64, 64)):
        with pytest.raises(ImageError, match=f"the mask is 60 x 90 pixels, the content {height} x {width}"):
            fit_masks(masks, height, width)
