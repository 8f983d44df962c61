"""Networks as files for other programs, ONNX or torch.export's .pt2, compared with PyTorch before kept."""

from __future__ import annotations

import importlib
import inspect
import io
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from ganmod.io.atomic_write import atomic_write

ExportFormat = Literal["onnx", "pt2"]
Function = Callable[[Mapping[str, Tensor]], Tensor]
ReportStep = Callable[[str], None]  # what is being done

TOLERANCE = 1e-3  # of the largest difference, where values are in [-1,1] or [0,1]
OPSET = 18
METADATA_KEY = "ganmod"  # of the JSON in an ONNX file
_SMALLEST_HALVED = 256  # numbers in a tensor: below, a cast costs more than it saves


class ExportError(ValueError):
    """A network cannot be exported, or the file computes something else than PyTorch."""


class TraceError(ExportError):
    """torch.export cannot follow a network."""


class Program(NamedTuple):
    """A network and how to export it.

    Attributes:
        network: takes the inputs in their order, returns one tensor.
        inputs: an example of each, by name. No size that may vary is 1.
        output: name of the result.
        dynamic: {input: {axis: torch.export.Dim}} of the sizes that may vary.
        about: what a reader of the file has to know, JSON values: sizes and ranges.
    """

    network: nn.Module
    inputs: Mapping[str, Tensor]
    output: str
    dynamic: Mapping[str, Mapping[int, Any]]
    about: Mapping[str, Any]


def check_export_packages(file_format: ExportFormat) -> None:
    """Raise ExportError unless the packages that the format needs are installed."""
    for name in ("onnx", "onnxscript", "onnxruntime") if file_format == "onnx" else ():
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ExportError(
                f"ONNX needs the package {name}: pip install 'ganmod[export]', or write --format pt2"
            ) from error


class ExportResult(NamedTuple):
    """A file that was written.

    Attributes:
        file: its path.
        difference: the largest between its results and PyTorch's, relative to the size of values beyond 1.
        reason: why it takes a batch of one only although any was asked for, "" otherwise.
    """

    file: Path
    difference: float
    reason: str = ""

    @property
    def any_batch(self) -> bool:
        return not self.reason


@dataclass(frozen=True)
class ExportOptions:
    """What the files of an export have in common.

    Attributes:
        file_format: "onnx", one file with the weights inside, or "pt2".
        licence: of the weights, stated in ONNX files.
        fold_constants: of ONNX: compute what does not depend on the inputs, for readers that want constant
            weights, such as a phone's. Otherwise weights stay as they are, in half precision where exact.
        progress: called with what is being done.
    """

    file_format: ExportFormat = "onnx"
    licence: str = "not stated"
    fold_constants: bool = False
    progress: ReportStep = lambda step: None


def export_program(
    program: Program,
    file: Path,
    *,
    expected: Function,
    cases: Sequence[Mapping[str, Tensor]],
    options: ExportOptions,
) -> ExportResult:
    """Write the file, run it and compare it with PyTorch; nothing is left at `file` if that fails.

    Args:
        program: what to write.
        file: the path.
        expected: the results in PyTorch, of the network as it was before it was made exportable.
        cases: inputs to compare with.
        options: format, licence and progress.

    Raises:
        ExportError: packages are missing, the network cannot be traced, or results differ by more than 1e-3.
    """
    check_export_packages(options.file_format)
    options.progress(f"{file.name}: tracing")
    traced = trace(program)
    options.progress(f"{file.name}: converting")
    if options.file_format == "onnx":
        data = _onnx_bytes(traced, program, options)
    else:
        data = _pt2_bytes(traced)
    options.progress(f"{file.name}: comparing with PyTorch")
    run = onnx_session(data) if options.file_format == "onnx" else _pt2_session(data)
    difference = largest_difference(expected, run, cases)
    if not difference <= TOLERANCE:  # NaN, too
        raise ExportError(
            f"the results of {file.name} differ from PyTorch's by {difference:.2g}, expected at most "
            f"{TOLERANCE:g}: nothing was written to {file}; try the other format"
        )
    atomic_write(file, lambda temporary: _write_bytes(temporary, data))
    return ExportResult(file, difference)


def export_batches(
    program: Program,
    file: Path,
    *,
    expected: Function,
    cases: Sequence[Mapping[str, Tensor]],
    options: ExportOptions,
) -> ExportResult:
    """`export_program` for any batch size, or for a batch of one where the network cannot be traced for any.

    program.inputs: examples of two samples, whose first axis is the batch where `dynamic` names it.
    """
    try:
        return export_program(program, file, expected=expected, cases=cases, options=options)
    except TraceError as error:
        reason = str(error)
    single = {name: x[:1] if name in program.dynamic else x for name, x in program.inputs.items()}
    fixed = program._replace(inputs=single, dynamic={})
    ones = [case for case in cases if all(len(case[name]) == 1 for name in program.dynamic)]
    done = export_program(fixed, file, expected=expected, cases=ones, options=options)
    return done._replace(reason=reason)


