"""If this fails, a style is rotated, scaled or coloured differently than requested, or gets black corners."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from orientations import mean_orientation, orientation_difference
from torch import Tensor

from style_transfer.color import match_color, match_luma, shift_chroma, to_luma, with_luma
from style_transfer.prepare import prepare_style, resize_content, rotate_style_tensor
from style_transfer.procedural_styles import draw_style

SIZE = 64


def waves(height: int, width: int, period: float) -> Tensor:
    """Upright waves with a crest at the centre, [1,3,H,W]."""
    at = torch.arange(width) - (width - 1) / 2
    return (0.5 + 0.4 * torch.cos(2 * torch.pi * at / period)).expand(1, 3, height, width)


@pytest.mark.parametrize("degrees", [0.0, 30.0, 90.0, 137.0, -45.0])
@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_strokes_turn_by_the_angle_and_widen_by_the_scale(degrees: float, scale: float) -> None:
    """Against waves drawn at that angle and period, inside the rotated image's border."""
    period = 12.0
    turned = rotate_style_tensor(waves(SIZE, SIZE, period), SIZE, degrees=degrees, scale=scale)
    steps = torch.arange(SIZE) - (SIZE - 1) / 2
    down, right = torch.meshgrid(steps, steps, indexing="ij")
    angle = np.radians(degrees)
    along = right * np.cos(angle) - down * np.sin(angle)  # counter-clockwise, and down is positive
    expected = 0.5 + 0.4 * torch.cos(2 * torch.pi * along / (period * scale))
    inside = (right.square() + down.square()).sqrt() < min(scale, 1.0) * SIZE / 2 - 3
    assert (turned[0] - expected).abs()[:, inside].max() < 0.02


def test_no_corner_is_black() -> None:
    white = torch.ones(1, 3, 50, 90)
    for degrees in (1, 45, 200):
        assert rotate_style_tensor(white, SIZE, degrees=degrees, scale=0.7).min() > 0.999


def test_a_turned_drawing_has_the_direction_of_one_drawn_at_that_angle() -> None:
    upright = torch.from_numpy(draw_style("stripes", 128)).movedim(-1, 0)[None] / 255
    for degrees in (20, 110):
        turned = rotate_style_tensor(upright, SIZE, degrees=degrees)[0].permute(1, 2, 0).double().numpy()
        drawn = mean_orientation(draw_style("stripes", 128, angle=degrees))[0]
        assert orientation_difference(mean_orientation(turned)[0], drawn) < 3


@pytest.mark.parametrize("turned", [False, True])
def test_strips_are_not_enlarged_without_end(turned: bool) -> None:
    """A strip of 1000 : 1 brought to 512 pixels would take 12 GB."""
    for width, short, long in ((32 * 1000, 16, 16_000), (32 * 64, 128, 128 * 64), (32 * 16, 512, 512 * 16)):
        strip = torch.rand(1, 3, 32, width)
        strip = strip.transpose(2, 3) if turned else strip
        out = rotate_style_tensor(strip, 512, whole=True)
        assert sorted(out.shape[2:]) == [short, long]


@pytest.mark.parametrize("size", [20_000, 1 << 40])
def test_pictures_are_not_enlarged_beyond_the_limit(size: int) -> None:
    message = rf"enlarged to {size} x {size} pixels has [0-9.,e+]+ megapixels, and the limit is 178: if that"
    with pytest.raises(ValueError, match=message):
        resize_content(torch.zeros(1, 3, 16, 16), size)


def test_whole_turns_are_the_prepared_style() -> None:
    style = torch.rand(2, 3, 70, 100)
    for degrees in (0, 360, -360, 3600):
        assert torch.equal(rotate_style_tensor(style, SIZE, degrees=degrees), prepare_style(style, SIZE))
    nearly = rotate_style_tensor(style, SIZE, degrees=1e-4)
    assert (nearly - prepare_style(style, SIZE)).abs().max() < 1e-3  # no jump


def covariance(images: Tensor) -> Tensor:
    return torch.cov(images[0].flatten(1).double(), correction=0)


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    """A style and a content with different colours, well inside [0,1]."""
    generator = torch.Generator().manual_seed(0)
    style, content = (0.02 * torch.randn(1, 3, 40, 50, generator=generator) for _ in range(2))
    mix = torch.tensor([[1.0, 0.3, 0.0], [0.2, 0.8, 0.4], [0.0, -0.5, 1.2]])
    content = torch.einsum("ij,njhw->nihw", mix, content)
    return style + 0.6, content + torch.tensor([0.5, 0.3, 0.4])[:, None, None]


def test_coral_gives_the_contents_mean_and_covariance(pair: tuple[Tensor, Tensor]) -> None:
    style, content = pair
    matched = match_color(style, content, eps=0.0)
    torch.testing.assert_close(matched.mean(dim=(2, 3)), content.mean(dim=(2, 3)), rtol=0, atol=1e-6)
    torch.testing.assert_close(covariance(matched), covariance(content), rtol=1e-4, atol=1e-8)
    torch.testing.assert_close(match_color(style, style), style, rtol=0, atol=1e-6)
    grey_style = style[:, :1].expand_as(style)
    assert (match_color(grey_style, content) - content.mean(dim=(2, 3), keepdim=True)).abs().max() < 0.25


def test_luma_is_matched_in_mean_and_deviation(pair: tuple[Tensor, Tensor]) -> None:
    style, content = pair
    matched = match_luma(style, content)
    assert torch.equal(matched[:, 0], matched[:, 2])
    for statistic in (torch.mean, torch.std):
        torch.testing.assert_close(
            statistic(to_luma(matched)), statistic(to_luma(content)), rtol=1e-3, atol=1e-6
        )
    flat = torch.full((1, 3, 8, 8), 0.2)
    torch.testing.assert_close(to_luma(match_luma(flat, content)).mean(), to_luma(content).mean())


def test_luma_of_one_and_chroma_of_the_other() -> None:
    content, stylized = (torch.rand(2, 3, 9, 9, generator=torch.Generator().manual_seed(i)) for i in (0, 1))
    joined = with_luma(content, stylized)
    assert joined.min() > -1e-6
    assert joined.max() < 1 + 1e-6
    torch.testing.assert_close(joined - to_luma(joined), content - to_luma(content), rtol=0, atol=1e-6)
    calm = 0.5 + 0.1 * (content - 0.5)  # whose chroma fits at any luma
    wanted = 0.25 + 0.5 * stylized
    torch.testing.assert_close(to_luma(with_luma(calm, wanted)), to_luma(wanted), rtol=0, atol=1e-6)


def test_a_shift_of_chroma_makes_up_for_the_gamuts_border() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 30, 30, generator=generator).square()  # many values near 0
    content = torch.rand(2, 3, 30, 30, generator=generator) * torch.tensor([1.0, 0.5, 0.4])[:, None, None]
    shifted = shift_chroma(images, content)
    found, wanted = ((x - to_luma(x)).mean(dim=(2, 3)) for x in (shifted, content))
    assert (found - wanted).abs().max() < 0.5 / 255
    assert 0 <= shifted.min() <= shifted.max() <= 1
