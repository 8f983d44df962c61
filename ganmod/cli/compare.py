"""`ganmod compare`: training runs side by side, by modulation, with every fact that the figures depend on."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from ganmod.cli.common_options import (
    batch_option,
    device_option,
    json_option,
    plugin_option,
    reference_cache_option,
)
from ganmod.cli.image_sets import LIBRARIES, MetricList, check_count, warnings_as_lines
from ganmod.cli.option_checks import check_device, import_plugins, refuse_given
from ganmod.cli.run_arguments import model_files, named_paths, one_file, read_runs, weights_of

if TYPE_CHECKING:
    from ganmod.cli.compare_measures import Outcome
    from training.run_records import RunRecord

PATH = click.Path(exists=True, path_type=Path)
FILE = click.Path(path_type=Path)
TITLES = {"stylegan2": "StyleGAN2", "starganv2": "StarGAN v2", "style": "Style transfer"}
CURVE_POINTS = 40  # of a run's statistics in runs/NAME.json

# Parameters that a kind of comparison does not take: given, they would say what is not so.
NOT_FOR_STYLE_TABLE = (
    "data",
    "metrics",
    "features",
    "num",
    "draws",
    "seed",
    "truncation_psi",
    "equal",
    "allow_differences",
    "batch",
    "reference_cache",
)
STYLE_TABLE_ONLY = ("loss_network", "threads", "pairs")
NOT_FOR_RECIPE = {
    "stylegan2": ("content", "styles", "size", "lpips_weights"),
    "starganv2": ("content", "styles", "size"),
    "style": ("data", "truncation_psi", "lpips_weights"),
}


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1)
@click.option("--name", "named", multiple=True, metavar="NAME=RUN", help="A run, and the name of its row.")
@click.option(
    "--data",
    type=PATH,
    help="Real images of GAN runs: a folder or a zip.",
)
@click.option("--content", type=PATH, help="Photos to stylize, for style-transfer runs.")
@click.option("--styles", type=PATH, multiple=True, help="Style images, likewise; may be repeated.")
@click.option(
    "-o", "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write."
)
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
    "--num",
    type=click.IntRange(2),
    help="Images per draw [default: 5000 at most], sources per domain [100].",
)
@click.option(
    "--draws", type=click.IntRange(1), default=3, show_default=True, help="Disjoint draws of samples per run."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="First seed of samples.")
@click.option(
    "--trunc", "truncation_psi", type=float, default=1.0, show_default=True, help="Truncation psi of all."
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
@device_option()
@json_option
@reference_cache_option
@plugin_option
@click.option("--size", type=click.IntRange(16), default=256, show_default=True, help="Of stylized images.")
@click.option(
    "--style", "style_table", is_flag=True, help="Compare style-transfer models pair by pair: RUN is a model."
)
@click.option("--loss-network", help="With --style: network of the losses [default: ganmod-slim].")
@click.option(
    "--lpips-weights",
    type=FILE,
    help="Weights of LPIPS' network: StarGAN v2, --style.",
)
@click.option("--threads", type=click.IntRange(1), help="With --style: threads, of timing too.")
@click.option("--pairs", type=FILE, help="With --style: list of pairs, read if it exists.")
def compare(
    runs: tuple[str, ...],
    named: tuple[str, ...],
    data: Path | None,
    content: Path | None,
    styles: tuple[Path, ...],
    out: Path,
    metrics: tuple[str, ...],
    features: tuple[str, ...],
    feature_weights: tuple[str, ...],
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
    style_table: bool,
    loss_network: str | None,
    lpips_weights: Path | None,
    threads: int | None,
    pairs: Path | None,
) -> None:
    """Compare training runs of one recipe: run folders, or model files. NAME=RUN names a row.

    Runs that are equal but for their training seed share a row. Runs that differ in what must be equal
    (batch, kimg, resolution, flips, averaging, widths, ...) are refused. Writes comparison.json, table.md,
    table.csv, samples.jpg and report.html; prints the table, last.
    """
    paths = named_paths(runs, named)
    if device != "auto":
        check_device(device)
    if style_table:
        if content is None or not styles:
            raise click.UsageError("--style needs --content and --styles: photos, and style images")
        refuse_given(NOT_FOR_STYLE_TABLE, "is for training runs, not for --style")
        import_plugins(plugin)
        from ganmod.cli.compare_style import compare_style_models

        compare_style_models(
            model_files(paths),
            content=content,
            styles=styles,
            out=out,
            loss_network=loss_network or "ganmod-slim",
            feature_weights=one_file(feature_weights),
            lpips_weights=lpips_weights,
            size=size,
            device=device,
            threads=threads,
            pairs=pairs,
            as_json=as_json,
        )
        return
    refuse_given(STYLE_TABLE_ONLY, "is for --style")
    check_count(num, metrics)
    weights = weights_of(features, feature_weights)

    from ganmod.cli.compare_measures import Measurement, measure_generators, measure_stylized
    from ganmod.cli.compare_translations import measure_translations
    from ganmod.feature_spaces import load_feature_space
    from metrics.comparison import differences, grouped, row_names, unknowns
    from metrics.comparison_report import make_record
    from metrics.machine import describe_machine
    from metrics.process_shares import current_processes
    from training import distributed

    records = read_runs(paths)
    facts = [record.facts for record in records]
    recipe = facts[0].recipe
    refuse_given(NOT_FOR_RECIPE[recipe], f"is not for runs of {TITLES[recipe]}")
    try:
        row_names(grouped(facts))
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    differing = differences(facts, equal=equal)
    if differing and not allow_differences:
        raise click.UsageError(_refusal(differing))
    rank, _, place = distributed.start(device)
    try:
        how = Measurement(
            metrics=metrics,
            spaces=tuple(load_feature_space(name, weights.get(name), device=place) for name in features),
            num=num,
            draws=draws,
            seed=seed,
            truncation_psi=truncation_psi,
            batch=batch,
            device=place,
            processes=current_processes(place),
            use_cache=reference_cache,
            plugin=plugin,
            data=data,
            content=content,
            styles=styles,
            size=size,
            lpips_weights=lpips_weights,
        )
        measure_by_recipe = {
            "stylegan2": measure_generators,
            "starganv2": measure_translations,
            "style": measure_stylized,
        }
        with warnings_as_lines():
            outcome = measure_by_recipe[recipe](records, how)
        if rank == 0:
            record = make_record(
                outcome.runs,
                differing,
                unknowns(facts, equal=equal),
                equal=equal,
                conditions=outcome.conditions,
                notes=outcome.notes,
                machine=describe_machine(place),
                versions={name: version(name) for name in LIBRARIES},
            )
            _write_all(out, record, outcome, records)
            _print(record, out, as_json)
    finally:
        distributed.stop()


def _refusal(differing: Mapping[str, Mapping[str, object]]) -> str:
    lines = [
        f"  {what}: " + ", ".join(f"{run} {value}" for run, value in values.items())
        for what, values in differing.items()
    ]
    return (
        "the runs differ in what must be equal:\n"
        + "\n".join(lines)
        + "\nTrain them alike, or compare them as they are, marked, with --allow-differences"
        + (" (equal time instead of kimg: --equal time)" if "kimg of training" in differing else "")
    )


def _write_all(out: Path, record: Mapping[str, Any], outcome: Outcome, records: Sequence[RunRecord]) -> None:
    """Table, page and pictures; of each row, the first run's samples are shown, and all runs' curves."""
    from metrics.comparison import rows_of
    from metrics.comparison_report import Logs, write_comparison
    from metrics.sample_sheet import sample_sheet

    labels, shown = {}, {}
    for row in rows_of(outcome.runs):
        shown[row.name] = outcome.pictures[row.runs[0].facts.name]
        for facts in (run.facts for run in row.runs):
            which = facts.name if facts.seed is None else f"seed {facts.seed}"
            labels[facts.name] = f"{row.name}, {which}" if len(row.runs) > 1 else row.name
    labelled = {labels[run.facts.name]: run for run in records}
    write_comparison(
        out,
        record,
        sample_sheet(shown, outcome.header),
        {label: Logs(run.stats, run.metrics) for label, run in labelled.items()},
        title=f"{TITLES[record['recipe']]}: modulations compared",
        command=shlex.join(["ganmod", *sys.argv[1:]]),
    )
    _write_runs(out / "runs", labelled)


def _print(record: Mapping[str, Any], out: Path, as_json: bool) -> None:
    """JSON; or what must be said, what the figures depend on, and the table, last."""
    from metrics.comparison_report import stated_facts, statements, to_markdown

    if as_json:
        click.echo(json.dumps(record, indent=1))
        return
    for line in statements(record):
        click.echo(line)
    for name, value in stated_facts(record):
        click.echo(f"{name}: {value}")
    click.echo(f"wrote {out / 'report.html'}, comparison.json, table.md, table.csv, samples.jpg\n")
    click.echo(to_markdown(record))


def _write_runs(folder: Path, records: Mapping[str, RunRecord]) -> None:
    """What others need to repeat the runs: each one's configuration and a thinned copy of its statistics."""
    import yaml

    from training.run_records import without_folders

    folder.mkdir(parents=True, exist_ok=True)
    for label, record in records.items():
        name = re.sub(r"[^0-9A-Za-z._-]+", "_", label)
        if record.config is not None:
            text = yaml.safe_dump(without_folders(record.config), sort_keys=False)
            (folder / f"{name}.yaml").write_text(text)
        curves = {
            "stats": record.stats[:: max(len(record.stats) // CURVE_POINTS, 1)],
            "metrics": record.metrics,
        }
        (folder / f"{name}.json").write_text(json.dumps(curves) + "\n")
