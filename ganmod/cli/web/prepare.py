"""What `make web` runs: fetches onnxruntime-web, exports the style model, draws the built-in pictures."""

from __future__ import annotations

import shutil

import click

from ganmod.cli.main import main
from ganmod.cli.web.page import BUILT, MODEL, PAGE, RUNTIME
from ganmod.cli.web.pictures import write_pictures
from ganmod.cli.web.runtime import copy_licences, fetch_runtime
from ganmod.io.model_file import read_model_header
from ganmod.io.program_file import ExportOptions, check_export_packages


@click.command()
def prepare() -> None:
    """Fill the folder `built` of the page, anew."""
    import style_transfer
    from style_transfer.model import SHIPPED_MODEL
    from style_transfer.piecewise.stage_files import export_stages

    check_export_packages("onnx")
    built, fresh = PAGE / BUILT, PAGE / f".{BUILT}"
    shutil.rmtree(fresh, ignore_errors=True)  # of a run that was stopped
    click.echo("fetching onnxruntime-web", err=True)
    fetch_runtime(fresh / RUNTIME)
    copy_licences(fresh / RUNTIME)
    click.echo("drawing styles", err=True)
    model = style_transfer.load()
    write_pictures(fresh, model)
    options = ExportOptions(
        licence=read_model_header(SHIPPED_MODEL).licence, progress=lambda step: click.echo(step, err=True)
    )
    export_stages(model, fresh / MODEL, options, regions=(1, 2))
    shutil.copyfile(SHIPPED_MODEL.with_name("MODEL_CARD.md"), fresh / MODEL / "MODEL_CARD.md")
    shutil.rmtree(built, ignore_errors=True)
    fresh.rename(built)
    click.echo(f"wrote {built}: `ganmod web` serves the page")


if __name__ == "__main__":
    main(prepare)
