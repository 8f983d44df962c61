"""`ganmod import`: foreign weights become model files."""

from __future__ import annotations

from pathlib import Path

import click

from style_transfer.import_adain import import_adain

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def import_model() -> None:
    """Convert foreign weights to a model file, without running code that they may contain."""


@import_model.command()
@click.argument("decoder", type=FILE)
@click.argument("vgg_normalised", type=FILE)
@click.option(
    "-o", "--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Model file to write."
)
@click.option("--half", is_flag=True, help="Store float16.")
def adain(decoder: Path, vgg_normalised: Path, out: Path, half: bool) -> None:
    """The PyTorch AdaIN weights, decoder.pth and vgg_normalised.pth, as a classic AdaIN model."""
    import_adain(decoder, vgg_normalised).save(out, half=half)
    click.echo(f"wrote {out}")
