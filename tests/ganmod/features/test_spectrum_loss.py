"""If this fails, training pays for other lines than those that a picture has beyond its style."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ganmod.features.spectrum_loss import FLOOR, STRIDE, WINDOW, spectrum_loss, welch_spectrum


def noise(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def reference(image: Tensor) -> Tensor:
    """Powers of the windows' Fourier transforms, [WINDOW, WINDOW] for one [H,W] image."""
    place = (torch.arange(WINDOW, dtype=torch.float64) + 0.5) / WINDOW
    hann = torch.sin(math.pi * place).square()
    window = hann[:, None] * hann
    total, count = torch.zeros(WINDOW, WINDOW, dtype=torch.float64), 0
    for y in range(0, image.shape[0] - WINDOW + 1, STRIDE):
        for x in range(0, image.shape[1] - WINDOW + 1, STRIDE):
            part = image[y : y + WINDOW, x : x + WINDOW]
            weighted = window * (part - (part * window).sum() / window.sum())
            total += torch.fft.fft2(weighted).abs().square()
            count += 1
    return total / count / window.square().sum()


def test_powers_are_those_of_a_fourier_transform() -> None:
    image = 0.5 + 0.1 * noise(40, 36)
    # Brightness of a grey picture is sqrt(3) times its value, the other colours are 0.
    power = welch_spectrum(image.expand(1, 3, -1, -1))[0]
    wanted = 3 * reference(image)
    half = [
        (u, v) for v in range(9) for u in range(-7, 9) if (u, v) != (0, 0) and not (v in (0, 8) and u < 0)
    ]
    assert power.shape == (3, len(half)) == (3, 129)
    torch.testing.assert_close(power[0], torch.stack([wanted[u, v] for u, v in half]), rtol=1e-5, atol=1e-9)
    assert power[1:].max() < 1e-12


def test_white_noise_has_its_variance_as_power() -> None:
    power = welch_spectrum(0.2 * noise(4, 3, 256, 256))
    assert power[..., 40:].mean().item() == pytest.approx(0.04, rel=0.02)


def test_a_picture_of_one_colour_has_no_power_and_no_part_of_the_loss() -> None:
    flat = torch.full((1, 3, 32, 32), 0.7)
    assert welch_spectrum(flat).max() < 1e-9
    assert spectrum_loss(flat, torch.full((1, 3, 48, 20), 0.1)).item() < 1e-6


def test_lines_of_two_pixels_count_by_the_logarithm_of_their_strength() -> None:
    """Against a flat style, the loss of lines at one frequency is (ln amplitude / floor)^2 there."""
    style = torch.full((1, 3, 64, 64), 0.5, dtype=torch.float64)
    lines = style.clone()
    lines[:, :, ::2] += 0.05
    lines[:, :, 1::2] -= 0.05
    power = welch_spectrum(lines)
    wanted = (0.5 * torch.log(1 + power / FLOOR)).square().mean()
    torch.testing.assert_close(spectrum_loss(lines, style), wanted[None], rtol=1e-4, atol=1e-7)
    assert spectrum_loss(lines, style) > 10 * spectrum_loss(style + 0.002 * noise(1, 3, 64, 64), style)


def test_the_place_and_the_mean_do_not_count_but_the_direction_does() -> None:
    texture = 0.1 * noise(1, 3, 64, 64).cumsum(dim=3).sin()
    moved = texture.roll((8, 12), (2, 3)) + 0.3
    assert spectrum_loss(texture, moved) < 0.05 * spectrum_loss(texture, texture.transpose(2, 3))


def test_gradients() -> None:
    style = 0.5 + 0.1 * noise(1, 3, 20, 16, seed=1)
    images = (0.5 + 0.1 * noise(1, 3, 16, 20)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: spectrum_loss(x, style), (images,), rtol=1e-3, atol=1e-6)
