"""The arguments of `ganmod stylize` that say which style goes where: weights, scales, masks."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
from torch import Tensor

from ganmod.cli.options.outputs import results_names
from ganmod.cli.options.paths import InputPath
from ganmod.cli.options.shared import Number, Option, combine_options
from ganmod.cli.options.streams import BUILTIN, draw_builtin
from ganmod.cli.style.parts import WHOLE, StylePart
from ganmod.io.image_decoding import reduce_pixels
from ganmod.io.images import ImageError, read_image
from style_transfer.controls import ControlledStyle, Controls
from style_transfer.masks import make_masks
from style_transfer.mixing import check_scales, normalize_weights, parse_scales
from style_transfer.model import StyleTransferModel
from style_transfer.prepare import MIN_SIDE, SCALE_RANGE

LEARNED = "learned:"


@dataclass(frozen=True)
class LearnedStyle:
    """A STYLE that the model has learned, which is no file; the attributes are those of a path."""

    name: str

    @property
    def stem(self) -> str:
        return self.name

    def is_dir(self) -> bool:
        """False."""
        return False


StyleSource = Path | LearnedStyle


class WeightedPath(NamedTuple):
    """A STYLE argument: FILE, FOLDER or learned:NAME, each with or without :WEIGHT."""

    path: StyleSource
    weight: float | None


class StyleArgument(click.ParamType):
    """FILE, FOLDER, builtin:NAME or learned:NAME, each with or without :WEIGHT -> WeightedPath.

    A file whose name holds a colon is taken as it is.
    """

    name = "style"
    _path = InputPath()

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> WeightedPath:
        if isinstance(value, WeightedPath):
            return value
        text = str(value)
        if text.startswith(LEARNED):
            whole = text.removeprefix(LEARNED)
            name, colon, weight = whole.rpartition(":")
            with contextlib.suppress(ValueError):  # a name with a colon
                return WeightedPath(LearnedStyle(name if colon else whole), float(weight) if colon else None)
            return WeightedPath(LearnedStyle(whole), None)
        if text.startswith(BUILTIN):
            name, colon, weight = text.removeprefix(BUILTIN).partition(":")
            try:
                text = f"{draw_builtin(name)}{colon}{weight}"
            except ValueError as error:
                self.fail(str(error), param, ctx)
        path, colon, weight = text.rpartition(":")
        if not colon or Path(text).exists():
            return WeightedPath(self._path.convert(text, param, ctx), None)
        return WeightedPath(self._path.convert(path, param, ctx), self._weight(weight, text, param, ctx))

    def _weight(
        self, weight: str, text: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            return float(weight)
        except ValueError:
            path = text.rpartition(":")[0]
            self.fail(f"{text!r}: the weight is {weight!r}, expected a number, as in {path}:0.7", param, ctx)


class StyleAt(click.ParamType):
    """SCALES=FILE, or SCALES=learned:NAME -> (scales, style)."""

    name = "style_at"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[tuple[int, ...], StyleSource]:
        if isinstance(value, tuple):
            return value
        scales, equals, path = str(value).partition("=")
        if not equals:
            self.fail(f"{value!r}: expected SCALES=FILE, such as 1-2=painting.jpg", param, ctx)
        try:
            if path.startswith(LEARNED):
                return parse_scales(scales), LearnedStyle(path.removeprefix(LEARNED))
            file = draw_builtin(path) if path.startswith(BUILTIN) else Path(path)
            if not file.is_file():
                self.fail(f"{value!r}: there is no file {path}", param, ctx)
            return parse_scales(scales), file
        except ValueError as error:
            self.fail(f"{value!r}: {error}", param, ctx)


style_control_options: Option[Any] = combine_options(
    click.option(
        "--style-at",
        multiple=True,
        type=StyleAt(),
        metavar="SCALES=FILE",
        help="Style of some scales only, 1 coarse to 4 fine: 1-2=A.jpg. STYLE has the others.",
    ),
    click.option(
        "--rotate-style", type=Number(), default=0.0, metavar="DEG", help="Turn the style, anti-clockwise."
    ),
    click.option(
        "--style-scale",
        type=Number(*SCALE_RANGE),
        default=1.0,
        show_default=True,
        help="Width of the strokes.",
    ),
)


@dataclass(frozen=True)
class StylePlan:
    """The styles of one result. `picture` shows it in grids: the file, if there is only one style."""

    name: str
    styles: tuple[StyleSource, ...]
    weights: tuple[float, ...] | None = None
    at: tuple[tuple[tuple[int, ...], StyleSource], ...] = ()
    masks: Tensor | None = field(default=None, repr=False)
    parts: tuple[StylePart, ...] = ()  # one per file

    @property
    def picture(self) -> Path:
        single = self.styles[0] if len(self.styles) == 1 and not self.at else None
        return single if isinstance(single, Path) else Path(f"mixture {self.name}")

    @property
    def files(self) -> tuple[StyleSource, ...]:
        return (*self.styles, *(path for _, path in self.at))

    def images(self, *, short_side: int | None = None) -> list[np.ndarray | str]:
        """Read and crop the styles; ImageError, which names the file, for one that cannot be used.

        Learned styles are their names. short_side: pixels of each that are needed, as for `read_image`.
        """
        images: list[np.ndarray | str] = []
        for path, part in zip(self.files, self.parts or (WHOLE,) * len(self.files), strict=True):
            if isinstance(path, LearnedStyle):
                if part != WHOLE:
                    raise click.UsageError(f"{LEARNED}{path.name} is no picture of which a part could count")
                images.append(path.name)
                continue
            if part.crop is None:
                images.append(read_usable(path, short_side=short_side))
                continue
            image = part.cut(read_usable(path), path)
            images.append(image if short_side is None else reduce_pixels(image, short_side))
        return images

    def undirected(self) -> list[str]:
        """A line for each style whose strokes have no common direction, so that turning it changes little."""
        from metrics.style.rotation import DIRECTION_SIDE, MIN_COHERENCE, MIN_STRENGTH, style_direction

        try:
            images = self.images(short_side=DIRECTION_SIDE)
            directions = [style_direction(image) for image in images if not isinstance(image, str)]
        except ImageError:  # reported when it is loaded
            return []
        if len(directions) < len(images):  # learned styles, which nothing turns
            return []
        return [
            f"{path.name} has no common direction of strokes to turn: they agree on one by "
            f"{direction.strength:.2f} (with a direction above {MIN_STRENGTH:g}), and "
            f"{direction.coherence:.2f} of what changes in it is directed (above {MIN_COHERENCE:g}). Turning "
            "it may change little"
            for path, direction in zip(self.files, directions, strict=True)
            if not direction.is_common
        ]

    def load(
        self, model: StyleTransferModel, controls: Controls, *, style_size: int | None = None
    ) -> ControlledStyle:
        """Read the styles and predict them; ImageError, which names the file, for one that cannot be used.

        Raises ValueError for masks and a style_size that the model does not take.
        """
        size = style_size or model.spec.style_image_size
        images = self.images(short_side=math.ceil(size * max(controls.style_scale, 1)))
        masks = [
            None if isinstance(image, str) else part.read_mask(image)
            for part, image in zip(self.parts, images, strict=False)
        ]
        return ControlledStyle(
            model,
            images[: len(self.styles)],
            weights=self.weights,
            style_at={
                scales: image for (scales, _), image in zip(self.at, images[len(self.styles) :], strict=True)
            },
            masks=self.masks,
            style_masks=masks,
            style_size=style_size,
            controls=controls,
        )


def note_undirected(plans: Sequence[StylePlan], *controls: Controls) -> list[str]:
    """Print and return `StylePlan.undirected` of all plans, if one of the controls turns them."""
    if not any(c.rotate_style % 360 for c in controls):
        return []
    lines = list(dict.fromkeys(line for plan in plans for line in plan.undirected()))
    for line in lines:
        click.echo(line, err=True)
    return lines


def style_plans(
    styles: Sequence[WeightedPath],
    at: Sequence[tuple[tuple[int, ...], StyleSource]],
    masks: Sequence[Path],
    parts: Sequence[StylePart] = (),
) -> list[StylePlan]:
    """One plan per image of a folder of styles, otherwise a single plan.

    Prints normalised weights, and the mask of each style, to stderr.

    Args:
        styles: images to mix, or one folder.
        at: (scales, file) of --style-at.
        masks: one per style, or one for all.
        parts: of each of `styles` and then of `at`, from `style_parts`; empty: the entire images.

    Raises:
        click.UsageError: for arguments that contradict each other.
    """
    if not styles and not at:
        raise click.UsageError("Missing argument 'STYLE': expected an image, a folder, or --style-at")
    try:
        if at:
            check_scales([scales for scales, _ in at], has_fallback=bool(styles))
        weighted = any(style.weight is not None for style in styles)
        raw_weights = tuple(1.0 if style.weight is None else style.weight for style in styles)
        weights = tuple(normalize_weights(raw_weights)) if styles else ()
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    folders = [style.path for style in styles if isinstance(style.path, Path) and style.path.is_dir()]
    if folders and len(styles) > 1:
        raise click.UsageError(
            f"{folders[0]} is a folder among {len(styles)} styles: give images to mix, or one folder alone"
        )
    if folders and weighted:
        raise click.UsageError(f"{folders[0]} is a folder, of which every image stands alone: no weight")
    if masks and (at or weighted):
        raise click.UsageError("--mask gives every style a region: leave out the weights and --style-at")
    if folders and masks:
        raise click.UsageError(f"--mask needs one STYLE per region, got the folder {folders[0]}: name images")
    if folders:
        return [
            StylePlan(name, (file,), at=tuple(at), parts=tuple(parts))
            for file, name in results_names(folders[0]).items()
        ]

    paths = tuple(style.path for style in styles)
    name = "+".join(dict.fromkeys(path.stem for path in (*paths, *(path for _, path in at))))
    if masks:
        shares = _read_masks(masks, paths)
        return [StylePlan(name, paths, masks=shares, parts=tuple(parts))]
    if (len(paths) > 1 or weighted) and abs(sum(raw_weights) - 1) > 1e-6:
        used = ", ".join(f"{path.name} {w:.3g}" for path, w in zip(paths, weights, strict=True))
        click.echo(f"weights, normalised to sum 1: {used}", err=True)
    return [StylePlan(name, paths, weights=weights if paths else None, at=tuple(at), parts=tuple(parts))]


def _read_masks(masks: Sequence[Path], styles: Sequence[StyleSource]) -> Tensor:
    """[R,H,W] from --mask files; prints the share of each style. UsageError for a wrong number of masks."""
    if len(styles) < 2 or len(masks) not in (1, len(styles)):
        raise click.UsageError(
            f"got {len(styles)} styles and {len(masks)} masks: expected two styles or more, and one --mask "
            "per style or a single one for all"
        )
    images = [read_image(path) for path in masks]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            shares = make_masks(images, len(styles))
        except ImageError as error:
            raise ImageError(f"--mask {', '.join(map(str, masks))}: {error}") from error
    for warning in caught:
        click.echo(f"Warning: --mask {', '.join(map(str, masks))}: {warning.message}", err=True)
    parts = (f"{path.name} {share.mean():.0%}" for path, share in zip(styles, shares, strict=True))
    click.echo(f"regions: {', '.join(parts)}", err=True)
    return shares


def read_usable(path: Path, *, short_side: int | None = None) -> np.ndarray:
    """Read uint8 [H,W,3]; ImageError, which names the file, also for one that is too small for the model.

    short_side: pixels that are needed, as for `read_image`.
    """
    image = read_image(path, short_side=short_side)
    height, width = image.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise ImageError(
            f"{path} is {height} x {width} pixels, expected at least {MIN_SIDE} x {MIN_SIDE}: "
            "give a larger image"
        )
    return image
