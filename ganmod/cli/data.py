"""`ganmod data`: pack images into one zip, and describe a data set."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

from configs.limits import MEGAPIXELS, WORKERS
from configs.visible_text import visible
from ganmod.cli.options.checks import usage_errors
from ganmod.cli.options.paths import InputPath, OutputPath, refuse_inputs
from ganmod.cli.options.shared import Size, json_option

if TYPE_CHECKING:
    import numpy as np

    from ganmod.data.files import ImageFiles
    from ganmod.data.labels import Labels, LabelSource
    from ganmod.data.pack import Crop
    from ganmod.io.images import ResizeFilter

LABEL_SOURCES: dict[str, LabelSource] = {"keep": "auto", "from-folders": "folders", "none": "none"}
SHEET_CELL = 96
SHEET_ROWS, SHEET_COLUMNS = 12, 12
SHOWN = 10  # sizes, classes and corrupt files in the printed text

SOURCE = InputPath()


@click.group()
def data() -> None:
    """Image data sets for GANs: a folder, a zip, or sub-folders as classes."""


@data.command()
@click.argument("source", metavar="SRC", type=SOURCE)
@click.argument("out", metavar="OUT.zip", type=OutputPath(dir_okay=False))
@click.option("--size", type=Size(), metavar="N|WxH", help="Size of the results; none: as they are.")
@click.option(
    "--filter",
    "resample",
    type=click.Choice(["lanczos", "box"]),
    default="lanczos",
    show_default=True,
    help="How images are resized; published FFHQ-256 figures need box.",
)
@click.option(
    "--crop",
    type=click.Choice(["center", "none"]),
    help="Cut the middle part that has the shape of --size, or stretch all to it.  [default: center]",
)
@click.option(
    "--labels",
    "label_source",
    type=click.Choice(list(LABEL_SOURCES)),
    default="keep",
    show_default=True,
    help="keep: from dataset.json, without it from sub-folders.",
)
@click.option(
    "--max-corrupt",
    type=click.IntRange(0),
    default=20,
    show_default=True,
    help="Unreadable images that are left out before it is an error.",
)
@click.option("--workers", type=click.IntRange(1), help="Threads; none: one per core, 8 at most.")
@click.option("--force", is_flag=True, help="Replace OUT.zip where it exists.")
def pack(
    source: Path,
    out: Path,
    size: tuple[int, int] | None,
    resample: ResizeFilter,
    crop: Crop | None,
    label_source: str,
    max_corrupt: int,
    workers: int | None,
    force: bool,
) -> None:
    """Pack the images and labels of SRC (a folder or a zip) into OUT.zip.

    stylegan2-ada's tools read the result too. It is written completely or not at all; the same input
    gives the same bytes. Images that cannot be read are reported and left out, and the exit code is then 1.
    """
    if out.suffix.lower() != ".zip":
        raise click.UsageError(f"{out} has no suffix .zip: try {out}.zip")
    refuse_inputs(out)
    if out.exists() and not force:
        raise click.UsageError(f"{out} exists: give another name, or --force to replace it")
    with usage_errors():
        WORKERS.check(workers or 1, "--workers")
        if size is not None:
            MEGAPIXELS.check(size[0] * size[1] / 10**6, f"--size {size[1]}x{size[0]}")
    if crop is not None and size is None:
        raise click.UsageError(f"--crop {crop} needs --size, the shape to cut")
    from ganmod.cli.options.outputs import report_left_out
    from ganmod.data.files import ImageFiles
    from ganmod.data.labels import find_labels
    from ganmod.data.pack import pack as write_pack

    files = ImageFiles(source)
    labels = find_labels(files, source=LABEL_SOURCES[label_source])
    with tqdm(total=len(files.names), unit="img", disable=None) as bar:
        report = write_pack(
            files,
            labels,
            out,
            size=size,
            resample=resample,
            crop=crop or "center",
            max_corrupt=max_corrupt,
            num_workers=workers or min(8, os.cpu_count() or 1),
            progress=bar.update,
        )
    files.close()
    if report.num_enlarged:
        click.echo(f"enlarged {report.num_enlarged} images that were smaller than the size", err=True)
    height, width = report.size
    click.echo(
        f"wrote {out}: {report.num_images} images of {width}x{height} (width x height), {_kind(labels)}"
        + (f", {len(report.skipped)} corrupt ones left out" if report.skipped else "")
    )
    report_left_out(report.skipped)


@data.command()
@click.argument("path", type=SOURCE)
@json_option
@click.option(
    "--sheet",
    type=OutputPath(dir_okay=False),
    help="Write a contact sheet, such as sheet.png.",
)
@click.option("--verify", is_flag=True, help="Decode every image, to find damage behind the first bytes.")
def info(path: Path, as_json: bool, sheet: Path | None, verify: bool) -> None:
    """Count the images, sizes, channels and labels of PATH, a folder or a zip."""
    from ganmod.data.files import ImageFiles
    from ganmod.data.labels import find_labels
    from ganmod.io.images import write_image

    if sheet is not None:
        from ganmod.cli.options.outputs import check_picture_name

        check_picture_name("--sheet", sheet)
        refuse_inputs(sheet)
    files = ImageFiles(path)
    labels = find_labels(files)
    facts = survey(files, labels, verify=verify)
    if sheet is not None:
        write_image(sheet, contact_sheet(files, labels))
    if as_json:
        click.echo(json.dumps(facts, indent=1))
        return
    click.echo(f"{path}: {facts['num_images']} images, {facts['bytes'] / 2**20:.1f} MiB")
    click.echo(f"sizes (width x height): {_list_counts(facts['sizes'])}")
    click.echo(f"modes: {_list_counts(facts['modes'])}")
    click.echo(f"labels: {_kind(labels)}" + (f": {_list_counts(facts['labels'])}" if facts["labels"] else ""))
    if facts["corrupt"]:
        click.echo(f"corrupt: {len(facts['corrupt'])}")
        for error in facts["corrupt"][:SHOWN]:
            click.echo(f"  {error}")
    if len(facts["sizes"]) > 1:
        click.echo(f"training needs one size: ganmod data pack {path} OUT.zip --size N")
    if sheet is not None:
        click.echo(f"wrote {sheet}")


def survey(files: ImageFiles, labels: Labels | None, *, verify: bool = False) -> dict[str, Any]:
    """Contents of a data set as plain values; `verify` decodes every image.

    Returns:
        path, num_images (readable), bytes (encoded), sizes {"WxH": count} and modes {"RGB": count}, most
        frequent first, c_dim, labels {class: count} (corrupt images included), corrupt [message].
    """
    from ganmod.io.images import ImageError

    sizes: Counter[str] = Counter()
    modes: Counter[str] = Counter()
    corrupt: list[str] = []
    for name in tqdm(files.names, unit="img", disable=None, leave=False):
        try:
            header = files.header(name)
            if verify:
                files.read(name)
        except ImageError as error:
            corrupt.append(str(error))
            continue
        sizes[header.size] += 1
        modes[header.mode] += 1
    return {
        "path": str(files.path),
        "num_images": sizes.total(),
        "bytes": sum(files.num_bytes(name) for name in files.names),
        "sizes": dict(sizes.most_common()),
        "modes": dict(modes.most_common()),
        "c_dim": 0 if labels is None else labels.c_dim,
        "labels": {} if labels is None else labels.counts(),
        "corrupt": corrupt,
    }


def contact_sheet(files: ImageFiles, labels: Labels | None) -> np.ndarray:
    """A grid of images spread evenly over the data set, uint8 [H,W,3]; one row per class, if there are any.

    The cell of a corrupt image is empty. Raises ImageError if no image can be read.
    """
    import numpy as np

    from ganmod.io.images import ImageError, make_grid

    row_labels = None
    if labels is not None and labels.names:
        present = np.unique(labels.values)[:SHEET_ROWS]
        groups = [np.flatnonzero(labels.values == number) for number in present]
        row_labels = [labels.names[number] for number in present]
        picks = [_spread(group, SHEET_COLUMNS) for group in groups]
    else:
        chosen = _spread(np.arange(len(files.names)), SHEET_ROWS * SHEET_COLUMNS)
        picks = [chosen[i : i + SHEET_COLUMNS] for i in range(0, len(chosen), SHEET_COLUMNS)]

    def cell(index: int) -> np.ndarray | None:
        try:
            return files.read(files.names[index])
        except ImageError as error:
            errors.append(error)
            return None

    errors: list[ImageError] = []
    rows = [[cell(index) for index in row] for row in picks]
    if all(image is None for row in rows for image in row):
        raise errors[0]
    return make_grid(rows, row_labels=row_labels, cell_size=(SHEET_CELL, SHEET_CELL))


def _spread(indices: np.ndarray, count: int) -> list[int]:
    """At most `count` of the indices, evenly spread."""
    if len(indices) <= count:
        return indices.tolist()
    return [int(indices[i * len(indices) // count]) for i in range(count)]


def _kind(labels: Labels | None) -> str:
    if labels is None:
        return "no labels"
    return f"{labels.c_dim} classes" if labels.names else f"labels of {labels.c_dim} numbers"


def _list_counts(counts: dict[str, int]) -> str:
    shown = ", ".join(f"{visible(name)} ({count})" for name, count in list(counts.items())[:SHOWN])
    return shown + (f" and {len(counts) - SHOWN} more" if len(counts) > SHOWN else "")
