"""Outputs of commands on all pairs of two sets of images: names, checks of --out, the grid of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import click
import numpy as np

from ganmod.io.images import (
    IMAGE_SUFFIXES,
    list_images,
    make_grid,
    read_image,
    resize_short_side,
    write_image,
)

GRID_CELL = 256
GRID_LIMIT = 12
TOGETHER = ("grid.png", "sheet.jpg")  # written in addition to several results


def results_names(source: Path) -> dict[Path, str]:
    """{file: its part of the names of results} of an image file or all images of a folder.

    The part is the stem, or the full path inside the folder where several files have the same stem.
    """
    if not source.is_dir():
        return {source: source.stem}
    files = list_images(source)
    stems = Counter(file.stem for file in files)
    return {
        file: file.stem if stems[file.stem] == 1 else "_".join(file.relative_to(source).parts)
        for file in files
    }


def check_out(out: Path, *inputs: Path, several: bool) -> None:
    """click.UsageError for an --out that cannot hold the results, or whose files the next run would read.

    Args:
        out: the value of --out.
        inputs: files and folders that are read.
        several: whether there are several results, in a folder.
    """
    if not several and out.suffix.lower() not in IMAGE_SUFFIXES:
        raise click.UsageError(f"--out {out} has no image suffix: try {out}.png")
    if several and out.is_file():
        raise click.UsageError(f"--out {out} is a file, but several results need a folder")
    if several and out.suffix.lower() in IMAGE_SUFFIXES and not out.is_dir():
        raise click.UsageError(f"--out {out} is named as a file, but several results need a folder")
    refuse_inputs(out, *inputs)
    for file in inputs:
        if several and file.name in TOGETHER and file.resolve().parent == out.resolve():
            raise click.UsageError(f"--out {out} would overwrite {file}, which is read: give another folder")
    for folder in inputs:
        if folder.is_dir() and out.resolve().is_relative_to(folder.resolve()):
            raise click.UsageError(
                f"--out {out} lies inside {folder}, whose images are read again in the next run: "
                "give a folder elsewhere"
            )


def refuse_inputs(out: Path, *inputs: Path) -> None:
    """click.UsageError if --out is, directly or by a link, one of the files that are read."""
    for file in inputs:
        if file.is_file() and out.exists() and out.samefile(file):
            raise click.UsageError(
                f"--out {out} is {file}, which is read and would be overwritten: give another name"
            )


def write_grid(out: Path, contents: Mapping[Path, str], styles: Mapping[Path, str]) -> Path:
    """Write grid.png of the first 12 x 12 results: styles above, contents at the left, results between.

    Reads the results in `out`. A style without a file, such as a seed, has no picture above.
    """

    def cell(path: Path) -> np.ndarray:
        return resize_short_side(read_image(path), GRID_CELL)

    shown = list(styles)[:GRID_LIMIT]
    above = [cell(style) if style.exists() else None for style in shown]
    rows: list[list[np.ndarray | None]] = [[None, *above]] if any(x is not None for x in above) else []
    for content in list(contents)[:GRID_LIMIT]:
        results = (cell(out / f"{contents[content]}--{styles[style]}.png") for style in shown)
        rows.append([cell(content), *results])
    write_image(out / "grid.png", make_grid(rows))
    return out / "grid.png"
