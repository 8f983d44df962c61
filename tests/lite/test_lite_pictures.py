"""If this fails, ganmod-lite makes other pictures than ganmod."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_checks import Ended
from PIL import Image
from smooth_picture import smooth

from ganmod.io.images import read_image
from ganmod_lite.images import read_image as lite_read
from ganmod_lite.images import resize_short_side, to_planes
from ganmod_lite.stylizer import Stylizer
from ganmod_lite.sweep import Sweep, cuts, measure, merge
from style_transfer.controls import ControlledStyle, Controls
from style_transfer.procedural_styles import draw_style

MOST = 2  # grey levels between the two programs


def largest(a: np.ndarray, b: np.ndarray) -> int:
    """The largest difference in grey levels of two pictures of one shape."""
    assert a.shape == b.shape
    return int(np.abs(a.astype(int) - b.astype(int)).max())


@pytest.mark.parametrize("size", [None, 40, 97])
@pytest.mark.parametrize("tile", [16, 32, 1024])
@pytest.mark.parametrize("shape", [(53, 75), (64, 64), (16, 121)])
def test_a_picture_is_ganmods(lite_model: Any, shape: tuple[int, int], tile: int, size: int | None) -> None:
    network, folder = lite_model
    content, style = smooth(*shape), draw_style("mosaic", 90)[:70]
    stylizer = Stylizer(folder, threads=2)
    wanted = network.stylize(content, style, size=size)
    got = stylizer.apply(content, stylizer.predict(style), size=size, tile=tile)
    assert largest(got, wanted) <= MOST
    assert largest(got, np.zeros_like(got)) > 20  # not black


def test_a_strip_as_style_is_ganmods(lite_model: Any) -> None:
    content, strip = smooth(40, 56), draw_style("mosaic", 800)[:20]
    wanted = lite_model.network.stylize(content, strip)
    stylizer = Stylizer(lite_model.folder)
    assert largest(stylizer.apply(content, stylizer.predict(strip)), wanted) <= MOST


@pytest.mark.parametrize("style_size", [None, 48])
@pytest.mark.parametrize("alpha", [1.0, 0.4])
@pytest.mark.parametrize("weights", [(0.7, 0.3), (3, 1), (1, 0)])
def test_the_controls_are_ganmods(
    pictures: Path,
    lite_model: Any,
    lite_command: Callable[..., Ended],
    weights: tuple[float, float],
    alpha: float,
    style_size: int | None,
) -> None:
    photo, first, second = (read_image(pictures / f"{name}.png") for name in ("photo", "a", "b"))
    styles = ControlledStyle(
        lite_model.network,
        [first, second],
        weights=weights,
        style_size=style_size,
        controls=Controls(alpha=alpha),
    )
    wanted = styles.apply(photo, size=40)
    out = pictures / "out.png"
    ended = lite_command(
        *(pictures / "photo.png", f"{pictures / 'a.png'}:{weights[0]}", f"{pictures / 'b.png'}:{weights[1]}"),
        *("-o", out, "--alpha", alpha, "--size", 40, "--tile", 32),
        *(["--style-size", style_size] if style_size else []),
    )
    assert ended.code == 0, ended.err
    assert largest(read_image(out), wanted) <= MOST


def test_built_in_styles_are_what_the_model_predicts(lite_model: Any) -> None:
    from ganmod_lite.styles import builtin_names, load_builtin

    network, folder = lite_model
    stylizer, content = Stylizer(folder), smooth(53, 75)
    assert builtin_names(folder) == ["dots", "mosaic", "stripes"]
    for name in builtin_names(folder):
        wanted = network.stylize(content, draw_style(name, 64))
        assert largest(stylizer.apply(content, load_builtin(stylizer, name)), wanted) <= MOST


@pytest.mark.parametrize("shape", [(30, 45), (200, 37), (64, 64)])
@pytest.mark.parametrize("size", [17, 64, 90])
def test_resizing_is_ganmods(shape: tuple[int, int], size: int) -> None:
    from style_transfer.prepare import resize_content

    planes = to_planes(smooth(*shape))
    wanted = resize_content(torch.from_numpy(planes)[None], size)[0].numpy()
    got = resize_short_side(planes, size)
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).max() < 1e-5


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_upright_and_transparency_is_white(tmp_path: Path, orientation: int) -> None:
    rgba = Image.fromarray(np.dstack([smooth(20, 30), np.full((20, 30), 90, np.uint8)]), "RGBA")
    exif = Image.Exif()
    exif[0x0112] = orientation
    rgba.save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(lite_read(tmp_path / "a.png"), read_image(tmp_path / "a.png"))
    assert lite_read(tmp_path / "a.png").shape == ((20, 30, 3) if orientation < 5 else (30, 20, 3))


def test_grey_16_bit_pictures_keep_their_high_byte(tmp_path: Path) -> None:
    Image.fromarray(np.arange(20 * 30, dtype=np.uint16).reshape(20, 30) * 100).save(tmp_path / "a.png")
    assert np.array_equal(lite_read(tmp_path / "a.png"), read_image(tmp_path / "a.png"))


def test_float_samples_are_ganmods(tmp_path: Path) -> None:
    Image.fromarray(np.linspace(0, 255, 20 * 30, dtype=np.float32).reshape(20, 30)).save(tmp_path / "a.tif")
    assert np.array_equal(lite_read(tmp_path / "a.tif"), read_image(tmp_path / "a.tif"))


def test_a_large_picture_has_six_tiles_and_all_are_computed_at_once(
    lite_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ganmod_lite.stylizer.MIN_AREA", 1)
    stylizer, totals = Stylizer(lite_model.folder, threads=1), set()
    style = np.zeros(stylizer.num_parameters, np.float32)
    stylizer.apply(smooth(64, 64), style, progress=lambda done, total: totals.add(total))
    assert totals == {6 * (len(stylizer.stages) + 1)}

    together = threading.Barrier(4, timeout=20)
    with ThreadPoolExecutor(4) as pool:
        x = np.random.default_rng(0).random((3, 32, 32), np.float32)
        out, _ = Sweep(cuts(4, 2), cuts(4, 2), pool)(x, lambda part, _: (together.wait(), 2 * part)[1], 1)
    assert np.array_equal(out, 2 * x)


def test_a_sweep_in_tiles_equals_one_at_once_and_measures_the_whole() -> None:
    x = np.random.default_rng(0).normal(3, 2, (4, 40, 56)).astype(np.float32)
    whole = Sweep([0, 5], [0, 7])
    tiled = Sweep(cuts(5, 2), cuts(7, 3))

    def blur(part: np.ndarray, origin: tuple[int, int]) -> np.ndarray:
        padded = np.pad(part, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="reflect")
        mean = sum(padded[:, :, i : i + part.shape[2], j : j + part.shape[3]] for i in (0, 2) for j in (0, 2))
        return np.repeat(np.repeat(mean / 4, 2, axis=2), 2, axis=3)

    (a, _), (b, moments) = whole(x, blur, 1), tiled(x, blur, 1, with_moments=True)
    assert np.array_equal(a, b)
    assert moments is not None
    np.testing.assert_allclose(moments.mean, a.mean(axis=(1, 2), dtype=np.float64), rtol=1e-5)
    np.testing.assert_allclose(moments.variance, a.var(axis=(1, 2), dtype=np.float64), rtol=1e-5)


def test_merged_moments_do_not_cancel() -> None:
    x = np.random.default_rng(1).normal(0, 1e-2, (2, 8, 32)) + 1000
    merged = merge([measure(x[:, :, :5]), measure(x[:, :, 5:6]), measure(x[:, :, 6:])])
    np.testing.assert_allclose(merged.variance, x.var(axis=(1, 2)), rtol=1e-6)
    assert merged.pixels == 8 * 32
