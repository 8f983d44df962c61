"""`ganmod quickstart`: pictures from the shipped model, two short trainings side by side, and a report."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch

import style_transfer
from configs.schema import load_run
from ganmod.images import make_grid, read_image, resize_short_side, write_image
from metrics.machine import describe_machine
from metrics.report import Cell, Report
from style_transfer import StyleTransferModel
from style_transfer.prepare import MIN_SIDE
from style_transfer.procedural_styles import PROCEDURAL_STYLES, builtin_contents, draw_style
from training.run_progress import StoppedBySignal
from training.train_style import train

PRESET = "style-adaconv-slim"
MODULATIONS = {"adain": "AdaIN", "adaconv": "AdaConv"}
UNSEEN = 1000  # training draws its styles with the seeds from 0 on, the pictures show others
SHORT_SIDE = 256
OWN_SHORT_SIDE = 384
GRID_CELL = 192
CURVE_POINTS = 60
COMPARED_STYLES = ("mosaic", "brush_strokes", "circles_and_squares", "hatching", "dots", "stripes")


@dataclass(frozen=True)
class Trained:
    """One training: its model, and per step the seconds passed and the losses."""

    name: str
    model_file: Path
    model: StyleTransferModel
    seconds: np.ndarray
    content_loss: np.ndarray
    style_loss: np.ndarray


@click.command()
@click.argument("images", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--out",
    default="runs/quickstart",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for pictures, models and the report.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    default=3.0,
    show_default=True,
    help="Time to train, half for each of the two models.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def quickstart(images: tuple[Path, ...], out: Path, minutes: float, seed: int) -> None:
    """See it work, without network, GPU or data: stylise, train, read a report.

    Photos that come with scikit-image, and IMAGES of yours if given, get the style of drawn patterns from the
    shipped model. Then an AdaIN and an AdaConv model are trained for a few minutes under equal conditions.
    """
    begin = time.monotonic()
    own = read_own_images(images)
    styles = {name: draw_style(name, SHORT_SIDE, seed=UNSEEN + seed) for name in PROCEDURAL_STYLES}
    for name, style in styles.items():
        write_image(out / "styles" / f"{name}.png", style)
    report = Report("ganmod quickstart")
    report.paragraph(
        "One network gives photos the style of another picture; what the style acts through is its "
        "modulation. The first part shows the AdaConv model that comes with ganmod. In the second part two "
        "small models, equal but for the modulation, were trained on this machine a moment ago."
    )

    click.echo("1/3 stylise photos with the shipped AdaConv model")
    shipped = style_transfer.load()
    report.heading("Photos in drawn styles")
    grid = stylize_all(shipped, builtin_contents(), styles, out / "stylized", SHORT_SIDE)
    write_image(out / "stylized.png", grid)
    report.figure(grid, "Above: styles drawn by ganmod. Left: photos that come with scikit-image.")
    click.echo(f"    {out / 'stylized.png'} ({time.monotonic() - begin:.0f} s after the start)")
    if own:
        report.heading("Your images")
        grid = stylize_all(shipped, own, styles, out / "your-images", OWN_SHORT_SIDE)
        write_image(out / "your-images.png", grid)
        report.figure(grid, f"Your images, brought to a short side of {OWN_SHORT_SIDE} pixels if larger.")
        click.echo(f"    {out / 'your-images.png'}")

    trained = []
    for modulation, name in MODULATIONS.items():
        click.echo(f"2/3 train {name} for {minutes / 2:g} of {minutes:g} minutes")
        trained.append(train_one(modulation, out / f"train-{modulation}", minutes=minutes / 2, seed=seed))

    click.echo("3/3 write the report")
    photos = (builtin_contents() | own).values()
    pairs = list(zip(photos, (styles[name] for name in COMPARED_STYLES), strict=False))
    grid = compare(trained, shipped, pairs)
    write_image(out / "compared.png", grid)
    add_training(report, trained, grid, minutes=minutes / 2, seed=seed)
    commands = next_commands(out)
    report.heading("What to try next")
    for what, command in commands:
        report.paragraph(what)
        report.code(command)
    report.write(out / "report.html")
    click.echo(f"report: {out / 'report.html'}\nnext:")
    for _, command in commands:
        click.echo(f"    {command}")


def read_own_images(paths: Sequence[Path]) -> dict[str, np.ndarray]:
    """Name -> uint8 [H,W,3], short side at most OWN_SHORT_SIDE; ValueError names an unusable file."""
    own: dict[str, np.ndarray] = {}
    for path in paths:
        image = read_image(path)
        height, width = image.shape[:2]
        if min(height, width) < MIN_SIDE:
            raise ValueError(
                f"{path} is {height} x {width} pixels, expected at least {MIN_SIDE} x {MIN_SIDE}"
            )
        if min(height, width) > OWN_SHORT_SIDE:
            image = resize_short_side(image, OWN_SHORT_SIDE)
        name = path.stem
        while name in own:
            name += "-again"
        own[name] = image
    return own


def stylize_all(
    model: StyleTransferModel,
    contents: dict[str, np.ndarray],
    styles: dict[str, np.ndarray],
    folder: Path,
    size: int,
) -> np.ndarray:
    """Write every content in every style to `folder` at once; return the grid of all, uint8 [H,W,3].

    Results have a short side of `size` pixels, or the content's own if that is smaller.
    """
    rows: list[list[np.ndarray | None]] = [[None, *styles.values()]]
    params = {name: model.predict_style(style) for name, style in styles.items()}
    for content_name, content in contents.items():
        row: list[np.ndarray | None] = [content]
        for style_name in styles:
            result = model.apply_params(content, params[style_name], size=min(size, *content.shape[:2]))
            write_image(folder / f"{content_name}--{style_name}.png", result)
            row.append(result)
        rows.append(row)
    labels = ["", *(name.replace("_", " ") for name in styles)]
    return make_grid(rows, column_labels=labels, cell_size=(GRID_CELL, GRID_CELL))


def train_one(modulation: str, run_dir: Path, *, minutes: float, seed: int) -> Trained:
    """Train the preset's model with `modulation` on the built-in images, from the beginning."""
    changes = {
        "model.modulation": modulation,
        "schedule.minutes": minutes,
        "schedule.log_kimg": load_run(PRESET, {}).schedule.batch_size / 1000,  # every step: runs are short
        "schedule.snapshot_kimg": 1000.0,  # at the end only
        "schedule.checkpoint_kimg": 1000.0,
        "runtime.seed": seed,
        "runtime.tensorboard": False,
    }
    try:
        model_file = train(load_run(PRESET, changes), run_dir, resume=False, progress=True)
    except StoppedBySignal as stop:
        raise click.Abort() from stop  # a quickstart begins anew, there is nothing to continue
    steps = [json.loads(line) for line in (run_dir / "stats.jsonl").read_text().splitlines()]
    return Trained(
        MODULATIONS[modulation],
        model_file,
        style_transfer.load(model_file),
        *(np.array([step[key] for step in steps]) for key in ("seconds", "loss/content", "loss/style")),
    )


