"""Inception's features as in clean-fid: the space in which FID and KID are defined.

Resizing is clean-fid's function. Its network loader is not used: it downloads an unchecked file into a
world-writable folder and runs it.
"""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ganmod.features.vgg import FeatureError
from ganmod.io.user_cache import user_cache_dir
from metrics.features.base import check_uint8

NAME = "inception"
SIZE = 299
ENVIRONMENT = "GANMOD_INCEPTION"
_THREADS = 8  # Pillow resizes outside of Python's lock
_CPU_BATCH = 16


class InceptionFile(NamedTuple):
    """A TorchScript file: its published name, size in bytes, SHA-256, address and number of features."""

    name: str
    num_bytes: int
    sha256: str
    url: str
    dim: int


PUBLISHED = InceptionFile(
    "inception-2015-12-05.pt",
    95_607_719,
    "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
    "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt",
    2048,
)


class InceptionSpace:
    """Images resized by clean-fid to 299 px -> the last pooling of Inception-v3, [N,2048]."""

    name = NAME

    def __init__(
        self, network: nn.Module, *, dim: int, sha256: str, device: str | torch.device = "cpu"
    ) -> None:
        """Move the network to the device.

        Args:
            network: its `layers` map float32 [N,3,299,299] in [-1,1) to dim numbers per image.
            sha256: of the network's file, for the fingerprint.
        """
        from cleanfid.resize import build_resizer

        self.dim, self.device = dim, torch.device(device)
        self.network = network.to(self.device)
        self.fingerprint: str | None = (
            f"inception, {SIZE} px bicubic by clean-fid (Pillow, float), last pooling, "
            f"weights sha256 {sha256}"
        )
        self._resize = build_resizer("clean")

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """uint8 RGB [N,3,H,W] -> float32 [N,2048]. Autocast is off inside: half precision moves distances."""
        check_uint8(images)
        x = self.resize(images)
        step = _CPU_BATCH if self.device.type == "cpu" else len(x)
        with torch.autocast(self.device.type, enabled=False):
            return torch.cat([self._features(part.to(self.device)) for part in x.split(step)])

    def resize(self, images: Tensor) -> Tensor:
        """uint8 RGB [N,3,H,W] -> float32 [N,3,299,299] in 0..255 on the CPU, not rounded."""
        pixels = images.cpu().permute(0, 2, 3, 1).numpy()
        with ThreadPoolExecutor(_THREADS) as pool:
            rows = list(pool.map(self._resize, pixels))
        return torch.from_numpy(np.stack(rows)).permute(0, 3, 1, 2).contiguous()

    def _features(self, x: Tensor) -> Tensor:
        layers: nn.Module = self.network.layers  # type: ignore[assignment]
        return layers((x - 128) / 128).reshape(len(x), self.dim).float()


def load_inception(
    path: str | Path | None = None,
    *,
    device: str | torch.device = "cpu",
    expected: InceptionFile | None = None,
) -> InceptionSpace:
    """Load FID's published Inception network from a local file; nothing is downloaded.

    Size and SHA-256 are checked at every load, before anything in the file is run.

    Args:
        path: the file, or a folder that holds it under its published name. None looks in $GANMOD_INCEPTION
            (a file or a folder), then in the user's cache folder.
        expected: the file to accept; None for PUBLISHED. Tests pass a small one.

    Raises:
        FeatureError: if the file is missing or is another one.
    """
    expected = PUBLISHED if expected is None else expected
    file = find_inception(path, expected)
    data = file.read_bytes()  # hashed and run from memory: what was checked is what runs
    digest = hashlib.sha256(data).hexdigest()
    if (len(data), digest) != (expected.num_bytes, expected.sha256):
        raise FeatureError(
            f"{file} has {len(data):,} bytes and SHA-256 {digest}, expected {expected.num_bytes:,} bytes and "
            f"{expected.sha256}: it is another file or damaged; fetch {expected.url} again"
        )
    network = run_torchscript(data, source=file)
    return InceptionSpace(network, dim=expected.dim, sha256=digest, device=device)


def find_inception(path: str | Path | None, expected: InceptionFile = PUBLISHED) -> Path:
    """The file that `load_inception` reads. Raises FeatureError, with instructions, if it is missing."""
    file = inception_place(path, expected)
    if file.is_file():
        return file
    named = f"in ${ENVIRONMENT}" if path is None and os.environ.get(ENVIRONMENT) else "there"
    raise FeatureError(
        f"Inception weights not found: looked for {file} (no file {named}). "
        f"FID and KID need {expected.name}, {expected.num_bytes:,} bytes, SHA-256 {expected.sha256}. Fetch "
        f"{expected.url} and give it with --feature-weights PATH or in ${ENVIRONMENT}, or place it in "
        f"{user_cache_dir()}. Without it, another feature space measures another distance: `ganmod weights` "
        "lists them"
    )


def inception_place(path: str | Path | None, expected: InceptionFile = PUBLISHED) -> Path:
    """Where the file is looked for: `path`, else $GANMOD_INCEPTION, else the user's cache folder."""
    default = os.environ.get(ENVIRONMENT) or user_cache_dir() / expected.name
    chosen = Path(default if path is None else path)
    return chosen / expected.name if chosen.is_dir() else chosen


def run_torchscript(data: bytes, *, source: Path) -> nn.Module:
    """The module in a TorchScript file, in eval mode on the CPU. It may run any code: check its hash first.

    Only this function depends on TorchScript, which torch has deprecated. Raises FeatureError if the data is
    not TorchScript or has no `layers`.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*torch.jit", category=DeprecationWarning)
            warnings.filterwarnings("ignore", message=".*torch.jit", category=FutureWarning)
            network = torch.jit.load(io.BytesIO(data), map_location="cpu").eval()
    except RuntimeError as error:
        raise FeatureError(f"{source} is no TorchScript file that this torch can read ({error})") from error
    if not hasattr(network, "layers"):
        raise FeatureError(f"{source} has no `layers`, which {PUBLISHED.name} has: give that file")
    return network
