"""`ganmod stylize`: one pair, a folder of contents x a folder of styles, or a clip."""

from __future__ import annotations

import os
from pathlib import Path

import click
import numpy as np
from tqdm import tqdm

import style_transfer
from ganmod.cli.image_pairs import check_out, results_names, write_grid
from ganmod.cli.option_checks import check_device, import_plugins
from ganmod.cli.stylize_video import (
    ClipOptions,
    check_clip_options,
    clip_options,
    stylize_clip,
    stylize_image,
)
from ganmod.images import ImageError, read_image, write_image
from style_transfer.prepare import MIN_SIDE, interpolate_params


@click.command()
@click.argument("content", type=click.Path(exists=True, path_type=Path))
@click.argument("style", required=False, type=click.Path(exists=True, path_type=Path))
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path), help="Image file, or folder for several."
)
@click.option(
    "--model",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Model file; none: the shipped one.",
)
@click.option(
    "--alpha", type=click.FloatRange(0, 1), default=1.0, show_default=True, help="Strength of the style."
)
@click.option(
    "--size",
    type=click.IntRange(MIN_SIDE),
    help="Short side of the result in pixels; none: as the content.",
)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:N.")
@click.option("--skip-existing", is_flag=True, help="Leave out results that are there already.")
@click.option(
    "--plugin", multiple=True, metavar="PKG.MODULE", help="Import a module that registers modulations."
)
@clip_options
def stylize(
    content: Path,
    style: Path | None,
    out: Path,
    model: Path | None,
    alpha: float,
    size: int | None,
    device: str,
    skip_existing: bool,
    plugin: tuple[str, ...],
    tile: str | None,
    interpolate_styles: tuple[Path, Path] | None,
    seconds: float | None,
    fps: float | None,
    smoothing: float | None,
    blend: float | None,
    precision: str | None,
) -> None:
    """Give CONTENT the style of STYLE. Folders give every pair, and a grid of all.

    A clip (.mp4, .mov, .mkv ...) gives an .mp4 with the clip's sound; one that was stopped goes on when the
    same line is run again.

    An image of a folder that cannot be used is named and left out, and the exit code is then 1. Under
    torchrun, the styles of a folder are shared out over the processes.
    """
    clip = ClipOptions(tile, interpolate_styles, seconds, fps, smoothing, blend, precision)
    if check_clip_options(content, style, out, clip):
        check_device(device)
        import_plugins(plugin)
        if skip_existing and out.exists():
            click.echo(f"{out} was there")
            return
        given = interpolate_styles or ((style,) if style is not None else ())
        network = style_transfer.load(model).to(device)
        stylize_clip(network, content, given, out, alpha=alpha, size=size, options=clip)
        return
    assert style is not None
    contents, styles = results_names(content), results_names(style)
    several = content.is_dir() or style.is_dir()
    check_out(out, content, style, several=several)
    check_device(device)
    import_plugins(plugin)
    network = style_transfer.load(model).to(device)

    rank, num_processes = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    mine = list(styles)[rank::num_processes]
    unusable: dict[Path, ImageError] = {}
    num_written, num_kept = 0, 0
    bar = tqdm(total=len(contents) * len(mine), unit="img", disable=None if several else True)
    for style_file in mine:
        try:
            params = network.predict_style(_read(style_file))  # once per style
        except ImageError as error:
            unusable[style_file] = error
            bar.update(len(contents))
            continue
        for content_file in contents:
            file = out / f"{contents[content_file]}--{styles[style_file]}.png" if several else out
            bar.update()
            if content_file in unusable:
                continue
            if skip_existing and file.exists():
                num_kept += 1
                continue
            try:
                image = _read(content_file)
            except ImageError as error:
                unusable[content_file] = error
                continue
            mixed = params if alpha == 1 else interpolate_params(network.predict_style(image), params, alpha)
            write_image(file, stylize_image(network, image, mixed, size=size, tile=tile))
            num_written += 1
    bar.close()

    if not several and unusable:
        raise next(iter(unusable.values()))
    kept = f" ({num_kept} were there)" if num_kept else ""
    click.echo(f"wrote {num_written} images{kept} to {out}" if several else f"wrote {out}{kept}")
    if several and num_processes == 1 and num_written + num_kept:
        for file in unusable:
            contents.pop(file, None)
            styles.pop(file, None)
        click.echo(f"grid: {write_grid(out, contents, styles)}")
    if unusable:
        raise click.ClickException("left out:\n" + "\n".join(f"  {error}" for error in unusable.values()))


def _read(path: Path) -> np.ndarray:
    """uint8 [H,W,3]; ImageError, which names the file, also for one that is too small for the model."""
    image = read_image(path)
    height, width = image.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise ImageError(f"{path} is {height} x {width} pixels, expected at least {MIN_SIDE} x {MIN_SIDE}")
    return image
