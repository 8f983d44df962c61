"""A generator small enough for tests, in which whatever can be seen is seen."""

from __future__ import annotations

from typing import Any

import torch

from ganmod.stylegan2 import Generator, GeneratorSpec


def tiny_generator(**values: Any) -> Generator:
    """16 x 24 pixels, 6 ws; noise, mean w and torgb are large enough to be seen."""
    torch.manual_seed(0)
    small = {"img_resolution": (16, 24), "channel_base": 64, "channel_max": 8, "z_dim": 6, "w_dim": 5}
    G = Generator(GeneratorSpec(**{**small, "mapping_layers": 2, **values}))
    for name, parameter in G.named_parameters():
        if name.endswith("noise_strength"):
            torch.nn.init.constant_(parameter, 0.3)
    torch.nn.init.normal_(G.mapping.w_avg)
    return G.eval().requires_grad_(False)
