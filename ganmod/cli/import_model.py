"""`ganmod import`: foreign weights become model files."""

from __future__ import annotations

from pathlib import Path

import click

from ganmod.stylegan2.foreign_weights import ImportedNetworks
from ganmod.stylegan2.import_ada import import_stylegan2_ada
from ganmod.stylegan2.import_rosinality import import_stylegan2_rosinality
from style_transfer.import_adain import import_adain

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
OUT = click.option(
    "-o", "--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Model file to write."
)
HALF = click.option("--half", is_flag=True, help="Store float16.")
GENERATOR_ONLY = click.option(
    "--generator-only",
    is_flag=True,
    help="Leave out G and D, which only training needs: a third of the size.",
)


@click.group()
def import_model() -> None:
    """Convert foreign weights to a model file, without running code that they may contain."""


@import_model.command()
@click.argument("decoder", type=FILE)
@click.argument("vgg_normalised", type=FILE)
@OUT
@HALF
def adain(decoder: Path, vgg_normalised: Path, out: Path, half: bool) -> None:
    """The PyTorch AdaIN weights, decoder.pth and vgg_normalised.pth, as a classic AdaIN model."""
    import_adain(decoder, vgg_normalised).save(out, half=half)
    click.echo(f"wrote {out}")


@import_model.command("stylegan2-ada")
@click.argument("network", type=FILE)
@OUT
@HALF
@GENERATOR_ONLY
def stylegan2_ada(network: Path, out: Path, half: bool, generator_only: bool) -> None:
    """An official StyleGAN2 pickle (network-snapshot-*.pkl) of StyleGAN2-ADA or StyleGAN3's repository."""
    _write(import_stylegan2_ada(network, generator_only=generator_only), out, half)


@import_model.command("stylegan2-rosinality")
@click.argument("checkpoint", type=FILE)
@OUT
@HALF
@GENERATOR_ONLY
def stylegan2_rosinality(checkpoint: Path, out: Path, half: bool, generator_only: bool) -> None:
    """A checkpoint (.pt) of rosinality/stylegan2-pytorch."""
    _write(import_stylegan2_rosinality(checkpoint, generator_only=generator_only), out, half)


def _write(networks: ImportedNetworks, out: Path, half: bool) -> None:
    networks.save(out, half=half)
    click.echo(f"wrote {out}: {networks.describe()}")
