"""`ganmod compare`: training runs side by side, by modulation, with every fact that the figures depend on."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import click

from ganmod.cli.measure.image_sets import LIBRARIES, MetricList, check_count, warnings_as_lines
from ganmod.cli.measure.run_arguments import (
    model_files,
    named_paths,
    one_file,
    picture_folders,
    read_runs,
    weights_of,
)
from ganmod.cli.options.checks import check_device, import_plugins, refuse_given
from ganmod.cli.options.shared import (
    batch_option,
    device_option,
    json_option,
    plugin_option,
    reference_cache_option,
)

PATH = click.Path(exists=True, path_type=Path)
FILE = click.Path(path_type=Path)
TITLES = {"stylegan2": "StyleGAN2", "starganv2": "StarGAN v2", "style": "Style transfer"}

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
STYLE_TABLE_ONLY = ("loss_network", "threads", "pairs", "pictures", "optimised", "optima")
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
@click.option(
    "--pictures",
    multiple=True,
    metavar="NAME=DIR",
    help="With --style: a row of another program's pictures, CONTENT--STYLE.png; may be repeated.",
)
@click.option(
    "--optimised",
    type=click.Path(file_okay=False, path_type=Path),
    help="With --style: a row of optimised pixels, kept in this folder; minutes for each pair it lacks.",
)
@click.option(
    "--optima",
    type=FILE,
    help="With --style: JSON of optimised pixels' losses, for the gap; minutes for each pair it lacks.",
)
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
    pictures: tuple[str, ...],
    optimised: Path | None,
    optima: Path | None,
) -> None:
    """Compare training runs of one recipe: run folders, or model files. NAME=RUN names a row.

    Runs that are equal but for their training seed share a row. Runs that differ in what must be equal
    (batch, kimg, resolution, flips, averaging, widths, ...) are refused. Writes comparison.json, table.md,
    table.csv, samples.jpg and report.html; prints the table, last.
    """
    folders = picture_folders(pictures)
    paths = named_paths(runs, named) if runs or named or not (folders or optimised or optima) else []
    if device != "auto":
        check_device(device)
    if style_table:
        if content is None or not styles:
            raise click.UsageError("--style needs --content and --styles: photos, and style images")
        refuse_given(NOT_FOR_STYLE_TABLE, "is for training runs, not for --style")
        import_plugins(plugin)
        from ganmod.cli.compare.style import compare_style_models
        from metrics.compare.style_facts import StyleInputs

        inputs = StyleInputs(
            model_files(paths),
            content=content,
            styles=styles,
            loss_network=loss_network or "ganmod-slim",
            feature_weights=one_file(feature_weights),
            lpips_weights=lpips_weights,
            size=size,
            pictures=folders,
            optimised=optimised,
            optima=optima,
        )
        compare_style_models(inputs, out=out, device=device, threads=threads, pairs=pairs, as_json=as_json)
        return
    refuse_given(STYLE_TABLE_ONLY, "is for --style")
    check_count(num, metrics)
    weights = weights_of(features, feature_weights)

    from ganmod import distributed
    from ganmod.cli.compare.measures import Measurement, measure_generators, measure_stylized
    from ganmod.cli.compare.output import print_comparison, write_all
    from ganmod.cli.compare.translations import measure_translations
    from ganmod.machine import describe_machine
    from ganmod.process_shares import current_processes
    from metrics.compare.report import make_record
    from metrics.compare.runs import differences, grouped, row_names, unknowns
    from metrics.features.pretrained import load_feature_space

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
            title = f"{TITLES[recipe]}: modulations compared"
            write_all(out, record, outcome, records, title=title)
            print_comparison(record, out, as_json)
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
