"""If this fails, a control of stylisation changes a picture where it must not, or does something else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_style_model import KINDS, SIZE, TRANSFORMS, make
from torch import Tensor

from ganmod.io.images import ImageError
from style_transfer import ControlledStyle, Controls, StyleTransferModel, load, make_masks
from style_transfer.controls import PreserveColor
from style_transfer.procedural_styles import builtin_contents, draw_style

PHOTOS = builtin_contents()
SIDE = 64  # pixels, short side of the results of the shipped model


@pytest.fixture(scope="module")
def shipped() -> StyleTransferModel:
    return load()


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest) -> StyleTransferModel:
    return make(request.param)


def picture(seed: int, height: int = 44, width: int = 60) -> Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))


CONTENT, A, B, C = picture(0), picture(1, 80, 96), picture(2, SIZE, SIZE), picture(3, 100, 70)


# Where nothing may change.


def test_controls_as_they_stand_are_plain_stylisation(model: StyleTransferModel) -> None:
    assert torch.equal(ControlledStyle(model, [A]).apply(CONTENT), model.stylize(CONTENT, A))
    photo = (CONTENT.permute(1, 2, 0) * 255).byte().numpy()
    result = ControlledStyle(model, [A]).apply(photo, size=24)
    np.testing.assert_array_equal(result, model.stylize(photo, A, size=24))
    half = ControlledStyle(model, [A], controls=Controls(alpha=0.5)).apply(CONTENT)
    assert torch.equal(half, model.stylize(CONTENT, A, alpha=0.5))


def test_weight_1_is_the_single_style(model: StyleTransferModel) -> None:
    plain = model.stylize(CONTENT, A)
    for weights in ([1, 0, 0], [7, 0, 0]):
        assert torch.equal(ControlledStyle(model, [A, B, C], weights=weights).apply(CONTENT), plain)
    mixed = ControlledStyle(model, [A, A, A], weights=[0.2, 0.3, 0.5]).apply(CONTENT)
    torch.testing.assert_close(mixed, plain, rtol=0, atol=1e-5)


def test_one_style_at_all_scales_is_plain() -> None:
    model = make("adaconv")
    plain = model.stylize(CONTENT, A)
    for at in ({(1, 2, 3, 4): A}, {(1, 3): A, (2, 4): A}):
        assert torch.equal(ControlledStyle(model, [], style_at=at).apply(CONTENT), plain)
    assert torch.equal(ControlledStyle(model, [A], style_at={(2,): A}).apply(CONTENT), plain)


def test_a_full_mask_is_no_mask(model: StyleTransferModel) -> None:
    full = torch.zeros(3, 44, 60)
    full[1] = 1
    masked = ControlledStyle(model, [A, B, C], masks=full).apply(CONTENT)
    torch.testing.assert_close(masked, model.stylize(CONTENT, B), rtol=0, atol=1e-6)


def test_one_style_in_all_regions_is_plain(model: StyleTransferModel) -> None:
    masks = torch.softmax(picture(4), dim=0)
    masked = ControlledStyle(model, [A, A, A], masks=masks).apply(CONTENT)
    torch.testing.assert_close(masked, model.stylize(CONTENT, A), rtol=0, atol=1e-5)


@pytest.mark.parametrize("degrees", [0, 360, -720])
def test_a_whole_turn_is_none(model: StyleTransferModel, degrees: float) -> None:
    turned = ControlledStyle(model, [A], controls=Controls(rotate_style=degrees)).apply(CONTENT)
    assert torch.equal(turned, model.stylize(CONTENT, A))


def chroma(image: np.ndarray) -> np.ndarray:
    """Mean RGB minus luma, in grey levels."""
    mean = image.reshape(-1, 3).mean(axis=0)
    return mean - mean @ [0.299, 0.587, 0.114]


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("kind", ["luminance", "coral"])
def test_preserved_colours_have_the_contents_mean_chroma(
    shipped: StyleTransferModel, name: str, kind: PreserveColor
) -> None:
    photo = PHOTOS[name][::4, ::4]
    for style in (draw_style("stripes"), draw_style("mosaic", seed=4)):
        result = ControlledStyle(shipped, [style], controls=Controls(preserve_color=kind)).apply(photo)
        assert np.abs(chroma(result) - chroma(photo)).max() <= 1
        assert np.abs(chroma(shipped.stylize(photo, style)) - chroma(photo)).max() > 1  # it had to


# What the controls do.


def test_mixed_parameters_are_their_weighted_mean(model: StyleTransferModel) -> None:
    weights = [1, 3]  # normalised
    (mixed,) = ControlledStyle(model, [A, B], weights=weights).params(CONTENT)
    (equal,) = ControlledStyle(model, [A, B]).params(CONTENT)
    for i, (a, b) in enumerate(zip(model.predict_style(A), model.predict_style(B), strict=True)):
        for j, (x, y) in enumerate(zip(a, b, strict=True)):
            torch.testing.assert_close(mixed[i][j], 0.25 * x + 0.75 * y)
            torch.testing.assert_close(equal[i][j], (x + y) / 2)


def test_each_scale_has_the_parameters_of_its_own_style() -> None:
    model = make("adaconv")
    (picked,) = ControlledStyle(model, [C], style_at={(1, 2): A, (4,): B}).params(CONTENT)
    a, b, c = (model.predict_style(style) for style in (A, B, C))
    for scale, source in enumerate((a, a, c, b)):
        assert all(torch.equal(x, y) for x, y in zip(picked[scale], source[scale], strict=True))
    assert [p.bias.shape[1] for p in picked] == list(model.spec.encoder_widths[::-1])  # 1 is the coarse one


def test_each_region_has_its_own_style_away_from_the_border(shipped: StyleTransferModel) -> None:
    """Statistics are global, so a region is near, not equal to, the result of its style alone."""
    photo = PHOTOS["coffee"][:256, :256]
    styles = [draw_style("stripes"), draw_style("dots", seed=1)]
    mask = np.zeros((256, 256, 3), np.uint8)
    mask[:, :128] = 255
    result = ControlledStyle(shipped, styles, masks=make_masks([mask], 2)).apply(photo).astype(float)
    alone = [shipped.stylize(photo, style).astype(float) for style in styles]
    halves = (slice(0, 80), slice(176, 256))  # columns
    for own, half in enumerate(halves):
        near, far = (np.abs(result[:, half] - alone[i][:, half]).mean() for i in (own, 1 - own))
        assert near < 0.5 * far


@torch.no_grad()
def test_regions_blend_modulated_features_with_statistics_of_the_whole() -> None:
    """Of the first scale, written out: sum of mask times (scale * IN(x) + shift), then the convolution."""
    model = make("adain").double()
    layer = model.decoder.first[0]
    x = torch.rand(1, 8, 6, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    masks = torch.rand(1, 2, 12, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    masks = masks / masks.sum(dim=1, keepdim=True)
    params = [model.predict_style(style.double())[0] for style in (A, B)]
    normal = (x - x.mean(dim=(2, 3), keepdim=True)) / (
        x.var(dim=(2, 3), keepdim=True, correction=0) + 1e-5
    ).sqrt()
    shares = masks.unflatten(2, (6, 2)).unflatten(4, (10, 2)).mean(dim=(3, 5))
    blended = sum(
        shares[:, i, None] * (normal * p.scale[..., None, None] + p.shift[..., None, None])
        for i, p in enumerate(params)
    )
    expected = layer.activation(layer.conv(blended) + layer.bias[:, None, None])  # type: ignore
    torch.testing.assert_close(layer.apply_regions(x, params, masks), expected)  # type: ignore[operator]


@torch.no_grad()
def test_alpha_takes_the_picture_away_from_the_content_step_by_step(shipped: StyleTransferModel) -> None:
    """LPIPS's distance (Zhang et al. 2018, Eq. 1, weights 1) in the model's encoder, mean over pairs."""

    def distance(a: Tensor, b: Tensor) -> float:
        total = 0.0
        pairs = (shipped.encoder.normalized(i[None]) for i in (a, b))
        for x, y in zip(*(features.values() for features in pairs), strict=True):
            x, y = (f / (f.norm(dim=1, keepdim=True) + 1e-10) for f in (x, y))
            total += (x - y).square().sum(dim=1).mean().item()
        return total

    photos = [
        torch.from_numpy(PHOTOS[name][:128, :128]).movedim(-1, 0) / 255 for name in ("coffee", "rocket")
    ]
    means = []
    for alpha in (0, 0.25, 0.5, 0.75, 1):
        controlled = [
            ControlledStyle(shipped, [draw_style(name)], controls=Controls(alpha=alpha))
            for name in ("mosaic", "brush_strokes")
        ]
        found = [distance(style.apply(photo), photo) for style in controlled for photo in photos]
        means.append(sum(found) / len(found))
    assert means == sorted(means)
    assert means[-1] > 1.5 * means[0]


# What is refused.


@pytest.mark.parametrize("kind", KINDS)
def test_models_of_one_place_mix_by_weights_and_masks_but_not_per_scale(kind: str) -> None:
    model = make(kind)
    mixed = ControlledStyle(model, [A, B], weights=[1, 1]).apply(CONTENT)
    assert (mixed - model.stylize(CONTENT, A)).abs().max() > 0
    per_scale = ControlledStyle(model, [A], style_at={(1,): B})
    if kind in ("classic", *TRANSFORMS):
        with pytest.raises(ValueError, match=r"elsewhere \(the classic AdaIN model.*mix by weights"):
            per_scale.apply(CONTENT)
    else:
        assert (per_scale.apply(CONTENT) - model.stylize(CONTENT, A)).abs().max() > 0


@pytest.mark.parametrize(
    ("controls", "message"),
    [
        ({"alpha": 1.5}, r"alpha is 1\.5, expected a number from 0 \(content\) to 1 \(style\)"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"rotate_style": float("inf")}, "rotate_style is inf, expected an angle in degrees, such as 45"),
        ({"style_scale": 0}, r"style_scale is 0, expected 0\.1 to 10\.0: 2 for strokes twice as wide"),
        ({"preserve_color": "hue"}, "preserve_color is 'hue', expected one of none, luminance, coral"),
    ],
)
def test_values_out_of_range_are_refused(controls: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Controls(**controls)  # type: ignore[arg-type]


def test_combinations_that_say_nothing_are_refused() -> None:
    model, masks = make("adain"), torch.full((4, 8, 8), 0.25)
    cases: list[tuple[dict[str, object], str]] = [
        ({"styles": []}, "got no style, expected one at least"),
        ({"styles": [A] * 5, "masks": masks}, "got 5 styles and 4 masks, expected one mask per style"),
        ({"styles": [A] * 4, "masks": masks, "weights": [1] * 4}, "masks together with weights"),
        ({"styles": [A, B], "weights": [1]}, "got 2 styles and 1 weights, expected one weight per style"),
        ({"styles": [A, B], "weights": [1, -1]}, r"weights are \[1, -1\], expected numbers from 0 up"),
        ({"styles": [A, B], "weights": [0, 0]}, "one at least above 0"),
        (
            {"styles": [A], "style_at": {(1, 2): A, (2,): B}},
            "scale 2 has two styles, expected each scale once",
        ),
        ({"styles": [], "style_at": {(1, 2): A}}, "scale 3, 4 has no style, expected one for each of 1 to 4"),
        ({"styles": [A], "style_at": {(0,): A}}, "got a style at scale 0, expected scales 1"),
        ({"styles": [torch.stack([A, A])]}, "a style is a batch of 2 images, expected one"),
        ({"styles": [A[:, :8, :8]]}, "style is 8 x 8 pixels, expected at least 16 x 16: give a larger image"),
    ]
    for arguments, message in cases:
        styles = arguments.pop("styles")
        with pytest.raises(ValueError, match=message):
            ControlledStyle(model, styles, **arguments)  # type: ignore[arg-type]


def test_masks_of_another_aspect_are_refused() -> None:
    masked = ControlledStyle(make("adain"), [A, B], masks=torch.full((2, 44, 88), 0.5))
    with pytest.raises(ImageError, match=r"the mask is 44 x 88 pixels, the content 44 x 60: expected one"):
        masked.apply(CONTENT)
