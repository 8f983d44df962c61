"""`ganmod bench stylize`: memory and time of images at once and in tiles, and frames per second."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click
from tqdm import tqdm

from ganmod.cli.options.checks import check_device
from ganmod.cli.options.shared import timing_options

if TYPE_CHECKING:
    from ganmod.cli.bench.stylize import Measurement, Width

SIZES = (512, 1024, 2048)
FRAMES = {"512": (512, 512), "1080p": (1080, 1920)}


@click.command()
@click.option(
    "--size",
    "sizes",
    type=click.IntRange(16),
    multiple=True,
    help="Side of an image in pixels; repeatable.  [default: 512, 1024, 2048]",
)
@click.option("--width", type=click.Choice(["slim", "full", "all"]), default="slim", show_default=True)
@click.option("--tile", type=click.IntRange(16), help="Side of a tile in pixels; none: what `auto` takes.")
@click.option(
    "--whole-up-to",
    type=click.IntRange(0),
    default=2048,
    show_default=True,
    help="Largest image that is also measured without tiles.",
)
@click.option("--frames/--no-frames", default=True, help="Also frames per second.  [default: yes]")
@timing_options(repeats=1)
def stylize(
    sizes: tuple[int, ...],
    width: str,
    tile: int | None,
    whole_up_to: int,
    frames: bool,
    repeats: int,
    threads: int | None,
    device: str,
    json_file: Path | None,
) -> None:
    """Stylising: memory and time of images, at once and in tiles, and frames per second of clips.

    slim is the shipped model, full has VGG-19's widths and random weights. Every figure is measured in a new
    process.
    """
    check_device(device)
    import torch

    from ganmod.cli.bench import stylize as bench_stylize
    from ganmod.machine import bf16_instructions, describe_machine
    from style_transfer.piecewise.tiled import auto_tile, check_tile

    torch_device = torch.device(device)
    side = tile or auto_tile(torch_device)
    try:
        check_tile(side)
    except ValueError as error:
        raise click.UsageError(f"--tile: {error}") from error
    machine = describe_machine(torch_device)
    if threads:
        machine["cpu"] += f"; {threads} threads for the measurements"
    click.echo("\n".join(f"{key}: {value}" for key, value in machine.items()) + "\n")
    widths = cast("list[Width]", ["slim", "full"] if width == "all" else [width])
    sizes = sizes or SIZES
    precisions = [False, True] if bf16_instructions(torch_device) else [False]
    total = len(widths) * (len(sizes) + sum(size <= whole_up_to for size in sizes))
    total += len(widths) * len(FRAMES) * len(precisions) if frames else 0
    with tqdm(total=total, unit="run", leave=False, disable=None) as bar:
        rows = bench_stylize.measure_images(
            widths,
            sizes,
            tile=side,
            whole_up_to=whole_up_to,
            repeats=repeats,
            threads=threads or 0,
            device=device,
            progress=lambda: (bar.update(), None)[1],
        )
        if frames:
            rows += bench_stylize.measure_frames(
                widths,
                list(FRAMES.values()),
                precisions=precisions,
                repeats=max(repeats, 2),
                threads=threads or 0,
                device=device,
                progress=lambda: (bar.update(), None)[1],
            )
    for row in rows:
        click.echo(_line(row, rows))
    if json_file is not None:
        report = {"machine": machine, "results": [row.to_dict() for row in rows]}
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _line(row: Measurement, rows: list[Measurement]) -> str:
    case = row.case
    name = f"{case.width}, {case.columns} x {case.rows}"
    if case.form == "clip":
        kind = "bfloat16" if case.bfloat16 else "float32"
        speed = f"{row.frames_per_second:6.2f} frames/s"
        return f"  {name:18} clip, {kind:10} {speed}{_processor(row)}{_memory(row)}"
    form = "whole" if case.form == "whole" else f"tiles of {case.tile}"
    whole = [
        i
        for i in rows
        if i.case.form == "whole" and (i.case.width, i.case.rows) == (case.width, case.rows) and i is not row
    ]
    compared = ""
    if whole and case.form == "tiled":
        ratio = whole[0].seconds_min / row.seconds_min
        processor_ratio = whole[0].processor_seconds / max(row.processor_seconds, 1e-9)
        compared = f": 1/{ratio:.2f} of the whole image's time (processor 1/{processor_ratio:.2f})"
        if row.peak_mib and whole[0].peak_mib:
            compared += f", {row.peak_mib / whole[0].peak_mib:.2f} of its memory"
    return f"  {name:18} {form:16} {row.seconds_min:6.2f} s{_processor(row)}{_memory(row)}{compared}"


def _processor(row: Measurement) -> str:
    return f" (processor {row.processor_seconds:.2f} s)"


def _memory(row: Measurement) -> str:
    return "" if row.peak_mib is None else f", peak {row.peak_mib:.0f} MiB"
