"""Measure a set of images in one pass, for Frechet distances, KID, precision and recall."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ganmod.data.seeding import preserve_random_state
from ganmod.process_shares import ONE_PROCESS, Processes
from metrics.distances.feature_statistics import FeatureStatistics
from metrics.distances.frechet import GaussianStatistics
from metrics.features.base import FeatureSpace, check_uint8
from metrics.image_sets.cache import FEATURES, STATISTICS, load_or_measure

ROWS_AT_A_TIME = 4096


@dataclass(frozen=True, eq=False)
class SetFeatures:
    """Statistics and features of a set of images.

    Args:
        gaussian: mean, covariance and number of images.
        features: float32 [N,D] on the CPU in the order of the images, None if they were not kept.
    """

    gaussian: GaussianStatistics
    features: Tensor | None

    @property
    def count(self) -> int:
        """Number of images measured."""
        return self.gaussian.count


def measure_set(
    load: Callable[[Tensor], Sequence[Tensor | None]],
    num_images: int,
    space: FeatureSpace,
    *,
    keep: bool = False,
    batch_size: int = 64,
    processes: Processes = ONE_PROCESS,
    done: Callable[[int], object] = lambda num_images: None,
) -> SetFeatures:
    """Features of images 0..num_images-1 over all processes, the same on each.

    Of two such sets, `metrics.distances.frechet` computes FID.

    Batches and the order of kept features do not depend on the number of processes.

    Args:
        load: global indices, int64 [n] on the CPU -> n images, uint8 RGB [3,H,W] of any size; None for an
            unreadable image, which is skipped.
        keep: also keep the features, not only mean and covariance; 50,000 of Inception's take 410 MB.
        processes: those that share the images; all of them must call this.
        done: called after each batch of this process with its number of images.

    Raises:
        ValueError: for images that are not uint8 RGB, non-finite features, and fewer than 2 images.
    """
    device = torch.device("cpu") if space.device.type == "mps" else space.device  # no float64 there
    statistics = FeatureStatistics(space.dim, device=device)
    kept: list[tuple[Tensor, Tensor]] = []
    for indices in processes.batches(num_images, batch_size):
        images = load(indices)
        if len(images) != len(indices):
            raise ValueError(f"load returned {len(images)} images for {len(indices)} indices")
        read = [i for i, image in enumerate(images) if image is not None]
        if read:
            features = extract_features([image for image in images if image is not None], space)
            statistics.update(features)
            if keep:
                kept.append((indices[read], features.to("cpu", torch.float32)))
        done(len(indices))
    gaussian = statistics.over_processes(processes).finish()
    return SetFeatures(gaussian, _in_order(kept, num_images, space.dim, processes) if keep else None)


def measure_generator(
    generate: Callable[[Tensor], Tensor],
    num_images: int,
    space: FeatureSpace,
    *,
    keep: bool = False,
    batch_size: int = 64,
    seed: int = 0,
    processes: Processes = ONE_PROCESS,
    done: Callable[[int], object] = lambda num_images: None,
) -> SetFeatures:
    """`measure_set` for images from a network, which may depend on nothing but their index.

    Before each call, torch's random state is seeded with (seed, first index), and it is restored at the end:
    `generate` draws the same values in every measurement, and training is unaffected.

    Args:
        generate: global indices, int64 [n] on the CPU -> uint8 RGB [n,3,H,W]; see `to_saved_uint8`.
        keep: see `measure_set`, also for the other parameters.
        seed: of torch's random state.
    """
    if num_images < 2 or batch_size < 1:
        raise ValueError(f"got num_images {num_images} and batch_size {batch_size}, expected 2 and 1 or more")

    def load(indices: Tensor) -> list[Tensor]:
        _seed(seed, int(indices[0]))
        images = generate(indices)
        check_uint8(images, source=f"generated images {int(indices[0])} to {int(indices[-1])}")
        return list(images)

    with preserve_random_state(), torch.no_grad():
        return measure_set(
            load, num_images, space, keep=keep, batch_size=batch_size, processes=processes, done=done
        )


def _seed(seed: int, index: int) -> None:
    """Seed only the generators that are restored; torch.manual_seed would reach every GPU."""
    mixed = (seed * 1_000_003 + index) % 2**63
    torch.default_generator.manual_seed(mixed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(mixed)


def extract_features(images: Sequence[Tensor], space: FeatureSpace) -> Tensor:
    """Features float32 [N,D] of N > 0 images, uint8 RGB [3,H,W] of any sizes; one batch per size."""
    all_features: Tensor | None = None
    shapes = [tuple(image.shape) for image in images]
    for shape in dict.fromkeys(shapes):
        where = [i for i, other in enumerate(shapes) if other == shape]
        batch = torch.stack([images[i] for i in where])
        check_uint8(batch)
        features = space(batch)
        if all_features is None:
            all_features = features.new_empty(len(images), space.dim)
        all_features[where] = features
    assert all_features is not None
    return all_features


def reference_set(
    measure: Callable[[], SetFeatures],
    space: FeatureSpace,
    *,
    content_hash: str,
    cache_dir: str | Path,
    keep: bool = False,
    processes: Processes = ONE_PROCESS,
) -> SetFeatures:
    """The result of `measure`, read from cache_dir if an earlier call stored it; see `load_or_measure`.

    Args:
        measure: `measure_set` of the reference with this `keep`; it runs on all processes or none.
        content_hash: changes whenever the images, their number or their preparation does.
        keep: also store the features.
    """
    measured: list[SetFeatures] = []

    def measure_once() -> SetFeatures:
        if not measured:
            measured.append(measure())
        return measured[0]

    def measure_features() -> Tensor:
        features = measure_once().features
        assert features is not None, "keep goes to measure_set, too"
        return features

    features = None
    if keep:
        features = load_or_measure(
            FEATURES,
            measure_features,
            space,
            content_hash=content_hash,
            cache_dir=cache_dir,
            processes=processes,
        )

    def compute() -> GaussianStatistics:
        if features is None or measured:
            return measure_once().gaussian
        statistics = FeatureStatistics(space.dim)
        for part in features.split(ROWS_AT_A_TIME):
            statistics.update(part)
        return statistics.finish()

    gaussian = load_or_measure(
        STATISTICS, compute, space, content_hash=content_hash, cache_dir=cache_dir, processes=processes
    )
    return SetFeatures(gaussian, features)


def _in_order(kept: list[tuple[Tensor, Tensor]], num_images: int, dim: int, processes: Processes) -> Tensor:
    """Kept features of all processes in the order of the images, float32 [N,D]."""
    if processes.count == 1:
        return torch.cat([torch.empty(0, dim), *(features for _, features in kept)])
    combined, present = torch.zeros(num_images, dim), torch.zeros(num_images)
    for indices, features in kept:
        combined[indices], present[indices] = features, 1
    combined, present = processes.total(combined), processes.total(present)
    return combined[present > 0]
