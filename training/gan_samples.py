"""What a GAN loop shows and measures: sample grids, and the distance of fresh samples to the real images."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from configs.stylegan2 import StyleGAN2Run
from ganmod.feature_spaces import load_feature_space
from ganmod.images import to_uint8
from ganmod.stylegan2 import Generator
from metrics.feature_statistics import statistics_of_images, to_saved_uint8
from metrics.frechet import GaussianStatistics
from metrics.process_shares import current_processes
from metrics.statistics_cache import cached_statistics, user_cache_dir
from metrics.training_metric import MetricHook
from training.image_dataset import ImageDataset
from training.stylegan2_step import Draws

METRIC_BATCH = 64  # images
GRID_SIDE = 8


def grid_draws(
    config: StyleGAN2Run, labels: Tensor | None, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor | None]:
    """Latents and labels of the snapshot grid, the same in every snapshot."""
    count = GRID_SIDE**2
    draws = Draws(config.runtime.seed, 0, count, device, dtype, labels)
    return draws.normals("grid", [0], [config.model.z_dim]), draws.classes("grid", [0])


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


def build_metric(config: StyleGAN2Run, dataset: ImageDataset, device: torch.device) -> MetricHook | None:
    """The Frechet distance of the configuration, with the statistics of all training images; None if off."""
    if config.metric.every == 0:
        return None
    space = load_feature_space(config.metric.features, config.metric.feature_weights, device=device)
    processes = current_processes(device)

    def measure() -> GaussianStatistics:
        shares = itertools.chain.from_iterable(processes.batches(dataset.num_images, METRIC_BATCH))
        batches = dataset.image_batches(METRIC_BATCH, indices=(int(i) for i in shares))
        shown = {"desc": f"real images in {space.name}", "unit": "img", "disable": None}
        with tqdm(total=dataset.num_images // processes.count, **shown) as bar:
            return statistics_of_images(batches, space, done=bar.update).over_processes(processes).finish()

    real = cached_statistics(
        measure,
        space,
        content_hash=dataset.files.fingerprint(),
        cache_dir=user_cache_dir(),
        processes=processes,
    )
    batch = min(METRIC_BATCH, config.schedule.microbatch or config.schedule.batch_size or METRIC_BATCH)
    return MetricHook(
        space,
        real,
        config.metric.num_images,
        batch_size=batch,
        seed=config.runtime.seed,
        processes=processes,
    )


def fakes_by_index(
    G: Generator, labels: Tensor | None, seed: int, device: torch.device, dtype: torch.dtype
) -> Callable[[Tensor], Tensor]:
    """indices [N] -> uint8 [N,3,H,W]: image i depends on (seed, i) alone, noise included."""

    def generate(indices: Tensor) -> Tensor:
        draws = Draws(seed, 0, 1, device, dtype, labels)
        numbers = indices.tolist()
        z = draws.normals("metric", numbers, [G.z_dim])
        noise = draws.noise("metric", numbers, G)
        return to_saved_uint8(G(z, draws.classes("metric", numbers), noise=noise))

    return generate
