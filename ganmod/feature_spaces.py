"""Feature spaces for metrics: uint8 images in, one float32 vector per image out, by name.

A Frechet distance is a number only together with its feature space: the network, its weights, the size the
images are brought to and the layer. All of these stand in a space's `fingerprint`.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganmod.cifar_resnet import cifar_resnet_from_state
from ganmod.features.vgg import IMAGENET_MEAN, IMAGENET_STD, SHIPPED, VGG19_FILE, load_features
from ganmod.features.weights_file import WeightsFile, cached, find_weights, read_weights
from ganmod.io.model_file import load_state

VGG_NAMES = ("vgg19", "vgg19-slim", "vgg19-slim-aux", "ganmod-slim")
NAMES = ("inception", "squeezenet1_1", "cifar-resnet56", "dinov2", *VGG_NAMES, "inception-torchvision")
IMAGENET_SIZE, CIFAR_SIZE = 224, 32  # pixels: the side that a network was trained at
_PROBE_SIZE = 64
_CPU_PIXELS = 16 * IMAGENET_SIZE**2  # per pass on a CPU: with more, activations no longer fit into the caches


PerceptualMaps = Callable[[Tensor], dict[str, Tensor]]


class FeatureSpace(Protocol):
    """What metrics need. `fingerprint` names the weights and all that is done to an image; None where that is
    unknown, so that nothing measured in the space may be kept for later.
    """

    name: str
    dim: int
    fingerprint: str | None
    device: torch.device

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 RGB [N,3,H,W], on any device -> float32 [N,dim] on the space's device."""


