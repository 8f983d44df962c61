"""`ganmod compare RUN...`: training runs side by side, by modulation, with the conditions of the figures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from ganmod.cli.compare.arguments import (
    FILE,
    PATH,
    comparison_options,
    parse_runs,
    parse_weights,
    read_runs,
)
from ganmod.cli.measure.options import (
    MetricList,
    check_count,
    current_command_line,
    offer_other_space,
    terminal_progress,
    warnings_as_lines,
)
from ganmod.cli.options.checks import check_device, import_plugins, usage_errors
from ganmod.cli.options.paths import refuse_inputs
from ganmod.cli.options.shared import SEED, TRUNCATION, batch_option, reference_cache_option

if TYPE_CHECKING:
    from metrics.compare import RunComparison


@click.command("runs")
@click.option("--data", type=PATH, help="Real images of GAN runs: a folder or a zip.")
@comparison_options
@click.option(
    "--metrics",
    type=MetricList(),
    default="fid",
    show_default=True,
    metavar="LIST",
    help="Some of fid, kid, pr, dc, as in `ganmod fid`.",
)
@click.option(
    "--features",
    multiple=True,
    default=("inception",),
    show_default=True,
    metavar="NAME",
    help="Feature space, as in `ganmod fid`; may be repeated.",
)
@click.option(
    "--feature-weights",
    multiple=True,
    metavar="[NAME=]FILE",
    help="Weights of the one space, or of the space NAME.",
)
@click.option(
    "--lpips-weights",
    type=FILE,
    help="Weights of LPIPS' network: diversity of StarGAN v2, path length of StyleGAN2 (see `ganmod ppl`).",
)
@click.option(
    "--num",
    type=click.IntRange(2),
    help="Images per draw [default: 5000 at most], sources per domain [100].",
)
@click.option(
    "--draws", type=click.IntRange(1), default=3, show_default=True, help="Disjoint draws of samples per run."
)
@click.option("--seed", type=SEED, default=0, show_default=True, help="First seed of samples.")
@click.option(
    "--trunc",
    "truncation_psi",
    type=TRUNCATION,
    default=1.0,
    show_default=True,
    help="Truncation psi of all.",
)
@click.option(
    "--equal",
    type=click.Choice(["kimg", "time"]),
    default="kimg",
    show_default=True,
    help="What the runs must have spent equally, within 2 %.",
)
@click.option(
    "--allow-differences", is_flag=True, help="Mark rows that differ in what must be equal, do not refuse."
)
@batch_option(64)
@reference_cache_option
def runs_command(
    runs: tuple[str, ...],
    named: tuple[str, ...],
    data: Path | None,
    content: Path | None,
    styles: tuple[Path, ...],
    out: Path,
    metrics: tuple[str, ...],
    features: tuple[str, ...],
    feature_weights: tuple[str, ...],
    lpips_weights: Path | None,
    num: int | None,
    draws: int,
    seed: int,
    truncation_psi: float,
    equal: Literal["kimg", "time"],
    allow_differences: bool,
    batch: int,
    device: str,
    as_json: bool,
    reference_cache: bool,
    plugin: tuple[str, ...],
    size: int,
) -> None:
    """Compare training runs of one recipe: run folders, or model files. NAME=RUN names a row.

    Runs that are equal but for their training seed share a row. Runs that differ in what must be equal
    (batch, kimg, resolution, flips, averaging, widths, ...) are refused. Writes comparison.json, table.md,
    table.csv, samples.jpg and report.html; prints the table, last.

    `ganmod compare style` compares style-transfer models pair by pair: see its --help.
    """
    paths = parse_runs(runs, named)
    refuse_inputs(out)
    if device != "auto":
        check_device(device)
    check_count(num, metrics)
    weights = parse_weights(features, feature_weights)
    import_plugins(plugin)

    from ganmod import distributed
    from ganmod.io.user_cache import user_cache_dir
    from ganmod.process_shares import current_processes
    from metrics.compare import RunProtocol, check_runs, compare_runs
    from metrics.features.pretrained import load_feature_space

    records = read_runs(paths)
    protocol = RunProtocol(
        metrics=metrics,
        num=num,
        draws=draws,
        seed=seed,
        batch_size=batch,
        cache_dir=user_cache_dir() if reference_cache else None,
        data=data,
        truncation_psi=truncation_psi,
        content=content,
        styles=styles,
        size=size,
        lpips_weights=lpips_weights,
    )
    with usage_errors():
        check_runs(records, equal=equal, allow_differences=allow_differences)
        protocol.check(records[0].facts.recipe)
    rank, _, torch_device = distributed.start(device)
    try:
        with offer_other_space(features):
            spaces = [load_feature_space(name, weights.get(name), device=torch_device) for name in features]
        protocol = replace(
            protocol,
            spaces=spaces,
            device=torch_device,
            processes=current_processes(torch_device),
            progress=terminal_progress(rank),
        )
        with warnings_as_lines():
            comparison = compare_runs(
                records,
                protocol,
                equal=equal,
                allow_differences=allow_differences,
                command=current_command_line(),
            )
        if rank == 0:
            comparison.write(out)
            _print(comparison, out, as_json)
    finally:
        distributed.stop()


def _print(comparison: RunComparison, out: Path, as_json: bool) -> None:
    """Print JSON; or the notes, the conditions of the figures, and last the table."""
    from metrics.compare.report import condition_rows, statements

    if as_json:
        click.echo(json.dumps(comparison.to_json(), indent=1))
        return
    for line in statements(comparison.record):
        click.echo(line)
    for name, value in condition_rows(comparison.record):
        click.echo(f"{name}: {value}")
    click.echo(f"wrote {out / 'report.html'}, comparison.json, table.md, table.csv, samples.jpg\n")
    click.echo(comparison.table.to_markdown())
