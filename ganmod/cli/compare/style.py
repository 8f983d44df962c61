"""`ganmod compare style`: style-transfer models on one list of pairs, with rotated and mixed styles."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ganmod.cli.compare.arguments import (
    FILE,
    comparison_options,
    model_files,
    parse_picture_folders,
    parse_runs,
    parse_weights_file,
)
from ganmod.cli.measure.options import terminal_progress
from ganmod.cli.options.checks import check_device, import_plugins, usage_errors
from ganmod.cli.options.paths import OutputPath, refuse_inputs

if TYPE_CHECKING:
    from metrics.compare import StyleProtocol


@click.command("style")
@comparison_options
@click.option("--loss-network", default="ganmod-slim", show_default=True, help="Network of the losses.")
@click.option("--feature-weights", multiple=True, metavar="FILE", help="Weights of --loss-network.")
@click.option("--lpips-weights", type=FILE, help="Weights of LPIPS' network, SqueezeNet 1.1.")
@click.option("--threads", type=click.IntRange(1), help="Threads, of timing too.")
@click.option(
    "--pairs",
    "pairs_file",
    type=OutputPath(dir_okay=False),
    help="List of pairs: read if it exists, otherwise written.",
)
@click.option(
    "--pictures",
    multiple=True,
    metavar="NAME=DIR",
    help="A row of another program's pictures, CONTENT--STYLE.png; may be repeated.",
)
@click.option(
    "--optimised",
    type=OutputPath(file_okay=False),
    help="A row of optimised pixels, kept in this folder; minutes for each pair it lacks.",
)
@click.option(
    "--optima",
    type=OutputPath(dir_okay=False),
    help="JSON of optimised pixels' losses, for the gap; minutes for each pair it lacks.",
)
def style_command(
    runs: tuple[str, ...],
    named: tuple[str, ...],
    content: Path | None,
    styles: tuple[Path, ...],
    out: Path,
    size: int,
    device: str,
    as_json: bool,
    plugin: tuple[str, ...],
    loss_network: str,
    feature_weights: tuple[str, ...],
    lpips_weights: Path | None,
    threads: int | None,
    pairs_file: Path | None,
    pictures: tuple[str, ...],
    optimised: Path | None,
    optima: Path | None,
) -> None:
    """Compare style-transfer models, files or run folders, pair by pair. NAME=RUN names a row.

    All models stylize the same pairs: content and style losses, likeness, patches of the style, seconds, and
    how their strokes change when the style is rotated or mixed. Writes comparison.json, pairs.json, table.md,
    table.csv, report.html and pictures; prints the tables.
    """
    folders = parse_picture_folders(pictures)
    paths = parse_runs(runs, named) if runs or named or not (folders or optimised or optima) else []
    if content is None or not styles:
        raise click.UsageError("--content and --styles are needed: photos, and style images")
    refuse_inputs(out)
    if device != "auto":
        check_device(device)
    import_plugins(plugin)

    import torch

    from ganmod.distributed import resolve_device
    from ganmod.io.atomic_write import atomic_write_text
    from metrics.compare import StyleProtocol, compare_style_models
    from metrics.compare.style.pairs import pairs_to_json, read_pairs

    models = model_files(paths)
    protocol = StyleProtocol(
        content=content,
        styles=styles,
        size=size,
        loss_network=loss_network,
        feature_weights=parse_weights_file(feature_weights),
        lpips_weights=lpips_weights,
        pictures=folders,
        optimised=optimised,
        optima=optima,
    )
    with usage_errors():
        protocol.check(models)
    if threads is not None:
        torch.set_num_threads(threads)
    has_list = pairs_file is not None and pairs_file.exists()
    protocol = replace(
        protocol,
        pairs=read_pairs(pairs_file) if pairs_file is not None and has_list else None,
        device=resolve_device(device),
        progress=terminal_progress(rank=0),
    )
    command = _command_line(models, protocol, threads=torch.get_num_threads())
    comparison = compare_style_models(models, protocol, command=command)
    if pairs_file is not None and not has_list:
        atomic_write_text(pairs_file, json.dumps(pairs_to_json(comparison.pairs), indent=1) + "\n")
    comparison.write(out)
    click.echo(f"wrote {out / 'report.html'}, comparison.json, table.md, table.csv, pairs.json", err=True)
    click.echo(json.dumps(comparison.to_json()) if as_json else comparison.to_markdown())


def _command_line(models: Mapping[str, Path], protocol: StyleProtocol, *, threads: int) -> str:
    """A command line that repeats the comparison; files and folders by name only."""
    words = ["ganmod", "compare", "style"]
    words += [word for name, path in models.items() for word in ("--name", f"{name}={path.name}")]
    for name, folder in protocol.pictures.items():
        words += ["--pictures", f"{name}={Path(folder).name}"]
    words += ["--content", Path(protocol.content).resolve().name]
    words += [word for folder in protocol.styles for word in ("--styles", Path(folder).resolve().name)]
    words += ["--loss-network", protocol.loss_network]
    files = {
        "--feature-weights": protocol.feature_weights,
        "--lpips-weights": protocol.lpips_weights,
        "--optimised": protocol.optimised,
        "--optima": protocol.optima,
    }
    for option, file in files.items():
        words += [] if file is None else [option, Path(file).name]
    words += ["--size", str(protocol.size), "--threads", str(threads)]
    return shlex.join([*words, "--pairs", "pairs.json", "-o", "report"])
