"""Random VGG-19 networks, in the layouts of the supported files."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

# Channels of VGG-19's convolutions up to conv4_1; "M" halves the image.
PLAN: list[int | str] = [64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512]


def torchvision_network() -> nn.Sequential:
    """torchvision's vgg19().features up to relu4_1, random, with reflect padding instead of zeros."""
    layers: list[nn.Module] = []
    channels = 3
    for width in PLAN:
        if isinstance(width, str):
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(channels, width, 3, padding=1, padding_mode="reflect"), nn.ReLU()]
            channels = width
    return randomise(nn.Sequential(*layers))


def normalised_network() -> nn.Sequential:
    """The AdaIN authors' vgg_normalised.pth up to relu4_1, random."""
    layers: list[nn.Module] = [nn.Conv2d(3, 3, 1)]
    channels = 3
    for width in PLAN:
        if isinstance(width, str):
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
        else:
            layers += [nn.ReflectionPad2d(1), nn.Conv2d(channels, width, 3), nn.ReLU()]
            channels = width
    return randomise(nn.Sequential(*layers))


def randomise(network: nn.Sequential) -> nn.Sequential:
    torch.manual_seed(0)
    for layer in network:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.normal_(layer.bias, std=0.1)  # type: ignore[arg-type]
    return network.requires_grad_(False)


def save_torchvision(path: Path) -> nn.Sequential:
    """Write torchvision's file, including its entries of deeper layers."""
    network = torchvision_network()
    state = {f"features.{key}": value for key, value in network.state_dict().items()}
    torch.save(state | {"features.21.weight": torch.zeros(512), "classifier.0.bias": torch.zeros(8)}, path)
    return network
