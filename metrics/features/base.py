"""Feature spaces: uint8 images in, one float32 vector per image out, with a name and a fingerprint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganmod.errors import is_memory_error
from ganmod.features.vgg import IMAGENET_MEAN, IMAGENET_STD

IMAGENET_SIZE, CIFAR_SIZE = 224, 32  # pixels, the side of the networks' training images
_PROBE_SIZE = 64
_Output = TypeVar("_Output")
_CPU_PIXELS = 16 * IMAGENET_SIZE**2  # per pass on a CPU: activations of more no longer fit into the caches


class FeatureSpace(Protocol):
    """The interface of a feature space.

    Args:
        name: of the space, see `metric_name`.
        dim: length of a feature vector.
        fingerprint: identifies the weights and the preparation of images; None if unknown, which disables
            caching.
        device: of the features.
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
        """Freeze the network and move it to the device.

        Args:
            network: RGB float32 [N,3,size,size] in [0,1] -> [N,dim].
            size: side of the network's input in pixels.
            fingerprint: see `FeatureSpace`.
            prepare: uint8 [N,3,H,W], size -> the network's input; None for `resize_to_unit`.
        """
        self.prepare = resize_to_unit if prepare is None else prepare
        self.name, self.dim, self.size, self.fingerprint = name, dim, size, fingerprint
        self.device = torch.device(device)
        # Channels last halves the time of SqueezeNet at 224 px on a CPU.
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
    """A custom function of uint8 images [N,3,H,W] as a feature space."""

    def __init__(
        self, name: str, function: Callable[[Tensor], Tensor], *, device: str | torch.device
    ) -> None:
        """Wrap a function.

        Args:
            function: uint8 RGB [N,3,H,W] -> float [N,dim]. Its attributes `dim` and `fingerprint` are used if
                it has them; otherwise dim comes from a call with two grey 64 px images.
        """
        self.name, self.function, self.device = name, function, torch.device(device)
        self.fingerprint: str | None = getattr(function, "fingerprint", None)
        dim = getattr(function, "dim", None)
        if dim is None:
            grey = torch.full((2, 3, _PROBE_SIZE, _PROBE_SIZE), 128, dtype=torch.uint8, device=self.device)
            with torch.no_grad():
                dim = _check_features(call_function(name, function, grey), 2, None, name).shape[1]
        self.dim = int(dim)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """uint8 RGB [N,3,H,W] -> float32 [N,dim]; ValueError if the function returns anything else."""
        check_uint8(images)
        with torch.autocast(self.device.type, enabled=False):
            output = call_function(self.name, self.function, images.to(self.device))
        return _check_features(output, len(images), self.dim, self.name).float()


def call_function(name: str, function: Callable[[Tensor], _Output], images: Tensor) -> _Output:
    """What a user's function makes of images; ValueError, which names it, for what it raises.

    A lack of memory is raised unchanged.
    """
    try:
        return function(images)
    except Exception as error:
        if is_memory_error(error):
            raise
        raise ValueError(
            f"{name} fails on images {images.dtype} {list(images.shape)}, expected a function of these: "
            f"{type(error).__name__}: {error}"
        ) from error


def metric_name(space_name: str, metric: str = "fd") -> str:
    """The name of a measure in a space: fd_squeezenet1_1, kd_squeezenet1_1, precision_squeezenet1_1.

    Inception's measures have no suffix, and its distances alone are called fid and kid, as in publications.

    Args:
        space_name: name of the feature space.
        metric: fd for the Frechet distance, kd and kd_std for the kernel distance, precision, recall, ...
    """
    if space_name == "inception":
        return {"fd": "fid", "kd": "kid", "kd_std": "kid_std"}.get(metric, metric)
    return metric + "_" + "".join(c if c.isalnum() else "_" for c in space_name)


def current_metric_name(name: str) -> str:
    """Translate a measure's name of earlier versions, kid_SPACE, to that of `metric_name`, kd_SPACE."""
    for former, current in (("kid_std_", "kd_std_"), ("kid_", "kd_")):
        if name.startswith(former) and name != "kid_std":
            return current + name.removeprefix(former)
    return name


def resize_to_unit(images: Tensor, size: int) -> Tensor:
    """uint8 [N,3,H,W] -> float32 [N,3,size,size] in [0,1], antialiased bicubic as Pillow's, not rounded."""
    x = images.float() / 255
    if x.shape[2:] == (size, size):
        return x
    x = F.interpolate(x, size=(size, size), mode="bicubic", antialias=True)
    return x.clamp(0, 1)  # bicubic overshoots at edges


def normalize_imagenet(x: Tensor) -> Tensor:
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


def _check_features(output: object, num_images: int, dim: int | None, name: str) -> Tensor:
    shape = f"[{num_images}, {'dim' if dim is None else dim}]"
    if (
        not isinstance(output, Tensor)
        or output.ndim != 2
        or len(output) != num_images
        or dim not in (None, output.shape[1])
        or not output.is_floating_point()
    ):
        got = f"{output.dtype} {list(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(f"feature space {name} returned {got}, expected a float tensor {shape}")
    return output
