"""If this fails, ADA's warps and band filters compute something else than their formulas say."""

from __future__ import annotations

import itertools
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import map_coordinates
from torch import Tensor

from training.augment import ada_transforms
from training.augment.ada_transforms import (
    SYM6,
    band_filter,
    bilinear,
    downsample_sym6,
    filter_bank,
    is_blit,
    reflect_extend,
    resample,
    upsample_sym6,
    warp,
    warp_margins,
)


def images(n: int = 2, height: int = 12, width: int = 12, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(n)
    return torch.randn(n, channels, height, width, generator=generator, dtype=torch.float64)


def matrix(xx: float, xy: float, tx: float, yx: float, yy: float, ty: float) -> Tensor:
    """One inverse warp [1,3,3], row by row."""
    return torch.tensor([[[xx, xy, tx], [yx, yy, ty], [0, 0, 1]]], dtype=torch.float64)


def rotate(angle: float, zoom: float = 1.0, tx: float = 0.0, ty: float = 0.0) -> Tensor:
    c, s = np.cos(angle) / zoom, np.sin(angle) / zoom
    return matrix(c, -s, tx, s, c, ty)


def test_sym6_is_the_orthogonal_lowpass_with_six_vanishing_moments():
    h, k = np.array(SYM6), np.arange(12)
    assert h.sum() == pytest.approx(2**0.5, abs=1e-12)
    shifted = [h[: 12 - 2 * j] @ h[2 * j :] for j in range(6)]
    np.testing.assert_allclose(shifted, [1, 0, 0, 0, 0, 0], atol=1e-11)
    highpass = h * (-1.0) ** k
    np.testing.assert_allclose([highpass @ (k / 11) ** m for m in range(6)], np.zeros(6), atol=1e-11)
    assert abs(highpass @ (k / 11) ** 6) > 1e-5


def test_sym6_is_the_most_symmetric_of_its_kind():
    # |H|^2 = 2 cos^12(w/2) P(sin^2(w/2)), P(y) = sum_k C(5+k, k) y^k (Daubechies 1988). Each root y gives
    # z and 1/z, of which a filter takes one; conjugates go together.
    y = np.roots([252, 126, 56, 21, 6, 1])
    pairs = [np.roots([-0.25, 0.5 - root, -0.25]) for root in y if root.imag >= 0]
    filters = []
    for choice in itertools.product((0, 1), repeat=len(pairs)):
        zeros = [-1.0] * 6
        for pair, which in zip(pairs, choice, strict=True):
            zeros += [pair[which]] if abs(pair[which].imag) < 1e-9 else [pair[which], pair[which].conj()]
        taps = np.poly(zeros).real
        filters.append(taps / taps.sum() * 2**0.5)

    def asymmetry(taps: np.ndarray) -> float:
        w = np.linspace(0, np.pi, 200)[:-20]  # the phase at the zero at pi is undefined
        phase = np.unwrap(np.angle(np.exp(-1j * np.outer(w, np.arange(12))) @ taps))
        return float(np.abs(phase - w * (w @ phase) / (w @ w)).max())

    best = min(map(asymmetry, filters))
    found = [taps for taps in filters if np.allclose(taps, SYM6, atol=1e-8)]
    assert len(found) == 1
    assert asymmetry(found[0]) == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize("planes", ["cpu", "other"])
def test_resampling_by_2_equals_a_direct_convolution(planes: str, monkeypatch: pytest.MonkeyPatch):
    if planes == "other":  # the layout that other devices use
        monkeypatch.setattr(ada_transforms, "_planes", lambda x: x.flatten(0, 1)[:, None])
    x, h = images(2, 5, 7), np.array(SYM6)

    def up(row: np.ndarray) -> np.ndarray:
        zeros = np.zeros(2 * len(row))
        zeros[::2] = row * 2**0.5
        return np.convolve(zeros, h)[5 : 5 + len(zeros)]

    expected = np.apply_along_axis(up, 3, np.apply_along_axis(up, 2, x.numpy()))
    np.testing.assert_allclose(upsample_sym6(x), expected, atol=1e-12)
    wide = images(2, 20, 24)
    down = partial(np.correlate, v=h / 2**0.5, mode="valid")
    expected = np.apply_along_axis(lambda row: down(row)[::2], 2, wide.numpy())
    expected = np.apply_along_axis(lambda row: down(row)[::2], 3, expected)
    np.testing.assert_allclose(downsample_sym6(wide), expected, atol=1e-12)


def test_downsampling_inverts_upsampling():
    x = F.pad(images(), (6,) * 4)
    there = F.pad(upsample_sym6(x), (5,) * 4)
    torch.testing.assert_close(downsample_sym6(there), x, atol=1e-10, rtol=0)


def test_flips_and_quarter_turns_copy_pixels():
    x = images(1)
    for params, expected in (
        (matrix(-1, 0, 0, 0, 1, 0), x.flip(3)),
        (matrix(1, 0, 0, 0, -1, 0), x.flip(2)),
        (matrix(0, -1, 0, 1, 0, 0), x.rot90(1, (2, 3))),
        (matrix(-1, 0, 0, 0, -1, 0), x.rot90(2, (2, 3))),
        (matrix(0, 1, 0, -1, 0, 0), x.rot90(3, (2, 3))),
        (matrix(1, 0, 0, 0, 1, 0), x),
    ):
        assert torch.equal(warp(x, params), expected)


@pytest.mark.parametrize(("right", "down"), [(3, 0), (-2, 5), (0, -4)])
def test_integer_translation_reflects_at_the_edges(right: int, down: int):
    x = images(1, 9, 12)
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (5, 5), (5, 5)), mode="reflect")
    expected = padded[:, :, 5 - down : 14 - down, 5 - right : 17 - right]
    np.testing.assert_array_equal(warp(x, matrix(1, 0, -right, 0, 1, -down)), expected)


