"""The options of `ganmod stylize` for the part of a style to use, and its size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from ganmod.cli.options.paths import InputPath
from ganmod.cli.options.shared import Option, combine_options
from ganmod.io.images import ImageError, read_image
from style_transfer.masks import style_mask
from style_transfer.prepare import MIN_SIDE, crop_style

Rectangle = tuple[int, int, int, int]  # x, y, width, height in pixels of the style's file


class RectangleArgument(click.ParamType):
    """X,Y,W,H -> Rectangle."""

    name = "rectangle"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Rectangle:
        if isinstance(value, tuple):
            return value
        try:
            x, y, width, height = (int(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r}: expected X,Y,W,H in pixels, such as 100,50,400,300", param, ctx)
        return x, y, width, height


style_part_options: Option[Any] = combine_options(
    click.option(
        "--style-crop",
        multiple=True,
        type=RectangleArgument(),
        metavar="X,Y,W,H",
        help="Cut this rectangle, in pixels of its file, out of STYLE first; one per STYLE, or one for all.",
    ),
    click.option(
        "--style-mask",
        multiple=True,
        type=InputPath(dir_okay=False),
        help="Grey picture over STYLE, or over what is cut out of it: only the white counts; one per STYLE, "
        "or one for all. For models that read statistics.",
    ),
    click.option(
        "--style-size",
        type=click.IntRange(MIN_SIDE),
        help="Short side in pixels to which styles are brought; none: the model's. Larger ones give wider "
        "strokes, by less than in proportion. For models that read statistics.",
    ),
)


@dataclass(frozen=True)
class StylePart:
    """The part of a style's image to use: a rectangle, and the white of a mask over it."""

    crop: Rectangle | None = None
    mask: Path | None = None

    def cut(self, image: np.ndarray, path: Path) -> np.ndarray:
        """Crop uint8 [H,W,3] to the rectangle; ImageError, which names the file, if it does not fit."""
        if self.crop is None:
            return image
        try:
            return crop_style(image, self.crop)
        except ImageError as error:
            raise ImageError(f"--style-crop of {path}: {error}") from error

    def read_mask(self, image: np.ndarray) -> np.ndarray | None:
        """The mask of a cropped style, uint8 [H,W,3]; ImageError, which names it, if it does not fit."""
        if self.mask is None:
            return None
        mask = read_image(self.mask)
        try:
            style_mask(mask, *image.shape[:2])
        except ImageError as error:
            raise ImageError(f"--style-mask {self.mask}: {error}") from error
        return mask


WHOLE = StylePart()


def style_parts(
    crops: Sequence[Rectangle], masks: Sequence[Path], num_styles: int, *, folder: bool = False
) -> list[StylePart]:
    """The part of each style, in the order of the command line, --style-at last.

    Args:
        crops: none, one for all styles, or one per style.
        masks: likewise.
        num_styles: number of styles.
        folder: whether the one style is a folder, whose images all get the same part.

    Raises:
        click.UsageError: for another number of rectangles or masks.
    """
    for option, values in (("--style-crop", crops), ("--style-mask", masks)):
        if len(values) not in (0, 1, num_styles):
            of = "a folder" if folder else f"{num_styles} style{'s' if num_styles > 1 else ''}"
            expected = "one for all its images" if folder else "one per style in their order, or one for all"
            raise click.UsageError(f"{option}: got {len(values)} for {of}, expected {expected}")
    return [
        StylePart(
            crops[i % len(crops)] if crops else None,
            masks[i % len(masks)] if masks else None,
        )
        for i in range(num_styles)
    ]
