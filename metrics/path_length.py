"""Perceptual path length of a StyleGAN2 generator (Karras et al., CVPR 2019, section 4.1, and CVPR 2020).

How far an image moves, perceptually, under a small step between two latents: the smaller, the smoother the
latent space. The published figures measure with LPIPS on VGG-16; those of other networks are not comparable.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ganmod.data.seeding import draw, seed_latents
from ganmod.process_shares import ONE_PROCESS, Processes
from ganmod.stylegan2 import Generator
from ganmod.stylegan2.sampling import seed_noise, slerp
from metrics.image_sets.sources import check_generator, labels_of_seeds
from metrics.progress import Progress, no_progress

NUM_PAIRS = 50_000  # of published figures
EPSILON = 1e-4
MEASURED_SIZE = 256  # pixels; larger images are reduced towards it
TRIMMED_PERCENT = 1  # of the lengths at either end

StepSpace = Literal["w", "z"]
StepSampling = Literal["end", "full"]
Distance = Callable[[Tensor, Tensor], Tensor]  # two RGB [N,3,H,W], about [0,1] -> [N]


@dataclass(frozen=True)
class PathSettings:
    """Which path length; the default is StyleGAN2's, `ppl2_wend` of stylegan2-ada-pytorch.

    Args:
        space: where a step is taken: linearly in w, or on the sphere of z.
        sampling: steps from the first latent of each pair ("end"), or from a point anywhere between the two.
        crop: measure the part of a square image that shows an aligned face, as StyleGAN's `ppl_wend`.
        epsilon: size of a step as a share of the way between the two latents.
    """

    space: StepSpace = "w"
    sampling: StepSampling = "end"
    crop: bool = False
    epsilon: float = EPSILON

    def __post_init__(self) -> None:
        if self.space not in ("w", "z") or self.sampling not in ("end", "full"):
            raise ValueError(
                f"got space {self.space!r} and sampling {self.sampling!r}, expected w or z, and end or full"
            )
        if not 0 < self.epsilon < 1:
            raise ValueError(f"epsilon is {self.epsilon}, expected a share of the way, such as {EPSILON:g}")


class PathLength(NamedTuple):
    """Mean of the path lengths, in units of the distance per squared way between two latents.

    Attributes:
        value: the mean without the lowest and the highest 1 %.
        standard_error: of that mean, from the deviation of the winsorised lengths (Tukey & McLaughlin 1963);
            nan for one pair.
        num_kept: pairs in the mean.
    """

    value: float
    standard_error: float
    num_kept: int


def measure_path_length(
    G: Generator,
    distance: Distance,
    num_pairs: int = NUM_PAIRS,
    *,
    settings: PathSettings = PathSettings(),
    labels: Tensor | None = None,
    seed: int = 0,
    batch_size: int = 4,
    processes: Processes = ONE_PROCESS,
    progress: Progress = no_progress,
    title: str = "pairs of images",
) -> PathLength:
    """Perceptual path length of a generator, of the same pairs for any batch size and number of processes.

    Args:
        G: in eval mode; in full precision, as half precision is coarser than the step.
        distance: such as `metrics.images.lpips.LpipsDistance`, on the generator's device.
        num_pairs: pairs of latents. Pair i is of seed + i: its first latent is the z of that seed.
        labels: float32 [L,c_dim] for a conditional model; each pair draws one of them.
        batch_size: pairs at a time, of two images each.
        title: of the progress.

    Raises:
        ValueError: for labels that do not match the model, a crop of images that are not square, images too
            small for the distance, and lengths that are not finite.
    """
    if num_pairs < 1:
        raise ValueError(
            f"num_pairs is {num_pairs}, expected 1 or more; published figures are of {NUM_PAIRS:,}"
        )
    check_generator(G, labels)
    lengths = torch.zeros(num_pairs, dtype=torch.float64)
    batches = list(processes.batches(num_pairs, batch_size))
    with progress(sum(map(len, batches)), title) as bar:
        for indices in batches:
            seeds = (indices + seed).tolist()
            lengths[indices] = pair_lengths(G, distance, seeds, settings=settings, labels=labels)
            bar.update(len(indices))
    return trimmed_mean(processes.total(lengths))


@torch.no_grad()
def pair_lengths(
    G: Generator,
    distance: Distance,
    seeds: list[int],
    *,
    settings: PathSettings = PathSettings(),
    labels: Tensor | None = None,
) -> Tensor:
    """distance(image, image after a step) / epsilon^2 of the pair of each seed -> float64 [N] on the CPU.

    Both images of a pair have the same noise and label. Arguments as for `measure_path_length`.
    """
    device = next(iter(G.parameters())).device
    c = None if labels is None else labels_of_seeds(labels, seeds).to(device)
    ws = torch.cat(_steps(G, seeds, c, settings, device))  # [2N,num_ws,w_dim]
    noise = [torch.cat([layer, layer]) for layer in seed_noise(G, seeds)]
    images = _measured_part(G.synthesis(ws, noise=noise), crop=settings.crop)
    first, second = ((images + 1) / 2).expand(-1, 3, -1, -1).chunk(2)
    return distance(first, second).cpu().double() / settings.epsilon**2


def trimmed_mean(lengths: Tensor) -> PathLength:
    """The mean of lengths float64 [N] without the lowest and highest 1 %, by the published percentiles.

    Kept are those from the 1st percentile, rounded down to a length, to the 99th, rounded up. ValueError for
    lengths that are not finite.
    """
    values = lengths.cpu().numpy()
    if not np.isfinite(values).all():
        raise ValueError(
            f"{(~np.isfinite(values)).sum()} of {len(values)} path lengths are not finite: the model's "
            "images or their features are faulty"
        )
    low = np.percentile(values, TRIMMED_PERCENT, method="lower")
    high = np.percentile(values, 100 - TRIMMED_PERCENT, method="higher")
    kept = values[(values >= low) & (values <= high)]
    error = float("nan")
    if len(values) > 1:
        error = values.clip(low, high).std(ddof=1) / len(values) ** 0.5 * (len(values) / len(kept))
    return PathLength(float(kept.mean()), float(error), len(kept))


def _steps(
    G: Generator, seeds: list[int], c: Tensor | None, settings: PathSettings, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The ws [N,num_ws,w_dim] where each pair's step starts, and where it ends."""
    dtype = next(iter(G.parameters())).dtype
    draws = [draw(seed, "path length", 0) for seed in seeds]
    z0 = seed_latents(seeds, G.z_dim).to(dtype)
    z1 = torch.stack([torch.from_numpy(one.standard_normal(G.z_dim)) for one in draws]).to(dtype)
    starts = [one.random() if settings.sampling == "full" else 0.0 for one in draws]
    both = (starts, [t + settings.epsilon for t in starts])
    if settings.space == "z":
        z0, z1 = (
            torch.stack([slerp(a, b, t) for a, b, t in zip(z0, z1, shares, strict=True)]) for shares in both
        )
    twice = None if c is None else torch.cat([c, c])
    w0, w1 = G.mapping(torch.cat([z0, z1]).to(device), twice).chunk(2)
    if settings.space == "z":
        return w0, w1
    # In float64, whose rounding is small against the step; not every device has it.
    a, b = w0.cpu().double(), w1.cpu().double()
    start, end = (
        torch.lerp(a, b, torch.tensor(shares, dtype=torch.float64)[:, None, None]) for shares in both
    )
    return start.to(device, dtype), end.to(device, dtype)


def _measured_part(images: Tensor, *, crop: bool) -> Tensor:
    """Images [N,C,H,W] cropped to the face, if asked for, and reduced by whole factors towards 256 pixels.

    The factor follows the shorter side before the crop, as published.
    """
    height, width = images.shape[2:]
    if crop:
        if height != width:
            raise ValueError(
                f"the images are {width}x{height} (width x height), but a crop to the face needs square "
                "ones: leave it out"
            )
        part = height // 8
        images = images[:, :, 3 * part : 7 * part, 2 * part : 6 * part]
    factor = min(height, width) // MEASURED_SIZE
    return F.avg_pool2d(images, factor) if factor > 1 else images
