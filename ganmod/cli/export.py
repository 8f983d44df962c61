"""`ganmod export`: a trained model as files for other programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from ganmod.cli.options.checks import import_plugins
from ganmod.cli.options.generator import MODEL, check_cutoff, choose_label, load_generator
from ganmod.cli.options.paths import OutputPath, paths_read, refuse_inputs
from ganmod.cli.options.shared import Size, plugin_option, truncation_options
from ganmod.cli.style.arguments import (
    StyleArgument,
    StylePlan,
    WeightedPath,
    style_control_options,
    style_plans,
)
from ganmod.cli.style.parts import Rectangle, style_part_options, style_parts
from ganmod.io.model_file import read_model_header
from ganmod.io.program_file import ExportFormat, ExportOptions, ExportResult, check_export_packages
from ganmod.layers import PaddingMode
from style_transfer.controls import Controls
from style_transfer.model import SHIPPED_MODEL
from style_transfer.prepare import MIN_SIDE

FORMATS = {".onnx": "onnx", ".pt2": "pt2"}


@click.command()
@click.argument("model", required=False, type=MODEL)
@click.option(
    "-o",
    "--out",
    required=True,
    type=OutputPath(),
    help="Folder; or FILE.onnx or FILE.pt2 for one style, or for a StyleGAN2 generator from z to the image.",
)
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["onnx", "pt2"]),
    help="onnx, or pt2: torch.export's, read by torch.export.load.  [default: as FILE's suffix, or onnx]",
)
@click.option("--licence", help="Of the weights, stated in the files.  [default: what MODEL states]")
@truncation_options("FILE of a generator: truncation psi, fixed in it.")
@click.option(
    "--class", "which", metavar="INDEX|NAME", help="FILE of a conditional generator: the class, fixed in it."
)
@click.option(
    "--style",
    multiple=True,
    type=StyleArgument(),
    metavar="STYLE[:WEIGHT]",
    help="FILE of a style model: the style, fixed in it; several are mixed by their weights.",
)
@style_control_options
@style_part_options
@click.option(
    "--padding",
    type=click.Choice(["reflect", "zero"]),
    default="reflect",
    show_default=True,
    help="With --style: zero for runtimes without mirrored borders, such as a phone's; the borders change.",
)
@click.option(
    "--content-size", type=Size(), metavar="WxH", help="With --style: fix the size of the photo, in pixels."
)
@click.option("--stages", is_flag=True, help="A style model as the files from which tiles are computed.")
@plugin_option
def export(
    model: Path | None,
    out: Path,
    file_format: ExportFormat | None,
    licence: str | None,
    truncation_psi: float,
    cutoff: int | None,
    which: str | None,
    style: tuple[WeightedPath, ...],
    style_at: tuple[tuple[tuple[int, ...], Path], ...],
    rotate_style: float,
    style_scale: float,
    style_crop: tuple[Rectangle, ...],
    style_mask: tuple[Path, ...],
    style_size: int | None,
    padding: str,
    content_size: tuple[int, int] | None,
    stages: bool,
    plugin: tuple[str, ...],
) -> None:
    """Write MODEL, or the shipped style model, as files that run without this package.

    A style model: predict (style image -> parameters) and transform (photo, parameters -> picture); with
    --style one FILE that has the style in it. StyleGAN2: mapping and synthesis; one FILE from z to the
    image, with constant noise. StarGAN v2: generator, mapping and style_encoder.

    Every file is run and compared with PyTorch before it is kept, and says what it takes and gives.
    """
    source = model or SHIPPED_MODEL
    is_file = out.suffix.lower() in FORMATS
    chosen: Any = file_format or FORMATS.get(out.suffix.lower(), "onnx")
    if out.is_file() and not is_file:
        raise click.UsageError(f"--out {out} is a file: give a folder, or a name that ends in .onnx or .pt2")
    if content_size and min(content_size) < MIN_SIDE:
        raise click.UsageError(f"--content-size: expected at least {MIN_SIDE} pixels on both sides")
    inside = [path for path in paths_read() if path.resolve().parent == out.resolve()]
    refuse_inputs(out, *(path for path in inside if path.suffix in FORMATS))
    check_export_packages(chosen)
    import_plugins(plugin)
    file = read_model_header(source)
    baked = bool(style or style_at)
    if file.kind != "style-transfer" and (baked or stages):
        raise click.UsageError(
            f"--style and --stages: {source} is a model of kind {file.kind}, not a style model"
        )
    if (padding != "reflect" or content_size) and not baked:
        raise click.UsageError("--padding and --content-size are for --style: give a style")
    options = ExportOptions(
        file_format=chosen,
        licence=licence or file.licence,
        progress=lambda step: click.echo(step, err=True),
    )
    if file.kind == "style-transfer":
        if baked != is_file:
            raise click.UsageError(
                f"--out {out}: with --style a style model is one file, NAME.onnx or NAME.pt2, and without "
                "it a folder"
            )
        if stages and (baked or chosen != "onnx"):
            raise click.UsageError("--stages writes ONNX files: leave out --style and --format pt2")
        if baked:
            parts = style_parts(style_crop, style_mask, len(style) + len(style_at))
            plans = style_plans(style, style_at, (), parts)
            controls = Controls(rotate_style=rotate_style, style_scale=style_scale)
            done = _export_baked(source, plans, controls, style_size, out, options, padding, content_size)
        else:
            done = _export_style_model(source, out, options, stages=stages)
    elif file.kind == "starganv2":
        if is_file:
            raise click.UsageError(f"--out {out}: StarGAN v2 is three files, give a folder")
        from ganmod.starganv2 import load_starganv2
        from ganmod.starganv2.export import export_starganv2

        done = export_starganv2(*load_starganv2(source), out, options)
    else:
        G, class_names = load_generator(source, plugin=plugin, device="cpu")
        check_cutoff(cutoff, G)
        if is_file:
            from ganmod.stylegan2.export import export_generator

            label = choose_label(which, G, class_names)
            done = [
                export_generator(
                    G, out, options, c=label, truncation_psi=truncation_psi, truncation_cutoff=cutoff
                )
            ]
        else:
            from ganmod.stylegan2.export import export_stylegan2

            if which is not None or truncation_psi != 1 or cutoff is not None:
                raise click.UsageError(
                    "--class, --trunc and --cutoff are for FILE: class and truncation are inputs of mapping"
                )
            done = export_stylegan2(G, out, options)
    for result in done:
        batch = "" if result.any_batch else f", batches of one only ({result.reason})"
        click.echo(f"wrote {result.file}: largest difference from PyTorch {result.difference:.2g}{batch}")


def _export_style_model(
    source: Path, out: Path, options: ExportOptions, *, stages: bool
) -> list[ExportResult]:
    import style_transfer
    from style_transfer.export import export_style_model
    from style_transfer.piecewise.stage_files import export_stages

    write = export_stages if stages else export_style_model
    return write(style_transfer.load(source), out, options)


def _export_baked(
    source: Path,
    plans: Sequence[StylePlan],
    controls: Controls,
    style_size: int | None,
    out: Path,
    options: ExportOptions,
    padding: str,
    size: tuple[int, int] | None,
) -> list[ExportResult]:
    import style_transfer
    from style_transfer.export import export_baked_style

    if len(plans) != 1:
        raise click.UsageError(f"--style: got {len(plans)} styles from a folder, expected images to mix")
    model = style_transfer.load(source)
    styled = plans[0].load(model, controls, style_size=style_size)
    params = styled.params(np.zeros((MIN_SIDE, MIN_SIDE, 3), np.uint8))[0]  # the same for every content
    mode: PaddingMode = "zeros" if padding == "zero" else "reflect"
    return [export_baked_style(model, params, out, options, padding=mode, size=size)]
