"""Random draws that belong to data, not to processes: made per granule of consecutive samples."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

Params = TypeVar("Params", bound=tuple[Tensor, ...])


def draw(seed: int, purpose: str, index: int) -> np.random.Generator:
    """The random generator of one item: seeded by (seed, purpose, index), the same in every process."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), index])


def draw_granules(
    draw_one: Callable[[np.random.Generator], Params], *, seed: int, purpose: str, first: int, count: int
) -> Params:
    """Parameters of `count` consecutive granules, each drawn from (seed, purpose, its global index).

    draw_one: the generator of one granule -> a NamedTuple of tensors [M,...] for its M samples.
    first: global index of the first granule, e.g. images seen so far / granule size.
    Returns one NamedTuple of tensors [count*M,...]: equal, whatever the batch split, for equal samples.
    ValueError: count below 1, first below 0.
    """
    if count < 1 or first < 0:
        raise ValueError(f"granules {first} to {first + count - 1}: give first >= 0 and count >= 1")
    return concat_params([draw_one(draw(seed, purpose, index)) for index in range(first, first + count)])


def concat_params(parts: Sequence[Params]) -> Params:
    """NamedTuples of tensors [M_i,...] -> one NamedTuple of tensors [sum(M_i),...], in this order."""
    if not parts:
        raise ValueError("no parameters to join: give at least one granule's")
    make: Callable[..., Params] = getattr(type(parts[0]), "_make", type(parts[0]))
    return make([torch.cat(column) for column in zip(*parts, strict=True)])


def granules_of_step(nimg: int, batch: int, size: int, rank: int = 0, num_processes: int = 1) -> range:
    """Global indices of the granules that one process takes in the step beginning at image `nimg`."""
    share = batch // num_processes // size
    first = nimg // size + rank * share
    return range(first, first + share)


def granule_normals(
    seed: int, purpose: str, granules: Sequence[int], size: int, shape: Sequence[int], device: torch.device
) -> Tensor:
    """N(0, 1) for the samples of some granules, drawn on the device: [len(granules) * size, *shape]."""
    rows = []
    for granule in granules:
        generator = torch.Generator(device)
        generator.manual_seed(int(draw(seed, purpose, granule).integers(2**63)))
        rows.append(torch.randn((size, *shape), generator=generator, device=device))
    return torch.cat(rows)