def compare(
    trained: Sequence[Trained],
    shipped: StyleTransferModel,
    pairs: Sequence[tuple[np.ndarray, np.ndarray]],
) -> np.ndarray:
    """One row per pair (photo, style): both inputs, each trained model, the shipped one."""
    models = {run.name: run.model for run in trained} | {"shipped AdaConv": shipped}
    rows: list[list[np.ndarray | None]] = []
    for photo, style in pairs:
        size = min(SHORT_SIDE, *photo.shape[:2])
        results = (model.stylize(photo, style, size=size) for model in models.values())
        rows.append([photo, style, *results])
    labels = ["photo", "style", *models]
    return make_grid(rows, column_labels=labels, cell_size=(GRID_CELL, GRID_CELL))


def add_training(
    report: Report, trained: Sequence[Trained], grid: np.ndarray, *, minutes: float, seed: int
) -> None:
    """The second part of the report: pictures, curves, table, and what they can and cannot say."""
    report.heading("AdaIN and AdaConv, trained side by side")
    report.paragraph(
        f"Each model was trained for {minutes:g} minutes of wall time, one after the other, with seed "
        f"{seed}, on the same photos and drawn styles, and with the same losses and settings. Minutes of "
        "training show that it works and what a step costs; they do not show which modulation wins: that "
        "takes hours. The last column is the shipped model, trained longer and on more pictures."
    )
    report.figure(
        grid, "The built-in photos were part of the training, these drawings were not. Weights are averaged."
    )
    for what, values in (("content loss", "content_loss"), ("style loss", "style_loss")):
        report.curves(
            {run.name: thinned(run.seconds, getattr(run, values)) for run in trained},
            "seconds of training",
            what,
        )
    columns = ["Modulation", "Trained parameters", "Steps", "Content loss", "Style loss", "Seconds per step"]
    rows: list[list[Cell]] = [
        [
            run.name,
            f"{sum(p.numel() for p in run.model.trainable().values()):,}",
            len(run.seconds),
            last_tenth(run.content_loss),
            last_tenth(run.style_loss),
            float(run.seconds[-1]) / len(run.seconds),
        ]
        for run in trained
    ]
    report.table(
        columns, rows, "Losses are means over the last tenth of the steps, before averaging the weights."
    )
    machine = describe_machine(torch.device("cpu"))
    report.paragraph(", ".join(f"{name} {value}" for name, value in machine.items()) + ".")


def thinned(seconds: np.ndarray, losses: np.ndarray) -> tuple[list[float], list[float]]:
    """Means over at most CURVE_POINTS equal stretches of the steps, for a curve without jitter."""
    stretches = np.array_split(np.arange(len(losses)), min(CURVE_POINTS, len(losses)))
    return [float(seconds[i].mean()) for i in stretches], [float(losses[i].mean()) for i in stretches]


def last_tenth(losses: np.ndarray) -> float:
    """Mean of the last 10 % of the values, of one at least."""
    return float(losses[-max(len(losses) // 10, 1) :].mean())


def next_commands(out: Path) -> list[tuple[str, str]]:
    """(what for, command) as the user can type them here."""
    if shutil.which("ganmod"):
        command = "ganmod"
    else:  # the virtual environment is not activated
        command = sys.argv[0] if Path(sys.argv[0]).name == "ganmod" else "python -m ganmod"
    styles = out / "styles"
    return [
        ("A photo of yours", f"{command} stylize PHOTO.jpg {styles / 'mosaic.png'} -o stylized.png"),
        (
            "A model of your own, in an hour",
            f"{command} train style --content PHOTOS --style PAINTINGS --minutes 60 --out runs/mine",
        ),
        ("Every modulation and its options", f"{command} modulations"),
    ]
