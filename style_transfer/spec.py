"""What a style-transfer model is made of: the specification in its file."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, get_args

from configs.sections import Positive
from configs.style import StyleArchitecture, StyleNetworkOptions
from ganmod.network_spec import NetworkSpec

TAKE_LEARNED_STYLES = ("residual", "johnson", "stylebank")  # architectures


ModelArchitecture = StyleArchitecture | Literal["cascade"]  # the last is imported, not trained


@dataclass(frozen=True)
class ModelSpec(NetworkSpec, StyleNetworkOptions):
    """Everything needed to rebuild a model; stored in its file. Extends `configs.style.StyleNetworkOptions`.

    Attributes:
        encoder: name of the frozen feature network.
        encoder_widths: its channels at relu1_1 to relu4_1.
        levels: of a cascade, for each level the channels of its encoder's scales, relu1_1 first.
    """

    encoder: str
    encoder_widths: tuple[Positive, Positive, Positive, Positive]
    architecture: ModelArchitecture = field(default="modulated", kw_only=True)  # type: ignore[assignment]
    levels: tuple[tuple[Positive, ...], ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        known = (*get_args(StyleArchitecture), "cascade")
        if self.architecture not in known:
            raise ValueError(f"architecture is {self.architecture!r}, expected one of {', '.join(known)}")
        least = 16 if self.architecture == "residual" else 8
        if self.width < least or self.width % 4 or self.num_blocks < 1:
            raise ValueError(
                f"width is {self.width} and num_blocks {self.num_blocks}, expected a multiple of 4 from "
                f"{least} on and at least one block"
            )
        if self.architecture == "stylebank" and not self.learned_styles:
            raise ValueError("architecture is 'stylebank', expected learned_styles, one name at least")
        if self.learned_styles and self.architecture not in TAKE_LEARNED_STYLES:
            raise ValueError(
                f"architecture is {self.architecture!r}, which reads style images, expected one of "
                f"{', '.join(TAKE_LEARNED_STYLES)} for learned styles"
            )
        if (self.architecture == "cascade") != bool(self.levels) or len(self.levels) > 5:
            raise ValueError(
                f"architecture is {self.architecture!r} with {len(self.levels)} levels, expected 1 to 5 for "
                "a cascade and none for others"
            )
        if any(not 1 <= len(widths) <= 5 for widths in self.levels):
            raise ValueError(
                "levels have no widths, or more than 5, expected one each for relu1_1 to relu5_1"
            )
        name, count = (Counter(self.learned_styles).most_common(1) or [("", 0)])[0]
        if count > 1:
            raise ValueError(f"learned_styles has {name!r} twice, expected each name once")
        for name in self.learned_styles:
            if not (name.strip() and name.isprintable()):
                raise ValueError(f"learned_styles has {name!r}, expected names of visible characters")
        if self.style_image_size % 64 or self.style_image_size <= 0:
            raise ValueError(
                f"style_image_size is {self.style_image_size}, expected a multiple of 64, such as 128 or 256"
            )

    @property
    def sees_whole_styles(self) -> bool:
        """Whether styles may have any size and aspect."""
        return self.architecture != "modulated"

    @property
    def takes_style_masks(self) -> bool:
        """Whether only statistics of styles are read, so that any part of them can count alone."""
        return self.architecture in ("residual", "classic", "johnson") and not self.learned_styles

    def check_takes_masks(self) -> None:
        """Raise ValueError unless `takes_style_masks`."""
        self.check_sees_whole("got a style mask")
        if not self.takes_style_masks:
            raise ValueError(
                f"got a style mask, but the architecture {self.architecture!r} reads all of a style: cut a "
                "rectangle out of the style instead, or take a model of architecture 'residual', 'johnson' "
                "or 'classic'"
            )

    def check_sees_whole(self, what: str) -> None:
        """Raise ValueError, whose message begins with `what`, unless `sees_whole_styles`."""
        if not self.sees_whole_styles:
            size = self.style_image_size
            raise ValueError(
                f"{what}, but the architecture {self.architecture!r} sees styles of {size} x {size} pixels: "
                "leave it out, cut a rectangle out of the style instead, or take a model of architecture "
                "'residual' or 'classic', which reads statistics of any part"
            )
