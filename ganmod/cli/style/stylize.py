"""`ganmod stylize`: one picture, a folder of contents x a folder of styles, a sheet, or a clip."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
from tqdm import tqdm

import style_transfer
from configs.visible_text import visible
from ganmod.cli.options.checks import check_device, import_plugins
from ganmod.cli.options.outputs import check_out, report_left_out, results_names, write_grid
from ganmod.cli.options.paths import InputPath, OutputPath, refuse_inputs
from ganmod.cli.options.shared import Number, device_option, plugin_option
from ganmod.cli.options.streams import ContentPath, report_options
from ganmod.cli.style.arguments import (
    StyleArgument,
    StylePlan,
    WeightedPath,
    note_undirected,
    read_usable,
    style_control_options,
    style_plans,
)
from ganmod.cli.style.clip import (
    ClipOptions,
    check_clip_options,
    clip_options,
    first_image,
    make_tile_stylizer,
    stylize_clip,
)
from ganmod.cli.style.parts import Rectangle, StylePart, style_part_options, style_parts
from ganmod.cli.style.sheet import PAGE, SHEET, Sweep, SweepArgument, write_sheet
from ganmod.devices import find_device
from ganmod.distributed import rank_and_world_size
from ganmod.errors import is_memory_error
from ganmod.io.images import ImageError, write_image
from style_transfer.controls import ControlledStyle, Controls, PreserveColor
from style_transfer.prepare import MIN_SIDE


@click.command()
@click.argument("content", type=ContentPath())
@click.argument("style", nargs=-1, type=StyleArgument(), metavar="[STYLE[:WEIGHT]]...")
@click.option(
    "-o",
    "--out",
    required=True,
    type=OutputPath(),
    help="Image file, folder for several, or -.",
)
@click.option(
    "--model",
    type=InputPath(dir_okay=False),
    help="Model file; none: the shipped one.",
)
@click.option(
    "--alpha",
    type=Number(0, 1),
    default=1.0,
    show_default=True,
    help="Strength of the style. 0 is not the photo but the model's drawing of it in its own style, as near "
    "as it comes (the shipped model: 6 % off); between, the parameters of both are mixed.",
)
@style_control_options
@click.option(
    "--mask",
    multiple=True,
    type=InputPath(dir_okay=False),
    help="Where each STYLE goes: grey for two (the first in the white), one colour per STYLE (light to "
    "dark), or one mask per STYLE.",
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
@report_options
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

    STYLE may be builtin:NAME, or learned:NAME for a model of learned styles; CONTENT and --out may be -, for
    pipes. Several STYLEs are mixed, by weights that are normalised to sum 1: a.jpg:0.7 b.jpg:0.3. With
    --mask, each has a region instead.

    A clip (.mp4, .mov, .mkv ...) gives an .mp4 with the clip's sound; run the same command again to continue
    one that was stopped.

    A folder's image that cannot be used is left out, and the exit code is then 1. Under torchrun, the
    processes share the styles of a folder; the first process does everything else.
    """
    controls = Controls(alpha, rotate_style, style_scale, preserve_color)
    clip = ClipOptions(tile, interpolate_styles, seconds, fps, smoothing, blend, precision)
    for_images = {
        "--mask": bool(mask),
        "--preserve-color": preserve_color != "none",
        "--sheet": sheet is not None,
    }
    rank, num_processes = rank_and_world_size()
    style_paths = [s.path for s in style]
    ends = interpolate_styles or ()
    folder = any(path.is_dir() for path in style_paths)
    parts = style_parts(style_crop, style_mask, len(ends or style_paths) + len(style_at), folder=folder)
    if check_clip_options(content, style_paths, out, clip, for_images=for_images, style_at=bool(style_at)):
        plans = _end_plans(ends, parts) if ends else style_plans(style, style_at, (), parts)
        refuse_inputs(out)
        check_device(device)
        import_plugins(plugin)
        if rank > 0:
            return  # only the first process makes a clip, or a sheet
        if skip_existing and out.exists():
            return click.echo(f"{out} was there")
        note_undirected(plans, controls)
        network = style_transfer.load(model).to(find_device(device))
        still = first_image(content)  # with --alpha, its share counts for all frames
        styles = [plan.load(network, controls, style_size=style_size) for plan in plans]
        params = [end.params(still)[0] for end in styles]
        stylize_clip(network, content, params, out, size=size, options=clip)
        return
    if tile is not None and mask:
        raise click.UsageError("--tile and --mask: an image with masks is stylised whole, leave one out")
    contents = results_names(content)
    plans = style_plans(style, style_at, mask, parts)
    several = content.is_dir() or len(plans) > 1 or folder
    check_out(out, several=several or sheet is not None)
    check_device(device)
    import_plugins(plugin)
    if rank > 0 and (sheet is not None or len(plans) == 1):
        return
    if sheet is not None and skip_existing and (out / PAGE).exists():
        return click.echo(f"{out / PAGE} was there")
    network = style_transfer.load(model).to(find_device(device))
    if sheet is not None:
        left_out = write_sheet(
            out,
            network,
            contents,
            plans,
            sheet,
            controls=controls,
            size=size,
            style_size=style_size,
            stylize=make_tile_stylizer(network, tile),
        )
        click.echo(f"wrote {out / SHEET} and {out / PAGE}")
        report_left_out(left_out)
        return
    note_undirected(plans[rank::num_processes], controls)

    def apply(loaded: ControlledStyle, file: Path) -> Any:
        return loaded.apply(
            read_usable(file, short_side=size), size=size, stylize=make_tile_stylizer(network, tile)
        )

    done = _write_pictures(
        plans[rank::num_processes],
        contents,
        lambda plan, name: out / f"{name}--{plan.name}.png" if several else out,
        load=lambda plan: plan.load(network, controls, style_size=style_size),
        apply=apply,
        skip_existing=skip_existing,
        show_progress=several,
    )
    if not several and done.unusable:
        raise next(iter(done.unusable.values()))
    kept = f" ({done.num_kept} were there)" if done.num_kept else ""
    click.echo(f"wrote {done.num_written} images{kept} to {out}" if several else f"wrote {out}{kept}")
    if several and num_processes == 1 and done.num_written + done.num_kept:
        pictures = {plan.picture: plan.name for plan in plans if plan.picture not in done.unusable}
        usable = {file: name for file, name in contents.items() if file not in done.unusable}
        click.echo(f"grid: {write_grid(out, usable, pictures)}")
    report_left_out(done.unusable.values())


