"""What a StyleGAN2 run shows and measures: sample grids, fakes by index, the real images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ganmod.data.image_dataset import ImageDataset
from ganmod.io.images import to_uint8
from ganmod.stylegan2 import Generator
from metrics.distances.feature_statistics import to_saved_uint8
from training.run.training_metric import Generate, RealImages
from training.stylegan2.step import Draws

GRID_SIDE = 8


def grid_draws(
    z_dim: int, labels: Tensor | None, seed: int, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor | None]:
    """Latents and labels of the snapshot grid, the same in every snapshot."""
    count = GRID_SIDE**2
    draws = Draws(seed, 0, count, device, dtype, labels)
    return draws.normals("grid", [0], [z_dim]), draws.classes("grid", [0])


def real_grid(dataset: ImageDataset) -> list[list[Any]]:
    """Rows of uint8 images, spread over the data set."""
    count = min(GRID_SIDE**2, dataset.num_images)
    images = [dataset[i * dataset.num_images // count][0].permute(1, 2, 0).numpy() for i in range(count)]
    return [images[i : i + GRID_SIDE] for i in range(0, count, GRID_SIDE)]


@torch.no_grad()
def generate_grid(G: Generator, grid: tuple[Tensor, Tensor | None]) -> list[list[Any]]:
    """Rows of uint8 images from the averaged generator, with its constant noise."""
    z, c = grid
    parts = zip(z.split(GRID_SIDE), [None] * GRID_SIDE if c is None else c.split(GRID_SIDE), strict=True)
    return [list(to_uint8((G(a, b, noise_mode="const").float().cpu() + 1) / 2)) for a, b in parts]


def real_images(dataset: ImageDataset) -> RealImages:
    """All training images, not flipped; corrupt ones are reported and left out."""

    def load(indices: Tensor) -> list[Tensor | None]:
        batches = (dataset.image_batches(1, indices=[i]) for i in indices.tolist())
        return [next((images[0] for images in batch), None) for batch in batches]

    return RealImages(load, dataset.num_images, dataset.files.fingerprint)


def fakes_by_index(
    G: Generator, labels: Tensor | None, seed: int, device: torch.device, dtype: torch.dtype
) -> Generate:
    """indices [N] -> uint8 [N,3,H,W]: image i depends on (seed, i) alone, noise included."""

    def generate(indices: Tensor) -> Tensor:
        draws = Draws(seed, 0, 1, device, dtype, labels)
        numbers = indices.tolist()
        z = draws.normals("metric", numbers, [G.z_dim])
        noise = draws.noise("metric", numbers, G)
        return to_saved_uint8(G(z, draws.classes("metric", numbers), noise=noise))

    return generate
