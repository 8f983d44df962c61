"""If this fails, a style-transfer model changes when saved, or its training and its use disagree."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tiny_style_model import KINDS, SIZE, WIDTHS, decode_plainly, make
from torch import Tensor

from ganmod.features.vgg import VGGFeatures
from ganmod.io.model_file import ModelFileError, read_model_file, save_model_file
from style_transfer import ModelSpec, StyleTransferModel, load, prepare_style
from style_transfer.networks.mirrored_decoder import MirroredDecoder
from style_transfer.networks.paper_host import PaperStyleEncoder


def images(samples: int = 3, height: int = 48, width: int = 32, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    content = torch.rand(samples, 3, height, width, generator=generator)
    return content, torch.rand(samples, 3, SIZE, SIZE, generator=generator)


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest) -> StyleTransferModel:
    return make(request.param)


@torch.no_grad()
def test_a_saved_model_gives_the_same_pictures(model: StyleTransferModel, tmp_path: Path):
    content, style = images()
    path = tmp_path / "folder" / "model.safetensors"
    model.save(path, training={"nimg": 1000})
    loaded = load(path)
    assert loaded.spec == model.spec
    assert not loaded.training
    assert torch.equal(loaded(content, style), model(content, style))
    file = read_model_file(path)
    assert (file.kind, file.config["training"]) == ("style-transfer", {"nimg": 1000})
    assert list(file.tensors) == sorted(model.state_dict())


@torch.no_grad()
def test_half_precision_halves_the_file_and_hardly_changes_the_picture(
    model: StyleTransferModel, tmp_path: Path
):
    content, style = images()
    for half in (False, True):
        model.save(tmp_path / f"{half}.safetensors", half=half)
    numbers = sum(tensor.numel() for tensor in model.state_dict().values())
    saved = (tmp_path / "False.safetensors").stat().st_size - (tmp_path / "True.safetensors").stat().st_size
    assert abs(saved - 2 * numbers) < 256  # the file's table of contents changes a little
    expected = model(content, style)
    out = load(tmp_path / "True.safetensors")(content, style)
    assert (out - expected).square().mean().sqrt() < 0.05 * expected.std()


def test_a_file_of_other_weights_is_refused(tmp_path: Path):
    model = make("adain")
    path = tmp_path / "model.safetensors"
    model.save(path)
    file = read_model_file(path)
    tensors = dict(file.tensors)
    del tensors["decoder.to_rgb.bias"]
    save_model_file(path, tensors, kind=file.kind, config=file.config)
    with pytest.raises(ModelFileError, match=r"missing: decoder\.to_rgb\.bias"):
        load(path)
    save_model_file(path, file.tensors, kind="feature-network", config=file.config)
    with pytest.raises(
        ModelFileError, match="is a model file of kind 'feature-network', expected 'style-transfer'"
    ):
        load(path)


def test_a_file_of_other_configuration_is_refused(tmp_path: Path):
    path = tmp_path / "model.safetensors"
    make("adain").save(path)
    file = read_model_file(path)
    configs: list[dict[str, object]] = [{}, {"model": {}}, {"model": {**file.config["model"], "colour": 1}}]
    for config in configs:
        save_model_file(path, file.tensors, kind=file.kind, config=config)
        with pytest.raises(ValueError, match=r"model\.safetensors"):
            load(path)


def test_an_encoder_of_other_widths_is_refused():
    with pytest.raises(ValueError, match=r"has widths \(4, 4, 4, 4\), the model expects \(4, 4, 6, 8\)"):
        StyleTransferModel(ModelSpec("tiny", WIDTHS), VGGFeatures((4, 4, 4, 4)))


def test_impossible_specifications_are_refused():
    with pytest.raises(ValueError, match="style_image_size is 100, expected a multiple of 64"):
        ModelSpec("tiny", WIDTHS, style_image_size=100)
    with pytest.raises(ValueError, match="style_image_size is 0, expected a multiple of 64"):
        ModelSpec("tiny", WIDTHS, style_image_size=0)
    with pytest.raises(ValueError, match="architecture is 'modern', expected one of modulated, classic, res"):
        ModelSpec("tiny", WIDTHS, architecture="modern")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="feature_size is 12, expected a multiple of 8"):
        PaperStyleEncoder(4, 12, style_dim=2, descriptor_size=3)
    with pytest.raises(ValueError, match=r"unknown modulation 'adacon' \(did you mean 'adaconv'"):
        StyleTransferModel(ModelSpec("tiny", WIDTHS, modulation="adacon"), VGGFeatures(WIDTHS))


@torch.no_grad()
def test_parameters_predicted_first_give_what_forward_gives(model: StyleTransferModel):
    """Also where content and style have one size and share a pass through the encoder."""
    for height, width in ((48, 32), (SIZE, SIZE)):
        content, style = images(height=height, width=width)
        expected = model(content, style)
        assert expected.shape == content.shape
        out = model.decode(model.encode(content), model.predict(style))
        torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    # A transform of relu4_1 and its strength; the classic model has both in one.
    num_modulated = {"classic": 1, "transform": 2}.get(model.spec.architecture, model.decoder.num_stages)
    assert len(model.predict(style)) == num_modulated


@torch.no_grad()
def test_samples_do_not_mix(model: StyleTransferModel):
    content, style = (x.double() for x in images())
    together = model.double()(content, style)
    for n in range(len(content)):
        alone = model(content[n : n + 1], style[n : n + 1])
        torch.testing.assert_close(alone, together[n : n + 1], rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_content_and_style_matter(model: StyleTransferModel):
    content, style = images()
    first, other_content, other_style = (
        model(*pair) for pair in ((content, style), (content.flip(0), style), (content, style.flip(0)))
    )
    for other in (other_content, other_style):
        assert (other[0] - first[0]).square().mean().sqrt() > 1e-3 * first[0].std()


@torch.no_grad()
def test_one_style_serves_any_number_of_contents(model: StyleTransferModel):
    content, style = images()
    expected = model(content, style[:1].expand_as(style)).clamp(0, 1)
    torch.testing.assert_close(model.stylize(content, style[0]), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_features_enter_with_unit_size():
    """Weight demodulation assumes it: each channel is divided by its RMS. Not so for the classic model."""
    content, _ = images()
    modulated, classic = make("weight_demod"), make("classic")
    plain = modulated.encoder.normalized(content)["relu4_1"]
    assert modulated.feature_rms.shape == (WIDTHS[-1],)
    assert modulated.feature_rms.min() >= 0.05
    torch.testing.assert_close(modulated.encode(content) * modulated.feature_rms[:, None, None], plain)
    assert torch.equal(classic.encode(content), classic.encoder.normalized(content)["relu4_1"])


@torch.no_grad()
def test_the_classic_decoder_gets_the_statistics_of_the_style():
    """Huang & Belongie 2017, Eq. 8, as their code has it: unbiased variance, eps 1e-5 inside the root."""
    model = make("classic")
    content, style = images()
    received: list[Tensor] = []
    model.decoder.first[0].register_forward_pre_hook(lambda module, inputs: received.append(inputs[0]))
    model(content, style)
    x, y = model.encode(content), model.encode(style)
    mean = [f.mean(dim=(2, 3), keepdim=True) for f in (x, y)]
    std = [(f.var(dim=(2, 3), keepdim=True) + 1e-5).sqrt() for f in (x, y)]
    torch.testing.assert_close(received[0], (x - mean[0]) / std[0] * std[1] + mean[1], rtol=1e-4, atol=1e-4)


def test_all_but_the_feature_network_is_trained(model: StyleTransferModel):
    trainable = model.trainable()
    assert {name.split(".")[0] for name in trainable} <= {"decoder", "style_encoder", "content_encoder"}
    content, style = images()
    model(content, style).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in trainable.values())
    assert all(p.grad is None and not p.requires_grad for p in model.encoder.parameters())


@pytest.mark.parametrize("size", [32, 63])
def test_a_style_of_other_size_is_refused(size: int):
    with pytest.raises(ValueError, match=rf"style images are \[{size}, {size}\], expected \[64, 64\]"):
        make("adain").predict(torch.rand(1, 3, size, size))


def test_a_style_as_large_as_the_content_but_not_as_the_encoder_is_refused():
    with pytest.raises(ValueError, match=r"style images are \[32, 32\], expected \[64, 64\]"):
        make("adain")(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32))


@pytest.mark.parametrize(
    ("height", "width"), [(64, 64), (100, 64), (64, 100), (37, 53), (300, 200), (16, 1000), (129, 65)]
)
def test_a_prepared_style_has_the_size_asked_for(height: int, width: int):
    prepared = prepare_style(torch.rand(2, 3, height, width), 64)
    assert prepared.shape == (2, 3, 64, 64)
    assert prepared.min() >= 0
    assert prepared.max() <= 1


def test_a_prepared_style_is_the_centre():
    images = torch.zeros(1, 3, 64, 128)
    images[..., 32:96] = torch.rand(64, 64)
    assert torch.equal(prepare_style(images, 64), images[..., 32:96])
    assert torch.equal(prepare_style(images.transpose(2, 3), 64), images[..., 32:96].transpose(2, 3))


def test_a_prepared_style_is_resized_without_aliasing():
    """Fine stripes become their mean; a ramp keeps its middle."""
    stripes = torch.tensor([0.0, 1.0]).repeat(128).expand(1, 3, 256, 256)
    prepared = prepare_style(stripes, 64)[..., 2:-2, 2:-2]
    assert (prepared - 0.5).abs().max() < 0.02
    ramp = torch.linspace(0, 1, 512).expand(1, 3, 128, 512)
    middle = prepare_style(ramp, 64)
    torch.testing.assert_close(middle.mean().item(), 0.5, rtol=0, atol=1e-3)
    expected = F.avg_pool2d(ramp, 2)[..., 96:160]
    torch.testing.assert_close(middle, expected, rtol=0, atol=2e-3)


def test_the_decoder_mirrors_the_encoder():
    """VGG-19 backwards: 1, 4, 2 and 1 convolutions at the four scales, then the picture."""
    for kind in ("classic", "adain"):
        decoder = make(kind).decoder
        assert isinstance(decoder, MirroredDecoder)
        shapes = [
            [tuple(layer.conv.weight.shape[:2]) for layer in (first, *rest)]  # type: ignore[misc]
            for first, rest in zip(decoder.first, decoder.rest, strict=True)
        ]
        assert shapes == [[(6, 8)], [(6, 6), (6, 6), (6, 6), (4, 6)], [(4, 4), (4, 4)], [(4, 4)]]
        assert tuple(decoder.to_rgb.conv.weight.shape) == (3, 4, 3, 3)


@torch.no_grad()
def test_an_untrained_picture_of_nothing_is_grey():
    model = make("classic")
    assert torch.equal(decode_plainly(model, torch.zeros(1, 8, 2, 3)), torch.full((1, 3, 16, 24), 0.5))
