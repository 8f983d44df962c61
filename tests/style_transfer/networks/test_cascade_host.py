"""If this fails, WCT's cascade is not the published one, or its files are read wrongly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ganmod.modulation import StyleSpec, create_modulation
from style_transfer import ModelSpec, load
from style_transfer.controls import ControlledStyle, Controls
from style_transfer.importers.wct import import_wct
from style_transfer.networks.cascade_host import level_convs
from style_transfer.piecewise.tiled import stylize_tiled

WIDTHS = {1: (6,), 2: (4, 5), 3: (4, 5, 6)}


def picture(height: int = 32, width: int = 40, seed: int = 0) -> Tensor:
    return torch.rand((1, 3, height, width), generator=torch.Generator().manual_seed(seed))


def draw_states(level: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Random encoder and decoder as in the files, with signals of about unit size."""
    generator = torch.Generator().manual_seed(level)

    def conv(o: int, i: int, size: int) -> Tensor:
        return torch.randn((o, i, size, size), generator=generator) * (2 / (i * size * size)) ** 0.5

    encoder = {"conv0.weight": conv(3, 3, 1), "conv0.bias": torch.zeros(3)}
    decoder = {}
    for name, i, o in level_convs(WIDTHS[level]):
        encoder |= {f"{name}.weight": conv(o, i, 3), f"{name}.bias": torch.full((o,), 0.1)}
        decoder |= {f"{name}.weight": conv(i, o, 3), f"{name}.bias": torch.full((i,), 0.1)}
    encoder["conv11_aux.weight"] = conv(64, WIDTHS[level][0], 1)
    return encoder, decoder


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """1SE.pth to 3SD.pth."""
    for level in WIDTHS:
        for part, state in zip(("E", "D"), draw_states(level), strict=True):
            torch.save({"model": state, "epoch": 7}, tmp_path / f"{level}S{part}.pth")
    return tmp_path


def convolve(x: Tensor, state: Mapping[str, Tensor], name: str) -> Tensor:
    padded = F.pad(x, (1, 1, 1, 1), mode="reflect")
    return F.conv2d(padded, state[f"{name}.weight"], state[f"{name}.bias"]).relu()


def encode(x: Tensor, level: int) -> Tensor:
    state = draw_states(level)[0]
    x = convolve(F.conv2d(x, state["conv0.weight"], state["conv0.bias"]), state, "conv11")
    if level >= 2:
        x = convolve(F.max_pool2d(convolve(x, state, "conv12"), 2), state, "conv21")
    if level >= 3:
        x = convolve(F.max_pool2d(convolve(x, state, "conv22"), 2), state, "conv31")
    return x


def decode(x: Tensor, level: int) -> Tensor:
    state = draw_states(level)[1]
    if level >= 3:
        x = convolve(F.interpolate(convolve(x, state, "conv31"), scale_factor=2.0), state, "conv22")
    if level >= 2:
        x = convolve(F.interpolate(convolve(x, state, "conv21"), scale_factor=2.0), state, "conv12")
    return convolve(x, state, "conv11")


@torch.no_grad()
def test_levels_follow_each_other_from_the_deepest(files: Path) -> None:
    model = import_wct(files)
    content, style = picture(), picture(48, 36, seed=1)
    x = content
    for level in (3, 2, 1):
        wct = create_modulation("wct", WIDTHS[level][-1], StyleSpec("features", WIDTHS[level][-1]))
        x = decode(wct.modulate(encode(x.clamp(0, 1), level), wct.predict(encode(style, level))), level)
    out = model.decode(model.encode(content), model.predict(style))
    torch.testing.assert_close(out, x, rtol=1e-3, atol=1e-4)
    assert model.decoder.scales == (2, 3, 4)


@torch.no_grad()
def test_at_strength_0_it_is_the_autoencoders(files: Path) -> None:
    model, content = import_wct(files), picture()
    x = content
    for level in (3, 2, 1):
        x = decode(encode(x.clamp(0, 1), level), level)
    weak = ControlledStyle(model, [picture(seed=1)], controls=Controls(alpha=0.0)).apply(content)
    torch.testing.assert_close(weak, x.clamp(0, 1), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_pictures_keep_their_size_and_regions_their_style(files: Path) -> None:
    model, content = import_wct(files), picture(37, 41)[0]
    params = [model.predict_style(picture(seed=seed)) for seed in (1, 2)]
    alone = model.apply_params(content, params[1])
    assert alone.shape == (3, 37, 41)
    masks = torch.zeros(2, 37, 41)
    masks[1] = 1
    torch.testing.assert_close(model.apply_regions(content, params, masks), alone, rtol=1e-3, atol=1e-4)


def test_a_model_file_gives_the_same_picture(files: Path, tmp_path: Path) -> None:
    model = import_wct(files, modulation="match_moments")
    model.save(tmp_path / "wct.safetensors", store_encoder=True)
    again = load(tmp_path / "wct.safetensors")
    assert again.spec == model.spec
    content, style = picture()[0], picture(seed=1)[0]
    assert torch.equal(again.stylize(content, style), model.stylize(content, style))


def test_tiles_are_refused(files: Path) -> None:
    model = import_wct(files)
    with pytest.raises(ValueError, match="a cascade needs all of an image at once"):
        stylize_tiled(model, picture()[0], model.predict_style(picture(seed=1)))


def test_the_deepest_level_that_is_there_comes_first(files: Path) -> None:
    (files / "3SD.pth").unlink()
    assert import_wct(files).spec.levels == (WIDTHS[1], WIDTHS[2])


def spoil(files: Path, case: str) -> None:
    encoder, decoder = draw_states(2)
    match case:
        case "empty":
            for file in files.iterdir():
                file.unlink()
        case "missing":
            del encoder["conv21.weight"]
        case "shape":
            decoder["conv12.weight"] = torch.zeros(4, 4, 5, 5)
    if case != "empty":
        torch.save({"model": encoder}, files / "2SE.pth")
        torch.save({"model": decoder}, files / "2SD.pth")


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("empty", r"has no 1SE.pth and 1SD.pth: expected the stage files of Collaborative-Distillation"),
        ("missing", r"2SE.pth has no conv21.weight: expected the convolutions conv11, conv12, conv21"),
        ("shape", r"level 2, decoder: conv12.weight has shape \[4, 4, 5, 5\], expected \[4, 4, 3, 3\]"),
    ],
)
def test_unfit_files_are_named(files: Path, case: str, message: str) -> None:
    spoil(files, case)
    with pytest.raises(ValueError, match=message):
        import_wct(files)


def test_the_command_writes_the_model(files: Path, ganmod_command) -> None:
    ended = ganmod_command("import", "wct", files, "-o", files / "wct.safetensors", "--half")
    assert ended.code == 0, ended.err
    assert load(files / "wct.safetensors").spec.levels == tuple(WIDTHS.values())


def test_levels_belong_to_a_cascade(files: Path) -> None:
    with pytest.raises(ValueError, match="architecture is 'cascade' with 0 levels, expected 1 to 5"):
        ModelSpec("none", (1, 1, 1, 1), architecture="cascade")
    with pytest.raises(ValueError, match="architecture is 'residual' with 1 levels"):
        ModelSpec("none", (1, 1, 1, 1), architecture="residual", levels=((4,),))
