"""Weights files of pretrained networks: located by name, checked by hash, read without running anything."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from ganmod.features.vgg import FeatureError
from ganmod.io.restricted_unpickle import read_tensors_pickle


class WeightsFile(NamedTuple):
    """A file that is known by name, and the beginning of its SHA-256, or all of it."""

    name: str
    sha256: str


def find_weights(title: str, files: tuple[WeightsFile, ...], path: str | Path | None) -> Path:
    """The file at `path`; in a folder, or torch's cache folder for None, the first of `files` that is there.

    title: the network, for messages. Raises FeatureError that says which file was expected, its SHA-256,
    where it was looked for and the option that supplies it.
    """
    cache = cached(files[0].name).parent
    if path is None or Path(path).is_dir():
        folder = cache if path is None else Path(path)
        candidates = [folder / known.name for known in files]
    else:
        candidates = [Path(path)]
    for file in candidates:
        if file.is_file():
            return file
    expected = " or ".join(f"{known.name} (SHA-256 beginning {known.sha256[:8]})" for known in files)
    raise FeatureError(
        f"{title} weights not found at {' or '.join(map(str, candidates))}. Expected {expected}: supply the "
        f"file or its folder with --feature-weights PATH, or place it in {cache}"
    )


def read_weights(file: Path, files: tuple[WeightsFile, ...]) -> tuple[Mapping[str, Tensor], str]:
    """(state dict, SHA-256) of a .safetensors file or one that torch.save wrote; tensors on the CPU.

    A checkpoint's `state_dict` is taken out of it. Raises FeatureError when a file named as one of `files`
    has another hash, when it is damaged, or when it holds no state dict.
    """
    data = file.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    for known in files:
        if file.name == known.name and not digest.startswith(known.sha256):
            raise FeatureError(
                f"{file} has SHA-256 {digest}, expected one beginning {known.sha256[:8]}: copy it again"
            )
    if file.suffix == ".safetensors":
        try:
            state: Any = safetensors.torch.load(data)
        except (SafetensorError, KeyError, ValueError) as error:
            raise FeatureError(
                f"{file} is damaged or no safetensors file ({error}): copy it again"
            ) from error
    else:
        state = read_tensors_pickle(file)
        if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
            state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise FeatureError(f"{file} holds no state dict: expected tensors by name")
    return state, digest


def cached(name: str) -> Path:
    """Where torch's cache folder would hold a weights file."""
    return Path(torch.hub.get_dir()) / "checkpoints" / name
