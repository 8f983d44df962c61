"""If this fails, feature transforms do not fit their host: the decoder, strength, masks, tiles, refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_style_model import SIZE, make
from torch import Tensor

from configs.schema import load_style_config
from ganmod.modulation import list_modulations
from ganmod.modulation.statistics import mean_std
from style_transfer import ModelSpec, StyleTransferModel, build
from style_transfer.controls import ControlledStyle
from style_transfer.networks.host import build_host
from style_transfer.piecewise.tiled import stylize_tiled
from style_transfer.piecewise.video import ClipStylizer, morph
from training.style.build import build_loss_network, build_model
from training.style.losses import style_transfer_losses

PRESETS = ("style-wct", "style-swap", "style-avatar-net")


def picture(height: int = SIZE, width: int = SIZE, seed: int = 0) -> Tensor:
    return torch.rand((1, 3, height, width), generator=torch.Generator().manual_seed(seed))


def avatar_net() -> StyleTransferModel:
    base = make("transform-style_decorator", options={"patch_size": 3})
    spec = ModelSpec(**{**base.spec.to_dict(), "skip_modulation": "match_moments"})
    return build(spec, base.encoder).eval()


@pytest.mark.parametrize("name", list_modulations("features"))
@torch.no_grad()
def test_the_decoder_gets_the_transformed_features(name: str) -> None:
    model = make(f"transform-{name}", options={})
    content, style = picture(), picture(seed=1)
    features = [model.encoder.normalized(x)["relu4_1"] for x in (content, style)]
    (transform,) = model.decoder.transforms
    transformed = transform.modulate(features[0], transform.predict(features[1]))
    plain = model.decoder
    for stage in range(4):
        transformed = plain.draw_scale(stage, transformed)
    torch.testing.assert_close(model(content, style), transformed)


@torch.no_grad()
def test_strength_interpolates_features_and_0_is_the_autoencoder() -> None:
    model = make("transform-wct")
    content, params = picture(), model.predict(picture(seed=1))
    (weak,) = model.with_strength([params], content[0], 0.0)
    x = model.encode(content)
    for stage in range(4):
        x = model.decoder.draw_scale(stage, x)
    torch.testing.assert_close(model.decode(model.encode(content), weak), x)


@torch.no_grad()
def test_each_region_has_its_style() -> None:
    model = make("transform-style_swap", options={})
    content, params = picture(), [model.predict(picture(seed=s)) for s in (1, 2)]
    masks = torch.zeros(1, 2, SIZE, SIZE)
    masks[:, 0] = 1
    features = model.encode(content)
    regions = model.decode_regions(features, params, masks)
    torch.testing.assert_close(regions, model.decode(features, params[0]))


@torch.no_grad()
def test_skips_match_the_styles_moments_at_each_finer_scale() -> None:
    model = avatar_net()
    content, style = picture(), model.prepare_style(picture(48, 80, seed=1))
    targets = [*model.encoder.normalized(style).values()][::-1]
    params = model.predict(style)
    assert [type(p).__name__ for p in params] == ["DecoratorParams", *["MomentsParams"] * 3, "StrengthParams"]
    seen: list[Tensor] = []
    draw_scale = model.decoder.draw_scale

    def record(stage: int, x: Tensor, **options: Any) -> Tensor:
        seen.append(x)
        return draw_scale(stage, x, **options)

    model.decoder.draw_scale = record  # type: ignore[method-assign]
    model.decode(model.encode(content), params)
    for got, wanted in zip(seen[1:], targets[1:], strict=True):
        (mean, std), (wanted_mean, wanted_std) = mean_std(got), mean_std(wanted)
        torch.testing.assert_close(mean, wanted_mean, rtol=1e-4, atol=1e-5)
        varied = wanted_std > 0.03  # far above the square root of the epsilon that both contain
        assert varied.any()
        torch.testing.assert_close(std[varied], wanted_std[varied], rtol=2e-2, atol=0)


def test_tiles_are_those_of_the_whole_image_or_refused() -> None:
    content, style = picture(48, 72), picture(seed=1)
    matched = make("transform-match_moments")
    params = matched.predict_style(style)
    whole = matched.apply_params(content, params)
    torch.testing.assert_close(stylize_tiled(matched, content, params, tile=16), whole, rtol=1e-4, atol=1e-4)
    white = make("transform-wct")
    with pytest.raises(ValueError, match="WCT needs all of an image at once: stylise it without tiles"):
        stylize_tiled(white, content, white.predict_style(style), tile=16)


def test_clips_are_stylised_frame_by_frame_or_refused() -> None:
    model = make("transform-wct")
    frames = (torch.rand(2, 48, 64, 3) * 255).to(torch.uint8).numpy()
    params = model.predict_style(picture(seed=1))
    with pytest.raises(ValueError, match=r"WCT needs all of an image at once: .* clips with --smoothing 0"):
        ClipStylizer(model)
    clip = ClipStylizer(model, smoothing=0, blend=0)
    for frame in frames:
        difference = clip(frame, params).astype(int) - model.apply_params(frame, params)
        assert abs(difference).max() <= 1
    swap = make("transform-style_swap", options={})
    first, last = (swap.predict_style(picture(seed=s)) for s in (1, 2))
    with pytest.raises(ValueError, match="StyleSwap takes patches of one style"):
        next(morph(swap, frames[0], first, last, num_frames=2))


def test_what_transforms_do_not_take_is_refused() -> None:
    model = make("transform-style_swap", options={})
    content, styles = picture()[0], [picture(seed=s)[0] for s in (1, 2)]
    with pytest.raises(ValueError, match="StyleSwap takes patches of one style, so styles cannot be mixed"):
        ControlledStyle(model, styles, weights=[1, 1]).apply(content)
    ControlledStyle(model, styles, weights=[1, 0]).apply(content)
    with pytest.raises(ValueError, match="got a style mask, but the architecture 'transform' reads all"):
        model.predict(picture(), torch.ones(1, 1, SIZE, SIZE))
    for spec, message in (
        (
            {"architecture": "transform", "modulation": "adaconv"},
            "this host supplies 'features'.*style_swap, wct",
        ),
        ({"architecture": "residual", "modulation": "wct"}, "this host supplies 'map'.*weight_demod"),
    ):
        with pytest.raises(ValueError, match=message):
            build_host(ModelSpec("tiny", (4, 4, 6, 8), **spec))  # type: ignore[arg-type]


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_learn_to_repeat_pictures(preset: str) -> None:
    """Some steps of their loss bring the decoder nearer to the picture; the transform learns nothing."""
    torch.manual_seed(0)
    config = load_style_config(preset, {})
    model = build_model(config)
    network = build_loss_network(config.loss, model)
    assert all(name.startswith("decoder.") for name in model.trainable())
    assert not any("transforms" in name for name in model.trainable())
    images = picture(64, 64).expand(2, -1, -1, -1)
    images = (torch.nn.functional.avg_pool2d(images, 16) > 0.5).float()
    images = images.repeat_interleave(16, 2).repeat_interleave(16, 3)
    optimizer = torch.optim.Adam(model.trainable().values(), lr=0.002)
    errors = []
    for _ in range(40):
        losses = style_transfer_losses(model, network, config.loss, images, images)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        with torch.no_grad():
            errors.append(float((model(images, images) - images).square().mean()))
    assert errors[-1] < 0.6 * errors[0]
