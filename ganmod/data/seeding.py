"""Random draws that depend on data and seeds, not on processes; in training, per group of samples.

Groups are those of the minibatch deviation: processes and microbatches never split one.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

Params = TypeVar("Params", bound=tuple[Tensor, ...])


@contextlib.contextmanager
def preserve_random_state() -> Iterator[None]:
    """Restore torch's random state, of the CPU and of this process's GPU, on exit."""
    cuda = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=cuda):
        yield


def draw(seed: int, purpose: str, index: int) -> np.random.Generator:
    """The random generator of one item: seeded by (seed, purpose, index), the same in every process."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), index])


def seed_latents(seeds: Sequence[int], z_dim: int) -> Tensor:
    """The z of each seed, float32 [N,z_dim]: RandomState(seed).randn(1, z_dim), as in the published code.

    A seed gives the same image on every machine, and imported models give the published images of a seed.
    """
    rows = [np.random.RandomState(seed).randn(1, z_dim) for seed in seeds]
    return torch.from_numpy(np.concatenate(rows)).float()


def draw_groups(
    draw_one: Callable[[np.random.Generator], Params], *, seed: int, purpose: str, first: int, count: int
) -> Params:
    """Parameters of `count` consecutive groups, each drawn from (seed, purpose, its global index).

    Equal samples get equal parameters, however the batch is split.

    Args:
        draw_one: the generator of one group -> a NamedTuple of tensors [M,...] for its M samples.
        seed: of the run.
        purpose: name of the draw, part of its seed.
        first: global index of the first group, e.g. images seen so far / group size.
        count: number of groups.

    Returns:
        One NamedTuple of tensors [count*M,...].

    Raises:
        ValueError: count below 1, first below 0.
    """
    if count < 1 or first < 0:
        raise ValueError(f"groups {first} to {first + count - 1}: give first >= 0 and count >= 1")
    return concat_params([draw_one(draw(seed, purpose, index)) for index in range(first, first + count)])


def concat_params(parts: Sequence[Params]) -> Params:
    """Concatenate NamedTuples of tensors [M_i,...] to one of tensors [sum(M_i),...]."""
    if not parts:
        raise ValueError("no parameters to join: give at least one group's")
    make: Callable[..., Params] = getattr(type(parts[0]), "_make", type(parts[0]))
    return make([torch.cat(column) for column in zip(*parts, strict=True)])


def groups_of_step(nimg: int, batch_size: int, group_size: int, rank: int = 0, world_size: int = 1) -> range:
    """Global indices of the groups of one process in the step that begins at image `nimg`."""
    count = batch_size // world_size // group_size
    first = nimg // group_size + rank * count
    return range(first, first + count)


def group_normals(
    seed: int,
    purpose: str,
    groups: Sequence[int],
    group_size: int,
    shape: Sequence[int],
    device: torch.device,
) -> Tensor:
    """N(0, 1) for the samples of some groups, drawn on the device: [len(groups) * group_size, *shape]."""
    rows = []
    for group in groups:
        generator = torch.Generator(device)
        generator.manual_seed(int(draw(seed, purpose, group).integers(2**63)))
        rows.append(torch.randn((group_size, *shape), generator=generator, device=device))
    return torch.cat(rows)