@torch.no_grad()
def trace(program: Program) -> torch.export.ExportedProgram:
    """torch.export's graph of the network. Raises TraceError."""
    shapes = {name: dict(program.dynamic.get(name, {})) for name in program.inputs}
    names = list(inspect.signature(program.network.forward).parameters)[: len(program.inputs)]
    by_position = names == list(program.inputs)  # some optional inputs may be left out
    args, kwargs = (tuple(program.inputs.values()), {}) if by_position else ((), dict(program.inputs))
    reason = ""
    for strict in (False, True):  # the first is faster, but takes len(tensor) for a constant
        try:
            return torch.export.export(program.network, args, kwargs, dynamic_shapes=shapes, strict=strict)
        except Exception as error:
            reason = str(error).strip().split("\n")[0] or type(error).__name__
    raise TraceError(f"torch.export cannot trace {type(program.network).__name__}: {reason}")


@torch.no_grad()
def largest_difference(expected: Function, actual: Function, cases: Sequence[Mapping[str, Tensor]]) -> float:
    """Between two functions of the same inputs; relative to the size of values beyond 1."""
    differences = []
    for inputs in cases:
        wanted = expected(inputs)
        differences.append((actual(inputs) - wanted).abs().max() / wanted.abs().max().clamp_min(1))
    return torch.stack(differences).max().item()


def read_metadata(data: bytes) -> dict[str, Any]:
    """What `export_program` wrote about an ONNX file."""
    session = _inference_session(data)
    return json.loads(session.get_modelmeta().custom_metadata_map[METADATA_KEY])


def onnx_session(data: bytes) -> Function:
    """The function that an ONNX file computes, by onnxruntime on the CPU."""
    session = _inference_session(data)

    def run(inputs: Mapping[str, Tensor]) -> Tensor:
        return torch.from_numpy(session.run(None, {name: x.numpy() for name, x in inputs.items()})[0])

    return run


def _inference_session(data: bytes, options: Any = None) -> Any:
    onnxruntime: Any = importlib.import_module("onnxruntime")
    options = options or onnxruntime.SessionOptions()
    options.log_severity_level = 3  # its warnings are about constants that it leaves for run time
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def _pt2_bytes(traced: torch.export.ExportedProgram) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(traced, buffer)
    return buffer.getvalue()


def _pt2_session(data: bytes) -> Function:
    module = torch.export.load(io.BytesIO(data)).module()
    return lambda inputs: module(*inputs.values())


def _onnx_bytes(traced: torch.export.ExportedProgram, program: Program, options: ExportOptions) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "program.onnx"
        torch.onnx.export(
            traced,
            (),
            file,
            dynamo=True,
            external_data=False,  # one file, up to ONNX's limit of 2 GB
            input_names=list(program.inputs),
            output_names=[program.output],
            opset_version=OPSET,
            optimize=False,  # most of the exporter's time, and runtimes do it when they load a file
            verbose=False,
        )
        if options.fold_constants:
            _fold_constants(file)
        onnx: Any = importlib.import_module("onnx")
        model = onnx.load(file)
    _strip(model)
    if not options.fold_constants:
        _halve_weights(onnx, model)
    model.producer_name = "ganmod"
    onnx.helper.set_model_props(
        model, {METADATA_KEY: json.dumps({**program.about, "licence": options.licence})}
    )
    return model.SerializeToString()


def _fold_constants(file: Path) -> None:
    """Rewrite the file with onnxruntime's basic optimisations: standard operators come in and go out."""
    onnxruntime: Any = importlib.import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(file)
    _inference_session(file.read_bytes(), options)


def _strip(model: Any) -> None:
    """Remove weights that no node reads, and the exporter's notes, such as stack traces of every node."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        if hasattr(value, "metadata_props"):
            del value.metadata_props[:]
        value.doc_string = ""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.graph.value_info[:]
    standard = [domain for domain in model.opset_import if domain.domain in ("", "ai.onnx")]
    del model.opset_import[:]
    model.opset_import.extend(standard)
    used = {name for node in model.graph.node for name in node.input}
    kept = [weight for weight in model.graph.initializer if weight.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def _halve_weights(onnx: Any, model: Any) -> None:
    """Store weights that float16 holds exactly, as those of a model file do, in half the bytes."""
    casts = []
    for weight in model.graph.initializer:
        values = onnx.numpy_helper.to_array(weight)
        if values.dtype != "float32" or values.size < _SMALLEST_HALVED:
            continue
        half = values.astype("float16")
        if (half.astype("float32") == values).all():
            name, stored = weight.name, f"{weight.name}.half"
            weight.CopyFrom(onnx.numpy_helper.from_array(half, stored))
            casts.append(onnx.helper.make_node("Cast", [stored], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _write_bytes(path: Path, data: bytes) -> None:
    path.write_bytes(data)
