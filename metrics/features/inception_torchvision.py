"""Features of torchvision's Inception-v3, as in StarGAN v2's published FID.

This is not FID's network: its distances compare only with those of the StarGAN v2 paper and its followers.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ganmod.features.weights_file import WeightsFile, find_weights, read_weights
from ganmod.io.images import resize
from ganmod.io.model_file import load_state
from metrics.features.base import normalize_imagenet

NAME = "inception-torchvision"
SIZE = 299
# Equal values: torchvision's current file, and that of 2020.
FILES = (
    WeightsFile("inception_v3_google-0cc3c7bd.pth", "0cc3c7bd"),
    WeightsFile("inception_v3_google-1a9a5a14.pth", "1a9a5a14"),
)
_THREADS = 8  # Pillow resizes outside of Python's lock


class TorchvisionInception(nn.Module):
    """The last pooling of torchvision's Inception-v3, without its own input transform."""

    dim = 2048

    def __init__(self, state: Mapping[str, Tensor], *, source: str, sha256: str = "") -> None:
        """Load the network.

        Args:
            state: all tensors of torchvision's Inception-v3.
            source: names the file in errors.
            sha256: of the file, for the fingerprint.
        """
        super().__init__()
        from torchvision.models import inception_v3

        network = inception_v3(weights=None, init_weights=False)
        load_state(network, state, source=source)
        self.sha256 = sha256
        layers = dict(network.named_children())
        for name in ("AuxLogits", "dropout", "fc"):
            del layers[name]
        self.layers = nn.Sequential(*layers.values())

    def forward(self, x: Tensor) -> Tensor:
        """RGB [N,3,299,299] in [0,1] -> [N,2048]."""
        return self.layers(normalize_imagenet(x)).flatten(1)


def load_torchvision_inception(path: str | Path | None) -> TorchvisionInception:
    """Load the network from a local file, see `load_feature_space`. Raises FeatureError."""
    file = find_weights("torchvision's Inception-v3", FILES, path)
    state, digest = read_weights(file, FILES)
    return TorchvisionInception(state, source=str(file), sha256=digest)


def bilinear_by_pillow(images: Tensor, size: int) -> Tensor:
    """uint8 [N,3,H,W] -> float32 [N,3,size,size] in [0,1] on the CPU, rounded to 8 bits as Pillow does."""
    pixels = images.cpu().permute(0, 2, 3, 1).numpy()
    with ThreadPoolExecutor(_THREADS) as pool:
        resized = list(pool.map(lambda image: resize(image, (size, size), resample="bilinear"), pixels))
    return torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).float() / 255


def torchvision_fingerprint(network: TorchvisionInception) -> str:
    """Identifies the features."""
    return (
        f"{NAME}, {SIZE} px bilinear by Pillow, rounded, ImageNet normalisation, last pooling, "
        f"weights sha256 {network.sha256}"
    )
