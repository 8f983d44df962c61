"""If this is wrong, so is every test that compares StyleGAN2 networks with the published formulas.

The formulas, sample by sample, for 16 x 16 images, in the dtype of `t`: {official name: tensor}.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

WIDTHS = {4: 12, 8: 12, 16: 8}  # channels by resolution: min(128 // resolution, 12)
FIR = torch.tensor([1.0, 3, 3, 1], dtype=torch.float64)
FIR = FIR[:, None] * FIR / 64


def lrelu(x: Tensor, clamp: float | None = None, gain: float = 1.0) -> Tensor:
    x = F.leaky_relu(x, 0.2) * (2**0.5 * gain)
    return x if clamp is None else x.clamp(-clamp * gain, clamp * gain)


def fc(x: Tensor, t: Mapping[str, Tensor], name: str, lr: float = 1.0) -> Tensor:
    weight = t[f"{name}.weight"]
    return x @ weight.t() * (lr / weight.shape[1] ** 0.5) + t[f"{name}.bias"] * lr


def normalize_second_moment(x: Tensor) -> Tensor:
    return x / (x.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()


def map_latents(t: Mapping[str, Tensor], z: Tensor | None, c: Tensor | None, lr: float = 0.01) -> Tensor:
    parts = [] if z is None else [normalize_second_moment(z)]
    if "mapping.embed.weight" in t:
        assert c is not None
        parts.append(normalize_second_moment(fc(c, t, "mapping.embed")))
    x = torch.cat(parts, dim=1)
    i = 0
    while f"mapping.fc{i}.weight" in t:
        x = lrelu(fc(x, t, f"mapping.fc{i}", lr))
        i += 1
    return x


def filter_image(x: Tensor, pads: tuple[int, int], gain: float = 1.0) -> Tensor:
    x = F.pad(x, (*pads, *pads))
    return F.conv2d(x, FIR.expand(x.shape[1], 1, 4, 4) * gain, groups=x.shape[1])


def upsample(x: Tensor) -> Tensor:
    zeros = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    zeros[:, :, ::2, ::2] = x
    return filter_image(zeros, (2, 1), gain=4)


def modulated_conv(x: Tensor, weight: Tensor, styles: Tensor, *, up: bool, demodulate: bool) -> Tensor:
    images = []
    for image, style in zip(x, styles, strict=True):
        w = weight * style[:, None, None]
        if demodulate:
            w = w / (w.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if up:
            image = filter_image(F.conv_transpose2d(image[None], w.transpose(0, 1), stride=2), (1, 1), gain=4)
        else:
            image = F.conv2d(image[None], w, padding=w.shape[-1] // 2)
        images.append(image)
    return torch.cat(images)


def generate(
    t: Mapping[str, Tensor],
    z: Tensor,
    c: Tensor | None = None,
    *,
    architecture: str = "skip",
    clamp: float | None = None,
    mapping_lr: float = 0.01,
    psi: float = 1.0,
    cutoff: int | None = None,
    noise: bool = True,
) -> Tensor:
    w = map_latents(t, z, c, mapping_lr)
    num_ws = 2 * len(WIDTHS)
    ws = [w] * num_ws
    for i in range(num_ws if cutoff is None else cutoff):
        ws[i] = t["mapping.w_avg"] + psi * (w - t["mapping.w_avg"])

    def layer(x: Tensor, name: str, w: Tensor, gain: float = 1.0) -> Tensor:
        styles = fc(w, t, f"{name}.affine")
        x = modulated_conv(x, t[f"{name}.weight"], styles, up=name.endswith("conv0"), demodulate=True)
        if noise and f"{name}.noise_const" in t:
            x = x + t[f"{name}.noise_const"] * t[f"{name}.noise_strength"]
        return lrelu(x + t[f"{name}.bias"][:, None, None], clamp, gain)

    x = t["synthesis.b4.const"].expand(len(z), -1, -1, -1)
    img = None
    index = 0
    for resolution in WIDTHS:
        block = f"synthesis.b{resolution}"
        residual = architecture == "resnet" and resolution > 4
        half = 0.5**0.5 if residual else 1.0
        if residual:
            skip = t[f"{block}.skip.weight"]
            shortcut = upsample(F.conv2d(x, skip / skip.shape[1] ** 0.5)) * half
        if resolution > 4:
            x = layer(x, f"{block}.conv0", ws[index])
            index += 1
        x = layer(x, f"{block}.conv1", ws[index], half)
        index += 1
        if residual:
            x = x + shortcut
        if img is not None:
            img = upsample(img)
        if f"{block}.torgb.weight" in t:
            weight = t[f"{block}.torgb.weight"]
            styles = fc(ws[index], t, f"{block}.torgb.affine") / weight.shape[1] ** 0.5
            rgb = modulated_conv(x, weight, styles, up=False, demodulate=False)
            rgb = rgb + t[f"{block}.torgb.bias"][:, None, None]
            rgb = rgb if clamp is None else rgb.clamp(-clamp, clamp)
            img = rgb if img is None else img + rgb
    assert img is not None
    return img


def discriminate(
    t: Mapping[str, Tensor],
    img: Tensor,
    c: Tensor | None = None,
    *,
    architecture: str = "resnet",
    clamp: float | None = None,
    mapping_lr: float = 0.01,
) -> Tensor:
    """The batch is one group."""

    def layer(x: Tensor, name: str, clamp: float | None, *, down: bool = False, gain: float = 1.0) -> Tensor:
        weight = t[f"{name}.weight"]
        weight = weight / (weight.shape[1] * weight.shape[2] ** 2) ** 0.5
        if down:
            x = F.conv2d(filter_image(x, (2, 2)), weight, stride=2)
        else:
            x = F.conv2d(x, weight, padding=weight.shape[2] // 2)
        return lrelu(x + t[f"{name}.bias"][:, None, None], clamp, gain)

    x: Tensor | None = None
    for resolution in reversed(WIDTHS):
        if resolution == 4:
            break
        block = f"b{resolution}"
        if f"{block}.fromrgb.weight" in t:
            rgb = layer(img, f"{block}.fromrgb", clamp)
            x = rgb if x is None else x + rgb
        assert x is not None
        half = 0.5**0.5 if architecture == "resnet" else 1.0
        out = layer(layer(x, f"{block}.conv0", clamp), f"{block}.conv1", clamp, down=True, gain=half)
        if architecture == "resnet":
            skip = t[f"{block}.skip.weight"]
            out = out + F.conv2d(filter_image(x, (1, 1)), skip / skip.shape[1] ** 0.5, stride=2) * half
        x = out
        img = filter_image(img, (1, 1))[:, :, ::2, ::2]
    assert x is not None
    if "b4.fromrgb.weight" in t:
        x = x + layer(img, "b4.fromrgb", None)
    deviation = (x.var(dim=0, correction=0) + 1e-8).sqrt().mean()
    x = torch.cat([x, deviation.expand(len(x), 1, 4, 4)], dim=1)
    x = fc(lrelu(fc(layer(x, "b4.conv", clamp).flatten(1), t, "b4.fc")), t, "b4.out")
    if "mapping.fc0.weight" in t:
        cmap = map_latents(t, None, c, mapping_lr)
        x = (x * cmap).sum(dim=1, keepdim=True) / cmap.shape[1] ** 0.5
    return x
