"""A StyleGAN2 generator as files for the page."""

from __future__ import annotations

import json
from pathlib import Path

from ganmod.cli.options.generator import load_generator
from ganmod.io.program_file import ExportOptions, ReportStep
from ganmod.stylegan2 import Generator


def export_generator_files(model: Path, folder: Path, progress: ReportStep = lambda step: None) -> None:
    """Write mapping.onnx, synthesis.onnx and generator.json of a model file.

    Raises ModelFileError for another file, and ExportError as `export_stylegan2`.
    """
    from ganmod.io.model_file import read_model_header
    from ganmod.stylegan2.export import export_stylegan2

    G, class_names = load_generator(model, plugin=(), device="cpu")
    folder.mkdir(parents=True, exist_ok=True)
    export_stylegan2(G, folder, ExportOptions(licence=read_model_header(model).licence, progress=progress))
    manifest = describe_generator(G, class_names)
    (folder / "generator.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def describe_generator(G: Generator, class_names: tuple[str, ...]) -> dict[str, object]:
    """Sizes, classes, and which layers of ws belong to each resolution, coarse to fine."""
    shapes = [tuple(block.conv1.noise_const.shape) for block in G.synthesis.blocks]
    last = len(shapes) - 1
    return {
        "z_dim": G.z_dim,
        "num_ws": G.num_ws,
        "num_classes": G.c_dim,
        "class_names": list(class_names),
        "levels": [
            # One convolution at the coarsest level, two at each other; the last torgb has its own w.
            {"size": f"{w} x {h}", "layers": [max(2 * i - 1, 0), 2 * i + (2 if i == last else 1)]}
            for i, (h, w) in enumerate(shapes)
        ],
    }
