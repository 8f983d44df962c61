"""LPIPS with SqueezeNet 1.1, AlexNet or VGG-16: perceptual distance of two images (Zhang et al., CVPR 2018).

The linear heads come with the `lpips` package; the caller supplies the file of the backbone's weights.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn

from ganmod.features.weights_file import torch_cache_path
from ganmod.io.model_file import ModelFileError, load_state
from ganmod.io.pickles.restricted_unpickle import read_tensors_pickle

MIN_SIZE = 32  # pixels; smaller images leave the last stages a single position or none

Backbone = Literal["squeeze", "alex", "vgg"]

SQUEEZENET_FILE = "squeezenet1_1-b8a52dc0.pth"  # names have the first digits of their SHA-256
ALEXNET_FILE = "alexnet-owt-7be5be79.pth"
VGG16_FILE = "vgg16-397923af.pth"


class _Published(NamedTuple):
    title: str
    file: str  # torchvision's


_BACKBONES: dict[Backbone, _Published] = {
    "squeeze": _Published("SqueezeNet 1.1", SQUEEZENET_FILE),
    "alex": _Published("AlexNet", ALEXNET_FILE),
    "vgg": _Published("VGG-16", VGG16_FILE),
}


class LpipsError(ValueError):
    """LPIPS cannot be set up: the package is missing, or the backbone's weights are missing or wrong."""


class LpipsDistance(nn.Module):
    """LPIPS v0.1: (a, b) -> one distance per pair, 0 for equal images. Frozen.

    Distances of different backbones are not comparable: name the backbone in tables.
    """

    def __init__(
        self, backbone: Mapping[str, Any], *, source: str = "backbone", network: Backbone = "squeeze"
    ) -> None:
        """Build the distance.

        Args:
            backbone: tensors of torchvision's network, all of them or those of `.features`.
            source: names the backbone in errors.
            network: which backbone it is.

        Raises:
            LpipsError: if the `lpips` package is missing or the tensors do not fit the network.
        """
        super().__init__()
        try:
            import lpips
        except ImportError as error:
            raise LpipsError(
                "LPIPS needs the package `lpips`: install it with pip install 'ganmod[metrics]'"
            ) from error
        self.network: Backbone = network
        with warnings.catch_warnings():
            # lpips 0.1.4 passes torchvision's deprecated `pretrained=`; nothing is downloaded.
            warnings.filterwarnings("ignore", category=UserWarning, module=r"torchvision\.models\._utils")
            self.model = lpips.LPIPS(net=network, pnet_rand=True, verbose=False)
        # lpips splits the network into slices, whose layers keep their index in torchvision's `features`.
        slices = (getattr(self.model.net, f"slice{i + 1}") for i in range(self.model.net.N_slices))
        layers = nn.ModuleDict({name: layer for part in slices for name, layer in part.named_children()})
        tensors = {
            k.removeprefix("features."): v for k, v in backbone.items() if not k.startswith("classifier.")
        }
        try:
            load_state(layers, tensors, source=source)
        except ModelFileError as error:
            title = _BACKBONES[network].title
            raise LpipsError(f"{error}. Expected {title} in torchvision's layout") from error
        self.requires_grad_(False).eval()

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """RGB [N,3,H,W] in [0,1], both of one shape, sides of at least 32 -> [N], differentiable."""
        if a.shape != b.shape or a.ndim != 4 or a.shape[1] != 3 or min(a.shape[2:]) < MIN_SIZE:
            got = f"{list(a.shape)} and {list(b.shape)}"
            raise ValueError(
                f"got images {got}, expected one shape [N, 3, H, W] with H and W of at least {MIN_SIZE}"
            )
        return self.model(a, b, normalize=True).flatten()  # normalize: [0,1] -> [-1,1]

    def diversity(self, images: Tensor) -> Tensor:
        """Mean distance of all pairs of K images: RGB [N,K,3,H,W] in [0,1], K >= 2 -> [N].

        Each image passes through the network once. The distance is linear in the squared differences of unit
        features, and their mean over all pairs is twice the unbiased variance over the K images.
        """
        if (
            images.ndim != 5
            or images.shape[1] < 2
            or images.shape[2] != 3
            or min(images.shape[3:]) < MIN_SIZE
        ):
            raise ValueError(
                f"got images {list(images.shape)}, expected [N, K, 3, H, W] with K of at least 2, H and W of "
                f"at least {MIN_SIZE}"
            )
        x = self.model.scaling_layer(images.flatten(0, 1) * 2 - 1)
        total = images.new_zeros(len(images))
        for maps, head in zip(self.model.net(x), self.model.lins, strict=True):
            unit = maps / (maps.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)
            spread = unit.unflatten(0, images.shape[:2]).var(dim=1)  # [N,C,h,w]
            total = total + 2 * head(spread).mean(dim=(1, 2, 3))
        return total


def load_lpips(path: str | Path, *, network: Backbone = "squeeze") -> LpipsDistance:
    """Load LPIPS with a backbone from a file.

    Args:
        path: torchvision's squeezenet1_1-b8a52dc0.pth (squeeze), alexnet-owt-7be5be79.pth (alex) or
            vgg16-397923af.pth (vgg), or the state dict of its `features`.
        network: squeeze, alex or vgg.

    Raises:
        LpipsError: if the file is missing or holds another network, or the package `lpips` is missing.
    """
    path = Path(path)
    title, file = _BACKBONES[network]
    if not path.is_file():
        raise LpipsError(
            f"{title} weights for LPIPS not found at {path}. Expected torchvision's {file}, or the state "
            "dict of its `features`: supply the file with --lpips-weights PATH"
        )
    state = read_tensors_pickle(path)
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise LpipsError(f"{path} holds no state dict: expected {title} in torchvision's layout")
    return LpipsDistance(state, source=str(path), network=network)


def default_weights(network: Backbone) -> Path:
    """Where the backbone's file is looked for without a path: torch's cache folder."""
    return torch_cache_path(_BACKBONES[network].file)
