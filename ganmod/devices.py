"""Devices by name, for work that runs on CUDA GPUs, Apple's GPUs (mps) and CPUs."""

from __future__ import annotations

import os

import torch

KINDS = ("cpu", "cuda", "mps")


def find_device(name: str) -> torch.device:
    """The device named auto, cpu, cuda, cuda:N or mps; raises ValueError for any other name.

    auto: the first of cuda, mps and cpu that torch has. cuda: the GPU of this process under torchrun.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device {name}: no such device, expected auto, cpu, cuda, cuda:N or mps") from error
    if device.type not in KINDS:
        raise ValueError(f"device {name}: not supported, expected auto, cpu, cuda, cuda:N or mps")
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if device.index is None:
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        if device.index >= count:
            raise ValueError(f"device {name}: torch sees {count} GPUs here, try auto or cpu")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError(f"device {name}: torch sees no Apple GPU here, try auto or cpu")
    return device
