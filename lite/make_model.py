"""Write what the package ganmod-lite contains: the shipped style model as ONNX files, and built-in styles.

    python lite/make_model.py

Needs ganmod with its extra `export`. The result, lite/src/ganmod_lite/model, goes into the wheel.
"""

from __future__ import annotations

import argparse
import importlib
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

import style_transfer
from ganmod.io.program_file import ExportError, ExportOptions
from style_transfer import StyleTransferModel
from style_transfer.export import ParameterLayout
from style_transfer.model import SHIPPED_MODEL
from style_transfer.piecewise.stage_files import export_stages
from style_transfer.procedural_styles import BUILTIN_STYLES, builtin_style

FOLDER = Path(__file__).parent / "src" / "ganmod_lite" / "model"
LICENCE = "MIT code; weights trained in part on images for research only, see MODEL_CARD.md"
TOLERANCE = 1e-3  # of a rewritten network, as a share of its largest value where that is above 1


def write_model(
    model: StyleTransferModel,
    folder: Path,
    styles: Mapping[str, np.ndarray],
    options: ExportOptions | None = None,
) -> None:
    """Write a model's networks and the parameters of built-in styles to a folder.

    Args:
        model: any style-transfer model.
        folder: for predict.onnx, encode.onnx, stage0.onnx ..., model.json, styles/NAME.npz.
        styles: {name: uint8 [H,W,3]}.
        options: licence and progress of `export_stages`.

    Raises:
        ExportError: a network cannot be exported, or rewriting it changes its results.
    """
    export_stages(model, folder, options)
    for file in sorted(folder.glob("*.onnx")):
        rewrite(file)
    target = folder / "styles"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for name, image in styles.items():
        with torch.inference_mode():
            params = model.predict_style(image)
            packed = ParameterLayout(params).pack(params)[0].numpy()
        np.savez(target / f"{name}.npz", parameters=packed)


def rewrite(file: Path) -> None:
    """Make a network's file cheaper to run; ExportError if its results change."""
    before = file.read_bytes()
    save_memory(file) if file.stem == "predict" else fold_constants(file)
    wanted, got = _compute(before), _compute(file.read_bytes())
    difference, limit = np.abs(got - wanted).max(), TOLERANCE * max(1, np.abs(wanted).max())
    if not difference <= limit:  # nor NaN
        raise ExportError(
            f"{file} computes something else since it was rewritten: it differs by {difference:.2g}, "
            f"expected {limit:.2g} at most; look for the rule that changes it"
        )


def _compute(network: bytes) -> np.ndarray:
    """The output of a network for numbers of a fixed seed; sides that are free have 64 pixels."""
    onnxruntime: Any = importlib.import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    generator = np.random.default_rng(0)
    feed = {}
    for put in session.get_inputs():
        shape = [side if isinstance(side, int) else 64 for side in put.shape]
        if put.name == "origin":
            feed[put.name] = np.array([8, 40])
        elif put.name == "pixels":
            feed[put.name] = np.full(shape, 64.0**2, np.float32)
        else:
            feed[put.name] = generator.random(shape, np.float32)
    return session.run(None, feed)[0]


def save_memory(file: Path) -> None:
    """Rewrite a predictor, whose maps are large, so that two of them are in memory at a time, not four.

    Squares overwrite their input. What divides the channels of a map before a matrix product divides the
    matrix instead. Products with transposed maps need no transposed copy. Nodes
    run in the order of `_order_nodes`.
    """
    onnx: Any = importlib.import_module("onnx")
    network = onnx.load(file)
    graph = network.graph
    _replace_squares(onnx, graph)
    _divide_matrices(onnx, graph)
    _fuse_transposes(onnx, network)
    ordered = _order_nodes(graph)
    del graph.node[:]
    graph.node.extend(ordered)
    onnx.checker.check_model(network)
    onnx.save(network, file)


