"""Small StyleGAN2 networks for tests, in which every parameter has a visible effect."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ganmod.stylegan2 import Discriminator, DiscriminatorSpec, Generator, GeneratorSpec


def tiny_generator(**values: Any) -> Generator:
    """A generator of 16 x 24 pixels and 6 ws, with visible effects of noise, mean w and torgb."""
    torch.manual_seed(0)
    small = {"img_resolution": (16, 24), "channel_base": 64, "channel_max": 8, "z_dim": 6, "w_dim": 5}
    G = Generator(GeneratorSpec(**{**small, "mapping_layers": 2, **values}))
    for name, parameter in G.named_parameters():
        if name.endswith("noise_strength"):
            torch.nn.init.constant_(parameter, 0.3)
        if name.endswith(".gate"):
            torch.nn.init.normal_(parameter)
    torch.nn.init.normal_(G.mapping.w_avg)
    return G.eval().requires_grad_(False)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def generator(seed: int = 0, **values: Any) -> Generator:
    """A small generator in float64 with every parameter away from zero: 16 pixels, 8 channels."""
    small = {"img_resolution": 16, "channel_base": 64, "channel_max": 8, "z_dim": 5, "w_dim": 6}
    torch.manual_seed(seed)
    net = Generator(GeneratorSpec(**{**small, "mapping_layers": 2, **values})).double()  # type: ignore[arg-type]
    for name, parameter in net.named_parameters():
        if name.endswith(("bias", "noise_strength", ".gate")):
            nn.init.normal_(parameter, std=0.3)
    return net


def discriminator(seed: int = 0, **values: Any) -> Discriminator:
    small = {"img_resolution": 16, "channel_base": 64, "channel_max": 8}
    torch.manual_seed(seed)
    net = Discriminator(DiscriminatorSpec(**{**small, **values})).double()  # type: ignore[arg-type]
    for name, parameter in net.named_parameters():
        if name.endswith("bias") and "mapping" not in name:
            nn.init.normal_(parameter, std=0.3)
    return net