def test_a_quarter_turn_of_a_wide_image_shows_its_middle_and_mirrors_it():
    x = images(1, 4, 10)
    out = warp(x, matrix(0, -1, 0, 1, 0, 0))
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (3, 3), (0, 0)), mode="reflect")
    np.testing.assert_array_equal(out, np.rot90(padded, axes=(2, 3))[:, :, 3:7])
    # Half pixels apart, it is no copy any more.
    assert not is_blit(matrix(0, -1, 0, 1, 0, 0), 4, 9).any()
    assert not is_blit(rotate(0.1), 4, 10).any()
    assert not is_blit(matrix(1, 0, 0.5, 0, 1, 0), 4, 10).any()


def reference_warp(x: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """[H,W]: padding, 2x sym6, bilinear sampling, 2x down, from the formulas, with the largest margin."""
    height, width = x.shape
    h, margin = np.array(SYM6), max(height, width) - 1
    up = np.pad(x, margin, mode="reflect")
    for axis in (0, 1):
        up = np.moveaxis(up, axis, -1)
        zeros = np.zeros((*up.shape[:-1], 2 * up.shape[-1]))
        zeros[..., ::2] = up * 2**0.5
        up = np.apply_along_axis(lambda row: np.convolve(row, h)[5:-6], -1, zeros)
        up = np.moveaxis(up, -1, axis)
    # Sample m of the 2x image is at pixel m / 2 of the image, as published, without delay.
    positions = [np.arange(-5, 2 * size + 5) / 2 - (size - 1) / 2 for size in (height, width)]
    y, x_ = np.meshgrid(*positions, indexing="ij")
    source = np.einsum("ij,jhw->ihw", inverse, np.stack([x_, y, np.ones_like(y)]))
    index_x = 2 * (source[0] + (width - 1) / 2 + margin)
    index_y = 2 * (source[1] + (height - 1) / 2 + margin)
    sampled = map_coordinates(up, [index_y, index_x], order=1, mode="constant")
    for axis in (0, 1):
        sampled = np.apply_along_axis(
            lambda row: np.correlate(row, h / 2**0.5, mode="valid")[::2], axis, sampled
        )
    return sampled


@pytest.mark.parametrize("shape", [(12, 12), (9, 14)])
def test_a_warp_equals_the_reference_from_the_formulas(shape: tuple[int, int]):
    inverse = torch.cat(
        [rotate(0.4, 1.3, 1.2, -0.7), rotate(-2.0, 0.9), matrix(0.8, 0.3, 2, 0.1, 1.1, 0), rotate(0)]
    )
    x = images(4, *shape)
    out = resample(x, inverse)
    for sample, matrix_ in enumerate(inverse.numpy()):
        for channel in range(3):
            expected = reference_warp(x[sample, channel].numpy(), matrix_)
            np.testing.assert_allclose(out[sample, channel], expected, atol=1e-10)
    torch.testing.assert_close(out[3], x[3], atol=1e-10, rtol=0)


def wave(shape: tuple[int, int], inverse: Tensor | None = None) -> Tensor:
    """[1,1,H,W]: a slow plane wave, seen through an inverse warp."""
    y, x = torch.meshgrid(*(torch.arange(s).double() - (s - 1) / 2 for s in shape), indexing="ij")
    points = torch.stack([x, y, torch.ones_like(x)])
    x, y, _ = points if inverse is None else torch.einsum("ij,jhw->ihw", inverse[0], points)
    return torch.cos(0.2 * x + 0.13 * y + 1)[None, None]


@pytest.mark.parametrize("inverse", [rotate(0.5, 2.0), rotate(-2.5, 2.0, 1.3, 0.4), rotate(np.pi / 2, 1.7)])
def test_a_warp_moves_a_wave_as_its_formula_says(inverse: Tensor):
    """About a point off the centre, by half the filter's delay on the 2x image, which is not corrected."""
    off_centre = (np.arange(12) @ np.array(SYM6) / np.sum(SYM6) - 5) / 2
    assert 0.049 < off_centre < 0.05
    expected = inverse.clone()
    offset = torch.full((2,), off_centre, dtype=inverse.dtype)
    expected[:, :2, 2] += inverse[:, :2, :2] @ offset - offset
    # The inner part only: further out the picture is mirrored, the wave's formula is not.
    torch.testing.assert_close(warp(wave((48, 40)), inverse), wave((48, 40), expected), atol=4e-3, rtol=0)


def test_the_margin_is_what_the_batch_needs():
    assert warp_margins(rotate(0, zoom=4), 32, 32) == (0, 0, 0, 0)
    left, right, top, bottom = warp_margins(matrix(1, 0, 10.5, 0, 1, 0), 32, 32)
    assert left == 0
    assert 10 < right < 20
    assert 0 < top <= 8
    assert 0 < bottom <= 8
    assert warp_margins(rotate(0, zoom=0.01), 32, 16) == (31, 31, 31, 31)


def test_wider_margins_change_nothing_and_have_few_sizes(monkeypatch: pytest.MonkeyPatch):
    """oneDNN keeps a primitive for each size of image that it meets: of any size, memory grew for minutes."""
    extended: list[tuple[int, ...]] = []

    def extend(x: Tensor, margins: tuple[int, int, int, int]) -> Tensor:
        extended.append(tuple(reflect_extend(x, margins).shape[2:]))
        return reflect_extend(x, margins)

    monkeypatch.setattr(ada_transforms, "reflect_extend", extend)
    x, turns = images(1, 32, 32), np.linspace(0, 2, 40)
    inverses = [rotate(float(turn), 1 - 0.3 * float(turn), 0.5 * i, -0.2 * i) for i, turn in enumerate(turns)]
    stepped = [ada_transforms.resample(x, inverse) for inverse in inverses]
    assert {side for size in extended for side in size} <= {32, 48, 64, 80, 94}
    extended.clear()
    monkeypatch.setattr(ada_transforms, "_MARGIN_STEP", 1)
    exact = [ada_transforms.resample(x, inverse) for inverse in inverses]
    assert len(set(extended)) > 25
    for a, b in zip(stepped, exact, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_bilinear_sampling_and_its_gradients_equal_torch():
    x, grid = images(2, 5, 6).requires_grad_(), torch.rand(2, 4, 3, 2, dtype=torch.float64) * 2.4 - 1.2
    ours = bilinear(x, grid)
    theirs = F.grid_sample(x, grid, align_corners=False)
    weight = torch.randn_like(ours)
    assert torch.equal(ours, theirs)
    (a,) = torch.autograd.grad((ours * weight).sum(), x)
    (b,) = torch.autograd.grad((theirs * weight).sum(), x)
    torch.testing.assert_close(a, b)
    assert torch.autograd.gradgradcheck(lambda x: bilinear(x, grid).tanh(), x)


def test_filters_of_unit_gain_do_nothing():
    bank = filter_bank()
    unit = torch.zeros(43, dtype=torch.float64)
    unit[21] = 1
    torch.testing.assert_close(bank.sum(0), unit, atol=1e-15, rtol=0)
    torch.testing.assert_close(bank, bank.flip(1), atol=1e-15, rtol=0)
    torch.testing.assert_close(band_filter(images(), torch.ones(2, 4).double()), images(), atol=1e-12, rtol=0)


@pytest.mark.parametrize(("band", "frequency"), [(0, 1 / 32), (1, 3 / 16), (2, 3 / 8), (3, 3 / 4)])
def test_a_band_is_amplified_by_its_gain(band: int, frequency: float):
    # A cosine about the first pixel of a period that fits goes on by reflection.
    x = torch.cos(np.pi * frequency * torch.arange(129).double())[None, None, None, :].expand(1, 3, 129, -1)
    gains = torch.ones(1, 4, dtype=torch.float64)
    gains[0, band] = 3
    response = filter_bank() @ torch.cos(np.pi * frequency * (torch.arange(43).double() - 21))  # [4]
    assert response.argmax() == band
    assert response[band] > 0.7
    # Vertically the image is constant: there, band 0's gain applies.
    vertical = 3 if band == 0 else 1
    expected = x * (1 + 2 * response[band]) * vertical
    torch.testing.assert_close(band_filter(x, gains), expected, atol=1e-10, rtol=0)
