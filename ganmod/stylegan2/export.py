"""A trained generator as a file for other programs, ONNX or torch.export's .pt2: from z to an image."""

from __future__ import annotations

import copy
import importlib
import io
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ganmod.io.atomic_write import atomic_write
from ganmod.modulation import ModulatedConv2d
from ganmod.stylegan2.generator import Generator

ExportFormat = Literal["onnx", "pt2"]

TOLERANCE = 1e-3  # of the largest difference, where images span 2
OPSET = 18
_EXAMPLE_BATCH = 2  # torch.export treats a batch of one as a constant
_CHECKED_BATCHES = (1, 3)


class ExportResult(NamedTuple):
    """Properties of an exported file.

    Attributes:
        any_batch: whether it takes any number of latents, or only one.
        difference: the largest between its images and PyTorch's.
        reason: why it takes only one, "" otherwise.
    """

    any_batch: bool
    difference: float
    reason: str = ""


class ExportError(ValueError):
    """A generator cannot be exported, or the file gives other images than PyTorch."""


class FixedGenerator(nn.Module):
    """z [N,z_dim] -> image [N,img_channels,H,W] in about [-1,1]: all other inputs are fixed."""

    c: Tensor | None

    def __init__(
        self,
        G: Generator,
        *,
        c: Tensor | None = None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
    ) -> None:
        """c [1,c_dim]. The generator is copied, see `copy_for_export`."""
        super().__init__()
        self.G = copy_for_export(G)
        self.psi, self.cutoff = truncation_psi, truncation_cutoff
        self.register_buffer("c", c)

    def forward(self, z: Tensor) -> Tensor:
        c = None if self.c is None else self.c.expand(z.shape[0], -1)
        return self.G(z, c, truncation_psi=self.psi, truncation_cutoff=self.cutoff, noise_mode="const")


def copy_for_export(G: Generator) -> Generator:
    """A copy on the CPU in float32, with modulations in forms that all formats support."""
    G = copy.deepcopy(G).cpu().float().eval().requires_grad_(False)
    for layer in [module for module in G.modules() if isinstance(module, ModulatedConv2d)]:
        layer.modulation.use_exportable_form()
    for block in G.synthesis.blocks:
        block.half_dtype = None
    return G


def export_generator(
    G: Generator,
    path: str | Path,
    *,
    file_format: ExportFormat,
    c: Tensor | None = None,
    truncation_psi: float = 1.0,
    truncation_cutoff: int | None = None,
) -> ExportResult:
    """Export the generator with input z to `path`, after comparing its images with PyTorch's.

    The file takes any batch size if the modulations allow it, else one. Inputs other than z are fixed, see
    `FixedGenerator`. Raises ExportError, and writes nothing, if packages are missing, the generator cannot be
    traced, or images differ by more than 1e-3 of their range.
    """
    check_export_packages(file_format)
    model = FixedGenerator(G, c=c, truncation_psi=truncation_psi, truncation_cutoff=truncation_cutoff)
    program, reason = _trace(model)
    data = _onnx_bytes(program) if file_format == "onnx" else _pt2_bytes(program)
    run = _onnx_session(data) if file_format == "onnx" else _pt2_session(data)
    plain = copy.deepcopy(G).cpu().float().eval()

    def expected(z: Tensor) -> Tensor:
        labels = None if c is None else c.cpu().expand(len(z), -1)
        return plain(
            z,
            labels,
            truncation_psi=truncation_psi,
            truncation_cutoff=truncation_cutoff,
            noise_mode="const",
        )

    difference = largest_difference(
        expected, run, z_dim=G.z_dim, batches=(1,) if reason else _CHECKED_BATCHES
    )
    if not difference <= TOLERANCE:  # NaN, too
        raise ExportError(
            f"the exported images differ from PyTorch's by {difference:.2g}, expected at most {TOLERANCE:g}: "
            f"nothing was written to {path}; try the other format"
        )

    def write(temporary: Path) -> None:
        temporary.write_bytes(data)

    atomic_write(path, write)
    return ExportResult(not reason, difference, reason)


def check_export_packages(file_format: ExportFormat) -> None:
    """Raise ExportError unless the packages that the format needs are installed."""
    for name in ("onnx", "onnxscript", "onnxruntime") if file_format == "onnx" else ():
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ExportError(
                f"ONNX needs the package {name}: pip install 'ganmod[export]', or write --format pt2"
            ) from error


@torch.no_grad()
def _trace(model: FixedGenerator) -> tuple[torch.export.ExportedProgram, str]:
    """The program, and why it takes only one latent, "" if it takes any number."""
    z = torch.zeros(_EXAMPLE_BATCH, model.G.z_dim)
    shapes = {"z": {0: torch.export.Dim("batch")}}
    try:  # strict: the other tracer treats len(tensor) as a constant
        return torch.export.export(model, (z,), dynamic_shapes=shapes, strict=True), ""
    except Exception as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
    try:
        return torch.export.export(model, (z[:1],), strict=True), reason
    except Exception as error:
        raise ExportError(f"torch.export cannot trace this generator: {error}") from error


def _pt2_bytes(program: torch.export.ExportedProgram) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def _onnx_bytes(program: torch.export.ExportedProgram) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "generator.onnx"
        torch.onnx.export(
            program,
            (),
            file,
            dynamo=True,
            external_data=False,  # one file, up to ONNX's limit of 2 GB
            input_names=["z"],
            output_names=["image"],
            opset_version=OPSET,
            verbose=False,
        )
        return file.read_bytes()


def _pt2_session(data: bytes) -> Callable[[Tensor], Tensor]:
    return torch.export.load(io.BytesIO(data)).module()


def _onnx_session(data: bytes) -> Callable[[Tensor], Tensor]:
    onnxruntime: Any = importlib.import_module("onnxruntime")
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return lambda z: torch.from_numpy(session.run(None, {"z": z.numpy()})[0])


@torch.no_grad()
def largest_difference(
    expected: Callable[[Tensor], Tensor],
    actual: Callable[[Tensor], Tensor],
    *,
    z_dim: int,
    batches: Sequence[int],
) -> float:
    """Largest difference of two functions of random z [N,z_dim], relative to values above 1."""
    differences = []
    for batch in batches:
        z = torch.from_numpy(np.random.RandomState(batch).randn(batch, z_dim)).float()
        wanted = expected(z)
        differences.append((actual(z) - wanted).abs().max() / wanted.abs().max().clamp_min(1))
    return torch.stack(differences).max().item()
