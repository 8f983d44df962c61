"""Tiny untrained style-transfer models of every kind."""

from __future__ import annotations

import torch
from torch import nn

from ganmod.features import VGGFeatures
from ganmod.modulation import list_modulations
from style_transfer import ModelSpec, StyleTransferModel, build

WIDTHS = (4, 4, 6, 8)
SIZE = 64
KINDS = (*list_modulations(), "classic")


def make(kind: str, seed: int = 0) -> StyleTransferModel:
    """A tiny model, untrained."""
    torch.manual_seed(seed)
    encoder = VGGFeatures(WIDTHS)
    for (
        conv
    ) in encoder.convs.values():  # PyTorch's own initialisation lets the signal die on its way to relu4_1
        nn.init.kaiming_normal_(conv.weight)  # type: ignore[arg-type]
    spec = ModelSpec(
        "tiny",
        WIDTHS,
        architecture="classic" if kind == "classic" else "modulated",
        modulation="adaconv" if kind == "classic" else kind,
        modulation_options={"kernel_size": 1} if kind == "adaconv" else {},
        style_dim=5,
        style_image_size=SIZE,
    )
    encoder.calibrate(torch.rand(1, 3, 64, 64))
    return build(spec, encoder).eval()
