"""`ganmod quickstart`: pictures from the shipped model, which then learns one style, and a report."""

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
from configs.schema import load_style_config
from ganmod.cli.options.paths import InputPath, OutputPath, refuse_inputs
from ganmod.cli.options.shared import SEED, Number
from ganmod.features.style_losses import content_loss, mean_std_loss
from ganmod.features.vgg import VGGFeatures
from ganmod.io.images import make_grid, read_image, resize_short_side, to_tensor, write_image
from ganmod.machine import describe_machine
from metrics.html_report import Report
from metrics.table import Table
from style_transfer import StyleTransferModel
from style_transfer.prepare import MIN_SIDE
from style_transfer.procedural_styles import PROCEDURAL_STYLES, builtin_contents, draw_style
from training.run.progress import StoppedBySignal
from training.train_style import train

PRESET = "style-finetune"
UNSEEN = 1000  # training draws its styles with the seeds from 0 on, the pictures show others
STYLE_SIDE = 512  # pixels
SHORT_SIDE = 384
_CELL = 192
CURVE_POINTS = 60
BUILTIN_STYLE = "mosaic"


@dataclass(frozen=True)
class Finetuned:
    """The shipped model after some minutes with one style; seconds and losses at each step."""

    model_file: Path
    model: StyleTransferModel
    seconds: np.ndarray
    content_loss: np.ndarray
    style_loss: np.ndarray


@click.command()
@click.argument("images", nargs=-1, type=InputPath(dir_okay=False))
@click.option(
    "--out",
    default="runs/quickstart",
    show_default=True,
    type=OutputPath(file_okay=False),
    help="Folder for pictures, models and the report.",
)
@click.option(
    "--style",
    "style_file",
    type=InputPath(dir_okay=False),
    help=f"Picture whose style the model learns.  [default: a drawn {BUILTIN_STYLE}]",
)
@click.option(
    "--minutes",
    type=Number(min=0, min_open=True),
    default=3.0,
    show_default=True,
    help="Time for it to learn.",
)
@click.option("--seed", type=SEED, default=0, show_default=True)
def quickstart(
    images: tuple[Path, ...], out: Path, style_file: Path | None, minutes: float, seed: int
) -> None:
    """See it work, without network, GPU or data: stylise, train, read a report.

    The shipped model gives scikit-image's photos, and your IMAGES, the style of drawn patterns. Then it is
    trained for a few minutes on one style, --style or a drawn one, and the report shows the photos before and
    after.
    """
    refuse_inputs(*(out / f"{name}.png" for name in ("stylized", "your-images", "before-and-after")))
    begin = time.monotonic()
    user_images = read_user_images(images)
    if style_file is not None:
        read_user_images([style_file])  # reports an unusable file before the work begins
    styles = {name: draw_style(name, STYLE_SIDE, seed=UNSEEN + seed) for name in PROCEDURAL_STYLES}
    for name, style in styles.items():
        write_image(out / "styles" / f"{name}.png", style)
    report = Report("ganmod quickstart")
    report.paragraph(
        "One network gives photos the style of another picture; what the style acts through is its "
        "modulation. The first part shows the AdaConv model that comes with ganmod. For the second part it "
        "was trained on a single style, on this machine, a moment ago."
    )

    click.echo("1/3 stylise photos with the shipped AdaConv model")
    shipped = style_transfer.load()
    report.heading("Photos in drawn styles")
    grid = stylize_all(shipped, builtin_contents(), styles, out / "stylized")
    write_image(out / "stylized.png", grid)
    report.figure(grid, "Above: styles drawn by ganmod. Left: photos that come with scikit-image.")
    click.echo(f"    {out / 'stylized.png'} ({time.monotonic() - begin:.0f} s after the start)")
    if user_images:
        report.heading("Your images")
        grid = stylize_all(shipped, user_images, styles, out / "your-images")
        write_image(out / "your-images.png", grid)
        report.figure(grid, f"Your images, brought to a short side of {SHORT_SIDE} pixels if larger.")
        click.echo(f"    {out / 'your-images.png'}")

    learned = style_file or out / "styles" / f"{BUILTIN_STYLE}.png"
    click.echo(f"2/3 train it on the style of {learned} for {minutes:g} minutes")
    tuned = finetune(learned, out / "finetuned", minutes=minutes, seed=seed)

    click.echo("3/3 write the report")
    style = read_image(learned)
    photos = builtin_contents() | user_images
    pictures = {
        name: {photo: stylize_photo(model, image, style) for photo, image in photos.items()}
        for name, model in (("before", shipped), ("after", tuned.model))
    }
    for name, by_photo in pictures.items():
        for photo, picture in by_photo.items():
            write_image(out / name / f"{photo}.png", picture)
    rows = [[image, style, *(pictures[name][photo] for name in pictures)] for photo, image in photos.items()]
    grid = make_grid(rows, column_labels=["photo", "style", *pictures], cell_size=(_CELL, _CELL))
    write_image(out / "before-and-after.png", grid)
    losses = {name: mean_losses(shipped.encoder, photos, style, images) for name, images in pictures.items()}
    add_training(report, tuned, losses, grid, style=learned, minutes=minutes)
    click.echo(f"    {out / 'before-and-after.png'} ({time.monotonic() - begin:.0f} s after the start)")
    commands = next_commands(out, tuned.model_file)
    report.heading("What to try next")
    for what, command in commands:
        report.paragraph(what)
        report.code(command)
    report.write(out / "report.html")
    click.echo(f"report: {out / 'report.html'}\nnext:")
    for _, command in commands:
        click.echo(f"    {command}")


