"""Small StarGAN v2 networks for tests, and their formulas, from the paper and its code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganmod.starganv2 import StarGANv2Spec


def tiny_spec(**values: Any) -> StarGANv2Spec:
    """32 pixels, 6 to 12 channels, two domains."""
    small = {"img_size": 32, "channel_base": 192, "channel_max": 10, "latent_dim": 4, "hidden_dim": 7}
    return StarGANv2Spec(**{"domains": ("cat", "dog"), "style_dim": 5, **small, **values})


def build(kind: type[nn.Module], seed: int = 0, **values: Any) -> Any:
    """A network in float64 with random norms and biases."""
    torch.manual_seed(seed)
    net = kind(tiny_spec(**values)).double()
    for name, parameter in net.named_parameters():
        if "norm" in name or name.endswith("bias"):
            nn.init.normal_(parameter, mean=0.5 if name.endswith("weight") else 0.0, std=0.3)
    return net


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def instance_norm(x: Tensor) -> Tensor:
    """Instance normalisation, image by image and channel by channel."""
    channels = [
        (plane - plane.mean()) / (((plane - plane.mean()) ** 2).mean() + 1e-5).sqrt()
        for image in x
        for plane in image
    ]
    return torch.stack(channels).reshape(x.shape)


def lrelu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x)


def conv(x: Tensor, t: Mapping[str, Tensor], name: str, *, padding: int = 1) -> Tensor:
    """The convolution `name`, in either layout of its weight."""
    weight = t[f"{name}.conv.weight"] if f"{name}.conv.weight" in t else t[f"{name}.weight"]
    return F.conv2d(x, weight, t.get(f"{name}.bias"), padding=padding)


def affine_norm(x: Tensor, t: Mapping[str, Tensor], name: str) -> Tensor:
    if f"{name}.weight" not in t:  # a block without normalisation
        return x
    return instance_norm(x) * t[f"{name}.weight"][:, None, None] + t[f"{name}.bias"][:, None, None]


def adain(x: Tensor, s: Tensor, t: Mapping[str, Tensor], name: str) -> Tensor:
    """(1 + gamma(s)) * IN(x) + beta(s)."""
    h = s @ t[f"{name}.weight"].t() + t[f"{name}.bias"]
    gamma, beta = h[:, : x.shape[1], None, None], h[:, x.shape[1] :, None, None]
    return (1 + gamma) * instance_norm(x) + beta


def residual_block(x: Tensor, t: Mapping[str, Tensor], name: str, *, down: bool) -> Tensor:
    shortcut = conv(x, t, f"{name}.skip", padding=0) if f"{name}.skip.weight" in t else x
    out = conv(lrelu(affine_norm(x, t, f"{name}.norm1")), t, f"{name}.conv1")
    if down:
        shortcut, out = F.avg_pool2d(shortcut, 2), F.avg_pool2d(out, 2)
    out = conv(lrelu(affine_norm(out, t, f"{name}.norm2")), t, f"{name}.conv2")
    return (shortcut + out) / 2**0.5


def adain_block(
    x: Tensor, s: Tensor, t: Mapping[str, Tensor], name: str, *, up: bool, w_hpf: float
) -> Tensor:
    def upsample(x: Tensor) -> Tensor:
        return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3) if up else x

    out = upsample(lrelu(adain(x, s, t, f"{name}.conv1.modulation.affine")))
    out = conv(out, t, f"{name}.conv1")
    out = conv(lrelu(adain(out, s, t, f"{name}.conv2.modulation.affine")), t, f"{name}.conv2")
    if w_hpf:
        return out
    shortcut = upsample(x)
    if f"{name}.skip.weight" in t:
        shortcut = conv(shortcut, t, f"{name}.skip", padding=0)
    return (out + shortcut) / 2**0.5


def high_pass_formula(x: Tensor, w_hpf: float) -> Tensor:
    """9 times each pixel minus the sum of its 3 x 3 neighbourhood, divided by w_hpf."""
    padded = F.pad(x, (1, 1, 1, 1))
    height, width = x.shape[2:]
    neighbours = sum(padded[:, :, i : i + height, j : j + width] for i in range(3) for j in range(3))
    return (9 * x - neighbours) / w_hpf


def generate(
    t: Mapping[str, Tensor],
    x: Tensor,
    s: Tensor,
    *,
    w_hpf: float = 0,
    masks: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """The AdaIN generator with tensors t; masks have the size of the features."""
    x = conv(x, t, "from_rgb")
    num_blocks = len({name.split(".")[1] for name in t if name.startswith("encode.")})
    skipped = {}
    for i in range(num_blocks):
        skipped.setdefault(x.shape[2], x)
        x = residual_block(x, t, f"encode.{i}", down=i < num_blocks - 2)
    for i in range(num_blocks):
        x = adain_block(x, s, t, f"decode.{i}", up=i >= 2, w_hpf=w_hpf)
        if w_hpf and x.shape[2] in (32, 64, 128):
            mask = 1 if masks is None else masks[0] if x.shape[2] == 32 else masks[1]
            x = x + high_pass_formula(mask * skipped[x.shape[2]], w_hpf)
    return conv(lrelu(affine_norm(x, t, "norm")), t, "to_rgb", padding=0)


def trunk(t: Mapping[str, Tensor], x: Tensor) -> Tensor:
    x = conv(x, t, "trunk.from_rgb")
    for i in range(len({name.split(".")[2] for name in t if name.startswith("trunk.blocks.")})):
        x = residual_block(x, t, f"trunk.blocks.{i}", down=True)
    return lrelu(conv(lrelu(x), t, "trunk.last", padding=0))


def mlp(t: Mapping[str, Tensor], x: Tensor, name: str, *, last_linear: bool) -> Tensor:
    numbers = sorted(int(key.split(".")[-2]) for key in t if key.startswith(f"{name}.") and "weight" in key)
    for i in numbers:
        x = x @ t[f"{name}.{i}.weight"].t() + t[f"{name}.{i}.bias"]
        x = x if last_linear and i == numbers[-1] else x.clamp(min=0)
    return x
