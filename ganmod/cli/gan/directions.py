"""`ganmod directions`: a picture of the directions in w that a generator's layers react to most."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import torch
from tqdm import tqdm

from ganmod.cli.options.generator import MODEL, Ranges, check_cutoff, choose_label, load_generator
from ganmod.cli.options.outputs import check_picture_name
from ganmod.cli.options.paths import OutputPath, refuse_inputs
from ganmod.cli.options.shared import Number, batch_option, device_option, plugin_option, truncation_options
from ganmod.data.seeding import seed_latents
from ganmod.io.images import make_grid, write_image
from ganmod.stylegan2.directions import check_layers, edit_latents, find_directions
from ganmod.stylegan2.sampling import map_latents, render_in_batches


@click.command()
@click.argument("model", type=MODEL)
@click.option("-o", "--out", type=OutputPath(dir_okay=False), required=True, help="Picture to write.")
@click.option(
    "--count", type=click.IntRange(1, 100), default=5, show_default=True, help="Directions, strongest first."
)
@click.option(
    "--layers",
    type=Ranges(),
    metavar="LAYERS",
    help="Layers to look at and to edit, e.g. 0-3: all without it.",
)
@click.option(
    "--seeds", type=Ranges(), default="0-1", show_default=True, metavar="SEEDS", help="Images to edit."
)
@click.option(
    "--strength",
    type=Number(0.01, 100),
    default=3.0,
    show_default=True,
    help="How far to go to both sides, in standard deviations of w.",
)
@click.option(
    "--steps", type=click.IntRange(2, 31), default=5, show_default=True, help="Images along a direction."
)
@truncation_options("Truncation psi of the images that are edited.", default=0.7)
@click.option("--class", "which", metavar="INDEX|NAME", help="Class, for a conditional model.")
@batch_option(8)
@device_option()
@plugin_option
def directions(
    model: Path,
    out: Path,
    count: int,
    layers: list[int] | None,
    seeds: list[int],
    strength: float,
    steps: int,
    truncation_psi: float,
    cutoff: int | None,
    which: str | None,
    batch: int,
    device: str,
    plugin: tuple[str, ...],
) -> None:
    """Directions in w that change most of what the layers of MODEL receive, in closed form (SeFa).

    A block of rows for each direction, a row for each seed; from the left to the right, the strength rises
    from -STRENGTH to STRENGTH. `ganmod generate --edit INDEX:STRENGTH` makes single images.
    """
    check_picture_name("--out", out)
    refuse_inputs(out)
    G, class_names = load_generator(model, plugin=plugin, device=device)
    c = choose_label(which, G, class_names)
    check_cutoff(cutoff, G)
    try:
        chosen = check_layers(G, layers)
        found = find_directions(G, layers=layers, num=count)
    except ValueError as error:
        raise click.UsageError(f"--layers, --count: {error}") from error
    ws = map_latents(
        G, seed_latents(seeds, G.z_dim), c, truncation_psi=truncation_psi, truncation_cutoff=cutoff
    )
    strengths = np.linspace(-strength, strength, steps)
    edited = torch.cat(
        [
            edit_latents(ws[i : i + 1], found, index, float(amount), layers=chosen)
            for index in range(count)
            for i in range(len(seeds))
            for amount in strengths
        ]
    )
    noise_seeds = [seed for _ in range(count) for seed in seeds for _ in strengths]
    images = list(
        tqdm(
            render_in_batches(G, edited, batch_size=batch, seeds=noise_seeds),
            total=len(edited),
            unit="img",
            disable=None,
        )
    )
    rows: list[list[np.ndarray | None]] = [
        [*images[start : start + steps]] for start in range(0, len(images), steps)
    ]
    write_image(out, make_grid(rows, column_labels=[f"{amount:+.2g}" for amount in strengths]))
    for index, change in enumerate(found.changes.tolist()):
        click.echo(f"direction {index}: {change:.1%} of all changes")
    click.echo(f"wrote {out}")
