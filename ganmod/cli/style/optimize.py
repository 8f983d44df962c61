"""`ganmod optimize`: stylisation by optimising the pixels, the reference for the quality of models."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click
import torch

from ganmod.cli.options.checks import check_device
from ganmod.cli.options.outputs import check_out
from ganmod.cli.options.paths import InputPath, OutputPath
from ganmod.cli.options.progress import progress_bar
from ganmod.cli.options.shared import SEED, Number, device_option
from ganmod.devices import find_device
from ganmod.features.vgg import load_features
from ganmod.io.atomic_write import atomic_write
from ganmod.io.images import read_image, to_tensor, to_uint8, write_image
from ganmod.io.pickles.restricted_unpickle import read_tensors_pickle
from style_transfer.optimize import Algorithm, OptimizeSettings, PixelOptimizer, Start
from style_transfer.prepare import MIN_SIDE, resize_content

_FILE = InputPath(dir_okay=False)


@click.command()
@click.argument("content", type=_FILE)
@click.argument("style", type=_FILE)
@click.option("-o", "--out", required=True, type=OutputPath(dir_okay=False), help="Image file.")
@click.option(
    "--size", type=click.IntRange(MIN_SIDE), help="Short side of the result in pixels; none: as the content."
)
@click.option(
    "--style-size",
    type=click.IntRange(MIN_SIDE),
    help="Short side of the style in pixels, which sets the strokes' width; none: as the result.",
)
@click.option(
    "--style-loss",
    type=click.Choice(["mean_std", "gram", "shifted_gram"]),
    default="mean_std",
    show_default=True,
)
@click.option("--content-weight", type=Number(0), default=1.0, show_default=True)
@click.option("--style-weight", type=Number(0), default=3.0, show_default=True)
@click.option("--tv-weight", type=Number(0), default=0.0, show_default=True, help="Total variation.")
@click.option("--steps", type=click.IntRange(1), default=250, show_default=True, help="At each size.")
@click.option(
    "--sizes",
    type=click.IntRange(1, 10),
    default=2,
    show_default=True,
    help="From coarse to fine, each half the next.",
)
@click.option("--algorithm", type=click.Choice(["adam", "lbfgs"]), default="adam", show_default=True)
@click.option("--start", type=click.Choice(["content", "noise"]), default="content", show_default=True)
@click.option(
    "--loss-network",
    default="ganmod-slim",
    show_default=True,
    help="vgg19, vgg19-slim, vgg19-slim-aux or ganmod-slim.",
)
@click.option("--feature-weights", type=InputPath(text=True), help="Weights of vgg19 or vgg19-slim.")
@click.option(
    "--save-every",
    type=click.IntRange(1),
    default=50,
    show_default=True,
    help="Steps after which the picture and the state are written.",
)
@click.option("--seed", type=SEED, default=0, show_default=True, help="Of the noise.")
@device_option()
def optimize(
    content: Path,
    style: Path,
    out: Path,
    size: int | None,
    style_size: int | None,
    style_loss: str,
    content_weight: float,
    style_weight: float,
    tv_weight: float,
    steps: int,
    sizes: int,
    algorithm: Algorithm,
    start: Start,
    loss_network: str,
    feature_weights: str | None,
    save_every: int,
    seed: int,
    device: str,
) -> None:
    """Give CONTENT the style of STYLE by optimising its pixels (Gatys et al. 2016): minutes, not a second.

    The picture is written repeatedly. Run the same command again to continue one that was stopped: its state
    is saved next to it until it is finished.
    """
    check_out(out, several=False)
    check_device(device)
    settings = OptimizeSettings(
        style_loss=style_loss,
        content_weight=content_weight,
        style_weight=style_weight,
        tv_weight=tv_weight,
        steps=steps,
        sizes=sizes,
        algorithm=algorithm,
        start=start,
        seed=seed,
    )
    torch_device = find_device(device)
    network = load_features(loss_network, path=feature_weights).to(torch_device)
    photo = resize_content(to_tensor(read_image(content, short_side=size))[None], size).to(torch_device)
    style_size = style_size or min(photo.shape[2:])
    painting = resize_content(to_tensor(read_image(style, short_side=style_size))[None], style_size)
    run = PixelOptimizer(photo, painting.to(torch_device), network, settings)
    state_file = out.with_name(f".{out.name}.state")
    if state_file.exists():
        run.load_state(_read_state(state_file))
        click.echo(f"goes on after step {run.done}", err=True)
    step = None
    with progress_bar(total=run.total, initial=run.done, unit="step") as bar:
        for step in run:
            bar.update()
            bar.set_postfix(content=f"{step.content:.3f}", style=f"{step.style:.3f}")
            if step.done % save_every == 0:
                write_image(out, to_uint8(step.image[0].cpu()))
                state = run.state()
                atomic_write(state_file, partial(_write_state, state=state))
    image = run.pixels.detach().clamp(0, 1)  # also if no step was left to do
    write_image(out, to_uint8(image[0].float().cpu()))
    state_file.unlink(missing_ok=True)
    if step is not None:
        click.echo(
            f"wrote {out}: content loss {step.content:.4f}, style loss {step.style:.4f} in {loss_network}"
        )
    else:
        click.echo(f"wrote {out}")


def _write_state(path: Path, *, state: dict[str, Any]) -> None:
    torch.save(state, path)


def _read_state(path: Path) -> dict[str, Any]:
    """Read a state; ValueError, which says what to do, for a file that holds none."""
    state = read_tensors_pickle(path)
    if not isinstance(state, dict) or not {"settings", "counts", "pixels", "optimizer"} <= state.keys():
        raise ValueError(f"{path} is no state of an optimisation: remove it to start again")
    return state