def read_user_images(paths: Sequence[Path]) -> dict[str, np.ndarray]:
    """{name: uint8 [H,W,3] with a short side of at most SHORT_SIDE}; ValueError names an unusable file."""
    images: dict[str, np.ndarray] = {}
    for path in paths:
        image = read_image(path, short_side=SHORT_SIDE)
        height, width = image.shape[:2]
        if min(height, width) < MIN_SIDE:
            raise ValueError(
                f"{path} is {height} x {width} pixels, expected at least {MIN_SIDE} x {MIN_SIDE}"
            )
        if min(height, width) > SHORT_SIDE:
            image = resize_short_side(image, SHORT_SIDE)
        name = path.stem
        while name in images:
            name += "-again"
        images[name] = image
    return images


def stylize_photo(model: StyleTransferModel, photo: np.ndarray, style: np.ndarray) -> np.ndarray:
    """Stylise at a short side of SHORT_SIDE pixels, or at the photo's if that is smaller."""
    return model.stylize(photo, style, size=min(SHORT_SIDE, *photo.shape[:2]))


def stylize_all(
    model: StyleTransferModel, contents: dict[str, np.ndarray], styles: dict[str, np.ndarray], folder: Path
) -> np.ndarray:
    """Write every content in every style to `folder`; return the grid of all, uint8 [H,W,3]."""
    rows: list[list[np.ndarray | None]] = [[None, *styles.values()]]
    for content_name, content in contents.items():
        row: list[np.ndarray | None] = [content]
        for style_name, style in styles.items():
            picture = stylize_photo(model, content, style)
            write_image(folder / f"{content_name}--{style_name}.png", picture)
            row.append(picture)
        rows.append(row)
    labels = ["", *(name.replace("_", " ") for name in styles)]
    return make_grid(rows, column_labels=labels, cell_size=(_CELL, _CELL))


def finetune(style: Path, run_dir: Path, *, minutes: float, seed: int) -> Finetuned:
    """Train the shipped model on the built-in photos and one style."""
    batch_size = load_style_config(PRESET, {}).schedule.batch_size
    changes = {
        "data.style": [str(style)],
        "schedule.minutes": minutes,
        "schedule.log_kimg": batch_size / 1000,  # every step: runs are short
        "schedule.snapshot_kimg": 1000.0,  # at the end only
        "schedule.checkpoint_kimg": 1000.0,
        "runtime.seed": seed,
        "runtime.tensorboard": False,
    }
    try:
        config = load_style_config(PRESET, changes)
        model_file = train(config, run_dir, resume=False, keep_old=False, show_progress=True)
    except StoppedBySignal as stop:
        raise click.Abort() from stop  # a quickstart begins again, there is nothing to continue
    steps = [json.loads(line) for line in (run_dir / "stats.jsonl").read_text().splitlines()]
    return Finetuned(
        model_file,
        style_transfer.load(model_file),
        *(np.array([step[key] for step in steps]) for key in ("seconds", "loss/content", "loss/style")),
    )


