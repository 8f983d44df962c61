"""`ganmod generate`: images of a trained generator, style mixing, walks through its latent space."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ganmod.cli.options.generator import MODEL, EditType, Ranges, check_cutoff, choose_label, load_generator
from ganmod.cli.options.outputs import check_picture_name
from ganmod.cli.options.paths import InputPath, OutputPath, refuse_inputs
from ganmod.cli.options.shared import (
    FRAME_RATE,
    FRAMES_PER_STEP,
    batch_option,
    device_option,
    plugin_option,
    truncation_options,
)
from ganmod.data.seeding import seed_latents
from ganmod.io.animation import check_animation, write_animation
from ganmod.io.images import IMAGE_SUFFIXES, make_grid, read_image, write_image
from ganmod.stylegan2 import Generator, NoiseMode
from ganmod.stylegan2.directions import check_layers, edit_latents, find_directions
from ganmod.stylegan2.latent_file import load_latents
from ganmod.stylegan2.sampling import (
    Curve,
    map_latents,
    mix_layers,
    render,
    render_in_batches,
    walk_parameters,
    walk_w,
    walk_z,
)

GRID_GAP = 2
SEEDS = Ranges()


@click.command()
@click.argument("model", type=MODEL)
@click.option("--seeds", type=SEEDS, metavar="SEEDS", help="One image per seed, e.g. 0-63 or 1,4,8-11.")
@click.option(
    "--style-mix",
    nargs=3,
    type=SEEDS,
    metavar="ROWS COLS LAYERS",
    help="Grid of row seeds x column seeds, with the column's style in LAYERS, e.g. 0-3 10-15 0-6.",
)
@click.option("--interpolate", type=SEEDS, metavar="SEEDS", help="A closed walk from seed to seed.")
@click.option(
    "--ws",
    "ws_file",
    type=InputPath(dir_okay=False),
    help="Images of latents in a .npz or .safetensors, such as `ganmod project` writes.",
)
@click.option(
    "-o",
    "--out",
    type=OutputPath(),
    help="Folder for images; picture of --style-mix; .mp4, .gif, .webp or folder of --interpolate.",
)
@click.option("--grid", type=OutputPath(dir_okay=False), help="All images in one picture.")
@truncation_options("Truncation psi: 1 is the full variety, 0 the mean image.")
@click.option("--class", "which", metavar="INDEX|NAME", help="Class, for a conditional model.")
@click.option(
    "--noise",
    type=click.Choice(["const", "random", "none"]),
    help="Noise images: the model's own (default; with --ws those in the file), of the seed, or none.",
)
@click.option(
    "--edit",
    type=EditType(),
    multiple=True,
    metavar="INDEX:STRENGTH",
    help="Go along a direction of `ganmod directions`, e.g. 0:2.5; repeatable.",
)
@click.option(
    "--edit-layers", type=SEEDS, metavar="LAYERS", help="With --edit, as --layers of `ganmod directions`."
)
@click.option(
    "--space",
    type=click.Choice(["z", "w", "parameters"]),
    default="z",
    show_default=True,
    help="Where to walk; parameters: what the layers receive, such as AdaConv's kernels.",
)
@click.option(
    "--curve",
    type=click.Choice(["linear", "spline"]),
    default="spline",
    show_default=True,
    help="How to walk in w.",
)
@click.option("--frames-per-step", type=FRAMES_PER_STEP, default=60, show_default=True)
@click.option("--fps", type=FRAME_RATE, default=30.0, show_default=True)
@batch_option(8)
@click.option("--skip-existing", is_flag=True, help="Leave out images that are there already.")
@device_option()
@plugin_option
def generate(
    model: Path,
    seeds: list[int] | None,
    style_mix: tuple[list[int], list[int], list[int]] | None,
    interpolate: list[int] | None,
    ws_file: Path | None,
    out: Path | None,
    grid: Path | None,
    truncation_psi: float,
    cutoff: int | None,
    which: str | None,
    noise: NoiseMode | None,
    edit: tuple[tuple[int, float], ...],
    edit_layers: list[int] | None,
    space: str,
    curve: Curve,
    frames_per_step: int,
    fps: float,
    batch: int,
    skip_existing: bool,
    device: str,
    plugin: tuple[str, ...],
) -> None:
    """Images of the generator in MODEL: give --seeds, --style-mix, --interpolate or --ws.

    A seed gives the same image on every machine. Under torchrun, the processes share the seeds of a folder.
    """
    ways = {"--seeds": seeds, "--style-mix": style_mix, "--interpolate": interpolate, "--ws": ws_file}
    _check_outputs(out, grid, ways)
    refuse_inputs(*(path for path in (out, grid) if path is not None))
    G, class_names = load_generator(model, plugin=plugin, device=device)
    if ws_file is not None:
        if which is not None or truncation_psi != 1 or cutoff is not None:
            raise click.UsageError("--ws holds finished latents: --class, --trunc and --cutoff do not apply")
        latents = load_latents(ws_file, G)
        ws = _edit(G, edit, edit_layers)(latents.ws)
        file_noise = latents.noise if noise is None else None
        names = {i: f"ws{i:04d}.png" for i in range(len(latents.ws))}
        images = _make_renderer(G, lambda part: ws[part], noise or "const", file_noise)
        _write_images(names, images, batch=batch, out=out, grid=grid, skip_existing=skip_existing)
        return
    c = choose_label(which, G, class_names)
    check_cutoff(cutoff, G)
    mapped = partial(map_latents, G, c=c, truncation_psi=truncation_psi, truncation_cutoff=cutoff)
    edited = _edit(G, edit, edit_layers)

    def to_ws(z: Tensor) -> Tensor:
        return edited(mapped(z))

    if seeds is not None:
        prefix = "" if c is None else f"class{int(c.argmax())}-"
        names = {seed: f"{prefix}seed{seed:04d}.png" for seed in seeds}
        images = _make_renderer(G, lambda part: to_ws(seed_latents(part, G.z_dim)), noise or "const", None)
        _write_images(names, images, batch=batch, out=out, grid=grid, skip_existing=skip_existing)
        return
    assert out is not None  # see `_check_outputs`
    if style_mix is not None:
        rows, columns, layers = style_mix
        if max(layers) >= G.num_ws:
            raise click.UsageError(
                f"--style-mix: layer {max(layers)} is out of range: the model has 0 to {G.num_ws - 1}"
            )
        write_image(out, _render_mixing_grid(G, to_ws, rows, columns, layers, noise or "const", batch))
        click.echo(f"wrote {out}")
        return
    assert interpolate is not None
    if len(interpolate) < 2:
        raise click.UsageError("--interpolate: got 1 seed, expected two or more to walk between")
    keys = seed_latents(interpolate, G.z_dim)
    if space == "parameters":
        walked = walk_parameters(
            G,
            to_ws(keys),
            frames_per_step=frames_per_step,
            noise_mode=noise or "const",
            seed=interpolate[0],
        )
        _write_frames(out, walked, len(keys) * frames_per_step, fps)
        return
    if space == "z":
        walk = walk_z(keys, frames_per_step=frames_per_step)
    else:
        walk = walk_w(to_ws(keys), frames_per_step=frames_per_step, curve=curve)
    # One noise for all frames: different noise would make them flicker.
    frames = (
        frame
        for part in walk.split(batch)
        for frame in render(
            G,
            to_ws(part) if space == "z" else part,
            noise_mode=noise or "const",
            seeds=[interpolate[0]] * len(part),
        )
    )
    _write_frames(out, frames, len(walk), fps)


def _write_frames(out: Path, frames: Iterator[np.ndarray], total: int, fps: float) -> None:
    count = write_animation(out, tqdm(frames, total=total, unit="img", disable=None), fps=fps)
    click.echo(f"wrote {count} frames ({count / fps:.1f} s) to {out}")


def _edit(
    G: Generator, edits: Sequence[tuple[int, float]], layers: list[int] | None
) -> Callable[[Tensor], Tensor]:
    """A function that moves ws along directions; click.UsageError for those that the model does not have."""
    if not edits:
        if layers is not None:
            raise click.UsageError("--edit-layers is for --edit: give --edit INDEX:STRENGTH, such as 0:2")
        return lambda ws: ws
    try:
        chosen = check_layers(G, layers)
        found = find_directions(G, layers=layers, num=max(index for index, _ in edits) + 1)
    except ValueError as error:
        raise click.UsageError(f"--edit: {error}") from error

    def move(ws: Tensor) -> Tensor:
        for index, strength in edits:
            ws = edit_latents(ws, found, index, strength, layers=chosen)
        return ws

    return move


def _check_outputs(out: Path | None, grid: Path | None, ways: Mapping[str, object]) -> None:
    """click.UsageError unless exactly one of `ways` is set, and its outputs fit."""
    chosen = [name for name, value in ways.items() if value is not None]
    if len(chosen) != 1:
        got = " and ".join(chosen) or "none"
        raise click.UsageError(f"expected one of {', '.join(ways)}, got {got}")
    (way,) = chosen
    images = way in ("--seeds", "--ws")
    if out is None and (grid is None or not images):
        raise click.UsageError(f"{way}: give --out{' DIR or --grid FILE' if images else ' FILE'}")
    if images and out is not None and (out.is_file() or out.suffix.lower() in IMAGE_SUFFIXES):
        raise click.UsageError(
            f"--out {out} is a file, expected a folder; one picture of all is --grid {out}"
        )
    if grid is not None and not images:
        raise click.UsageError(f"--grid is for --seeds and --ws; {way} writes to --out")
    for option, file in (("--grid", grid), ("--out", out if way == "--style-mix" else None)):
        if file is not None:
            check_picture_name(option, file)
    if way == "--interpolate" and out is not None:
        try:
            check_animation(out)
        except ValueError as error:
            raise click.UsageError(f"--out: {error}") from error


def _make_renderer(
    G: Generator,
    to_ws: Callable[[list[int]], Tensor],
    noise_mode: NoiseMode,
    noise: list[Tensor] | None,
) -> Callable[[list[int]], np.ndarray]:
    """A function: seeds, or rows of a file -> images uint8 [N,H,W,3]."""
    return lambda part: render(G, to_ws(part), noise_mode=noise_mode, seeds=part, noise=noise)


def _write_images(
    names: Mapping[int, str],
    images: Callable[[list[int]], np.ndarray],
    *,
    batch: int,
    out: Path | None,
    grid: Path | None,
    skip_existing: bool,
) -> None:
    """Write an image for each of `names` into the folder `out`, and all as the picture `grid`."""
    from ganmod.distributed import rank_and_world_size

    rank, num_processes = rank_and_world_size()
    if grid is not None and num_processes > 1:
        raise click.UsageError("--grid needs all images in one process: leave it out, or torchrun")
    mine = list(names)[rank::num_processes]
    kept = [i for i in mine if skip_existing and out is not None and (out / names[i]).exists()]
    missing = [i for i in mine if i not in set(kept)]
    shown: dict[int, np.ndarray] = {}
    bar = tqdm(total=len(missing), unit="img", disable=None)
    for start in range(0, len(missing), batch):
        part = missing[start : start + batch]
        for i, image in zip(part, images(part), strict=True):
            if out is not None:
                write_image(out / names[i], image)
            if grid is not None:
                shown[i] = image
        bar.update(len(part))
    bar.close()
    if out is not None:
        there = f" ({len(kept)} were there)" if kept else ""
        click.echo(f"wrote {len(missing)} images{there} to {out}")
    if grid is not None:
        if out is not None:
            shown |= {i: read_image(out / names[i]) for i in kept}
        side = math.ceil(math.sqrt(len(mine)))
        cells = [shown[i] for i in mine]
        rows = [cells[start : start + side] for start in range(0, len(cells), side)]
        write_image(grid, make_grid(rows, gap=GRID_GAP))
        click.echo(f"grid: {grid}")


def _render_mixing_grid(
    G: Generator,
    to_ws: Callable[[Tensor], Tensor],
    rows: list[int],
    columns: list[int],
    layers: list[int],
    noise_mode: NoiseMode,
    batch: int,
) -> np.ndarray:
    """Images of row seeds at the left, of column seeds above, mixed ones between with the row's noise."""
    row_ws, column_ws = (to_ws(seed_latents(seeds, G.z_dim)) for seeds in (rows, columns))
    mixed = mix_layers(row_ws, column_ws, layers)  # [R,C,num_ws,w_dim]
    ws = torch.cat([row_ws, column_ws, mixed.flatten(0, 1)])
    noise_seeds = rows + columns + [row for row in rows for _ in columns]
    bar = tqdm(
        render_in_batches(G, ws, batch_size=batch, noise_mode=noise_mode, seeds=noise_seeds),
        total=len(ws),
        unit="img",
        disable=None,
    )
    images = list(bar)
    above = images[len(rows) : len(rows) + len(columns)]
    inside = images[len(rows) + len(columns) :]
    cells: list[list[np.ndarray | None]] = [[None, *above]]
    for r in range(len(rows)):
        cells.append([images[r], *inside[r * len(columns) : (r + 1) * len(columns)]])
    return make_grid(cells, gap=GRID_GAP)
