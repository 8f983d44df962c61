"""`ganmod export`: a trained generator for other programs."""

from __future__ import annotations

from pathlib import Path

import click

from ganmod.cli.options.generator import MODEL, check_cutoff, choose_label, load_generator
from ganmod.cli.options.shared import plugin_option, truncation_options
from ganmod.stylegan2.export import ExportFormat, check_export_packages, export_generator


@click.command()
@click.argument("model", type=MODEL)
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["onnx", "pt2"]),
    required=True,
    help="onnx, or pt2: torch.export's, read by torch.export.load.",
)
@click.option(
    "-o", "--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="File to write."
)
@truncation_options("Truncation psi, fixed in the file.")
@click.option(
    "--class", "which", metavar="INDEX|NAME", help="Class, fixed in the file, for a conditional model."
)
@plugin_option
def export(
    model: Path,
    file_format: ExportFormat,
    out: Path,
    truncation_psi: float,
    cutoff: int | None,
    which: str | None,
    plugin: tuple[str, ...],
) -> None:
    """Write the generator in MODEL as a file with the input z [N,z_dim] and the output image [N,3,H,W].

    Images are in -1..1, noise is constant. The file is run and compared with PyTorch before it is kept.
    """
    check_export_packages(file_format)
    G, class_names = load_generator(model, plugin=plugin, device="cpu")
    c = choose_label(which, G, class_names)
    check_cutoff(cutoff, G)
    done = export_generator(
        G,
        out,
        file_format=file_format,
        c=c,
        truncation_psi=truncation_psi,
        truncation_cutoff=cutoff,
    )
    batch = "any batch size" if done.any_batch else f"batches of one only ({done.reason})"
    click.echo(f"wrote {out}: {batch}, largest difference from PyTorch {done.difference:.2g}")