@torch.inference_mode()
def mean_losses(
    network: VGGFeatures, photos: dict[str, np.ndarray], style: np.ndarray, pictures: dict[str, np.ndarray]
) -> tuple[float, float]:
    """Mean (content, style) loss of the pictures, in the features of `network`."""
    terms = []
    for photo, picture in pictures.items():
        size = min(SHORT_SIDE, *photos[photo].shape[:2])
        features, content, target = (
            network.normalized(to_tensor(image)[None])
            for image in (picture, resize_short_side(photos[photo], size), resize_short_side(style, size))
        )
        terms.append((content_loss(features, content).item(), mean_std_loss(features, target).item()))
    content_term, style_term = np.mean(terms, axis=0)
    return float(content_term), float(style_term)


def add_training(
    report: Report,
    tuned: Finetuned,
    losses: dict[str, tuple[float, float]],
    grid: np.ndarray,
    *,
    style: Path,
    minutes: float,
) -> None:
    """Add the second part of the report: pictures, curves, table, and their limits."""
    report.heading("One style, before and after")
    report.paragraph(
        f"The shipped model was trained for {minutes:g} minutes on the style of {style.name}, with the four "
        "built-in photos as contents. It knows that style better now, and others worse. More photos "
        "(--content) make it safer on photos that it has not seen."
    )
    report.figure(grid, "before: the shipped model; after: its weights averaged over the last steps.")
    for what, values in (("content loss", tuned.content_loss), ("style loss", tuned.style_loss)):
        report.curves({"training": thin_curve(tuned.seconds, values)}, "seconds of training", what)
    rows = [(name, content, style_term) for name, (content, style_term) in losses.items()]
    report.table(
        Table(["Model", "Content loss", "Style loss"], rows),
        f"Means over the pictures above, in the features of the model's own encoder. {len(tuned.seconds)} "
        f"steps, {float(tuned.seconds[-1]) / len(tuned.seconds):.3g} s each.",
    )
    machine = describe_machine(torch.device("cpu"))
    report.paragraph(", ".join(f"{name} {value}" for name, value in machine.items()) + ".")


def thin_curve(seconds: np.ndarray, losses: np.ndarray) -> tuple[list[float], list[float]]:
    """(seconds, losses) as means over at most CURVE_POINTS equal parts of the steps, for a smooth curve."""
    stretches = np.array_split(np.arange(len(losses)), min(CURVE_POINTS, len(losses)))
    return [float(seconds[i].mean()) for i in stretches], [float(losses[i].mean()) for i in stretches]


def next_commands(out: Path, model_file: Path) -> list[tuple[str, str]]:
    """(purpose, command) for the user to type."""
    if shutil.which("ganmod"):
        command = "ganmod"
    else:  # the virtual environment is not activated
        command = sys.argv[0] if Path(sys.argv[0]).name == "ganmod" else "python -m ganmod"
    styles = out / "styles"
    return [
        ("A photo of yours", f"{command} stylize PHOTO.jpg {styles / 'mosaic.png'} -o stylized.png"),
        (
            "The model that was just trained",
            f"{command} stylize PHOTO.jpg {styles / 'mosaic.png'} -o stylized.png --model {model_file}",
        ),
        (
            "One style, on photos of yours, for longer",
            f"{command} train style --config style-finetune --content PHOTOS --style PAINTING.jpg "
            "--minutes 30 --out runs/mine",
        ),
        ("Every modulation and its options", f"{command} modulations"),
    ]
