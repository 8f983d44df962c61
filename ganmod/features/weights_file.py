"""Weights files of pretrained networks: located by name, checked by hash, read without running code."""

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
    """A published file: its name, and its SHA-256 or the beginning of it."""

    name: str
    sha256: str


def find_weights(title: str, files: tuple[WeightsFile, ...], path: str | Path | None) -> Path:
    """The path of a network's weights file.

    Args:
        title: the network, for messages.
        files: the published files, in order of preference.
        path: the file, or a folder with one of `files`; None: torch's cache folder.

    Raises:
        FeatureError: says which file was expected, its SHA-256, where it was looked for, and which option
            supplies it.
    """
    cache = torch_cache_path(files[0].name).parent
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

    Of a checkpoint with a `state_dict` entry, that entry is returned.

    Args:
        file: the path.
        files: the published files, whose hashes are checked by name.

    Raises:
        FeatureError: a published file has another hash, or the file is damaged or holds no state dict.
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
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise FeatureError(f"{file} holds no state dict: expected tensors by name")
    return state, digest


def torch_cache_path(name: str) -> Path:
    """Path of a weights file in torch's cache folder."""
    return Path(torch.hub.get_dir()) / "checkpoints" / name
