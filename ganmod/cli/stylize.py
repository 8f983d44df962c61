"""`ganmod stylize`: one pair, or a folder of contents x a folder of styles."""

from __future__ import annotations

import os
from pathlib import Path

import click
import torch
from tqdm import tqdm

import style_transfer
from ganmod.images import IMAGE_SUFFIXES, list_images, make_grid, read_image, write_image
from style_transfer.prepare import interpolate_params

GRID_CELL = 256


@click.command()
@click.argument("content", type=click.Path(exists=True, path_type=Path))
@click.argument("style", type=click.Path(exists=True, path_type=Path))
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path), help="Image file, or folder for several."
)
@click.option(
    "--model",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Model file; none: the shipped one.",
)
@click.option(
    "--alpha", type=click.FloatRange(0, 1), default=1.0, show_default=True, help="Strength of the style."
)
@click.option(
    "--size", type=click.IntRange(16), help="Short side of the result in pixels; none: as the content."
)
@click.option("--device", default="cpu", show_default=True)
@click.option("--skip-existing", is_flag=True, help="Leave out results that are there already.")
def stylize(
    content: Path,
    style: Path,
    out: Path,
    model: Path | None,
    alpha: float,
    size: int | None,
    device: str,
    skip_existing: bool,
) -> None:
    """Give CONTENT the style of STYLE. Folders give every pair, and a grid of all.

    Under torchrun, the styles of a folder are shared out over the processes.
    """
    contents = list_images(content) if content.is_dir() else [content]
    styles = list_images(style) if style.is_dir() else [style]
    several = content.is_dir() or style.is_dir()
    if not several and out.suffix.lower() not in IMAGE_SUFFIXES:
        raise click.UsageError(f"--out {out} has no image suffix: try {out}.png")
    if several and out.is_file():
        raise click.UsageError(f"--out {out} is a file, but several results need a folder")
    network = style_transfer.load(model).to(device)

    rank, num_processes = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    mine = styles[rank::num_processes]
    bar = tqdm(total=len(contents) * len(mine), unit="img", disable=None if several else True)
    for style_file in mine:
        style_image = read_image(style_file)
        params = network.predict_style(style_image)  # once per style
        for content_file in contents:
            file = out / f"{content_file.stem}--{style_file.stem}.png" if several else out
            if not (skip_existing and file.exists()):
                image = read_image(content_file)
                mixed = (
                    params if alpha == 1 else interpolate_params(network.predict_style(image), params, alpha)
                )
                write_image(file, network.apply_params(image, mixed, size=size))
            bar.update()
    bar.close()
    if several and num_processes == 1:
        click.echo(f"wrote {len(contents) * len(styles)} images and {_write_grid(out, contents, styles)}")
    elif rank == 0:
        click.echo(f"wrote {out}")


def _write_grid(out: Path, contents: list[Path], styles: list[Path]) -> Path:
    """Styles above, contents at the left, results between, from the files written; at most 12 x 12 of them.
    """
    from ganmod.images import resize_short_side

    def cell(path: Path) -> object:
        return resize_short_side(read_image(path), GRID_CELL)

    contents, styles = contents[:12], styles[:12]
    blank = torch.full((GRID_CELL, GRID_CELL, 3), 255, dtype=torch.uint8).numpy()
    rows = [[blank, *(cell(s) for s in styles)]]
    rows += [[cell(c), *(cell(out / f"{c.stem}--{s.stem}.png") for s in styles)] for c in contents]
    write_image(out / "grid.png", make_grid(rows))  # type: ignore[arg-type]
    return out / "grid.png"
