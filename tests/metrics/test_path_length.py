"""If this fails, perceptual path lengths are not the published measure."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from counted_progress import CountedProgress
from tiny_generator import tiny_generator
from torch import Tensor, nn
from torchvision.models import squeezenet1_1

from ganmod.data.seeding import draw, seed_latents
from ganmod.process_shares import Processes
from ganmod.stylegan2.sampling import seed_noise
from metrics.images.lpips import LpipsDistance
from metrics.path_length import PathSettings, measure_path_length, pair_lengths, trimmed_mean

SIDE = 4
Z_DIM = 3 * SIDE * SIDE  # one latent value for each value of an image


class Synthetic(nn.Module):
    """A generator in float64 with w = z / 2, whose image is a function of w, plus noise times `noise`."""

    z_dim, c_dim, img_channels = Z_DIM, 0, 3

    def __init__(self, image: Callable[[Tensor], Tensor], *, noise: float = 0.0, side: int = SIDE) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.synthesis = SyntheticImages(image, noise=noise, side=side)

    def mapping(self, z: Tensor, c: Tensor | None) -> Tensor:
        return (z / 2)[:, None].expand(-1, 2, -1)  # [N,2,w_dim]


class SyntheticImages(nn.Module):
    def __init__(self, image: Callable[[Tensor], Tensor], *, noise: float, side: int) -> None:
        super().__init__()
        self.image, self.noise, self.side = image, noise, side

    def noise_shapes(self) -> list[tuple[int, int]]:
        return [(self.side, self.side)]

    def forward(self, ws: Tensor, *, noise: list[Tensor]) -> Tensor:
        assert torch.equal(ws[:, 0], ws[:, 1])
        return self.image(ws[:, 0]) + self.noise * noise[0]


def as_image(values: Tensor) -> Tensor:
    return values.unflatten(1, (3, SIDE, SIDE))


def squared(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().sum(dim=(1, 2, 3))


def lengths(G: Any, seeds: list[int], distance: Any = squared, **settings: Any) -> Tensor:
    return pair_lengths(G, distance, seeds, settings=PathSettings(**settings))


def latents(seeds: list[int]) -> tuple[Tensor, Tensor]:
    """Both latents of each pair, float64 [N,Z_DIM]."""
    second = [torch.from_numpy(draw(seed, "path length", 0).standard_normal(Z_DIM)) for seed in seeds]
    return seed_latents(seeds, Z_DIM).double(), torch.stack(second)


@pytest.mark.parametrize("sampling", ["end", "full"])
def test_an_image_linear_in_w_has_the_length_of_its_line(sampling: str) -> None:
    """Image M w, so (M (w1 - w0) / 2)^2 for images in [0,1], wherever on the line, whatever epsilon."""
    M = torch.randn(Z_DIM, Z_DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    G, seeds = Synthetic(lambda w: as_image(w @ M)), list(range(5, 25))
    z0, z1 = latents(seeds)
    expected = ((z1 - z0) / 2 @ M / 2).square().sum(dim=1)
    for epsilon in (1e-4, 1e-2):
        found = lengths(G, seeds, sampling=sampling, epsilon=epsilon)
        assert found.dtype == torch.float64
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=0)


def test_the_mean_over_latents_is_that_of_their_distribution() -> None:
    """w1 - w0 has variance 1 / 2 per value, of the image in [0,1] 1 / 8: 48 / 8 = 6 in all."""
    found = measure_path_length(Synthetic(as_image), squared, 2000, batch_size=500)  # type: ignore[arg-type]
    assert found.num_kept == 1962  # of 0..1999 those from 19 to 1980
    # A chi-squared variable of 48 degrees, its deviation 6 sqrt(2 / 48): a trimmed mean is a little below.
    assert found.standard_error == pytest.approx(6 * (2 / 48) ** 0.5 / 2000**0.5, rel=0.05)
    assert abs(found.value - 6) < 3 * found.standard_error


def test_a_step_in_z_is_an_angle_on_the_sphere() -> None:
    """Chord 2 sqrt(D) sin(epsilon theta / 2) of the sphere of radius sqrt(D), halved to w, and to [0,1]."""
    seeds = list(range(10))
    z0, z1 = latents(seeds)
    theta = torch.acos(torch.cosine_similarity(z0, z1))
    for epsilon in (1e-4, 0.1):
        expected = Z_DIM * (epsilon * theta / 2).sin().square() / 4 / epsilon**2
        for sampling in ("end", "full"):
            found = lengths(Synthetic(as_image), seeds, space="z", sampling=sampling, epsilon=epsilon)
            torch.testing.assert_close(found, expected, rtol=1e-7, atol=0)


def test_full_paths_start_anywhere_between_both_latents() -> None:
    """Image w^2 has the speed 2 w_t (w1 - w0).

    For standard normal w0, w1 and d = w1 - w0, E[w_t^2 d^2] = 2 ((1 - t)^2 + t^2) + 2 (2 t - 1)^2: 4 at the
    end, and 4 / 3 + 2 / 3 = 2 on average over t.
    """
    G, seeds = Synthetic(lambda w: as_image(w.square())), list(range(2000))
    full, end = (lengths(G, seeds, sampling=sampling).mean() for sampling in ("full", "end"))
    scale = 4 / 16 / 4 * Z_DIM  # (2 w d)^2 of half as large w and d, in images halved to [0,1]
    assert end == pytest.approx(4 * scale, rel=0.03)
    assert full == pytest.approx(2 * scale, rel=0.03)


def test_both_images_of_a_pair_have_the_same_noise() -> None:
    seen: list[Tensor] = []

    def record(a: Tensor, b: Tensor) -> Tensor:
        seen.extend([a, b])
        return squared(a, b)

    G = Synthetic(lambda w: torch.zeros(len(w), 3, SIDE, SIDE, dtype=torch.float64), noise=5.0)
    assert torch.equal(lengths(G, [3, 4], record), torch.zeros(2, dtype=torch.float64))
    noise = seed_noise(G, [3, 4])[0]  # type: ignore[arg-type]
    torch.testing.assert_close(seen[0], ((5 * noise + 1) / 2).expand(-1, 3, -1, -1).double())
    assert not torch.equal(seen[0][0], seen[0][1])


@pytest.mark.parametrize(
    ("side", "crop", "shape"),
    [(256, False, 256), (511, False, 511), (512, False, 256), (1024, False, 256), (256, True, 128)],
)
def test_images_are_cropped_to_the_face_and_reduced_to_256_pixels(side: int, crop: bool, shape: int) -> None:
    seen: list[Tensor] = []

    def record(a: Tensor, b: Tensor) -> Tensor:
        seen.append(a)
        return a.new_zeros(len(a))

    ramp = torch.arange(side, dtype=torch.float64)
    image = (ramp[:, None] * side + ramp).expand(1, 3, side, side)  # the number of each pixel
    lengths(Synthetic(lambda w: image.expand(len(w), -1, -1, -1), side=side), [0], record, crop=crop)
    assert seen[0].shape == (1, 3, shape, shape)
    row, column = (3 * side // 8, side // 4) if crop else (0, 0)
    factor = max(side // 256, 1)
    first = row * side + column + (factor - 1) / 2 * (side + 1)  # mean of the first factor x factor pixels
    assert seen[0][0, 0, 0, 0].item() == pytest.approx((first + 1) / 2)


def test_the_lowest_and_highest_percent_are_left_out() -> None:
    """Of 0..999 the percentiles are 9.99 and 989.01: 9 to 990 are kept, mean 499.5."""
    values = torch.arange(1000, dtype=torch.float64)
    shuffled = values[torch.randperm(1000, generator=torch.Generator().manual_seed(0))]
    found = trimmed_mean(shuffled)
    assert (found.value, found.num_kept) == (499.5, 982)
    outlier = shuffled.clone()
    outlier[shuffled.argmax()] = 1e12
    assert trimmed_mean(outlier) == found
    assert trimmed_mean(torch.tensor([2.0]).double())[::2] == (2, 1)
    assert math.isnan(trimmed_mean(torch.tensor([2.0]).double()).standard_error)
    with pytest.raises(ValueError, match="1 of 3 path lengths are not finite"):
        trimmed_mean(torch.tensor([0.0, math.nan, 1.0]).double())


def test_batches_and_processes_change_nothing() -> None:
    G, whole = Synthetic(as_image), trimmed_mean(lengths(Synthetic(as_image), list(range(2, 13))))
    shares: list[Tensor] = []
    progress = CountedProgress()

    def collect(share: Tensor) -> Tensor:
        shares.append(share)
        return share

    for rank in (0, 1):
        measure_path_length(
            G,  # type: ignore[arg-type]
            squared,
            11,
            seed=2,
            batch_size=4,
            processes=Processes(rank, 2, collect),
            progress=progress,
        )
        assert progress.counts["pairs of images"] == ((7, 7), (4, 4))[rank]  # batches 0-3 and 8-10, or 4-7
    assert trimmed_mean(shares[0] + shares[1]).value == pytest.approx(whole.value, rel=1e-9)
    one = measure_path_length(G, squared, 11, seed=2, batch_size=3)  # type: ignore[arg-type]
    assert one.value == pytest.approx(whole.value, rel=1e-9)


def test_a_stylegan2_in_float32_is_near_float64() -> None:
    """With LPIPS on SqueezeNet (random weights): the step of 1e-4 is large against rounding."""
    torch.manual_seed(0)
    backbone = squeezenet1_1(weights=None).features.state_dict()
    single = tiny_generator(img_resolution=32, c_dim=2)
    labels = torch.eye(2)
    found = pair_lengths(single, LpipsDistance(backbone), [0, 1, 2], labels=labels)
    exact = pair_lengths(single.double(), LpipsDistance(backbone).double(), [0, 1, 2], labels=labels.double())
    assert exact.min() > 0
    torch.testing.assert_close(found, exact, rtol=0.05, atol=0)


def test_errors_name_the_fix() -> None:
    with pytest.raises(ValueError, match="num_pairs is 0, expected 1 or more"):
        measure_path_length(tiny_generator(), squared, 0)
    with pytest.raises(ValueError, match="a conditional model needs labels"):
        measure_path_length(tiny_generator(c_dim=2), squared, 1)
    with pytest.raises(ValueError, match=r"24x16 \(width x height\), but a crop to the face needs square"):
        measure_path_length(tiny_generator(), squared, 1, settings=PathSettings(crop=True))
    with pytest.raises(ValueError, match="got space 'x' and sampling 'end', expected w or z"):
        PathSettings(space="x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="epsilon is 0, expected"):
        PathSettings(epsilon=0)
