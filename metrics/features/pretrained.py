"""Feature spaces for metrics, by name: uint8 images in, one float32 vector per image out.

A Frechet distance depends on its feature space: the network, its weights, the size to which images are
resized, and the layer. A space's `fingerprint` names all of these.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from configs.suggestion import did_you_mean
from ganmod.features.vgg import GANMOD_SLIM_FILE, VGG19_FILE, load_features
from ganmod.features.weights_file import WeightsFile, find_weights, read_weights, torch_cache_path
from ganmod.io.model_file import load_state
from metrics.features.base import (
    CIFAR_SIZE,
    IMAGENET_SIZE,
    CallableSpace,
    FeatureSpace,
    NetworkSpace,
    call_function,
    normalize_imagenet,
)
from metrics.features.cifar_resnet import cifar_resnet_from_state

if TYPE_CHECKING:
    from ganmod.stylegan2.projection import PerceptualMaps

VGG_NAMES = ("vgg19", "vgg19-slim", "vgg19-slim-aux", "ganmod-slim")
NAMES = ("inception", "squeezenet1_1", "cifar-resnet56", "dinov2", *VGG_NAMES, "inception-torchvision")


class SqueezeNetFeatures(nn.Module):
    """SqueezeNet 1.1 (Iandola et al. 2016) up to its last fire module, averaged over the pixels."""

    dim = 512

    def __init__(self, state: Mapping[str, Tensor], *, source: str) -> None:
        """Load torchvision's SqueezeNet 1.1, all of it or `.features`; `source` names it in errors."""
        super().__init__()
        from torchvision.models import squeezenet1_1

        self.layers = squeezenet1_1(weights=None).features
        prefix = "features."
        load_state(
            self.layers,
            {k.removeprefix(prefix): v for k, v in state.items() if not k.startswith("classifier.")},
            source=source,
        )

    def forward(self, x: Tensor) -> Tensor:
        """RGB [N,3,224,224] in [0,1] -> [N,512]."""
        return self.layers(normalize_imagenet(x)).mean(dim=(2, 3))  # of [N,512,13,13]

    def maps(self, x: Tensor) -> dict[str, Tensor]:
        """RGB [N,3,H,W] in [0,1] -> the feature maps before each pooling and at the end."""
        x = normalize_imagenet(x)
        maps = {}
        for i, layer in enumerate(self.layers):
            if isinstance(layer, nn.MaxPool2d):
                maps[f"before {i}"] = x
            x = layer(x)
        return maps | {"last": x}


class CifarResNetFeatures(nn.Module):
    """ResNet-56 for CIFAR-10: the input of its linear layer."""

    dim = 64

    def __init__(self, state: Mapping[str, Tensor], *, source: str) -> None:
        """Load an option-A ResNet-56, names with or without `module.`; `source` names it in errors."""
        super().__init__()
        self.network = cifar_resnet_from_state(state, source=source, depth=56)

    def forward(self, x: Tensor) -> Tensor:
        """RGB [N,3,32,32] in [0,1] -> [N,64]."""
        return self.network.features(normalize_imagenet(x))

    def maps(self, x: Tensor) -> dict[str, Tensor]:
        """RGB [N,3,H,W] in [0,1] -> the feature maps after each stage."""
        return self.network.stages(normalize_imagenet(x))


class VGGPooled(nn.Module):
    """relu4_1 of a network of `load_features`, averaged over the pixels."""

    def __init__(self, name: str, path: Path | None) -> None:
        super().__init__()
        self.network = load_features(name, path=path)
        self.dim = self.network.channels["relu4_1"]

    def forward(self, x: Tensor) -> Tensor:
        """RGB [N,3,H,W] in [0,1] -> [N,dim]."""
        return self.network(x)["relu4_1"].mean(dim=(2, 3))


class Pretrained(NamedTuple):
    """A network with published weights.

    Args:
        title: its name in messages.
        files: accepted files; torch's cache folder may hold the first.
        build: state, source -> the network.
        size: side of its input in pixels.
    """

    title: str
    files: tuple[WeightsFile, ...]
    build: Callable[..., SqueezeNetFeatures | CifarResNetFeatures]
    size: int


PRETRAINED = {
    "squeezenet1_1": Pretrained(
        "SqueezeNet 1.1",
        (
            WeightsFile("squeezenet1_1-b8a52dc0.pth", "b8a52dc0"),
            # torchvision's layout without the classifier, from the authors' release.
            WeightsFile(
                "squeezenet1_1_features_tv_fp32.pth",
                "a8c91965ebd05218772ffb42f6ba4e0c03a075901829cfe9d72d855918d05966",
            ),
        ),
        SqueezeNetFeatures,
        IMAGENET_SIZE,
    ),
    "cifar-resnet56": Pretrained(
        "CIFAR-10 ResNet-56",
        (
            WeightsFile(
                "resnet56-4bfd9763.th",
                "4bfd97631478d6b638d2764fd2baff3edb1d7d82252d54439343b6596b9b5367",
            ),
        ),
        CifarResNetFeatures,
        CIFAR_SIZE,
    ),
}


