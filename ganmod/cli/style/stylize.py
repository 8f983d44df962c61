"""`ganmod stylize`: one picture, a folder of contents x a folder of styles, a sheet, or a clip."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import click
from tqdm import tqdm

import style_transfer
from ganmod.cli.options.checks import check_device, import_plugins
from ganmod.cli.options.outputs import check_out, refuse_inputs, results_names, write_grid
from ganmod.cli.options.shared import device_option, plugin_option
from ganmod.cli.style.arguments import StyleArgument, StyleAt, WeightedPath, read_usable, style_plans
from ganmod.cli.style.clip import (
    ClipOptions,
    by_tiles,
    check_clip_options,
    clip_options,
    first_image,
    stylize_clip,
)
from ganmod.cli.style.parts import Rectangle, style_part_options, style_parts
from ganmod.cli.style.sheet import PAGE, SHEET, Sweep, SweepArgument, write_sheet
from ganmod.devices import find_device
from ganmod.distributed import rank_and_world_size
from ganmod.io.images import ImageError, write_image
from style_transfer.controls import Controls, PreserveColor
from style_transfer.prepare import MIN_SIDE, SCALE_RANGE


@click.command()
@click.argument("content", type=click.Path(exists=True, path_type=Path))
@click.argument("style", nargs=-1, type=StyleArgument(), metavar="[STYLE[:WEIGHT]]...")
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
    "--style-at",
    multiple=True,
    type=StyleAt(),
    metavar="SCALES=FILE",
    help="Style of some scales only, 1 coarse to 4 fine: 1-2=A.jpg. STYLE has the others.",
)
@click.option(
    "--mask",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Where each STYLE goes: grey for two (the first in the white), one colour per STYLE (light to "
    "dark), or one mask per STYLE.",
)
@click.option(
    "--rotate-style", type=float, default=0.0, metavar="DEG", help="Turn the style, anti-clockwise."
)
@click.option(
    "--style-scale",
    type=click.FloatRange(*SCALE_RANGE),
    default=1.0,
    show_default=True,
    help="Width of the strokes.",
)
@click.option(
    "--preserve-color",
    type=click.Choice(["none", "luminance", "coral"]),
    default="none",
    show_default=True,
    help="Keep the content's colours: every pixel's, or all in all.",
)
@click.option(
    "--sheet",
    type=SweepArgument(),
    metavar="CONTROL=V1,V2,...",
    help="A picture and a page of contents x styles x these values of alpha, rotate-style, style-scale or "
    "preserve-color, in the folder --out.",
)
@click.option(
    "--size",
    type=click.IntRange(MIN_SIDE),
    help="Short side of the result in pixels; none: as the content.",
)
@device_option()
@click.option("--skip-existing", is_flag=True, help="Leave out results that are there already.")
@plugin_option
@style_part_options
@clip_options
def stylize(
    content: Path,
    style: tuple[WeightedPath, ...],
    out: Path,
    model: Path | None,
    alpha: float,
    style_at: tuple[tuple[tuple[int, ...], Path], ...],
    mask: tuple[Path, ...],
    rotate_style: float,
    style_scale: float,
    preserve_color: PreserveColor,
    sheet: Sweep | None,
    size: int | None,
    device: str,
    skip_existing: bool,
    plugin: tuple[str, ...],
    style_crop: tuple[Rectangle, ...],
    style_mask: tuple[Path, ...],
    style_size: int | None,
    tile: str | None,
    interpolate_styles: tuple[Path, Path] | None,
    seconds: float | None,
    fps: float | None,
    smoothing: float | None,
    blend: float | None,
    precision: str | None,
) -> None:
    """Give CONTENT the style of STYLE. Folders give every pair, and a grid of all.

    Several STYLEs are mixed, by weights that are normalised to sum 1: a.jpg:0.7 b.jpg:0.3. With --mask, each
    has a region instead.

    A clip (.mp4, .mov, .mkv ...) gives an .mp4 with the clip's sound; one that was stopped goes on when the
    same line is run again.

    An image of a folder that cannot be used is named and left out, and the exit code is then 1. Under
    torchrun, the styles of a folder are shared out over the processes; anything else is done by the first.
    """
    controls = Controls(alpha, rotate_style, style_scale, preserve_color)
    clip = ClipOptions(tile, interpolate_styles, seconds, fps, smoothing, blend, precision)
    for_images = {
        "--mask": bool(mask),
        "--preserve-color": preserve_color != "none",
        "--sheet": sheet is not None,
    }
    rank, num_processes = rank_and_world_size()
    given = [s.path for s in style]
    ends = interpolate_styles or ()
    folder = any(path.is_dir() for path in given)
    parts = style_parts(style_crop, style_mask, len(ends or given) + len(style_at), folder=folder)
    inputs = [content, *given, *ends, *(path for _, path in style_at), *mask, *style_mask]
    if check_clip_options(content, given, out, clip, for_images=for_images, style_at=bool(style_at)):
        if ends:
            mixed = zip(ends, parts, strict=True)
            plans = [
                plan for end, part in mixed for plan in style_plans([WeightedPath(end, None)], (), (), [part])
            ]
        else:
            plans = style_plans(style, style_at, (), parts)
        refuse_inputs(out, *inputs)
        check_device(device)
        import_plugins(plugin)
        if rank > 0:
            return  # a clip is one piece of work, and so is a sheet
        if skip_existing and out.exists():
            click.echo(f"{out} was there")
            return
        network = style_transfer.load(model).to(find_device(device))
        still = first_image(content)  # with --alpha, its share counts for the whole clip
        styles = [plan.load(network, controls, style_size=style_size) for plan in plans]
        params = [end.params(still)[0] for end in styles]
        stylize_clip(network, content, params, out, size=size, options=clip)
        return
    if tile is not None and mask:
        raise click.UsageError("--tile and --mask: an image with masks is stylised whole, leave one out")
    contents = results_names(content)
    plans = style_plans(style, style_at, mask, parts)
    several = content.is_dir() or len(plans) > 1 or folder
    check_out(out, *inputs, several=several or sheet is not None)
    check_device(device)
    import_plugins(plugin)
    if rank > 0 and (sheet is not None or len(plans) == 1):
        return
    if sheet is not None and skip_existing and (out / PAGE).exists():
        click.echo(f"{out / PAGE} was there")
        return
    network = style_transfer.load(model).to(find_device(device))
    if sheet is not None:
        tiles = by_tiles(network, tile)
        left_out = write_sheet(
            out,
            network,
            contents,
            plans,
            sheet,
            controls=controls,
            size=size,
            style_size=style_size,
            stylize=tiles,
        )
        click.echo(f"wrote {out / SHEET} and {out / PAGE}")
        _report(left_out)
        return

    mine = plans[rank::num_processes]
    unusable: dict[Path, ImageError] = {}
    num_written, num_kept = 0, 0
    bar = tqdm(total=len(contents) * len(mine), unit="img", disable=None if several else True)
    for plan in mine:
        try:
            loaded = plan.load(network, controls, style_size=style_size)
        except ImageError as error:
            unusable[plan.picture] = error
            bar.update(len(contents))
            continue
        for content_file in contents:
            file = out / f"{contents[content_file]}--{plan.name}.png" if several else out
            bar.update()
            if content_file in unusable:
                continue
            if skip_existing and file.exists():
                num_kept += 1
                continue
            try:
                result = loaded.apply(read_usable(content_file), size=size, stylize=by_tiles(network, tile))
            except ImageError as error:
                fits = str(content_file) in str(error)  # a mask of another aspect does not know the content
                unusable[content_file] = error if fits else ImageError(f"{content_file}: {error}")
                continue
            write_image(file, result)
            num_written += 1
    bar.close()

    if not several and unusable:
        raise next(iter(unusable.values()))
    kept = f" ({num_kept} were there)" if num_kept else ""
    click.echo(f"wrote {num_written} images{kept} to {out}" if several else f"wrote {out}{kept}")
    if several and num_processes == 1 and num_written + num_kept:
        shown = {plan.picture: plan.name for plan in plans if plan.picture not in unusable}
        for file in unusable:
            contents.pop(file, None)
        click.echo(f"grid: {write_grid(out, contents, shown)}")
    _report(unusable.values())


def _report(unusable: Collection[ImageError]) -> None:
    """click.ClickException with what was left out, if anything was."""
    if unusable:
        raise click.ClickException("left out:\n" + "\n".join(f"  {error}" for error in unusable))
