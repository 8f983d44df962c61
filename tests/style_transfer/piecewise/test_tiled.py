"""If this fails, an image computed in tiles has seams, or other colours than the full image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_style_model import SIZE, make
from torch import Tensor, nn

import style_transfer
from ganmod.io.images import center_crop, read_image, resize, to_uint8, write_image
from ganmod.modulation import AdaIN, StyleSpec, create_modulation, register_modulation, registry
from ganmod.modulation.statistics import Statistics, instance_norm
from style_transfer import StyleTransferModel
from style_transfer.networks.residual_host import ResidualDecoder
from style_transfer.piecewise.tiled import auto_tile, stylize_tiled
from style_transfer.procedural_styles import builtin_contents, draw_style

OPTIONS: list[tuple[str, Mapping[str, Any]]] = [
    ("adain", {}),
    ("weight_demod", {}),
    ("adaconv", {"kernel_size": 1}),
    ("adaconv", {"kernel_size": 3}),
    ("adaconv", {"kernel_size": 5, "normalize": "none"}),
    ("adaconv", {"kernel_size": 3, "normalize": "demod"}),
    ("classic", {}),
    ("residual-adain", {}),
    ("residual-weight_demod", {}),
    ("residual-adaconv", {"kernel_size": 3}),
    ("residual-adaconv", {"kernel_size": 5, "normalize": "none"}),
]


def model_with(kind: str, options: Mapping[str, Any]) -> StyleTransferModel:
    """A tiny model, untrained, in float64, whose statistics matter: strong kernels, biases that are not 0."""
    model = make(kind, options=options).double()
    for name, parameter in model.decoder.named_parameters():
        if name.endswith("bias") or "block_convs" in name or "noise_gains" in name:  # these begin at 0
            nn.init.normal_(parameter, std=0.3)
    return model


def reaches(model: StyleTransferModel) -> list[int]:
    return [model.decoder.reach(stage) for stage in range(len(model.decoder.scales))]


def picture(height: int, width: int, samples: int = 1) -> Tensor:
    """Bright at one side, so that tiles have other statistics than the full image."""
    generator = torch.Generator().manual_seed(height * width)
    ramp = torch.linspace(0, 0.8, width, dtype=torch.float64)
    noise = torch.rand(samples, 3, height, width, generator=generator, dtype=torch.float64)
    return ramp + 0.2 * noise


@pytest.mark.parametrize(("kind", "options"), OPTIONS, ids=lambda x: str(x) if x else "")
def test_tiles_give_what_the_whole_image_gives(kind: str, options: Mapping[str, Any]):
    """At sizes and tiles that fit and that do not; 24 x 40 is smaller than a margin."""
    model = model_with(kind, options)
    params = model.predict_style(picture(SIZE, SIZE))
    for (height, width), tile in (((64, 64), 32), ((101, 83), 24), ((24, 40), 16), ((57, 130), 40)):
        content = picture(height, width)
        whole = model.apply_params(content, params)
        tiled = stylize_tiled(model, content, params, tile=tile)
        assert tiled.shape == content.shape
        assert whole.std() > 0.01
        torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-5)


def test_statistics_of_a_tile_alone_would_be_seen():
    """Shows that the test above can fail: halves of an image, stylised separately, give another picture."""
    model = model_with("adain", {})
    content = picture(64, 128)
    params = model.predict_style(picture(SIZE, SIZE))
    whole = model.apply_params(content, params)
    halves = [model.apply_params(half, params) for half in content.split(64, dim=3)]
    assert (torch.cat(halves, dim=3) - whole).abs().mean() > 10 / 255


def test_a_narrower_margin_would_be_seen(monkeypatch: pytest.MonkeyPatch):
    model = model_with("adaconv", {"kernel_size": 3})
    content, params = picture(64, 64), model.predict_style(picture(SIZE, SIZE))
    whole = model.apply_params(content, params)
    narrower = [reach - 1 for reach in reaches(model)]
    for name, value in (
        ("style_transfer.piecewise.tiled.ENCODER_MARGIN", 24),
        (
            "style_transfer.networks.mirrored_decoder.MirroredDecoder.reach",
            lambda self, stage: narrower[stage],
        ),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(name, value)
            assert (stylize_tiled(model, content, params, tile=16) - whole).abs().max() > 1e-4, name


@pytest.mark.parametrize("stage", range(7))
def test_every_reach_of_the_residual_decoder_is_needed(monkeypatch: pytest.MonkeyPatch, stage: int):
    model = model_with("residual-adaconv", {"kernel_size": 3})
    content, params = picture(64, 64), model.predict_style(picture(SIZE, SIZE))
    whole = model.apply_params(content, params)
    narrower = [reach - (i == stage) for i, reach in enumerate(reaches(model))]
    monkeypatch.setattr(ResidualDecoder, "reach", lambda self, stage: narrower[stage])
    assert (stylize_tiled(model, content, params, tile=16) - whole).abs().max() > 1e-6


def test_several_contents_and_a_size():
    model = model_with("adaconv", {"kernel_size": 3})
    content = picture(50, 70, samples=2)
    params = model.predict_style(picture(SIZE, SIZE))
    whole = model.apply_params(content, params, size=40)
    tiled = stylize_tiled(model, content, params, tile=16, size=40)
    assert tiled.shape == (2, 3, 40, 56)
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-5)


def test_the_shipped_model_at_1024_pixels():
    """The promise: at most one grey level apart."""
    model = style_transfer.load()
    params = model.predict_style(draw_style("brush_strokes"))
    content = center_crop(resize(builtin_contents()["chelsea"], (1024, 1540)), 1024)
    seen: list[tuple[int, int]] = []
    tiled = stylize_tiled(model, content, params, tile=256, progress=lambda *x: seen.append(x))
    whole = model.apply_params(content, params)
    assert tiled.dtype == np.uint8
    assert np.abs(tiled.astype(int) - whole.astype(int)).max() <= 1
    sweeps = 1 + len(model.decoder.scales)
    assert seen == [(i + 1, sweeps * 16) for i in range(sweeps * 16)]


def test_what_each_stage_reads():
    """Pixels of its input: predicted kernels of 3 x 3 or 5 x 5 one or two, static ones one at the stage's own
    resolution, bilinear upsampling one.
    """
    model = make("adain")
    assert reaches(model) == [1, 2, 1, 1]
    assert reaches(model_with("adaconv", {"kernel_size": 5})) == [3, 3, 2, 2]
    assert reaches(make("residual-adain")) == [2, 2, 2, 2, 1, 1, 2]
    assert reaches(make("residual-adaconv", options={"kernel_size": 5})) == [4, 4, 4, 4, 3, 3, 4]
    assert [model.decoder.uses_statistics(stage) for stage in range(4)] == [True] * 4
    assert not any(make("weight_demod").decoder.uses_statistics(stage) for stage in range(4))
    assert [make("classic").decoder.uses_statistics(stage) for stage in range(4)] == [
        True,
        False,
        False,
        False,
    ]


@pytest.mark.parametrize("name", ["adain", "adaconv", "weight_demod"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_modulating_with_an_images_own_statistics_is_modulating(name: str, channels_last: bool):
    torch.manual_seed(0)
    layer = create_modulation(name, 4, StyleSpec("vector", 5)).double()
    x = torch.randn(2, 4, 6, 7, dtype=torch.float64) * 3 + 1
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    params = layer.predict(torch.randn(2, 5, dtype=torch.float64))
    own = Statistics(x.mean((2, 3), keepdim=True), x.var((2, 3), keepdim=True, correction=0))
    torch.testing.assert_close(layer.modulate_with(x, params, own), layer.modulate(x, params))
    assert layer.uses_statistics == (name != "weight_demod")
    other = layer.modulate_with(x, params, Statistics(own.mean + 1, own.var * 4))
    assert torch.equal(other, x) == (name == "weight_demod")


def test_normalising_with_other_statistics():
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    mean, var = torch.randn(2, 3, 1, 1, dtype=torch.float64), torch.rand(2, 3, 1, 1, dtype=torch.float64)
    scale, shift = torch.randn(2, 3, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    expected = (x - mean) / (var + 1e-3).sqrt() * scale[..., None, None] + shift[..., None, None]
    got = instance_norm(x, scale, shift, eps=1e-3, statistics=Statistics(mean, var))
    torch.testing.assert_close(got, expected)
    half = instance_norm(x.bfloat16(), eps=1e-3, statistics=Statistics(mean.float(), var.float()))
    assert half.dtype == torch.bfloat16


def test_a_modulation_that_does_not_accept_statistics_is_refused(monkeypatch: pytest.MonkeyPatch):
    """An inherited modulate_with would silently omit what the subclass adds."""
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))

    @register_modulation("louder")
    class Louder(AdaIN):
        def modulate(self, x: Tensor, params: Any) -> Tensor:
            return 2 * super().modulate(x, params)

    model = model_with("louder", {})
    with pytest.raises(ValueError, match=r"Louder overrides modulate\(\), but not modulate_with\(\)"):
        stylize_tiled(model, picture(32, 32), model.predict_style(picture(SIZE, SIZE)), tile=16)


@pytest.mark.parametrize(("tile", "instead"), [(100, 96), (0, 16), (8, 16), (-64, 16)])
def test_a_tile_of_another_size_is_refused(tile: int, instead: int):
    model = make("adain")
    params = model.predict_style(torch.rand(3, SIZE, SIZE))
    with pytest.raises(ValueError, match=rf"tile is {tile} pixels, .* try {instead}"):
        stylize_tiled(model, torch.rand(3, 32, 32), params, tile=tile)
    assert auto_tile(torch.device("cpu")) % 8 == 0


# The command.


def test_the_command_gives_the_same_file_by_tiles(tmp_path: Path, ganmod_command):
    write_image(tmp_path / "content.png", to_uint8(picture(90, 70)[0]))
    write_image(tmp_path / "style.png", draw_style("dots", 64))
    model = tmp_path / "model.safetensors"
    make("adain").save(model)
    pair = (tmp_path / "content.png", tmp_path / "style.png", "--model", model)
    for name, tile in (("whole", ()), ("tiled", ("--tile", "32")), ("auto", ("--tile", "auto"))):
        ended = ganmod_command("stylize", *pair, "-o", tmp_path / f"{name}.png", *tile)
        assert ended.code == 0, ended.err
    whole = read_image(tmp_path / "whole.png").astype(int)
    assert np.abs(read_image(tmp_path / "tiled.png") - whole).max() <= 1
    assert np.array_equal(read_image(tmp_path / "auto.png"), whole)  # too small to pay
    for tile, word in (("100", "try 96"), ("big", "expected auto or a number"), ("-8", "expected auto")):
        ended = ganmod_command("stylize", *pair, "-o", tmp_path / "o.png", "--tile", tile)
        assert ended.code == 2
        assert f"--tile {tile}" in ended.err
        assert word in ended.err