def _replace_squares(onnx: Any, graph: Any) -> None:
    """Pow(x, 2) -> Mul(x, x), which needs no memory of its own."""
    constants = {
        node.output[0]: onnx.numpy_helper.to_array(node.attribute[0].t)
        for node in graph.node
        if node.op_type == "Constant" and node.attribute[0].name == "value"
    }
    constants |= {weight.name: onnx.numpy_helper.to_array(weight) for weight in graph.initializer}
    for node in graph.node:
        if node.op_type == "Pow" and np.all(constants.get(node.input[1], 0) == 2):
            node.op_type = "Mul"
            node.input[1] = node.input[0]


def _divide_matrices(onnx: Any, graph: Any) -> None:
    """MatMul(a, Div(x, c)) with c [...,C,1] -> MatMul(Div(a, transposed c), x)."""
    producers = {output: node for node in graph.node for output in node.output}
    uses = Counter(name for node in graph.node for name in node.input)
    added = []
    for product in [node for node in graph.node if node.op_type == "MatMul"]:
        matrix, name = product.input
        divided = producers.get(name)
        if divided is None or divided.op_type != "Div" or uses[name] != 1:
            continue
        column = producers.get(divided.input[1])
        if column is None or "Unsqueeze" not in {column.op_type, *_kinds(column, producers)}:
            continue  # not known to be a column
        row, scaled = f"{name}.row", f"{name}.matrix"
        added.append(onnx.helper.make_node("Transpose", [divided.input[1]], [row], perm=[1, 0]))
        added.append(onnx.helper.make_node("Div", [matrix, row], [scaled]))
        product.input[0], product.input[1] = scaled, divided.input[0]
        graph.node.remove(divided)
    graph.node.extend(added)


def _order_nodes(graph: Any) -> list[Any]:
    """The nodes so that maps are soon used up: a Pad waits, constants come right before they are used."""
    varying = {value.name for value in graph.input}
    for node in graph.node:
        if varying.intersection(node.input):
            varying.update(node.output)
    producers = {output: node for node in graph.node for output in node.output}
    waiting = [node for node in graph.node if varying.intersection(node.output)]
    known = {value.name for value in graph.input}
    ordered: list[Any] = []
    placed: set[str] = {"", *(weight.name for weight in graph.initializer)}

    def place(node: Any) -> None:
        for name in node.input:
            if name not in varying and name not in placed:
                place(producers[name])
        ordered.append(node)
        placed.update(node.output)

    while waiting:
        ready = [node for node in waiting if known.issuperset(varying.intersection(node.input))]
        chosen = next((node for node in ready if node.op_type != "Pad"), ready[0])
        waiting.remove(chosen)
        place(chosen)
        known.update(chosen.output)
    return ordered


def _fuse_transposes(onnx: Any, network: Any) -> None:
    """MatMul(a, Transpose(b)) -> onnxruntime's FusedMatMul(a, b), which needs no transposed copy."""
    graph = network.graph
    producers = {output: node for node in graph.node for output in node.output}
    uses = Counter(name for node in graph.node for name in node.input)
    for product in [node for node in graph.node if node.op_type == "MatMul"]:
        transposed = producers.get(product.input[1])
        if transposed is None or transposed.op_type != "Transpose" or uses[product.input[1]] != 1:
            continue
        if list(transposed.attribute[0].ints) != [0, 2, 1]:
            continue
        product.op_type, product.domain = "FusedMatMul", "com.microsoft"
        product.attribute.append(onnx.helper.make_attribute("transB", 1))
        product.input[1] = transposed.input[0]
        graph.node.remove(transposed)
    network.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))


def _kinds(node: Any, producers: Mapping[str, Any]) -> set[str]:
    """Kinds of the nodes whose results a node reads."""
    return {producers[name].op_type for name in node.input if name in producers}


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
    drawn = {name: builtin_style(name) for name in BUILTIN_STYLES}
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
