"""The ResNet for 32 px images of He et al. (CVPR 2016, section 4.2), with option-A shortcuts."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganmod.io.model_file import load_state

WIDTHS = (16, 32, 64)
NUM_CLASSES = 10


class BasicBlock(nn.Module):
    """relu(x + bn(conv(relu(bn(conv(x)))))), both convolutions 3x3."""

    def __init__(self, in_channels: int, channels: int, *, stride: int) -> None:
        super().__init__()
        self.stride, self.new_channels = stride, channels - in_channels
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """[N,C,H,W] -> [N,channels,H/stride,W/stride]."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))

    def shortcut(self, x: Tensor) -> Tensor:
        """Option A: every stride-th pixel; the new channels are zero, half of them before the others."""
        if self.stride == 1 and not self.new_channels:
            return x
        before = self.new_channels // 2
        return F.pad(
            x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.new_channels - before)
        )


class CifarResNet(nn.Module):
    """ResNet of `depth` = 6n + 2 layers: three stages of n blocks, 16, 32 and 64 channels wide."""

    def __init__(self, depth: int = 56) -> None:
        super().__init__()
        if depth < 8 or depth % 6 != 2:
            raise ValueError(f"depth is {depth}, expected 6n + 2 layers, such as 20 or 56")
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        num_blocks, channels, stages = (depth - 2) // 6, WIDTHS[0], []
        for width in WIDTHS:
            blocks = []
            for i in range(num_blocks):
                blocks.append(BasicBlock(channels, width, stride=2 if i == 0 and width > channels else 1))
                channels = width
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3 = stages
        self.linear = nn.Linear(WIDTHS[-1], NUM_CLASSES)

    def features(self, x: Tensor) -> Tensor:
        """ImageNet-normalised RGB [N,3,32,32] -> [N,64], the last stage averaged over its pixels."""
        return self.stages(x)["layer3"].mean(dim=(2, 3))

    def stages(self, x: Tensor) -> dict[str, Tensor]:
        """ImageNet-normalised RGB [N,3,32,32] -> [N,16,32,32], [N,32,16,16] and [N,64,8,8] by name."""
        maps = {}
        x = F.relu(self.bn1(self.conv1(x)))
        for name, stage in (("layer1", self.layer1), ("layer2", self.layer2), ("layer3", self.layer3)):
            maps[name] = x = stage(x)
        return maps

    def forward(self, x: Tensor) -> Tensor:
        """ImageNet-normalised RGB [N,3,32,32] -> class scores [N,10]."""
        return self.linear(self.features(x))


def cifar_resnet_from_state(state: Mapping[str, Tensor], *, source: str, depth: int = 56) -> CifarResNet:
    """Build the frozen network from a state dict.

    Args:
        state: tensors, with or without DataParallel's prefix `module.`. num_batches_tracked may be missing,
            as in files from before PyTorch 0.4.1.
        source: names the file in errors.

    Raises:
        ModelFileError: if the tensors belong to another network.
    """
    network = CifarResNet(depth)
    counters = {k: torch.zeros_like(v) for k, v in network.state_dict().items() if k.endswith("_tracked")}
    load_state(network, counters | {k.removeprefix("module."): v for k, v in state.items()}, source=source)
    return network.requires_grad_(False).eval()