class _Done(NamedTuple):
    """Results of `_write_pictures`."""

    num_written: int
    num_kept: int  # there already
    unusable: dict[Path, ImageError]  # photos and style images


def _write_pictures(
    plans: Sequence[StylePlan],
    contents: Mapping[Path, str],
    file_of: Callable[[StylePlan, str], Path],
    *,
    load: Callable[[StylePlan], ControlledStyle],
    apply: Callable[[ControlledStyle, Path], Any],
    skip_existing: bool,
    show_progress: bool,
) -> _Done:
    """Write every content in every style, style by style; images that cannot be used are left out.

    Args:
        plans: the styles.
        contents: {file: name in the results}.
        file_of: (plan, name of a content) -> file of the result.
        load: reads and predicts the styles of a plan.
        apply: (style, file of a content) -> result.
        skip_existing: keep results that exist.
        show_progress: whether to show a progress bar.
    """
    num_written, num_kept = 0, 0
    unusable: dict[Path, ImageError] = {}
    bar = tqdm(total=len(contents) * len(plans), unit="img", disable=None if show_progress else True)
    for plan in plans:
        try:
            loaded = load(plan)
        except ImageError as error:
            unusable[plan.picture] = error
            bar.update(len(contents))
            continue
        for content, name in contents.items():
            bar.update()
            if content in unusable:
                continue
            if skip_existing and file_of(plan, name).exists():
                num_kept += 1
                continue
            try:
                result = apply(loaded, content)
            except (ImageError, MemoryError, RuntimeError) as error:
                unusable[content] = _error_of(content, error)
                continue
            write_image(file_of(plan, name), result)
            num_written += 1
    bar.close()
    return _Done(num_written, num_kept, unusable)


def _error_of(content: Path, error: Exception) -> ImageError:
    """The error of one content, with its name; any other than of the image or of memory is raised."""
    if isinstance(error, ImageError):  # that of a mask's aspect does not name the content
        return error if visible(str(content)) in str(error) else ImageError(f"{content}: {error}")
    if not is_memory_error(error):
        raise error
    return ImageError(f"{content} needs more memory than there is: give a small --size, or --tile auto")


def _end_plans(ends: Sequence[Path], parts: Sequence[StylePart]) -> list[StylePlan]:
    """One plan for each end of a clip that moves from one style to another."""
    return [
        plan
        for end, part in zip(ends, parts, strict=True)
        for plan in style_plans([WeightedPath(end, None)], (), (), [part])
    ]
