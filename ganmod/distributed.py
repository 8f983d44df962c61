"""torch.distributed under torchrun: the process group, and explicit averaging of gradients."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn


def rank_and_world_size() -> tuple[int, int]:
    """Rank and number of processes, of the process group or else of torchrun's variables.

    (0, 1) for a single process.
    """
    if dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def start(device: str) -> tuple[int, int, torch.device]:
    """Join the process group of torchrun, if any (NCCL on GPUs, else gloo) -> (rank, world_size, device).

    device: as for `resolve_device`.
    """
    resolved = resolve_device(device)
    if resolved.type == "cuda":
        torch.cuda.set_device(resolved)
    _, world_size = rank_and_world_size()
    if world_size == 1:
        return 0, 1, resolved
    if not dist.is_initialized():
        dist.init_process_group("nccl" if resolved.type == "cuda" else "gloo")
    return *rank_and_world_size(), resolved


def resolve_device(device: str) -> torch.device:
    """The device of a name: "cuda" is this process's GPU, "auto" the same or else the CPU.

    Raises ValueError for "cuda" where torch sees no GPU.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        if not torch.cuda.is_available():
            raise ValueError("device is 'cuda', but torch sees no GPU: use --device cpu")
        device = f"cuda:{int(os.environ.get('LOCAL_RANK', 0))}"
    return torch.device(device)


def stop() -> None:
    """Leave the process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Replace every gradient by its mean over processes, in one reduction.

    A missing gradient counts as zero; where all processes lack it, it stays None.
    """
    if not dist.is_initialized():
        return
    present = parameters[0].new_tensor([float(p.grad is not None) for p in parameters])
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = torch.cat([present, *(g.flatten() for g in gradients)])
    dist.all_reduce(flat)
    present, flat = flat.split([len(parameters), len(flat) - len(parameters)])
    flat /= dist.get_world_size()
    averaged = flat.split([g.numel() for g in gradients])
    for parameter, gradient, mean, count in zip(
        parameters, gradients, averaged, present.tolist(), strict=True
    ):
        parameter.grad = gradient.copy_(mean.view_as(gradient)) if count else None


def average(values: Tensor) -> Tensor:
    """Mean over processes of a small tensor."""
    if dist.is_initialized():
        dist.all_reduce(values)
        values = values / dist.get_world_size()
    return values


def agree(flag: bool, device: torch.device) -> bool:
    """True on every process if it is True on any."""
    if not dist.is_initialized():
        return flag
    value = torch.tensor(float(flag), device=device)
    dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return bool(value.item())
