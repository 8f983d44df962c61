"""Specifications of a StyleGAN2 generator and discriminator: plain values that JSON can hold."""

from __future__ import annotations

from dataclasses import dataclass
from math import log2
from typing import Literal, NamedTuple, get_args

import torch

from configs.sections import Count, Positive, PositiveFloat
from configs.stylegan2 import (
    Architecture,
    DiscriminatorOptions,
    GeneratorOptions,
    SharedOptions,
    StyleLift,
)
from ganmod.network_spec import NetworkSpec

HalfDtype = Literal["float16", "bfloat16"]

HALF_DTYPES: dict[str, torch.dtype] = {"float16": torch.float16, "bfloat16": torch.bfloat16}

_MIN_START = 4  # pixels of the shorter side at the coarsest level


class Level(NamedTuple):
    """One resolution of a network.

    Attributes:
        resolution: the power of two nearest to sqrt(height * width), which names the level's block and its
            range in "adaconv@4-32".
        half: whether it runs in half precision.
    """

    height: int
    width: int
    resolution: int
    channels: int
    half: bool


@dataclass(frozen=True, kw_only=True)
class _NetworkSpec(NetworkSpec, SharedOptions):
    """Fields of both networks: the configuration's options, and what follows from data and precision.

    Args:
        img_resolution: pixels, (height, width) or one number for both: start_size, the coarsest level's,
            times a power of two.
        c_dim: classes, 0 for an unconditional network.
        num_half_res: how many of the finest resolutions run in half_dtype.
    """

    img_resolution: Positive | tuple[Positive, Positive]
    img_channels: Positive = 3
    c_dim: Count = 0
    channel_base: Positive = 32768
    num_half_res: Count = 0
    half_dtype: HalfDtype = "bfloat16"
    architecture: Architecture = "skip"

    def __post_init__(self) -> None:
        size = self.img_resolution
        object.__setattr__(self, "img_resolution", (size, size) if isinstance(size, int) else tuple(size))
        if self.start_size is not None:
            object.__setattr__(self, "start_size", tuple(self.start_size))
        self.check_choice("architecture", get_args(Architecture))
        self.check_choice("half_dtype", get_args(HalfDtype))
        self.check_at_least(1, "img_channels", "channel_base", "channel_max")
        self.check_at_least(0, "c_dim", "num_half_res")
        if self.conv_clamp is not None and self.conv_clamp <= 0:
            raise ValueError(f"conv_clamp is {self.conv_clamp}, expected a positive number or None")
        self.levels()

    @property
    def img_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        assert isinstance(self.img_resolution, tuple)
        return self.img_resolution

    def levels(self) -> list[Level]:
        """The network's resolutions, coarse to fine; ValueError if the image does not divide into them."""
        (height, width), doublings = start_size(self.img_size, self.start_size)
        nominal = 2 ** round(log2(height * width) / 2)
        first_half = max(doublings + 1 - self.num_half_res, 1)
        return [
            Level(
                height << i,
                width << i,
                nominal << i,
                min(max(self.channel_base // (nominal << i), 1), self.channel_max),
                i >= first_half,
            )
            for i in range(doublings + 1)
        ]


@dataclass(frozen=True, kw_only=True)
class GeneratorSpec(_NetworkSpec, GeneratorOptions):
    """Everything needed to build a generator again (Karras et al. 2020; defaults of its configuration F).

    For the other fields see `configs.stylegan2.GeneratorOptions`.

    Args:
        mapping_layers: fully connected layers of the mapping network.
        mapping_lr_mul: their learning-rate multiplier.
        w_avg_beta: decay of the mean w.
    """

    mapping_layers: Positive = 8
    mapping_lr_mul: PositiveFloat = 0.01
    w_avg_beta: float = 0.995

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_choice("style_lift", get_args(StyleLift))
        self.check_at_least(1, "w_dim", "mapping_layers", "descriptor_dim", "descriptor_size")
        self.check_at_least(0, "z_dim")
        if not 0 <= self.w_avg_beta < 1:
            raise ValueError(f"w_avg_beta is {self.w_avg_beta}, expected a number from 0 to below 1")


@dataclass(frozen=True, kw_only=True)
class DiscriminatorSpec(_NetworkSpec, DiscriminatorOptions):
    """Everything needed to build a discriminator again.

    Args:
        cmap_dim: length of a conditional one's class embedding, None for the channels of the coarsest level.
        mapping_layers: fully connected layers of the network that computes it.
        mbstd_group_size: samples of a group of the minibatch deviation.
        mbstd_num_channels: channels of the minibatch deviation, 0 for none.
    """

    architecture: Architecture = "resnet"
    cmap_dim: Positive | None = None
    mapping_layers: Positive = 8
    mbstd_group_size: Positive = 4
    mbstd_num_channels: Count = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_at_least(1, "mapping_layers", "mbstd_group_size")
        self.check_at_least(0, "mbstd_num_channels")
        coarsest = self.levels()[0].channels
        if self.mbstd_num_channels and coarsest % self.mbstd_num_channels:
            raise ValueError(
                f"mbstd_num_channels is {self.mbstd_num_channels}, expected a divisor of the {coarsest} "
                "channels of the coarsest level, such as 1"
            )


def start_size(
    img_size: tuple[int, int], requested: tuple[int, int] | None = None
) -> tuple[tuple[int, int], int]:
    """The image's height and width in pixels -> the coarsest level's, and how often they double.

    requested: the coarsest level's size; None halves the image until its shorter side has 4 to 7 pixels.
    Raises ValueError for an image size that does not divide, naming the nearest ones that do.
    """
    text = f"{img_size[0]} x {img_size[1]}"
    if min(img_size) < 2 * _MIN_START and requested is None:
        raise ValueError(f"img_resolution is {text}, expected at least 8 pixels on both sides")
    if requested is not None:
        if min(requested) < 1:
            raise ValueError(f"start_size is {requested}, expected a positive height and width")
        doublings = max((img_size[0] // requested[0]).bit_length() - 1, 0)
        if doublings < 1 or (requested[0] << doublings, requested[1] << doublings) != tuple(img_size):
            near = (max(doublings, 1), max(doublings, 1) + 1)
            fits = " or ".join(f"{requested[0] << n} x {requested[1] << n}" for n in near)
            raise ValueError(
                f"img_resolution {text} is not start_size {requested[0]} x {requested[1]} times a power of "
                f"two: try {fits}, or leave start_size out"
            )
        return requested, doublings
    doublings = (min(img_size) // _MIN_START).bit_length() - 1
    unit = 1 << doublings
    if img_size[0] % unit or img_size[1] % unit:
        smaller, larger = (
            " x ".join(str((side + more) // unit * unit) for side in img_size) for more in (0, unit - 1)
        )
        raise ValueError(
            f"img_resolution {text} is not a power-of-two multiple of a start size with 4 to 7 pixels on its "
            f"shorter side: try {smaller} or {larger} (multiples of {unit}), or give start_size"
        )
    return (img_size[0] // unit, img_size[1] // unit), doublings
