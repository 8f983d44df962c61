"""`ganmod ppl`: the perceptual path length of a generator."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from ganmod.cli.measure.options import latest_model, print_values, terminal_progress, warnings_as_lines
from ganmod.cli.options.checks import check_device, import_plugins
from ganmod.cli.options.paths import InputPath
from ganmod.cli.options.shared import SEED, batch_option, device_option, json_option, plugin_option

if TYPE_CHECKING:
    from torch import Tensor

    from ganmod.stylegan2 import Generator
    from metrics.images.lpips import Backbone
    from metrics.path_length import PathLength, PathSettings

LIBRARIES = ("ganmod", "torch", "torchvision", "lpips", "numpy")
NUM_PAIRS = 50_000


@click.command()
@click.argument("model", type=InputPath())
@click.option(
    "--num",
    type=click.IntRange(1),
    default=NUM_PAIRS,
    show_default=True,
    help="Pairs of latents, of two images each; published figures are of 50,000.",
)
@click.option("--seed", type=SEED, default=0, show_default=True, help="Seed of the first pair.")
@click.option(
    "--space",
    type=click.Choice(["w", "z"]),
    default="w",
    show_default=True,
    help="Where a step is taken: on a line in w, or on the sphere of z.",
)
@click.option(
    "--sampling",
    type=click.Choice(["end", "full"]),
    default="end",
    show_default=True,
    help="Steps from the first latent of a pair, or from anywhere between the two.",
)
@click.option("--crop", is_flag=True, help="Measure only the part that shows an aligned face, as StyleGAN.")
@click.option(
    "--network",
    type=click.Choice(["squeeze", "alex", "vgg"]),
    default="squeeze",
    show_default=True,
    help="Network of LPIPS; published figures are of vgg.",
)
@click.option(
    "--lpips-weights",
    type=InputPath(exists=False),
    help="Its weights, see `ganmod weights`.  [default: torch's cache folder]",
)
@click.option("--class", "which", metavar="INDEX|NAME", help="One class of a conditional model.")
@click.option(
    "--data",
    type=InputPath(),
    help="Data set from which the labels of a conditional model are drawn, without --class.",
)
@batch_option(4, "Pairs at a time.")
@device_option()
@json_option
@plugin_option
def ppl(
    model: Path,
    num: int,
    seed: int,
    space: Literal["w", "z"],
    sampling: Literal["end", "full"],
    crop: bool,
    network: Backbone,
    lpips_weights: Path | None,
    which: str | None,
    data: Path | None,
    batch: int,
    device: str,
    as_json: bool,
    plugin: tuple[str, ...],
) -> None:
    """How far an image of the generator in MODEL moves, perceptually, under a small step between two latents.

    MODEL is a model file of StyleGAN2, or a run folder, whose latest model counts. The result is the mean of
    LPIPS / epsilon^2 over pairs, epsilon = 0.0001, without the lowest and the highest 1 %; pair i is of seed
    + i. Lower is smoother. Only figures of one network and of equal settings can be compared; with --network
    vgg and the other options left out it is the published `ppl2_wend`. Under torchrun (as for `ganmod fid`),
    the processes share the pairs.
    """
    from ganmod import distributed
    from ganmod.process_shares import current_processes
    from ganmod.stylegan2.stylegan2_file import read_stylegan2
    from metrics.images.lpips import MIN_SIZE, default_weights, load_lpips
    from metrics.path_length import PathSettings, measure_path_length

    if device != "auto":
        check_device(device)
    import_plugins(plugin)
    model = latest_model(model)
    # In full precision: the step is smaller than the spacing of half-precision numbers.
    G, class_names = read_stylegan2(model, half_precision=False)
    measured = min(G.img_resolution) // (2 if crop else 1)
    if measured < MIN_SIZE:
        part = "--crop leaves" if crop else "the model's images have"
        raise click.UsageError(f"{part} {measured} pixels a side, but LPIPS needs at least {MIN_SIZE}")
    labels = _labels(which, data, G, class_names)
    settings = PathSettings(space=space, sampling=sampling, crop=crop)
    lpips = load_lpips(lpips_weights or default_weights(network), network=network)
    rank, _, torch_device = distributed.start(device)
    try:
        with warnings_as_lines():
            length = measure_path_length(
                G.to(torch_device),
                lpips.to(torch_device),
                num,
                settings=settings,
                labels=labels,
                seed=seed,
                batch_size=batch,
                processes=current_processes(torch_device),
                progress=terminal_progress(rank),
            )
        if rank == 0:
            drawn = None if labels is None else f"class {which}" if data is None else f"drawn from {data}"
            conditions = _conditions(model, G, settings, drawn, num=num, seed=seed, network=network)
            notes = _notes(settings, num=num, network=network)
            _report(f"ppl_{network}", length, conditions, notes, as_json=as_json)
    finally:
        distributed.stop()


def _labels(
    which: str | None, data: Path | None, G: Generator, class_names: tuple[str, ...]
) -> Tensor | None:
    """The labels of the pairs: those of a data set, or of one class; click.UsageError where none fits."""
    from ganmod.cli.options.generator import choose_label
    from metrics.image_sets.sources import read_labels

    if data is None:
        return choose_label(which, G, class_names)
    if which is not None:
        raise click.UsageError("--class and --data both say which labels: leave one out")
    if not G.c_dim:
        raise click.UsageError("--data gives labels, but the model is unconditional: leave it out")
    return read_labels(data, c_dim=G.c_dim)


def _conditions(
    model: Path,
    G: Generator,
    settings: PathSettings,
    labels: str | None,
    *,
    num: int,
    seed: int,
    network: Backbone,
) -> dict[str, Any]:
    """Everything that two values must share to be comparable."""
    height, width = G.img_resolution
    return {
        "model": str(model),
        "num_pairs": num,
        "seeds": f"{seed}-{seed + num - 1}",
        "space": settings.space,
        "sampling": settings.sampling,
        "epsilon": settings.epsilon,
        "crop": settings.crop,
        "image_size": f"{width}x{height}",
        "lpips": f"v0.1, {network}",
        "noise": "random, of the seed, the same in both images of a pair",
        "labels": labels,
    }


def _notes(settings: PathSettings, *, num: int, network: Backbone) -> list[str]:
    notes = []
    if network != "vgg":
        notes.append("published figures are of LPIPS with VGG-16 (--network vgg): not comparable with these")
    if num < NUM_PAIRS:
        notes.append(f"published figures are of {NUM_PAIRS:,} pairs")
    if settings.crop and settings.space == "w":
        notes.append("StyleGAN2's figures are without --crop, StyleGAN's with it")
    return notes


def _report(
    name: str, length: PathLength, conditions: dict[str, Any], notes: list[str], *, as_json: bool
) -> None:
    """Print the figure and everything that it depends on, as lines or JSON."""
    if as_json:
        report = {
            "metrics": {name: length.value},
            "standard_error": length.standard_error if conditions["num_pairs"] > 1 else None,
            "num_kept": length.num_kept,
            "settings": conditions,
            "versions": {library: version(library) for library in LIBRARIES},
            "warnings": notes,
        }
        click.echo(json.dumps(report, indent=1))
        return
    print_values({name: length.value})
    if conditions["num_pairs"] > 1:
        click.echo(f"standard error {length.standard_error:.3g}, {length.num_kept:,} pairs after trimming")
    for key, value in conditions.items():
        if value is not None:
            click.echo(f"{key}: {value}")
    for note in notes:
        click.echo(f"note: {note}")
