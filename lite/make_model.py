"""Write what the package ganmod-lite contains: the shipped style model as ONNX files, and built-in styles.

    python lite/make_model.py

Needs ganmod with its extra `export`. The result, lite/src/ganmod_lite/model, goes into the wheel.
"""

from __future__ import annotations

import argparse
import importlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import style_transfer
from ganmod.io.program_file import ExportOptions
from style_transfer import StyleTransferModel
from style_transfer.export import ParameterLayout, export_stages
from style_transfer.model import SHIPPED_MODEL
from style_transfer.procedural_styles import draw_style

FOLDER = Path(__file__).parent / "src" / "ganmod_lite" / "model"
LICENCE = "MIT code; weights trained in part on images for research only, see MODEL_CARD.md"
SIDE = 512  # pixels of a drawn style
THUMBNAIL = 96  # pixels

# {name: (pattern, seed, angle in degrees)} of `draw_style`.
STYLES: dict[str, tuple[str, int, float]] = {
    "bands-amber": ("stripes", 5, 35),
    "dots-night": ("dots", 2, 0),
    "dots-plum": ("dots", 4, 0),
    "dots-spring": ("dots", 7, 35),
    "mosaic-azure": ("mosaic", 4, 0),
    "mosaic-coral": ("mosaic", 5, 35),
    "mosaic-ember": ("mosaic", 0, 0),
    "mosaic-night": ("mosaic", 7, 35),
    "strokes-autumn": ("brush_strokes", 7, 35),
    "strokes-dawn": ("brush_strokes", 0, 0),
    "strokes-meadow": ("brush_strokes", 4, 0),
    "strokes-primary": ("brush_strokes", 5, 35),
    "strokes-sea": ("brush_strokes", 6, 0),
    "strokes-teal": ("brush_strokes", 8, 0),
    "woodcut": ("circles_and_squares", 0, 0),
}


def write_model(
    model: StyleTransferModel,
    folder: Path,
    styles: Mapping[str, np.ndarray],
    options: ExportOptions | None = None,
) -> None:
    """Write a model's networks and the parameters of built-in styles to a folder.

    Args:
        model: any style-transfer model.
        folder: for predict.onnx, encode.onnx, stage0.onnx ..., model.json, styles/NAME.npz and NAME.jpg.
        styles: {name: uint8 [H,W,3]}.
        options: licence and progress of `export_stages`.

    Raises:
        ExportError: a network cannot be exported.
    """
    export_stages(model, folder, options)
    for file in sorted(folder.glob("*.onnx")):
        sort_nodes(file) if file.stem == "predict" else fold_constants(file)
    target = folder / "styles"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for name, image in styles.items():
        with torch.inference_mode():
            params = model.predict_style(image)
            packed = ParameterLayout(params).pack(params)[0].numpy()
        np.savez(target / f"{name}.npz", parameters=packed.astype(np.float16))
        Image.fromarray(image).resize((THUMBNAIL, THUMBNAIL)).save(target / f"{name}.jpg", quality=85)


def sort_nodes(file: Path) -> None:
    """Let every map be used up before the next convolution, so that few are in memory at a time.

    Nodes run in the file's order where they can: here, a Pad, with which a convolution begins, waits for all
    others that can run.
    """
    onnx: Any = importlib.import_module("onnx")
    network = onnx.load(file)
    graph = network.graph
    known = {"", *(value.name for value in (*graph.initializer, *graph.input))}
    waiting, ordered = list(graph.node), []
    while waiting:
        ready = [node for node in waiting if known.issuperset(node.input)]
        chosen = next((node for node in ready if node.op_type != "Pad"), ready[0])
        waiting.remove(chosen)
        ordered.append(chosen)
        known.update(chosen.output)
    del graph.node[:]
    graph.node.extend(ordered)
    onnx.checker.check_model(network)
    onnx.save(network, file)


def fold_constants(file: Path) -> None:
    """Compute what does not depend on the inputs now rather than at every start."""
    onnxruntime: Any = importlib.import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    folded = file.with_suffix(".folded")
    options.optimized_model_filepath = str(folded)
    onnxruntime.InferenceSession(file.read_bytes(), options, providers=["CPUExecutionProvider"])
    folded.replace(file)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder to write  [the package's]")
    args = parser.parse_args()
    shutil.rmtree(args.out, ignore_errors=True)
    drawn = {shown: draw_style(name, SIDE, seed, angle) for shown, (name, seed, angle) in STYLES.items()}
    write_model(
        style_transfer.load(),
        args.out,
        drawn,
        ExportOptions(licence=LICENCE, progress=lambda step: print(step, flush=True)),
    )
    shutil.copy(SHIPPED_MODEL.parent / "MODEL_CARD.md", args.out)
    size = sum(file.stat().st_size for file in args.out.rglob("*") if file.is_file())
    print(f"wrote {args.out}: {size / 1e6:.1f} MB, {len(drawn)} built-in styles")


if __name__ == "__main__":
    main()
