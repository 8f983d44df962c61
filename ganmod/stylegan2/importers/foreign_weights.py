"""Shared by the importers of foreign StyleGAN2 weights: their result, and checks of the tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from ganmod.resample import RESAMPLE_TAPS, filter_taps
from ganmod.stylegan2.discriminator import Discriminator
from ganmod.stylegan2.generator import Generator
from ganmod.stylegan2.stylegan2_file import save_stylegan2

N = TypeVar("N", bound=nn.Module)

_MAX_LISTED = 5


class ImportStyleGAN2Error(ValueError):
    """A file without StyleGAN2 networks that can be imported; the message says why and what to do."""


@dataclass(frozen=True)
class ImportedNetworks:
    """The networks of a foreign file, in eval mode on the CPU.

    Args:
        G_ema: the generator averaged over training, for generating images.
        G: for continued training, as is D; None if the file has none.
    """

    G_ema: Generator
    G: Generator | None
    D: Discriminator | None

    def save(self, path: str | Path, *, half: bool = False) -> None:
        """Write a model file for `ganmod.load`. half: store float16. Raises ModelFileError."""
        save_stylegan2(path, G_ema=self.G_ema, G=self.G, D=self.D, half=half)

    def describe(self) -> str:
        """One line: image size, classes, networks with their numbers of parameters."""
        height, width = self.G_ema.img_resolution
        classes = f"{self.G_ema.c_dim} classes" if self.G_ema.c_dim else "unconditional"
        sizes = [
            f"{name} {sum(p.numel() for p in network.parameters()) / 1e6:.2f} M"
            for name, network in (("G_ema", self.G_ema), ("G", self.G), ("D", self.D))
            if network is not None
        ]
        return f"{height} x {width}, {classes}; parameters: {', '.join(sizes)}"


def channel_limits(widths: Mapping[int, int], *, published: tuple[int, int], source: str) -> tuple[int, int]:
    """Find channel_base and channel_max with min(base // resolution, max) channels at each resolution.

    Args:
        widths: channels by resolution.
        published: the pair to prefer where several fit.
        source: the network, for messages.

    Raises:
        ImportStyleGAN2Error: for widths that no pair gives.
    """
    # The smallest base with every width below the maximum, and the maximum where it is reached.
    smallest = (max(res * width for res, width in widths.items()), max(widths.values()))
    for base, limit in (published, smallest):
        if all(min(base // res, limit) == width for res, width in widths.items()):
            return base, limit
    listed = ", ".join(f"{width} at {res}" for res, width in sorted(widths.items()))
    raise ImportStyleGAN2Error(
        f"{source} has {listed} channels, expected min(channel_base / resolution, channel_max) for some "
        "pair; such a network cannot be imported"
    )


def check_resample_filter(kernel: Tensor, *, source: str) -> None:
    """Raise ImportStyleGAN2Error unless kernel [T,T] or [T] is the published 1, 3, 3, 1 up to a factor."""
    taps = filter_taps(RESAMPLE_TAPS).double()
    expected = taps if kernel.ndim == 1 else taps[:, None] * taps
    normalized = kernel.double() / kernel.double().sum()
    if normalized.shape != expected.shape or not torch.allclose(normalized, expected, atol=1e-5):
        raise ImportStyleGAN2Error(
            f"{source} resamples with another filter than 1, 3, 3, 1 (it has {list(kernel.shape)} taps); "
            "such a network cannot be imported"
        )


def rename(tensors: Mapping[str, Tensor], rules: Sequence[tuple[str, str]]) -> dict[str, Tensor]:
    """The tensors in float32 under our names; rules are (pattern, new name), the first full match applies.

    Raises ValueError for complex tensors.
    """
    renamed = {}
    for name, tensor in tensors.items():
        for pattern, new in rules:
            match = re.fullmatch(pattern, name)
            if match:
                name = match.expand(new)
                break
        if tensor.is_complex():
            raise ValueError(f"{name} is {tensor.dtype}, expected real numbers: it is no weight")
        renamed[name] = tensor.detach().float()
    return renamed


def load_weights(network: N, tensors: Mapping[str, Tensor], *, source: str) -> N:
    """Load exactly these tensors into the network and return it, in eval mode, without gradients.

    source: their origin, for messages. Raises ImportStyleGAN2Error, which lists tensors that do not fit.
    """
    expected = network.state_dict()
    problems = {
        "missing": [name for name in expected if name not in tensors],
        "unknown": [name for name in tensors if name not in expected],
        "of another shape": [
            f"{name} ({list(tensors[name].shape)}, expected {list(expected[name].shape)})"
            for name in expected
            if name in tensors and tensors[name].shape != expected[name].shape
        ],
    }
    listed = [
        f"{title}: {', '.join(names[:_MAX_LISTED])}"
        + (f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else "")
        for title, names in problems.items()
        if names
    ]
    if listed:
        raise ImportStyleGAN2Error(
            f"{source} is not StyleGAN2 as published; tensors {'; '.join(listed)}. Only the published "
            "networks can be imported"
        )
    network.load_state_dict(dict(tensors))
    return network.eval().requires_grad_(False)
