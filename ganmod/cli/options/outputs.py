"""Outputs of commands on all pairs of two sets of images: names, checks of --out, the grid of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import click
import numpy as np

from ganmod.cli.options.paths import paths_read, refuse_inputs
from ganmod.io.images import (
    IMAGE_SUFFIXES,
    WRITABLE_SUFFIXES,
    ImageError,
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


def file_name_part(text: str) -> str:
    """The text with all but letters, digits and some signs replaced by _: it names no other folder."""
    return "".join(letter if letter.isalnum() or letter in " +-_()" else "_" for letter in text)


def check_picture_name(option: str, path: Path) -> None:
    """click.UsageError for a name with another suffix than those of pictures that can be written."""
    if path.suffix.lower() not in WRITABLE_SUFFIXES:
        known = ", ".join(sorted(WRITABLE_SUFFIXES))
        raise click.UsageError(f"{option} {path} has no image suffix, one of {known}: try {path}.png")


def check_out(out: Path, *, several: bool) -> None:
    """click.UsageError for an --out that cannot hold the results, or that holds what the command reads.

    Args:
        out: the value of --out.
        several: whether there are several results, in a folder.
    """
    if not several:
        check_picture_name("--out", out)
    if several and out.is_file():
        raise click.UsageError(f"--out {out} is a file, but several results need a folder")
    if several and out.suffix.lower() in IMAGE_SUFFIXES and not out.is_dir():
        raise click.UsageError(f"--out {out} is named as a file, but several results need a folder")
    refuse_inputs(out)
    if not (several and out.is_dir()):
        return
    for source in paths_read():
        for file in list_images(source) if source.is_dir() else [source]:
            named_so = file.name.lower() in TOGETHER or "--" in file.name  # as results are
            if named_so and file.parent.samefile(out):
                raise click.UsageError(
                    f"--out {out} would overwrite {file}, which is read: give another folder"
                )


def read_images(
    files: Iterable[Path], *, several: bool, left_out: list[ImageError]
) -> dict[Path, np.ndarray]:
    """{file: uint8 [H,W,3]} of those that can be read; the errors of the others are added to left_out.

    With a single file, and where none of several can be read, the error is raised.
    """
    images: dict[Path, np.ndarray] = {}
    for file in files:
        try:
            images[file] = read_image(file)
        except ImageError as error:
            if not several:
                raise
            left_out.append(error)
    if not images:
        raise left_out[-1]
    return images


class LeftOut(click.ClickException):
    """Some images were left out; the others are written. Exit code 1."""


def report_left_out(errors: Collection[ImageError]) -> None:
    """LeftOut, with the number and names of the images, if there are any."""
    if errors:
        count = f"{len(errors)} image{'s' if len(errors) > 1 else ''}"
        raise LeftOut(f"left out {count}:\n" + "\n".join(f"  {error}" for error in errors))


def write_grid(out: Path, contents: Mapping[Path, str], styles: Mapping[Path, str]) -> Path:
    """Write grid.png of the first 12 x 12 results: styles above, contents at the left, results between.

    Reads the results in `out`. A style without a file, such as a seed, has no picture above.
    """

    def cell(path: Path) -> np.ndarray:
        return resize_short_side(read_image(path, short_side=GRID_CELL), GRID_CELL)

    shown = list(styles)[:GRID_LIMIT]
    above = [cell(style) if style.exists() else None for style in shown]
    rows: list[list[np.ndarray | None]] = [[None, *above]] if any(x is not None for x in above) else []
    for content in list(contents)[:GRID_LIMIT]:
        results = (cell(out / f"{contents[content]}--{styles[style]}.png") for style in shown)
        rows.append([cell(content), *results])
    write_image(out / "grid.png", make_grid(rows))
    return out / "grid.png"
