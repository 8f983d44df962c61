"""`ganmod bench`: speed against an alternative, side by side, as ratios."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

from ganmod.cli.bench import stylize_command as bench_stylize
from ganmod.cli.options.checks import check_device
from ganmod.cli.options.shared import Number, batch_option, timing_options

if TYPE_CHECKING:
    from ganmod.cli.bench.style import Comparison
    from ganmod.cli.bench.timing import Advance

LOSS_TOLERANCE = 0.01
STYLE_DIMS = {"full": 512, "slim": 128}
PARTS = ("iteration", "op", "stylize")


@click.group()
def bench() -> None:
    """Measure speed: every number is a ratio to an alternative measured in the same run."""


bench.add_command(bench_stylize.stylize)


@bench.command()
@click.option("--part", type=click.Choice([*PARTS, "all"]), default="all", show_default=True)
@click.option(
    "--size",
    type=click.IntRange(64),
    default=256,
    show_default=True,
    help="Side of the images in pixels, a multiple of 64.",
)
@batch_option(8, "Images per training iteration.")
@click.option(
    "--width",
    type=click.Choice(list(STYLE_DIMS)),
    default="full",
    show_default=True,
    help="Networks and scales as wide as VGG-19, or a quarter.",
)
@click.option(
    "--compile/--no-compile", "compiled", default=True, help="Measure the op compiled, too.  [default: yes]"
)
@timing_options(repeats=5)
def style(
    part: str,
    size: int,
    batch: int,
    width: str,
    repeats: int,
    threads: int | None,
    device: str,
    compiled: bool,
    json_file: Path | None,
) -> None:
    """Style transfer: a training iteration, the AdaConv op and stylising with cached parameters.

    The alternatives: training in float32, with one convolution per sample and everything encoded apart; a
    loop over samples, depthwise, then pointwise; predicting the parameters for every image. The networks
    have random weights. Ends with code 1 if losses of a training iteration differ by more than 1 %.
    """
    if size % 64:
        raise click.UsageError(f"--size {size} is not a multiple of 64: try {size // 64 * 64 or 64}")
    check_device(device)
    import torch

    from ganmod.machine import describe_machine

    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads or threads_before)
    try:
        machine = describe_machine(torch.device(device))
        click.echo("\n".join(f"{key}: {value}" for key, value in machine.items()) + "\n")
        rows = _run(PARTS if part == "all" else (part,), size, batch, width, repeats, device, compiled)
    finally:
        torch.set_num_threads(threads_before)
    if json_file is not None:
        report = {"machine": machine, "results": [row.to_dict() for row in rows]}
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    apart = [row for row in rows if row.part == "iteration" and not row.deviation <= LOSS_TOLERANCE]
    if apart:
        raise click.ClickException(
            "; ".join(f"{row.case}: losses {row.deviation:.2%} apart, expected at most 1 %" for row in apart)
        )


def _run(
    parts: tuple[str, ...], size: int, batch: int, width: str, repeats: int, device_name: str, compiled: bool
) -> list[Comparison]:
    """Measure and print each part."""
    import torch

    from ganmod.cli.bench import style as bench_style
    from ganmod.machine import bf16_instructions
    from style_transfer import load
    from style_transfer.model import SHIPPED_MODEL

    widths, style_dim = bench_style.WIDTHS[width], STYLE_DIMS[width]
    device = torch.device(device_name)
    common: dict[str, Any] = {"size": size, "repeats": repeats, "device": device}
    rows: list[Comparison] = []
    if "iteration" in parts:
        dtypes = [torch.float32, *([torch.bfloat16] if bf16_instructions(device) else [])]
        click.echo(f"A training iteration, {width} width, AdaConv, random weights")
        with _progress_bar("iteration", (repeats + 1) * (len(dtypes) + 1)) as progress:
            results = bench_style.compare_iteration(
                widths=widths, style_dim=style_dim, batch=batch, dtypes=dtypes, progress=progress, **common
            )
        rows += _print(results)
        if len(dtypes) == 1:
            click.echo("  bfloat16: left out, the processor has no instructions for it")
    if "op" in parts:
        click.echo("The AdaConv op, forward and backward")
        for mode in (False, True) if compiled else (False,):
            with _progress_bar("compiled op" if mode else "eager op", 4 * 2 * (repeats + 1)) as progress:
                results = bench_style.compare_op(widths=widths, compiled=mode, progress=progress, **common)
            rows += _print(results)
    if "stylize" in parts:
        click.echo("Stylising with cached parameters")
        models = {
            f"random, {width}": lambda: bench_style.random_model(widths, style_dim=style_dim, size=size)
        }
        if SHIPPED_MODEL.is_file():
            models["shipped"] = load
        for name, make in models.items():
            with _progress_bar(name, 1 + 2 * repeats) as progress:
                results = bench_style.compare_stylize(make(), name, progress=progress, **common)
            rows += _print(results)
    return rows


@contextlib.contextmanager
def _progress_bar(name: str, total: int) -> Iterator[Advance]:
    """A progress bar on stderr (on a terminal only); yields the function that advances it."""
    bar = tqdm(total=total, desc=name, unit="run", leave=False, disable=None)
    try:
        yield lambda: (bar.update(), None)[1]
    finally:
        bar.close()


def _print(rows: list[Comparison]) -> list[Comparison]:
    for row in rows:
        click.echo(
            f"  {row.case:42}  {row.a} {row.a_min_ms:.1f} / {row.a_median_ms:.1f} ms, "
            f"{row.b} {row.b_min_ms:.1f} / {row.b_median_ms:.1f} ms (min / median): "
            f"{row.ratio_min:.2f}x / {row.ratio_median:.2f}x, apart by {row.deviation:.1e}"
        )
    return rows


@bench.command()
@click.option(
    "--modulation",
    "modulations",
    multiple=True,
    help="Repeatable.  [default: weight_demod, adain, adaconv]",
)
@click.option("--config", default="stylegan2-auto", show_default=True, metavar="NAME|PATH")
@click.option(
    "--size", type=click.IntRange(8), default=64, show_default=True, help="Side of the images in pixels."
)
@click.option(
    "--batch",
    type=click.IntRange(1),
    help="Images per step.  [default: 8, or that of --config]",
)
@click.option("--channel-max", type=click.IntRange(1), help="[default: 128, or that of --config]")
@click.option("--aug", type=click.Choice(["none", "ada", "diffaugment"]), default="none", show_default=True)
@click.option("--compile/--no-compile", "compiled", default=True, help="Also compiled.  [default: yes]")
@timing_options(repeats=3)
def stylegan2(
    modulations: tuple[str, ...],
    config: str,
    size: int,
    batch: int | None,
    channel_max: int | None,
    aug: str,
    repeats: int,
    threads: int | None,
    device: str,
    compiled: bool,
    json_file: Path | None,
) -> None:
    """StyleGAN2: a training step of each modulation, plain against channels-last, bfloat16 and compiled.

    A step counts R1 and path length by their share. Random images and weights.
    """
    check_device(device)
    import torch

    from ganmod.cli.bench.stylegan2 import VARIANTS, compare_steps
    from ganmod.machine import bf16_instructions, describe_machine

    names = modulations or ("weight_demod", "adain", "adaconv")
    if config == "stylegan2-auto":
        batch, channel_max = batch or 8, channel_max or 128
    settings: dict[str, Any] = {"augmentation.kind": aug}
    if batch is not None:
        settings["schedule.batch_size"] = batch
    if channel_max is not None:
        settings["model.channel_max"] = channel_max
    has_bf16 = bool(bf16_instructions(torch.device(device)))
    variants = [
        v for v in VARIANTS if (compiled or not v.compiled) and (has_bf16 or v.precision != "bfloat16")
    ]
    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads or threads_before)
    try:
        machine = describe_machine(torch.device(device))
        click.echo("\n".join(f"{key}: {value}" for key, value in machine.items()) + "\n")
        with _progress_bar("steps", len(names) * len(variants) * (repeats + 1)) as progress:
            rows = compare_steps(
                names,
                variants,
                preset=config,
                size=size,
                settings=settings,
                repeats=repeats,
                device=torch.device(device),
                progress=progress,
            )
    finally:
        torch.set_num_threads(threads_before)
    plain = {row.modulation: row.step for row in rows if row.variant == VARIANTS[0].name}
    given = ", ".join(f"{key} {value}" for key, value in settings.items())
    click.echo(f"{config}, {size} px, {given}; medians")
    for row in rows:
        phases = ", ".join(f"{name} {seconds:.3f}" for name, seconds in row.phases.items())
        peak = "" if row.peak_mib is None else f", {row.peak_mib:.0f} MiB"
        click.echo(
            f"  {row.modulation:14} {row.variant:20} step {row.step:.3f} s ({phases}), "
            f"{row.seconds_per_kimg:.1f} s/kimg{peak}: {plain[row.modulation] / row.step:.2f}x plain"
        )
    if json_file is not None:
        report = {"machine": machine, "results": [row.to_dict() for row in rows]}
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


@bench.command()
@click.option(
    "--modulation",
    "modulations",
    multiple=True,
    help="Repeatable.  [default: adain, weight_demod, adaconv]",
)
@click.option(
    "--size", type=click.IntRange(16), default=256, show_default=True, help="Side of the images in pixels."
)
@batch_option(4, "Images per iteration.")
@click.option(
    "--channels",
    type=click.IntRange(1),
    default=16,
    show_default=True,
    help="Width of the first level, 64 as published, doubled at every halving of the image.",
)
@click.option(
    "--channel-max", type=click.IntRange(1), default=128, show_default=True, help="512 as published."
)
@click.option("--w-hpf", type=Number(0), default=0.0, show_default=True, help="1 as for CelebA-HQ.")
@timing_options(repeats=3)
def starganv2(
    modulations: tuple[str, ...],
    size: int,
    batch: int,
    channels: int,
    channel_max: int,
    w_hpf: float,
    repeats: int,
    threads: int | None,
    device: str,
    json_file: Path | None,
) -> None:
    """StarGAN v2: a training iteration of each modulation against its obvious form.

    That one is float32, NCHW, calls each network where the published losses name it, resamples apart from the
    convolutions and runs AdaConv sample by sample. Random images and weights. Ends with code 1 if losses
    differ by more than 1 %.
    """
    check_device(device)
    import torch

    from ganmod.cli.bench.starganv2 import compare_iterations
    from ganmod.machine import bf16_instructions, describe_machine

    names = modulations or ("adain", "weight_demod", "adaconv")
    settings: dict[str, Any] = {
        "model.img_size": size,
        "model.channel_base": channels * size,
        "model.channel_max": channel_max,
        "model.w_hpf": w_hpf,
        "schedule.batch_size": batch,
    }
    forms = ["float32", *(["bfloat16"] if bf16_instructions(torch.device(device)) else [])]
    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads or threads_before)
    try:
        machine = describe_machine(torch.device(device))
        click.echo("\n".join(f"{key}: {value}" for key, value in machine.items()) + "\n")
        with _progress_bar("iterations", len(names) * (len(forms) + 1) * (repeats + 1)) as progress:
            rows = compare_iterations(
                names,
                forms=forms,
                settings=settings,
                repeats=repeats,
                device=torch.device(device),
                progress=progress,
            )
    finally:
        torch.set_num_threads(threads_before)
    click.echo(f"{size} px, batch {batch}, {channels} to {channel_max} channels; min / median")
    for row in rows:
        peak = "" if row.peak_mib is None else f", peak {row.peak_mib:.0f} MiB"
        click.echo(
            f"  {row.modulation:14} {row.form:10} {row.min_ms:.0f} / {row.median_ms:.0f} ms: "
            f"{row.ratio_min:.2f}x / {row.ratio_median:.2f}x{peak}, losses apart by {row.deviation:.1e}"
        )
    if json_file is not None:
        report = {"machine": machine, "settings": settings, "results": [row.to_dict() for row in rows]}
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    apart = [row for row in rows if not row.deviation <= LOSS_TOLERANCE]
    if apart:
        raise click.ClickException(
            "; ".join(
                f"{row.modulation}, {row.form}: losses {row.deviation:.2%} apart, expected at most 1 %"
                for row in apart
            )
        )
