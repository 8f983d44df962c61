"""If this fails, a part of a style counts in another way than requested, or the classic model mixes badly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_style_model import SIZE, decode_plainly, make, tiny
from torch import Tensor

from ganmod.io.images import ImageError
from ganmod.modulation.statistics import mean_std, mean_variance, weighted_mean_variance
from style_transfer import ControlledStyle, Controls, StyleTransferModel
from style_transfer.color import match_color, match_luma, to_luma
from style_transfer.masks import pool_mask, style_mask
from style_transfer.networks.residual_host import StatisticsStyleEncoder
from style_transfer.piecewise.tiled import stylize_tiled
from style_transfer.piecewise.video import ClipStylizer
from style_transfer.prepare import crop_style
from style_transfer.procedural_styles import draw_style

STATISTICAL = ("residual", "classic")


@pytest.fixture(params=STATISTICAL)
def model(request: pytest.FixtureRequest) -> StyleTransferModel:
    return tiny(request.param)


def picture(seed: int, height: int, width: int) -> Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))


def assert_same(first: list[Any], second: list[Any], atol: float = 1e-6) -> None:
    for a, b in zip(first, second, strict=True):
        for x, y in zip(a, b, strict=True):
            torch.testing.assert_close(x, y, rtol=0, atol=atol)


def distance(first: list[Any], second: list[Any]) -> float:
    """Root mean square of all differences."""
    squares = [
        (x - y).square().mean() for a, b in zip(first, second, strict=True) for x, y in zip(a, b, strict=True)
    ]
    return float(torch.stack(squares).mean().sqrt())


# Weighted statistics.


def test_weights_count_pixels_as_often() -> None:
    """Weights 0, 1/2 and 1 against the pixels left out, given once and given twice."""
    x = torch.randn(2, 3, 4, 6, dtype=torch.float64)
    weights = torch.tensor([0, 0.5, 1, 1, 0, 0.5], dtype=torch.float64).expand(1, 1, 4, 6)
    repeated = x[..., [1, 2, 2, 3, 3, 5]]
    for found, expected in zip(weighted_mean_variance(x, weights), mean_variance(repeated), strict=True):
        torch.testing.assert_close(found, expected)
    binary = (weights > 0.5).double()
    chosen = x[..., [2, 3]]
    mean, std = mean_std(x, unbiased=True, weights=binary)
    torch.testing.assert_close(mean, chosen.mean(dim=(2, 3), keepdim=True))
    expected_std = (chosen.var(dim=(2, 3), keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(std, expected_std)


def test_one_pixel_has_no_deviation() -> None:
    weights = torch.zeros(1, 1, 4, 6)
    weights[..., 2, 3] = 0.25
    x = torch.randn(2, 3, 4, 6)
    mean, std = mean_std(x, unbiased=True, weights=weights)
    torch.testing.assert_close(mean[..., 0, 0], x[..., 2, 3])
    torch.testing.assert_close(std, torch.full_like(std, 1e-5**0.5), rtol=1e-3, atol=0)


@torch.no_grad()
def test_means_deviations_and_covariances_are_pooled_inside_the_mask() -> None:
    """W of masked features against W of the features that are left, each column as often as it counts."""
    torch.manual_seed(0)
    encoder = StatisticsStyleEncoder((4, 6), style_dim=3, descriptor_size=3).double()
    features = {name: torch.randn(2, c, 8, 6).double() for name, c in (("relu1_1", 4), ("relu2_1", 6))}
    encoder.calibrate(lambda images: features)
    mask = torch.tensor([0, 0.5, 1, 1, 0, 0.5]).double().expand(1, 1, 8, 6)
    left = {name: x[..., [1, 2, 2, 3, 3, 5]] for name, x in features.items()}
    torch.testing.assert_close(encoder(features, mask), encoder(left))
    assert (encoder(features, mask) - encoder(features)).abs().max() > 1e-3


def test_a_mask_comes_to_the_features_size_by_area() -> None:
    mask = torch.zeros(1, 1, 16, 24)
    mask[..., 5, :] = 1
    pooled = pool_mask(mask, torch.zeros(1, 7, 2, 3))
    assert torch.equal(pooled, torch.tensor([1 / 8, 0.0])[:, None].expand(1, 1, 2, 3))


# Models.


def test_a_mask_of_ones_is_no_mask(model: StyleTransferModel) -> None:
    style = picture(0, 64, 100)[None]
    ones = torch.ones(1, 1, 64, 100)
    assert_same(model.predict(style, ones), model.predict(style))
    assert_same(model.predict(style, 0.3 * ones), model.predict(style))  # shares, not amounts
    plain = ControlledStyle(model, [style]).apply(picture(1, 40, 48))
    white = np.full((64, 100, 3), 255, np.uint8)
    masked = ControlledStyle(model, [style], style_masks=[white]).apply(picture(1, 40, 48))
    torch.testing.assert_close(masked, plain, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", STATISTICAL)
@pytest.mark.parametrize("half", [0, 1])
def test_a_mask_over_one_half_gives_the_style_of_that_half(kind: str, half: int) -> None:
    model = tiny(kind)
    side = 192
    parts = [
        torch.from_numpy(draw_style(name, side)).movedim(-1, 0)[None] / 255 for name in ("stripes", "dots")
    ]
    both = torch.cat(parts, dim=3)
    mask = torch.zeros(1, 1, side, 2 * side)
    mask[..., half * side : (half + 1) * side] = 1
    found, own, other = model.predict(both, mask), model.predict(parts[half]), model.predict(parts[1 - half])
    # Features reach over the border, 30 pixels of 192.
    assert distance(found, own) < 0.3 * distance(other, own)
    features = model.encoder.normalized(both)
    widths = {name: x.shape[3] // 2 for name, x in features.items()}
    cut = {
        name: x[..., half * widths[name] : (half + 1) * widths[name]].contiguous()
        for name, x in features.items()
    }
    assert_same(found, model.predict_from_features(cut), atol=1e-5)  # but for that, no difference


def test_what_lies_far_outside_the_mask_does_not_count(model: StyleTransferModel) -> None:
    style, content = picture(0, SIZE, 192), picture(1, 40, 48)
    changed = style.clone()
    changed[..., 128:] = picture(2, SIZE, 64) ** 4  # beyond the reach of relu4_1, 30 pixels
    mask = torch.zeros(SIZE, 192)
    mask[:, :80] = 1
    for color in ("none", "luminance", "coral"):
        controls = Controls(preserve_color=color)  # type: ignore[arg-type]
        styled = [
            ControlledStyle(model, [s], style_masks=[mask], controls=controls) for s in (style, changed)
        ]
        assert_same(styled[0].params(content)[0], styled[1].params(content)[0], atol=1e-5)
    assert distance(model.predict(style[None]), model.predict(changed[None])) > 1e-3


@pytest.mark.parametrize("place", [np.s_[:, -1:, :], np.s_[:, :, :1], np.s_[:, 36, 70]])
def test_a_row_or_a_pixel_is_a_part_too(model: StyleTransferModel, place: Any) -> None:
    mask = torch.zeros(1, 1, 73, 101)
    mask[0][place] = 1
    flat = torch.full((1, 3, 73, 101), 0.3)
    assert_same(model.predict(flat, mask), model.predict(flat), atol=1e-4)
    assert all(x.isfinite().all() for p in model.predict(picture(0, 73, 101)[None], mask) for x in p)
    large = np.zeros((1460, 2020), np.uint8)
    large[700] = 255
    styled = ControlledStyle(model, [picture(0, 73, 101)], style_masks=[large]).apply(picture(1, 40, 48))
    assert styled.isfinite().all()


def test_a_mask_turns_with_its_style(model: StyleTransferModel) -> None:
    style, content = picture(0, SIZE, SIZE), picture(1, 40, 48)
    mask = torch.zeros(SIZE, SIZE)
    mask[:32, :48] = 1
    turned = ControlledStyle(model, [style], style_masks=[mask], controls=Controls(rotate_style=90))
    upright = ControlledStyle(model, [style.rot90(1, (1, 2))], style_masks=[mask.rot90()])
    assert_same(turned.params(content)[0], upright.params(content)[0], atol=1e-4)


def test_styles_have_masks_of_their_own_or_one_for_all(model: StyleTransferModel) -> None:
    styles, content = [picture(0, 64, 64), picture(1, 128, 128)], picture(2, 40, 48)
    masks = [torch.zeros(64, 64), torch.zeros(64, 64)]
    masks[0][:32], masks[1][:, :32] = 1, 1

    def alone(i: int, mask: Tensor | None) -> list[Any]:
        return ControlledStyle(model, [styles[i]], style_masks=[mask]).params(content)[0]

    def mix(given: list[Any]) -> list[Any]:
        return ControlledStyle(model, styles, weights=[1, 1], style_masks=given).params(content)[0]

    def mean(first: list[Any], second: list[Any]) -> list[Any]:
        return [
            type(a)(*((x + y) / 2 for x, y in zip(a, b, strict=True)))
            for a, b in zip(first, second, strict=True)
        ]

    assert_same(mix(masks), mean(alone(0, masks[0]), alone(1, masks[1])))
    assert_same(mix([masks[0]]), mean(alone(0, masks[0]), alone(1, masks[0])))
    assert_same(mix([None, masks[1]]), mean(alone(0, None), alone(1, masks[1])))
    with pytest.raises(
        ValueError, match="got 2 styles and 3 style masks, expected one for each or one for all"
    ):
        mix([None] * 3)


def test_masks_that_leave_nothing_or_do_not_fit_are_refused(model: StyleTransferModel) -> None:
    style = picture(0, SIZE, 96)
    for mask, message in (
        (torch.zeros(1, 1, SIZE, 96), "the style mask is 0 everywhere"),
        (torch.ones(1, 1, SIZE, 95), r"the style mask is \[1, 1, 64, 95\], expected \[1, 1, 64, 96\]"),
        (torch.full((1, 1, SIZE, 96), 1.5), r"has values beyond \[0, 1\]"),
        (torch.full((1, 1, SIZE, 96), float("nan")), r"has values beyond \[0, 1\]"),
    ):
        with pytest.raises(ValueError, match=message):
            model.predict(style[None], mask)
    corner = torch.zeros(SIZE, 96)
    corner[:4, :4] = 1
    enlarged = Controls(style_scale=4)  # cut at twice the size
    with pytest.raises(ValueError, match=r"turned or enlarged is cut at its border"):
        ControlledStyle(model, [style], style_masks=[corner], controls=enlarged).params(picture(1, 32, 32))


def test_pictures_that_are_no_mask_of_a_style_are_refused() -> None:
    for image, message in (
        (np.zeros((8, 12), np.uint8), "black everywhere, expected white where the style counts"),
        (np.full((8, 8, 3), 255, np.uint8), r"the mask is 8 x 8 pixels, the style 80 x 120: expected one"),
        (np.ones((8, 12)), r"is ndarray float64 \[8, 12\], expected uint8 \[H, W\]"),
        (torch.full((8, 12), 2.0), r"floats \[H, W\] in \[0, 1\]"),
    ):
        with pytest.raises(ImageError, match=message):
            style_mask(image, 80, 120)
    half = np.zeros((8, 12, 3), np.uint8)
    half[:, :6] = 255
    assert torch.equal(style_mask(half, 8, 12), torch.tensor([1.0] * 6 + [0] * 6).expand(1, 1, 8, 12))
    larger = style_mask(half, 80, 120)
    assert larger.shape == (1, 1, 80, 120)
    assert torch.equal(larger[0, 0, 40, [0, 50, 70, 119]], torch.tensor([1.0, 1, 0, 0]))


def test_colours_are_matched_by_those_inside_the_mask() -> None:
    style, content = 0.4 + 0.1 * picture(0, 20, 30)[None], 0.3 + 0.1 * picture(1, 16, 16)[None]
    style[..., 15:] *= 0.5
    mask = torch.zeros(1, 1, 20, 30)
    mask[..., :15] = 1
    for match in (match_luma, match_color):
        torch.testing.assert_close(match(style, content, mask)[..., :15], match(style[..., :15], content))
    inside = to_luma(match_luma(style, content, mask))[..., :15]
    torch.testing.assert_close(inside.mean(), to_luma(content).mean())


# The size of styles, and models of a fixed one.


def test_styles_come_to_the_size_asked_for_at_their_own_aspect(model: StyleTransferModel) -> None:
    style = picture(0, 200, 300)[None]
    assert model.prepare_style(style).shape == (1, 3, 64, 96)
    assert model.prepare_style(style, size=100).shape == (1, 3, 100, 150)
    assert model.prepare_mask(style[:, :1], size=100).shape == (1, 1, 100, 150)
    expected = F.interpolate(style, size=(100, 150), mode="bicubic", antialias=True).clamp(0, 1)
    assert_same(model.predict_style(style, size=100), model.predict(expected))
    (found,) = ControlledStyle(model, [style], style_size=100).params(picture(1, 32, 32))
    assert_same(found, model.predict(expected))
    square, double = style[..., :200], Controls(style_scale=2)  # which cuts off what is longer
    (doubled,) = ControlledStyle(model, [square], controls=double).params(picture(1, 32, 32))
    assert_same(doubled, model.predict_style(square, size=2 * SIZE), atol=1e-4)
    with pytest.raises(ValueError, match="style_size is 15 pixels, expected at least 16"):
        model.prepare_style(style, size=15)


def test_models_of_a_fixed_size_say_which_take_masks_and_sizes() -> None:
    model, style = make("adain"), picture(0, SIZE, SIZE)
    which = r"the architecture 'modulated' sees styles of 64 x 64 pixels.*'residual' or 'classic'"
    with pytest.raises(ValueError, match=f"got a style mask, but {which}"):
        ControlledStyle(model, [style], style_masks=[torch.ones(SIZE, SIZE)])
    with pytest.raises(ValueError, match=f"got a style mask, but {which}"):
        model.predict(style[None], torch.ones(1, 1, SIZE, SIZE))
    with pytest.raises(ValueError, match=f"style_size is 128, but {which}"):
        ControlledStyle(model, [style], style_size=128)


def test_crops() -> None:
    image = np.arange(40 * 60 * 3, dtype=np.uint16).astype(np.uint8).reshape(40, 60, 3)
    np.testing.assert_array_equal(crop_style(image, (5, 10, 30, 20)), image[10:30, 5:35])
    np.testing.assert_array_equal(crop_style(image, (0, 0, 60, 40)), image)
    size = "the picture is 60 wide and 40 high"
    for rectangle, fault in (
        ((31, 0, 30, 20), "beyond the picture"),
        ((0, 21, 30, 20), "beyond the picture"),
        ((-1, 0, 30, 20), "beyond the picture"),
        ((0, 0, 15, 20), "too small"),
        ((0, 0, 20, 0), "too small"),
    ):
        with pytest.raises(ImageError, match=f"{fault}: {size}"):
            crop_style(image, rectangle)


# The classic model.


def pad(content: Tensor) -> Tensor:
    return F.pad(content[None], (0, -content.shape[2] % 8, 0, -content.shape[1] % 8), mode="reflect")


@torch.no_grad()
def test_alpha_mixes_the_classic_models_features() -> None:
    """g((1 - a) f(c) + a t), t: f(c) with the style's statistics (Huang & Belongie 2017, Eq. 14).

    The content is larger than style_image_size, and no square: its features count at its own size.
    """
    model, content, style = make("classic"), picture(0, 90, 130), picture(1, 70, 100)
    x, y = model.encode(pad(content)), model.encode(model.prepare_style(style[None]))
    mean, std = ([f(i) for i in (x, y)] for f in (_mean, _std))
    target = (x - mean[0]) / std[0] * std[1] + mean[1]
    for alpha in (0.0, 0.3, 1.0):
        expected = decode_plainly(model, (1 - alpha) * x + alpha * target)[0, :, :90, :130].clamp(0, 1)
        found = model.stylize(content, style, alpha=alpha)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
        controlled = ControlledStyle(model, [style], controls=Controls(alpha=alpha))
        assert torch.equal(controlled.apply(content), found)
        (params,) = controlled.params(content)
        tiles = stylize_tiled(model, content, params, tile=32)
        torch.testing.assert_close(tiles, expected, rtol=0, atol=1e-4)
    plain = decode_plainly(model, x)[0, :, :90, :130].clamp(0, 1)
    masks = torch.full((2, 90, 130), 0.5)
    regions = ControlledStyle(model, [style, content], masks=masks, controls=Controls(alpha=0))
    torch.testing.assert_close(regions.apply(content), plain, rtol=0, atol=1e-5)


def _mean(x: Tensor) -> Tensor:
    return x.mean(dim=(2, 3), keepdim=True)


def _std(x: Tensor) -> Tensor:
    return (x.var(dim=(2, 3), keepdim=True) + 1e-5).sqrt()


@torch.no_grad()
def test_alpha_0_leaves_every_frame_of_a_clip_to_the_classic_models_autoencoder() -> None:
    model = make("classic")
    frames = [(picture(seed, 48, 64).movedim(0, -1) * 255).byte().numpy() for seed in (0, 1)]
    controls = Controls(alpha=0)
    (params,) = ControlledStyle(model, [picture(2, 70, 100)], controls=controls).params(frames[0])
    stylizer = ClipStylizer(model, smoothing=0, blend=0)
    for frame in frames:
        x = model.encode(torch.from_numpy(frame).movedim(-1, 0)[None] / 255)
        expected = decode_plainly(model, x)[0].clamp(0, 1).movedim(0, -1) * 255
        assert np.abs(stylizer(frame, params).astype(float) - expected.numpy()).max() < 0.51


@torch.no_grad()
def test_the_classic_model_takes_the_whole_style() -> None:
    """Short side style_image_size, own aspect, nothing cut off."""
    model = make("classic")
    style = picture(0, 64, 160)
    (params,) = model.predict_style(style)
    y = model.encoder.normalized(style[None])["relu4_1"]
    torch.testing.assert_close(params.mean, _mean(y))
    torch.testing.assert_close(params.std, _std(y))
