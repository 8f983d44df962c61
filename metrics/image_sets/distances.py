"""Measures of generated images against real ones, with their names and conditions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from configs.suggestion import did_you_mean
from metrics.distances.frechet import covariance_root, frechet_distance_of_statistics
from metrics.distances.kernel import kid
from metrics.distances.precision_recall import density_and_coverage, neighbour_distances, precision_and_recall
from metrics.features.base import FeatureSpace, metric_name
from metrics.image_sets.features import SetFeatures

METRICS = ("fid", "kid", "pr", "dc")
LIBRARIES = ("ganmod", "torch", "numpy", "pillow", "clean-fid")  # whose versions figures depend on
PR_NEIGHBOURS, DC_NEIGHBOURS = 3, 5
KID_SUBSETS, KID_SUBSET_SIZE = 100, 1000
FEW_IMAGES = 5000  # below, KID tells two models apart better than a Frechet distance does


def parse_metrics(text: str) -> tuple[str, ...]:
    """ "fid,pr" -> ("fid", "pr"). ValueError for an unknown name, with the nearest and all known ones."""
    names = [part.strip().lower() for part in text.split(",") if part.strip()]
    for name in names:
        if name not in METRICS:
            raise ValueError(
                f"unknown metric {name!r}{did_you_mean(name, METRICS, cutoff=0.5)}? Expected some of "
                f"{', '.join(METRICS)}"
            )
    if not names:
        raise ValueError(f"no metric is given: expected some of {', '.join(METRICS)}")
    return tuple(dict.fromkeys(names))


def needs_features(metrics: Sequence[str]) -> bool:
    """Whether the metrics need more than mean and covariance: `keep` of `measure_set`."""
    return set(metrics) != {"fid"}


def min_images(metrics: Sequence[str]) -> int:
    """The smallest number of images that each set must have."""
    needed = {"fid": 2, "kid": 2, "pr": PR_NEIGHBOURS + 1, "dc": DC_NEIGHBOURS + 1}
    return max(needed[metric] for metric in metrics)


def check_num_images(num: int | None, metrics: Sequence[str]) -> None:
    """Raise ValueError for fewer images than `min_images`; None passes."""
    if num is not None and num < min_images(metrics):
        raise ValueError(
            f"num {num}: {', '.join(metrics)} need at least {min_images(metrics)} images of a set"
        )


class PreparedReal(NamedTuple):
    """The part of a real set's distances that does not depend on the generated set, computed once.

    Args:
        root: `covariance_root` of the real images, for fid.
        distances: {number of neighbours: `neighbour_distances`}, for pr and dc.
    """

    root: np.ndarray | None
    distances: dict[int, Tensor]


def prepare_real(real: SetFeatures, metrics: Sequence[str], space: FeatureSpace) -> PreparedReal:
    """Prepare a real set for several calls of `measure_distances`. Raises ValueError as there."""
    (features,) = _on_device([real], metrics, space)
    wanted = {"pr": PR_NEIGHBOURS, "dc": DC_NEIGHBOURS}
    return PreparedReal(
        covariance_root(real.gaussian) if "fid" in metrics else None,
        {k: neighbour_distances(features, k=k) for name, k in wanted.items() if name in metrics},
    )


def measure_distances(
    generated: SetFeatures,
    real: SetFeatures,
    metrics: Sequence[str],
    space: FeatureSpace,
    *,
    seed: int = 0,
    prepared: PreparedReal | None = None,
) -> dict[str, float]:
    """{name: value} of METRICS: fid, kid and kid_std, precision and recall (pr), density and coverage (dc).

    The names differ in spaces other than Inception's, see `metric_name`. Frechet distances may be slightly
    negative by rounding.

    Args:
        generated: the generated images, measured in `space`.
        real: the real images, measured in `space`.
        metrics: some of METRICS.
        space: feature space of both sets.
        seed: of the kernel distance's subsets.
        prepared: `prepare_real` of `real` and these metrics.

    Raises:
        ValueError: if a measure needs features that were not kept; see also the measures.
    """
    values: dict[str, float] = {}
    pair = _on_device([generated, real], metrics, space)
    known = prepare_real(real, metrics, space) if prepared is None else prepared
    if "fid" in metrics:
        distance = frechet_distance_of_statistics(generated.gaussian, real.gaussian, second_root=known.root)
        values[metric_name(space.name)] = distance
    if "kid" in metrics:
        mean, std = kid(*pair, subsets=KID_SUBSETS, subset_size=KID_SUBSET_SIZE, seed=seed)
        values[metric_name(space.name, "kd")] = mean
        values[metric_name(space.name, "kd_std")] = std
    if "pr" in metrics:
        shares = precision_and_recall(*pair, k=PR_NEIGHBOURS, real_distances=known.distances[PR_NEIGHBOURS])
        values |= {metric_name(space.name, name): value for name, value in shares._asdict().items()}
    if "dc" in metrics:
        balls = density_and_coverage(*pair, k=DC_NEIGHBOURS, real_distances=known.distances[DC_NEIGHBOURS])
        values |= {metric_name(space.name, name): value for name, value in balls._asdict().items()}
    return values


def _on_device(sets: Sequence[SetFeatures], metrics: Sequence[str], space: FeatureSpace) -> list[Tensor]:
    """The features of sets on the space's device; empty tensors if no metric needs them."""
    on_device = []
    for features in (one.features for one in sets):
        if features is None and needs_features(metrics):
            raise ValueError(f"the features were not kept, but {', '.join(metrics)} needs them: keep=True")
        on_device.append(torch.empty(0) if features is None else features.to(space.device))
    return on_device


def settings(metrics: Sequence[str], num_generated: int, num_real: int, *, seed: int) -> dict[str, str]:
    """How each of `metrics` was computed, in words; values are comparable only if these agree."""
    size = min(KID_SUBSET_SIZE, num_generated, num_real)
    exact = size == num_generated == num_real
    parts = "both sets whole" if exact else f"{KID_SUBSETS} subsets of {size}, seed {seed}"
    lines = {
        "fid": "Frechet distance of Gaussians, unbiased covariance, float64",
        "kid": f"kernel (x.y/d + 1)^3, unbiased, {parts}",
        "pr": f"precision and recall with {PR_NEIGHBOURS} neighbours",
        "dc": f"density and coverage with {DC_NEIGHBOURS} neighbours",
    }
    return {metric: lines[metric] for metric in metrics}


def cautions(
    metrics: Sequence[str], num_generated: int, num_real: int, dim: int, *, kid: bool = True
) -> list[str]:
    """Warnings about too few images, as sentences.

    Args:
        metrics: those that are measured.
        num_generated: number of generated images.
        num_real: number of real images.
        dim: number of features.
        kid: whether to suggest kid instead.
    """
    sentences = []
    advice = "compare it at equal numbers of images only" + (", or use kid" if kid else "")
    fewest = min(num_generated, num_real)
    if "fid" in metrics and fewest <= dim:
        sentences.append(
            f"{fewest:,} images for {dim:,} features: the covariance is singular, the Frechet distance far "
            f"too large; {advice}"
        )
    elif "fid" in metrics and fewest < FEW_IMAGES:
        sentences.append(
            f"{fewest:,} images: the Frechet distance is biased upwards, by more than models differ; {advice}"
        )
    return sentences
