"""If this fails, the Johnson network or StyleBank's is not the published one, or its controls are broken."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tiny_style_model import LEARNED, SIZE, make
from torch import Tensor

from style_transfer import ModelSpec, StyleTransferModel
from style_transfer.controls import ControlledStyle, Controls
from style_transfer.piecewise.tiled import stylize_tiled


def picture(height: int = SIZE, width: int = SIZE, seed: int = 0) -> Tensor:
    return torch.rand((1, 3, height, width), generator=torch.Generator().manual_seed(seed))


def any_params(model: StyleTransferModel, seed: int = 1) -> list:
    return model.predict_style("b" if model.spec.learned_styles else picture(50, 70, seed))


def conv(x: Tensor, weight: Tensor, gain: float, stride: int = 1) -> Tensor:
    pad = weight.shape[-1] // 2
    return F.conv2d(F.pad(x, (pad,) * 4, mode="reflect"), weight * gain, stride=stride)


@torch.no_grad()
def test_the_network_is_johnsons() -> None:
    """Convolution, normalisation, ReLU; blocks of two of them around a sum; 9 x 9 outside; sigmoid."""
    model = make("johnson-cin")
    decoder, x = model.decoder, picture(32, 40)
    params = model.predict_style("c")
    encoder = model.content_encoder
    relu = 2**0.5

    h = (conv((x - 0.5) * 4, encoder.first.conv.weight, encoder.first.conv.gain)).relu() * relu
    h = conv(h, encoder.second.conv.weight, encoder.second.conv.gain, 2).relu() * relu
    h = conv(h, encoder.third.conv.weight, encoder.third.conv.gain, 2)
    torch.testing.assert_close(model.encode(x), h)

    def norm(h: Tensor, layer: int) -> Tensor:
        scale, shift = (p[:, :, None, None] for p in params[layer])
        return F.instance_norm(h) * scale + shift

    def next_conv(h: Tensor, layer: int) -> Tensor:
        return conv(h, decoder.layers[layer].conv.weight, decoder.layers[layer].conv.gain)

    h = norm(h, 0).relu() * relu
    for block in range(model.spec.num_blocks):
        inner = norm(next_conv(h, 2 * block), 2 * block + 1).relu() * relu
        h = h + norm(next_conv(inner, 2 * block + 1), 2 * block + 2)
    layer = 2 * model.spec.num_blocks
    for _ in range(2):
        h = norm(next_conv(F.interpolate(h, scale_factor=2.0), layer), layer + 1).relu() * relu
        layer += 1
    torch.testing.assert_close(model.decode(model.encode(x), params), next_conv(h, layer).sigmoid())
    assert [p.scale.shape[1] for p in params] == [16] * 9 + [8, 4]


@pytest.mark.parametrize("kind", ["johnson-cin", "johnson-adain", "johnson-weight_demod", "residual-cin"])
def test_tiles_give_the_whole_picture(kind: str) -> None:
    model, content = make(kind), picture(100, 90)[0]
    params = any_params(model)
    tiled = stylize_tiled(model, content, params, tile=32)
    torch.testing.assert_close(tiled, model.apply_params(content, params), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", [*LEARNED, "johnson-adain", "johnson-weight_demod"])
def test_a_region_over_everything_is_the_style_alone(kind: str) -> None:
    model, content = make(kind), picture(48, 56)[0]
    if model.spec.learned_styles:
        params = [model.predict_style(name) for name in ("a", "b")]
    else:
        params = [any_params(model, seed) for seed in (1, 2)]
    masks = torch.zeros(2, 48, 56)
    masks[1] = 1
    regions = model.apply_regions(content, params, masks)
    torch.testing.assert_close(regions, model.apply_params(content, params[1]), rtol=0, atol=1e-5)


def test_filter_banks_need_the_whole_image() -> None:
    model = make("stylebank-stylebank")
    with pytest.raises(ValueError, match="StyleBank needs all of an image at once"):
        stylize_tiled(model, picture()[0], model.predict_style("a"))


@torch.no_grad()
def test_at_strength_0_stylebank_is_its_autoencoder() -> None:
    model, content = make("stylebank-stylebank"), picture()
    x = model.encode(content)
    for stage in range(1, 4):
        x = model.decoder.draw(stage, x)
    weak = ControlledStyle(model, ["b"], controls=Controls(alpha=0.0)).apply(content)
    torch.testing.assert_close(weak, x.clamp(0, 1))
    full = model.stylize(content, "b")
    assert (full - weak).abs().max() > 0.01


def test_mixtures_of_learned_styles_are_those_of_their_weights() -> None:
    model, content = make("johnson-cin"), picture()
    mixed = ControlledStyle(model, ["a", "c"], weights=[1, 3]).apply(content)
    expected = model.apply_params(content, model.predict(torch.tensor([[0.25, 0.0, 0.75]])))
    torch.testing.assert_close(mixed, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", LEARNED)
def test_further_styles_leave_the_model_as_it_is(kind: str) -> None:
    model, content = make(kind), picture()
    larger = model.with_styles(["d", "e"])
    assert larger.spec.learned_styles == ("a", "b", "c", "d", "e")
    for name in ("a", "b", "c"):
        torch.testing.assert_close(larger.stylize(content, name), model.stylize(content, name))
    added = larger.trainable()
    assert added
    assert all(name.rpartition(".")[2] in ("3", "4") for name in added)
    known = model.state_dict()
    assert all(torch.equal(x, known[name]) for name, x in larger.state_dict().items() if name in known)
    assert not set(added) & set(known)


def test_what_learned_styles_cannot_do_is_said() -> None:
    model, content = make("johnson-cin"), picture()
    for call, message in (
        (lambda: model.stylize(content, picture()), r"reads no style images, it has learned a, b, c"),
        (lambda: model.stylize(content, "bb"), r"has no style 'bb' \(did you mean 'b'\?\)"),
        (
            lambda: model.stylize(content, "a", alpha=0.5),
            r"alpha is 0.5, but this model's styles are learned",
        ),
        (lambda: model.with_styles(["a"]), r"learned_styles has 'a' twice"),
        (
            lambda: ControlledStyle(model, ["a"], controls=Controls(rotate_style=30)),
            r"'a' is a learned style, no picture: leave out rotate_style",
        ),
        (lambda: make("adain").stylize(content, "a"), r"this model reads style images: give a picture"),
        (lambda: make("adain").with_styles(["a"]), r"reads style images, which need no training"),
        (
            lambda: ModelSpec("tiny", (4, 4, 6, 8), architecture="classic", learned_styles=("a",)),
            r"architecture is 'classic', which reads style images, expected one of residual, johnson",
        ),
        (
            lambda: ModelSpec("tiny", (4, 4, 6, 8), architecture="johnson", learned_styles=("a\x1b[31m",)),
            r"learned_styles has 'a\\x1b\[31m', expected names of visible characters",
        ),
        (lambda: model.predict_style("a", size=64), r"'a' is a learned style, no picture: leave out size"),
        (
            lambda: model.predict(torch.ones(1, 3), torch.ones(1, 1, 8, 8)),
            r"got a style mask, but the architecture 'johnson' reads all of a style",
        ),
        (
            lambda: ModelSpec("tiny", (4, 4, 6, 8), architecture="stylebank"),
            r"expected learned_styles, one name at least",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()
