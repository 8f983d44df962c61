"""`ganmod translate`: photos into another domain, in the style of references or of seeds."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from tqdm import tqdm

from ganmod.cli.options.checks import check_device, import_plugins, refuse_options
from ganmod.cli.options.generator import MODEL, Ranges
from ganmod.cli.options.outputs import (
    check_out,
    file_name_part,
    read_images,
    report_left_out,
    results_names,
    write_grid,
)
from ganmod.cli.options.paths import InputPath, OutputPath, refuse_inputs
from ganmod.cli.options.shared import FRAME_RATE, FRAMES_PER_STEP, device_option, plugin_option
from ganmod.devices import find_device
from ganmod.io.animation import check_animation, write_animation
from ganmod.io.images import ImageError, write_image
from ganmod.starganv2 import StarGANv2, load_starganv2
from ganmod.starganv2.translation import reference_codes, seed_codes, translate, walk_codes

IMAGES = InputPath()


@click.command("translate")
@click.argument("model", type=MODEL)
@click.option("--source", required=True, type=IMAGES, help="Image or folder to translate.")
@click.option("--reference", type=IMAGES, help="Image or folder whose styles to take.")
@click.option("--latent", type=Ranges(), metavar="SEEDS", help="Styles drawn by seed instead, e.g. 0-3.")
@click.option(
    "--domain",
    metavar="NAME",
    help="Target domain: of --latent, and of references not in a folder named after theirs.",
)
@click.option(
    "-o",
    "--out",
    required=True,
    type=OutputPath(),
    help="Image file, folder for several; .mp4, .gif, .webp or folder of --interpolate.",
)
@click.option("--interpolate", is_flag=True, help="Walk from style to style, all sources side by side.")
@click.option("--frames-per-step", type=FRAMES_PER_STEP, default=60, show_default=True)
@click.option("--fps", type=FRAME_RATE, default=30.0, show_default=True)
@device_option()
@plugin_option
def translate_command(
    model: Path,
    source: Path,
    reference: Path | None,
    latent: list[int] | None,
    domain: str | None,
    out: Path,
    interpolate: bool,
    frames_per_step: int,
    fps: float,
    device: str,
    plugin: tuple[str, ...],
) -> None:
    """Translate --source with the StarGAN v2 MODEL, in every style of --reference or --latent.

    Several results come with a grid of all. Images of any size are resized to the model's. An image of a
    folder that cannot be read is reported and left out, and the exit code is then 1.
    """
    if (reference is None) == (latent is None):
        raise click.UsageError("expected one of --reference and --latent")
    if not interpolate:
        refuse_options(["frames_per_step", "fps"], "is for --interpolate")
    several = source.is_dir() or (reference is not None and reference.is_dir()) or len(latent or ()) > 1
    if interpolate:
        refuse_inputs(out)
        try:
            check_animation(out)
        except ValueError as error:
            raise click.UsageError(f"--out: {error}") from error
    else:
        check_out(out, several=several)
    check_device(device)
    import_plugins(plugin)
    networks = load_starganv2(model)
    for network in networks:
        network.to(find_device(device))
    left_out: list[ImageError] = []
    sources = results_names(source)
    contents = read_images(sources, several=source.is_dir(), left_out=left_out)
    sources = {file: name for file, name in sources.items() if file in contents}
    if reference is not None:
        styles = results_names(reference)
        references = read_images(styles, several=reference.is_dir(), left_out=left_out)
        styles = {file: name for file, name in styles.items() if file in references}
        domains = [_find_domain(file, domain, networks) for file in styles]
        codes = reference_codes(networks, list(references.values()), domains)
    else:
        assert latent is not None
        styles = {Path(f"seed {seed}"): f"{file_name_part(str(domain))}-seed{seed:04d}" for seed in latent}
        codes = seed_codes(networks, latent, _find_domain(None, domain, networks))
    images = list(contents.values())
    if interpolate:
        if len(codes) < 2:
            raise click.UsageError("--interpolate: got 1 style, expected two or more to walk between")
        walk = walk_codes(codes, frames_per_step=frames_per_step)
        frames = (np.concatenate(list(translate(networks, images, code)), axis=1) for code in walk)
        count = write_animation(out, tqdm(frames, total=len(walk), unit="img", disable=None), fps=fps)
        click.echo(f"wrote {count} frames ({count / fps:.1f} s) to {out}")
        report_left_out(left_out)
        return
    total = len(sources) * len(styles)
    bar = tqdm(total=total, unit="img", disable=None if several else True)
    for style, code in zip(styles.values(), codes, strict=True):
        for name, image in zip(sources.values(), translate(networks, images, code), strict=True):
            write_image(out / f"{name}--{style}.png" if several else out, image)
            bar.update()
    bar.close()
    click.echo(f"wrote {total} images to {out}" if several else f"wrote {out}")
    if several:
        click.echo(f"grid: {write_grid(out, sources, styles)}")
    report_left_out(left_out)


def _find_domain(file: Path | None, option: str | None, networks: StarGANv2) -> str:
    """The domain of a style: --domain, else the folder of its file; click.UsageError for an unknown one."""
    known = networks.spec.domains
    domain = option if option is not None or file is None else file.resolve().parent.name
    if domain is None or domain not in known:
        choice = f"expected one of {', '.join(known)}"
        if option is not None:
            raise click.UsageError(f"--domain {option}: no domain of the model, {choice}")
        of = "--latent" if file is None else f"--reference {file}, in a folder that has no domain's name,"
        raise click.UsageError(f"{of} needs --domain NAME: {choice}")
    return domain