class NetworkSpace:
    """A frozen network behind a fixed resize: uint8 [N,3,H,W] of any size -> float32 [N,dim]."""

    def __init__(
        self,
        name: str,
        network: nn.Module,
        *,
        dim: int,
        size: int,
        fingerprint: str | None,
        device: str | torch.device = "cpu",
        prepare: Callable[[Tensor, int], Tensor] | None = None,
    ) -> None:
        """network: RGB float32 [N,3,size,size] in [0,1] -> [N,dim]; frozen and moved to device.

        prepare: uint8 [N,3,H,W], size -> the network's input; None: `resize_to_unit`.
        """
        self.prepare = resize_to_unit if prepare is None else prepare
        self.name, self.dim, self.size, self.fingerprint = name, dim, size, fingerprint
        self.device = torch.device(device)
        # Channels last: SqueezeNet at 224 px takes about half of the time on a CPU.
        network = network.requires_grad_(False).eval().to(self.device)
        self.network = network.to(memory_format=torch.channels_last)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """uint8 RGB [N,3,H,W] -> float32 [N,dim]. Autocast is off inside: half precision moves distances."""
        check_uint8(images)
        step = max(_CPU_PIXELS // self.size**2, 1) if self.device.type == "cpu" else max(len(images), 1)
        with torch.autocast(self.device.type, enabled=False):
            return torch.cat([self._features(part) for part in images.split(step)])

    def _features(self, images: Tensor) -> Tensor:
        x = self.prepare(images.to(self.device), self.size).to(self.device)
        return self.network(x.contiguous(memory_format=torch.channels_last))


class CallableSpace:
    """A user's own function of uint8 images [N,3,H,W] in feature-space manners."""

    def __init__(
        self, name: str, function: Callable[[Tensor], Tensor], *, device: str | torch.device
    ) -> None:
        """`dim` is the function's attribute of that name, or found by calling it on two grey 64 px images;
        `fingerprint` is its attribute, or None.
        """
        self.name, self.function, self.device = name, function, torch.device(device)
        self.fingerprint: str | None = getattr(function, "fingerprint", None)
        dim = getattr(function, "dim", None)
        if dim is None:
            grey = torch.full((2, 3, _PROBE_SIZE, _PROBE_SIZE), 128, dtype=torch.uint8, device=self.device)
            with torch.no_grad():
                dim = _checked_features(function(grey), 2, None, name).shape[1]
        self.dim = int(dim)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """uint8 RGB [N,3,H,W] -> float32 [N,dim]; ValueError when the function returns anything else."""
        check_uint8(images)
        with torch.autocast(self.device.type, enabled=False):
            found = self.function(images.to(self.device))
        return _checked_features(found, len(images), self.dim, self.name).float()


class SqueezeNetFeatures(nn.Module):
    """SqueezeNet 1.1 (Iandola et al. 2016) up to its last fire module, averaged over the pixels."""

    dim = 512

    def __init__(self, state: Mapping[str, Tensor], *, source: str) -> None:
        """state: torchvision's SqueezeNet 1.1, whole or `.features` alone; source names it in errors."""
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
        return self.layers(imagenet_normalized(x)).mean(dim=(2, 3))  # of [N,512,13,13]

    def maps(self, x: Tensor) -> dict[str, Tensor]:
        """RGB [N,3,H,W] in [0,1] -> the maps before each pooling and at the end."""
        x = imagenet_normalized(x)
        found = {}
        for i, layer in enumerate(self.layers):
            if isinstance(layer, nn.MaxPool2d):
                found[f"before {i}"] = x
            x = layer(x)
        return found | {"last": x}


class CifarResNetFeatures(nn.Module):
    """ResNet-56 for CIFAR-10, the features that its linear layer reads."""

    dim = 64

    def __init__(self, state: Mapping[str, Tensor], *, source: str) -> None:
        """state: option-A ResNet-56, names with or without `module.`; source names it in errors."""
        super().__init__()
        self.network = cifar_resnet_from_state(state, source=source, depth=56)

    def forward(self, x: Tensor) -> Tensor:
        """RGB [N,3,32,32] in [0,1] -> [N,64]."""
        return self.network.features(imagenet_normalized(x))

    def maps(self, x: Tensor) -> dict[str, Tensor]:
        """RGB [N,3,H,W] in [0,1] -> the maps after each stage."""
        return self.network.stages(imagenet_normalized(x))


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
    """A network of this module: where its weights come from and what is built of them."""

    title: str
    files: tuple[WeightsFile, ...]  # the first is the published one, which torch's cache folder may hold
    build: Callable[..., SqueezeNetFeatures | CifarResNetFeatures]
    size: int


PRETRAINED = {
    "squeezenet1_1": Pretrained(
        "SqueezeNet 1.1",
        (
            WeightsFile("squeezenet1_1-b8a52dc0.pth", "b8a52dc0"),
            # torchvision's layout without the classifier, from the authors' own release.
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
    """A feature space by name: one of NAMES, or `module:callable`.

    inception: 2048 dims, FID's own, see `load_inception`. squeezenet1_1: 512 dims, images resized to 224 px.
    cifar-resnet56: 64 dims, 32 px. vgg19, vgg19-slim, vgg19-slim-aux, ganmod-slim: relu4_1 of
    `load_features`, 224 px. These resize antialiased bicubic and average their last map over its pixels.
    dinov2: the class token, 224 px, see `DINOv2Features`. inception-torchvision: 2048 dims, 299 px, what
    StarGAN v2's published FID uses, see `TorchvisionInception`. module:callable: a function, an object or a
    class (then made without arguments) that takes uint8 [N,3,H,W] on `device` and returns [N,dim].
    path: the weights, or a folder that holds them under their published name; None: torch's cache folder
    (ganmod-slim: shipped; inception: elsewhere). .pth files are read without running anything in them;
    .safetensors is read too.
    Raises FeatureError when a file is missing or damaged, ModelFileError when it holds another network (both
    are ValueErrors), ValueError for an unknown name.
    """
    if ":" in name:
        if path is not None:
            raise ValueError(f"feature space {name} loads its own weights: leave out the path {path}")
        return CallableSpace(name, _import_callable(name), device=device)
    if name == "inception":
        from ganmod.inception import load_inception

        return load_inception(path, device=device)
    if name == "dinov2":
        from ganmod.dinov2 import SIZE, DINOv2Features, fingerprint_of

        token = DINOv2Features(path)
        return NetworkSpace(
            name, token, dim=token.dim, size=SIZE, fingerprint=fingerprint_of(token), device=device
        )
    if name == "inception-torchvision":
        from ganmod import inception_torchvision as torchvision_space

        published = torchvision_space.load_torchvision_inception(path)
        return NetworkSpace(
            name,
            published,
            dim=published.dim,
            size=torchvision_space.SIZE,
            fingerprint=torchvision_space.fingerprint_of(published),
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
        near = difflib.get_close_matches(name, NAMES, n=1)
        raise ValueError(
            f"unknown feature space {name!r}"
            + (f", did you mean {near[0]!r}" if near else "")
            + f"? Expected one of {', '.join(NAMES)}, or module:callable for one of your own"
        )
    fingerprint = f"{name}, {size} px bicubic antialiased, last map averaged, weights sha256 {digest}"
    return NetworkSpace(
        name, network, dim=network.dim, size=size, fingerprint=fingerprint, device=torch.device(device)
    )


def load_perceptual_maps(
    name: str, path: str | Path | None = None, *, device: str | torch.device = "cpu"
) -> PerceptualMaps:
    """Feature maps for a distance that is optimised, by the names of `load_feature_space`; differentiable.

    The result takes RGB [N,3,H,W] in [0,1] to {layer: [N,C,h,w]}, divided by the layers' RMS where the
    network stores it, else by that of each image. module:callable is called with the images as they are and
    returns such a dict or one tensor. Errors as `load_feature_space`.
    """
    if name in VGG_NAMES:
        return load_features(name, path=path).to(device).normalized
    if ":" in name:
        function = _import_callable(name)

        def own(x: Tensor) -> dict[str, Tensor]:
            found = function(x)
            return {"features": found} if isinstance(found, Tensor) else dict(found)

        return own
    if name not in PRETRAINED:
        known = ", ".join((*PRETRAINED, *VGG_NAMES))
        raise ValueError(
            f"feature network {name!r} has no maps to compare: expected {known} or module:callable"
        )
    network = load_feature_space(name, path, device=device).network  # type: ignore[attr-defined]

    def maps(x: Tensor) -> dict[str, Tensor]:
        found = network.maps(x)
        return {
            k: v * (v.square().mean(dim=(1, 2, 3), keepdim=True) + 1e-10).rsqrt() for k, v in found.items()
        }

    return maps


def metric_name(space_name: str, metric: str = "fd") -> str:
    """The name of a measure in a space: fd_squeezenet1_1, kid_squeezenet1_1. Only Inception's bear no suffix,
    and only its Frechet distance is called fid: published figures are meant by these.
    """
    if space_name == "inception":
        return "fid" if metric == "fd" else metric
    return metric + "_" + "".join(c if c.isalnum() else "_" for c in space_name)


def resize_to_unit(images: Tensor, size: int) -> Tensor:
    """uint8 [N,3,H,W] -> float32 [N,3,size,size] in [0,1], antialiased bicubic as Pillow's, not rounded."""
    x = images.float() / 255
    if x.shape[2:] == (size, size):
        return x
    x = F.interpolate(x, size=(size, size), mode="bicubic", antialias=True)
    return x.clamp(0, 1)  # bicubic overshoots at edges


def imagenet_normalized(x: Tensor) -> Tensor:
    """RGB [N,3,H,W] in [0,1] -> (x - mean) / std of ImageNet."""
    mean, std = (x.new_tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
    return (x - mean) / std


def check_uint8(images: Tensor, *, source: str = "images") -> None:
    """Raise ValueError unless images is uint8 [N,3,H,W] with at least one image and one pixel."""
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3 or images.numel() == 0:
        raise ValueError(
            f"{source}: got {images.dtype} {list(images.shape)}, expected uint8 [N,3,H,W] in 0..255: repeat "
            "grey images over three channels, round float images as they would be saved"
        )


def _checked_features(found: object, num_images: int, dim: int | None, name: str) -> Tensor:
    shape = f"[{num_images}, {'dim' if dim is None else dim}]"
    if (
        not isinstance(found, Tensor)
        or found.ndim != 2
        or len(found) != num_images
        or dim not in (None, found.shape[1])
        or not found.is_floating_point()
    ):
        got = f"{found.dtype} {list(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(f"feature space {name} returned {got}, expected a float tensor {shape}")
    return found


def _import_callable(name: str) -> Callable[[Tensor], Tensor]:
    module_name, _, attribute = name.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise  # the module is there, and imports something that is not
        raise ValueError(
            f"feature space {name}: no module named {error.name!r}. Install it, or run "
            "where it can be imported"
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ValueError(f"feature space {name}: {module_name} has no {attribute!r}")
        found = getattr(found, part)
    made = found() if isinstance(found, type) else found
    if not callable(made):
        raise ValueError(
            f"feature space {name} is of type {type(made).__name__}, expected a function of images"
        )
    return made


def _vgg_file(name: str, path: str | Path | None) -> Path | None:
    """The file that `load_features` is to read, there or not; None: it has to be given."""
    if path is None:
        return {"ganmod-slim": SHIPPED, "vgg19": cached(VGG19_FILE)}.get(name)
    in_folder = {"ganmod-slim": SHIPPED.name, "vgg19": VGG19_FILE}.get(name, "4SE.pth")
    return Path(path) / in_folder if Path(path).is_dir() else Path(path)
