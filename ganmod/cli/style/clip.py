"""`ganmod stylize` of clips, of morphs from one style to another, and of images in tiles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ganmod.cli.options.outputs import LeftOut
from ganmod.cli.options.paths import InputPath
from ganmod.cli.options.shared import FRAME_RATE, Number, Option, combine_options
from ganmod.cli.style.arguments import StyleSource
from ganmod.io.animation import check_animation, write_animation
from ganmod.io.clip import CLIP_SUFFIXES, Clip
from ganmod.io.images import read_image
from style_transfer import StyleTransferModel
from style_transfer.piecewise.clip_conversion import convert_clip
from style_transfer.piecewise.tiled import auto_tile, check_tile, stylize_tiled
from style_transfer.piecewise.video import BLEND, SMOOTHING, ClipStylizer, morph

FPS, SECONDS = 25.0, 4.0
AUTO_TILE_FROM = 1024  # pixels of the longer side: below, an image takes little memory anyway
clip_options: Option[Any] = combine_options(
    click.option(
        "--tile",
        metavar="auto|N",
        help="Compute in tiles of N pixels, in little memory and with the same result. auto: where it pays.",
    ),
    click.option(
        "--interpolate-styles",
        nargs=2,
        type=InputPath(dir_okay=False),
        metavar="A B",
        help="Make a clip that goes from style A to style B, of a still or a clip; takes STYLE's place.",
    ),
    click.option(
        "--seconds",
        type=Number(0, 86_400, min_open=True),
        help=f"Length of a still's clip.  [default: {SECONDS:g}]",
    ),
    click.option(
        "--fps",
        type=FRAME_RATE,
        help=f"Frames per second of a still's clip.  [default: {FPS:g}]",
    ),
    click.option(
        "--smoothing",
        type=Number(0, 1, max_open=True),
        help=f"Clips: share of the past in the normalisation's statistics.  [default: {SMOOTHING}]",
    ),
    click.option(
        "--blend",
        type=Number(0, 1, max_open=True),
        help=f"Clips: share of the past where nothing moves; 0 with --smoothing 0: frame by frame.  "
        f"[default: {BLEND}]",
    ),
    click.option(
        "--precision",
        type=click.Choice(["float32", "bfloat16"]),
        help="Clips: numbers to convolve in.  [default: float32]",
    ),
)


@dataclass(frozen=True)
class ClipOptions:
    """The values of `clip_options`; None: not set."""

    tile: str | None
    interpolate_styles: tuple[Path, Path] | None
    seconds: float | None
    fps: float | None
    smoothing: float | None
    blend: float | None
    precision: str | None


def is_clip(path: Path) -> bool:
    """Whether a path has the suffix of a video and is no folder."""
    return path.suffix.lower() in CLIP_SUFFIXES and not path.is_dir()


def check_clip_options(
    content: Path,
    styles: Sequence[StyleSource],
    out: Path,
    options: ClipOptions,
    *,
    for_images: Mapping[str, bool],
    style_at: bool,
) -> bool:
    """Whether the result is a clip; click.UsageError for options that do not apply to it.

    Args:
        for_images: {option: whether it is set} of options that apply only to images.
        style_at: whether --style-at is set.
    """
    morph = bool(options.interpolate_styles)
    clip = is_clip(content)
    if morph and styles:
        raise click.UsageError("give STYLE or --interpolate-styles A B, not both")
    for name in ("seconds", "fps"):
        if getattr(options, name) is not None and (clip or not morph):
            raise click.UsageError(f"--{name} is for --interpolate-styles on a still: leave it out")
    for name in ("smoothing", "blend", "precision"):
        if getattr(options, name) is not None and not clip:
            raise click.UsageError(f"--{name} is for clips, and {content} is none: leave it out")
    parse_tile(options.tile)
    if not (clip or morph):
        return False
    for name, is_set in {**for_images, "--tile": options.tile is not None}.items():
        if is_set:
            raise click.UsageError(f"{name} is for images, and the result is a clip: leave it out")
    if morph and style_at:
        raise click.UsageError(
            "--style-at and --interpolate-styles: each says which style goes where, give one"
        )
    if clip and out.suffix.lower() != ".mp4":
        raise click.UsageError(f"--out {out}: a clip is written as .mp4, try {out.with_suffix('.mp4')}")
    if content.is_dir():
        raise click.UsageError("--interpolate-styles takes one image or clip, not a folder")
    if folders := [style for style in styles if style.is_dir()]:
        raise click.UsageError(f"{folders[0]} is a folder, and a clip takes images as styles: give a file")
    if clip and out.resolve() == content.resolve():
        raise click.UsageError(f"--out {out} is the clip itself: give another name")
    if not clip:
        try:
            check_animation(out)
        except ValueError as error:
            raise click.UsageError(f"--out: {error}") from error
    return True


def parse_tile(text: str | None) -> int | None:
    """auto -> 0, a number of pixels -> itself, None -> None; click.UsageError for anything else."""
    if text is None or text == "auto":
        return None if text is None else 0
    try:
        tile = int(text)
        check_tile(tile)
    except ValueError as error:
        reason = str(error) if text.isdigit() else "expected auto or a number of pixels"
        raise click.UsageError(f"--tile {text}: {reason}") from error
    return tile


def make_tile_stylizer(
    network: StyleTransferModel, tile: str | None
) -> Callable[[Tensor, list[Any]], Tensor] | None:
    """A replacement of `network.apply_params` for --tile, with a progress bar; None without --tile."""
    side = parse_tile(tile)
    if side is None:
        return None

    def stylize(images: Tensor, params: list[Any]) -> Tensor:
        if side == 0 and max(images.shape[2:]) < AUTO_TILE_FROM:
            return network.apply_params(images, params)
        chosen = side or auto_tile(network.feature_rms.device)
        with tqdm(desc="tiles", unit="tile", leave=False, disable=None) as bar:
            return stylize_tiled(network, images, params, tile=chosen, progress=partial(_show, bar))

    return stylize


def first_image(content: Path) -> np.ndarray:
    """The still, or the first frame of the clip, uint8 [H,W,3]."""
    return next(Clip(content).frames()).image if is_clip(content) else read_image(content)


def stylize_clip(
    network: StyleTransferModel,
    content: Path,
    params: Sequence[list[Any]],
    out: Path,
    *,
    size: int | None,
    options: ClipOptions,
) -> None:
    """Write a clip of `content` in one style, or moving from the first style to the second.

    params: of the one style, or of both.
    """
    if is_clip(content):
        _convert(network, content, params, out, size=size, options=options)
        return
    fps = options.fps or FPS
    num_frames = max(round((options.seconds or SECONDS) * fps), 2)
    frames = morph(network, read_image(content), params[0], params[-1], num_frames=num_frames, size=size)
    with tqdm(frames, total=num_frames, unit="frame", disable=None) as bar:
        count = write_animation(out, bar, fps=fps)
    click.echo(f"wrote {out}: {count} frames")


def _convert(
    network: StyleTransferModel,
    content: Path,
    params: Sequence[list[Any]],
    out: Path,
    *,
    size: int | None,
    options: ClipOptions,
) -> None:
    stylizer = ClipStylizer(
        network,
        smoothing=SMOOTHING if options.smoothing is None else options.smoothing,
        blend=BLEND if options.blend is None else options.blend,
        dtype=torch.bfloat16 if options.precision == "bfloat16" else None,
    )
    with tqdm(unit="frame", disable=None) as bar:
        done = convert_clip(
            stylizer,
            content,
            out,
            params[0],
            last_params=params[1] if len(params) > 1 else None,
            size=size,
            progress=partial(_show, bar),
        )
    resumed = f", {done.num_resumed} from before" if done.num_resumed else ""
    click.echo(f"wrote {out}: {done.num_frames} frames{resumed}, {done.sound}")
    if done.notes:
        raise LeftOut("\n".join(done.notes))


def _show(bar: tqdm, done: int, total: int) -> None:
    """Set a progress bar to `done` of `total`."""
    bar.total = total
    bar.update(done - bar.n)
