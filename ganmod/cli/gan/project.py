"""`ganmod project`: the latent of an image in a trained generator."""

from __future__ import annotations

from pathlib import Path

import click
from tqdm import tqdm

from ganmod.cli.options.generator import MODEL, choose_label, load_generator
from ganmod.cli.options.paths import InputPath, OutputPath, refuse_inputs
from ganmod.cli.options.shared import SEED, device_option, plugin_option
from ganmod.io.images import make_grid, read_image, write_image
from ganmod.stylegan2.latent_file import save_latents
from ganmod.stylegan2.projection import Space, fit_target, project
from metrics.features.pretrained import load_perceptual_maps

RESULT, PICTURE, LATENTS = "projected.png", "comparison.png", "projected.npz"


@click.command("project")
@click.argument("model", type=MODEL)
@click.argument("image", type=InputPath(dir_okay=False))
@click.option("-o", "--out", required=True, type=OutputPath(file_okay=False), help="Folder to write.")
@click.option(
    "--space",
    type=click.Choice(["w", "w+"]),
    default="w",
    show_default=True,
    help="w: one latent for all layers; w+: then one for each, closer and less editable.",
)
@click.option(
    "--steps",
    type=click.IntRange(1),
    default=500,
    show_default=True,
    help="Steps of optimisation, per space.",
)
@click.option("--class", "which", metavar="INDEX|NAME", help="Class, for a conditional model.")
@click.option("--crop", is_flag=True, help="Cut the image's centre to the model's aspect.")
@click.option(
    "--features",
    default="ganmod-slim",
    show_default=True,
    help="Network of the distance: ganmod-slim, vgg19, vgg19-slim, vgg19-slim-aux, squeezenet1_1, "
    "cifar-resnet56 or module:callable.",
)
@click.option("--feature-weights", type=InputPath(), help="Weights of the network.")
@click.option("--seed", type=SEED, default=0, show_default=True)
@device_option()
@plugin_option
def project_command(
    model: Path,
    image: Path,
    out: Path,
    space: Space,
    steps: int,
    which: str | None,
    crop: bool,
    features: str,
    feature_weights: Path | None,
    seed: int,
    device: str,
    plugin: tuple[str, ...],
) -> None:
    """Find the latent of MODEL whose image is nearest to IMAGE.

    Writes projected.png, comparison.png (target, start, result) and projected.npz, from which
    `ganmod generate MODEL --ws` makes the image again.
    """
    refuse_inputs(*(out / name for name in (RESULT, PICTURE, LATENTS)))
    G, class_names = load_generator(model, plugin=plugin, device=device)
    c = choose_label(which, G, class_names)
    try:
        target = fit_target(read_image(image), G.img_resolution, crop=crop)
    except ValueError as error:
        raise click.ClickException(f"{image}: {error}") from error
    maps = load_perceptual_maps(features, feature_weights, device=next(G.parameters()).device)
    with tqdm(total=steps * (2 if space == "w+" else 1), unit="step", disable=None) as bar:

        def show(distance: float) -> None:
            bar.set_postfix(distance=f"{distance:.4f}", refresh=False)
            bar.update()

        projection = project(G, target, maps, c=c, space=space, num_steps=steps, seed=seed, progress=show)
    write_image(out / RESULT, projection.image)
    pictures = [[target, projection.start_image, projection.image]]
    write_image(out / PICTURE, make_grid(pictures, column_labels=["target", "start", "result"]))
    save_latents(out / LATENTS, projection.ws, noise=projection.noise)
    click.echo(
        f"distance: {projection.start_distance:.4f} at the start, {projection.distance:.4f} at the end"
    )
    click.echo(f"wrote {RESULT}, {PICTURE} and {LATENTS} to {out}")
