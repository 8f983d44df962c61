"""Measures of image-to-image translation between domains, as in StarGAN v2 (Choi et al. 2020, 4.1).

For every ordered pair of domains, each image of the source domain is translated into several styles of the
target domain. Measured are the Frechet distance of all translations to real images of the target, the LPIPS
distance between the translations of one image (diversity), and the error of a translation's encoded style.
Images are not stored. Styles depend on (seed, pair, image, output) only, not on the batch size or the number
of processes.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ganmod.process_shares import ONE_PROCESS, Processes
from metrics.distances.feature_statistics import FeatureStatistics, to_saved_uint8
from metrics.distances.frechet import GaussianStatistics, covariance_root, frechet_distance_of_statistics
from metrics.features.base import FeatureSpace, metric_name

Pair = tuple[int, int]  # source and target domain


@dataclass(frozen=True, eq=False)
class PairMeasures:
    """Measures of all translations of one pair of domains.

    Args:
        gaussian: statistics of their features.
        style_error: mean absolute error of the encoded styles.
        lpips: diversity, None if not measured.
    """

    gaussian: GaussianStatistics
    style_error: float
    lpips: float | None


def output_latents(seed: int, pair: Pair, sources: Tensor, *, num_outputs: int, latent_dim: int) -> Tensor:
    """z from N(0,1) for the outputs of source images, indices [n] -> float32 [n,num_outputs,latent_dim]."""
    rows = [
        _draw(seed, "latents", pair, index).standard_normal((num_outputs, latent_dim), dtype=np.float32)
        for index in sources.tolist()
    ]
    return torch.from_numpy(np.stack(rows))


def output_references(
    seed: int, pair: Pair, sources: Tensor, *, num_outputs: int, num_references: int
) -> Tensor:
    """The reference of each output: indices of source images [n] -> int64 [n,num_outputs].

    An image's references differ if there are enough of them.
    """
    rows = []
    for index in sources.tolist():
        order = _draw(seed, "references", pair, index).permutation(num_references)
        rows.append(order[np.arange(num_outputs) % num_references])
    return torch.from_numpy(np.stack(rows))


def _draw(seed: int, purpose: str, pair: Pair, index: int) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), *pair, index])


@torch.no_grad()
def measure_pair(
    load: Callable[[Tensor], Tensor],
    num_sources: int,
    codes_of: Callable[[Tensor], Tensor],
    translate: Callable[[Tensor, Tensor], Tensor],
    encode: Callable[[Tensor], Tensor],
    space: FeatureSpace,
    *,
    diversity: Callable[[Tensor], Tensor] | None = None,
    batch_size: int = 8,
    processes: Processes = ONE_PROCESS,
    done: Callable[[int], object] = lambda num_images: None,
) -> PairMeasures:
    """Translate source images 0..num_sources-1 into K styles each, over all processes, and measure.

    Args:
        load: indices int64 [n] -> images [n,3,S,S] in [-1,1].
        codes_of: indices -> style codes [n,K,D].
        translate: images, codes -> [n,K,3,S,S] in about [-1,1].
        encode: images [m,3,S,S] -> their style codes in the target domain [m,D].
        space: feature space of the distances; it gets images rounded to 8 bits.
        diversity: images [n,K,3,S,S] in about [0,1] -> mean LPIPS distance of all pairs of the K [n], see
            `LpipsDistance.diversity`; as in the published code, it gets them unrounded.
        processes: those that share the sources.
        done: called after each batch of this process with its number of translations.

    Raises:
        ValueError: for translations with NaN.
    """
    statistics = FeatureStatistics(space.dim)
    sums = torch.zeros(3, dtype=torch.float64)  # style error, LPIPS, source images
    for indices in processes.batches(num_sources, batch_size):
        codes = codes_of(indices)
        outputs = translate(load(indices), codes)
        flat = outputs.flatten(0, 1)
        statistics.update(space(to_saved_uint8(flat)))
        errors = (encode(flat) - codes.flatten(0, 1)).abs().double()
        sums[0] += errors.mean(dim=1).sum().cpu() / codes.shape[1]
        if diversity is not None:
            sums[1] += diversity((outputs + 1) / 2).double().sum().cpu()
        sums[2] += len(indices)
        done(len(flat))
    style_error, lpips, count = processes.total(sums).tolist()
    return PairMeasures(
        statistics.over_processes(processes).finish(),
        style_error / count,
        None if diversity is None else lpips / count,
    )


def summarize_pairs(
    measured: Mapping[tuple[str, str], PairMeasures],
    real: Mapping[str, GaussianStatistics],
    space: FeatureSpace,
    *,
    lpips_name: str = "lpips",
) -> dict[str, float]:
    """{name: value}: the mean of each measure over the pairs, then its values as name/source2target.

    The names are that of the Frechet distance by `metric_name`, `lpips_name`, and style_error.

    Args:
        measured: {(source, target): measures of that pair}.
        real: {domain: statistics of its real images in the same space}.
    """
    roots = {target: covariance_root(real[target]) for target in {target for _, target in measured}}
    rows: dict[str, dict[str, float]] = {metric_name(space.name): {}, lpips_name: {}, "style_error": {}}
    for (source, target), pair in measured.items():
        name = f"{source}2{target}"
        distance = frechet_distance_of_statistics(pair.gaussian, real[target], second_root=roots[target])
        rows[metric_name(space.name)][name] = distance
        rows["style_error"][name] = pair.style_error
        if pair.lpips is not None:
            rows[lpips_name][name] = pair.lpips
    rows = {name: values for name, values in rows.items() if values}
    means = {name: sum(values.values()) / len(values) for name, values in rows.items()}
    return means | {
        f"{name}/{pair}": value for name, values in rows.items() for pair, value in values.items()
    }