def load_feature_space(
    name: str, path: str | Path | None = None, *, device: str | torch.device = "cpu"
) -> FeatureSpace:
    """Load a feature space by name.

    - inception: FID's network, 2048 features, see `load_inception`.
    - squeezenet1_1: 512 features, images at 224 px.
    - cifar-resnet56: 64 features, images at 32 px.
    - vgg19, vgg19-slim, vgg19-slim-aux, ganmod-slim: relu4_1 of `load_features`, images at 224 px.
    - dinov2: the class token, images at 224 px, see `DINOv2Features`.
    - inception-torchvision: the network of StarGAN v2's FID, 2048 features, see `TorchvisionInception`.
    - module:callable: a function, an object, or a class (called without arguments) that maps uint8 [N,3,H,W]
      on `device` to [N,dim].

    SqueezeNet, ResNet and VGG resize by antialiased bicubic filtering and average their last map over pixels.

    Args:
        name: one of NAMES, or module:callable.
        path: the weights (.pth or .safetensors), or a folder that holds them under their published name. None
            for torch's cache folder; ganmod-slim is shipped. Nothing in a .pth file is run.

    Raises:
        FeatureError: if a file is missing or damaged.
        ModelFileError: if it holds another network; like FeatureError, a ValueError.
        ValueError: for an unknown name.
    """
    if ":" in name:
        if path is not None:
            raise ValueError(f"feature space {name} loads its own weights: leave out the path {path}")
        return CallableSpace(name, _import_callable(name), device=device)
    if name == "inception":
        from metrics.features.inception import load_inception

        return load_inception(path, device=device)
    if name == "dinov2":
        from metrics.features.dinov2 import SIZE, DINOv2Features, dinov2_fingerprint

        token = DINOv2Features(path)
        return NetworkSpace(
            name, token, dim=token.dim, size=SIZE, fingerprint=dinov2_fingerprint(token), device=device
        )
    if name == "inception-torchvision":
        from metrics.features import inception_torchvision as torchvision_space

        published = torchvision_space.load_torchvision_inception(path)
        return NetworkSpace(
            name,
            published,
            dim=published.dim,
            size=torchvision_space.SIZE,
            fingerprint=torchvision_space.torchvision_fingerprint(published),
            device=device,
            prepare=torchvision_space.bilinear_by_pillow,
        )
    if name in PRETRAINED:
        entry = PRETRAINED[name]
        file = find_weights(entry.title, entry.files, path)
        state, digest = read_weights(file, entry.files)
        network: Any = entry.build(state, source=str(file))
        size = entry.size
    elif name in VGG_NAMES:
        vgg_file = _vgg_file(name, path)
        network, size = VGGPooled(name, vgg_file), IMAGENET_SIZE
        assert vgg_file is not None  # load_features refuses
        digest = hashlib.sha256(vgg_file.read_bytes()).hexdigest()
    else:
        raise ValueError(
            f"unknown feature space {name!r}{did_you_mean(name, NAMES)}? Expected one of {', '.join(NAMES)}, "
            "or module:callable for one of your own"
        )
    fingerprint = f"{name}, {size} px bicubic antialiased, last map averaged, weights sha256 {digest}"
    return NetworkSpace(
        name, network, dim=network.dim, size=size, fingerprint=fingerprint, device=torch.device(device)
    )


def load_perceptual_maps(
    name: str, path: str | Path | None = None, *, device: str | torch.device = "cpu"
) -> PerceptualMaps:
    """Differentiable feature maps for a perceptual distance, by the names of `load_feature_space`.

    The result maps RGB [N,3,H,W] in [0,1] to {layer: [N,C,h,w]}, divided by the layers' stored RMS if the
    network has one, else by the RMS of each image. A module:callable gets the images unchanged and returns
    such a dict or one tensor. Raises as `load_feature_space` does.
    """
    if name in VGG_NAMES:
        return load_features(name, path=path).to(device).normalized
    if ":" in name:
        function = _import_callable(name)

        def call(x: Tensor) -> dict[str, Tensor]:
            output = call_function(name, function, x)
            if isinstance(output, Tensor):
                return {"features": output}
            if not isinstance(output, Mapping):
                kind = type(output).__name__
                raise ValueError(f"{name} returns a {kind}, expected a tensor or a dict of tensors")
            return dict(output)

        return call
    if name not in PRETRAINED:
        known = ", ".join((*PRETRAINED, *VGG_NAMES))
        raise ValueError(
            f"feature network {name!r} has no maps to compare: expected {known} or module:callable"
        )
    network = load_feature_space(name, path, device=device).network  # type: ignore[attr-defined]

    def maps(x: Tensor) -> dict[str, Tensor]:
        maps = network.maps(x)
        return {
            k: v * (v.square().mean(dim=(1, 2, 3), keepdim=True) + 1e-10).rsqrt() for k, v in maps.items()
        }

    return maps


def _import_callable(name: str) -> Callable[[Tensor], Tensor]:
    module_name, _, attribute = name.partition(":")
    try:
        target: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise  # the module exists, but one that it imports does not
        raise ValueError(
            f"feature space {name}: no module named {error.name!r}. Install it, or run "
            "where it can be imported"
        ) from error
    for part in attribute.split("."):
        if not hasattr(target, part):
            raise ValueError(f"feature space {name}: {module_name} has no {attribute!r}")
        target = getattr(target, part)
    made = target() if isinstance(target, type) else target
    if not callable(made):
        raise ValueError(
            f"feature space {name} is of type {type(made).__name__}, expected a function of images"
        )
    return made


def _vgg_file(name: str, path: str | Path | None) -> Path | None:
    """The path that `load_features` should read, whether it exists or not; None if there is no default."""
    if path is None:
        return {"ganmod-slim": GANMOD_SLIM_FILE, "vgg19": torch_cache_path(VGG19_FILE)}.get(name)
    in_folder = {"ganmod-slim": GANMOD_SLIM_FILE.name, "vgg19": VGG19_FILE}.get(name, "4SE.pth")
    return Path(path) / in_folder if Path(path).is_dir() else Path(path)
