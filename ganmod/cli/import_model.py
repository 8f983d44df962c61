"""`ganmod import`: foreign weights become model files."""

from __future__ import annotations

from pathlib import Path

import click

from configs.visible_text import visible
from ganmod.cli.options.paths import InputPath, OutputPath, refuse_inputs
from ganmod.cli.options.shared import Number
from ganmod.starganv2.import_official import import_starganv2
from ganmod.stylegan2.importers.ada import import_stylegan2_ada
from ganmod.stylegan2.importers.foreign_weights import ImportedNetworks
from ganmod.stylegan2.importers.rosinality import import_stylegan2_rosinality
from style_transfer.importers.adain import import_adain
from style_transfer.importers.wct import import_wct

FILE = InputPath(dir_okay=False)
OUT = click.option("-o", "--out", required=True, type=OutputPath(dir_okay=False), help="Model file to write.")
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
    refuse_inputs(out)
    import_adain(decoder, vgg_normalised).save(out, half=half, store_encoder=True)
    click.echo(f"wrote {out}")


@import_model.command()
@click.argument("folder", type=InputPath())
@OUT
@HALF
@click.option(
    "--modulation",
    default="wct",
    show_default=True,
    help="What transforms the features of each level: wct, match_moments, style_swap or style_decorator.",
)
def wct(folder: Path, out: Path, half: bool, modulation: str) -> None:
    """WCT's encoders and decoders of all levels, 1SE.pth to 5SD.pth of Collaborative-Distillation."""
    refuse_inputs(out)
    model = import_wct(folder, modulation=modulation)
    model.save(out, half=half, store_encoder=True)
    click.echo(f"wrote {out}: {len(model.spec.levels)} levels")


@import_model.command("stylegan2-ada")
@click.argument("network", type=FILE)
@OUT
@HALF
@GENERATOR_ONLY
def stylegan2_ada(network: Path, out: Path, half: bool, generator_only: bool) -> None:
    """An official StyleGAN2 pickle (network-snapshot-*.pkl) of StyleGAN2-ADA or StyleGAN3's repository."""
    refuse_inputs(out)
    _write(import_stylegan2_ada(network, generator_only=generator_only), out, half)


@import_model.command("stylegan2-rosinality")
@click.argument("checkpoint", type=FILE)
@OUT
@HALF
@GENERATOR_ONLY
def stylegan2_rosinality(checkpoint: Path, out: Path, half: bool, generator_only: bool) -> None:
    """A checkpoint (.pt) of rosinality/stylegan2-pytorch."""
    refuse_inputs(out)
    _write(import_stylegan2_rosinality(checkpoint, generator_only=generator_only), out, half)


@import_model.command("starganv2")
@click.argument("checkpoint", type=FILE)
@OUT
@HALF
@click.option(
    "--domains",
    metavar="A,B,...",
    help="Their names, in alphabetical order of the training folders: cat,dog,wild for AFHQ, female,male for "
    "CelebA-HQ.  [default: 0,1,...]",
)
@click.option(
    "--w-hpf",
    type=Number(0, min_open=True),
    help="Of a generator with the high-pass filter.  [default: that of the file, else 1]",
)
def starganv2(checkpoint: Path, out: Path, half: bool, domains: str | None, w_hpf: float | None) -> None:
    """An official checkpoint (100000_nets_ema.ckpt) of clovaai/stargan-v2."""
    refuse_inputs(out)
    names = None if domains is None else [name.strip() for name in domains.split(",")]
    imported = import_starganv2(checkpoint, domains=names, w_hpf=w_hpf)
    imported.save(out, half=half)
    click.echo(f"wrote {out}: {imported.describe()}")
    if imported.left_out:
        click.echo(visible(f"left out: {', '.join(imported.left_out)}"))
    if imported.networks.spec.w_hpf:
        click.echo(
            "note: the official images use masks of its face landmark network (fan), which is not part of "
            "ganmod; without masks the filtered features are added everywhere"
        )


def _write(networks: ImportedNetworks, out: Path, half: bool) -> None:
    networks.save(out, half=half)
    click.echo(f"wrote {out}: {networks.describe()}")
