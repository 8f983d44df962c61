"""What a style-transfer model is made of: the specification in its file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Architecture = Literal["modulated", "classic", "residual"]


@dataclass(frozen=True)
class ModelSpec:
    """Everything needed to build the model again; stored in its file.

    architecture: "modulated" is the paper's, with a style encoder and a modulated convolution at every
    decoder scale; "classic" matches the statistics of relu4_1 and learns the decoder only (Huang & Belongie
    2017); "residual" has a learned content encoder of `width` channels, `num_blocks` modulated residual
    blocks, and a style encoder that reads statistics. style_image_size: side in pixels to which style images
    are brought: with "modulated" a square that is cropped from the middle, else the short side of the whole
    image. style_dim, descriptor_size: the style descriptor W is [style_dim, d, d].
    """

    encoder: str
    encoder_widths: tuple[int, int, int, int]
    architecture: Architecture = "modulated"
    modulation: str = "adaconv"
    modulation_options: Mapping[str, Any] = field(default_factory=dict)
    style_dim: int = 512
    descriptor_size: int = 3
    style_image_size: int = 256
    width: int = 64
    num_blocks: int = 4

    def __post_init__(self) -> None:
        if self.architecture not in get_args(Architecture):
            raise ValueError(
                f"architecture is {self.architecture!r}, expected one of {', '.join(get_args(Architecture))}"
            )
        if self.width < 8 or self.width % 4 or self.num_blocks < 1:
            raise ValueError(
                f"width is {self.width} and num_blocks {self.num_blocks}, expected a multiple of 4 from 8 on "
                "and at least one block"
            )
        if self.style_image_size % 64 or self.style_image_size <= 0:
            raise ValueError(
                f"style_image_size is {self.style_image_size}, expected a multiple of 64, such as 128 or 256"
            )

    @property
    def sees_whole_styles(self) -> bool:
        """Whether styles count through statistics, and so may have any size, aspect and mask."""
        return self.architecture != "modulated"

    def check_sees_whole(self, what: str) -> None:
        """Raise ValueError, which begins with `what` was given, unless `sees_whole_styles`."""
        if not self.sees_whole_styles:
            size = self.style_image_size
            raise ValueError(
                f"{what}, but the architecture {self.architecture!r} sees styles of {size} x {size} pixels: "
                "leave it out, cut a rectangle out of the style instead, or take a model of architecture "
                "'residual' or 'classic', which reads statistics of any part"
            )
