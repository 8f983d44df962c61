"""A trained generator as files for other programs, ONNX or torch.export's .pt2."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ganmod.io.program_file import ExportOptions, ExportResult, Program, export_batches
from ganmod.modulation import ModulatedConv2d
from ganmod.stylegan2.generator import Generator

_EXAMPLE_BATCH = 2  # torch.export treats a batch of one as a constant
_CHECKED_BATCHES = (1, 3)


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


class TruncatedMapping(nn.Module):
    """z [N,z_dim], class weights c [N,c_dim] if conditional, psi [num_ws] -> ws [N,num_ws,w_dim].

    psi: truncation of every layer, 1 leaves w alone; see `truncate`.
    """

    def __init__(self, G: Generator) -> None:
        super().__init__()
        self.mapping = G.mapping

    def forward(self, z: Tensor, truncation_psi: Tensor, c: Tensor | None = None) -> Tensor:
        ws = self.mapping(z, c)
        return self.mapping.w_avg + truncation_psi[:, None] * (ws - self.mapping.w_avg)


class Synthesis(nn.Module):
    """ws [N,num_ws,w_dim] -> image [N,img_channels,H,W] in about [-1,1], with constant noise."""

    def __init__(self, G: Generator) -> None:
        super().__init__()
        self.synthesis = G.synthesis

    def forward(self, ws: Tensor) -> Tensor:
        return self.synthesis(ws, noise_mode="const")


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
    options: ExportOptions | None = None,
    *,
    c: Tensor | None = None,
    truncation_psi: float = 1.0,
    truncation_cutoff: int | None = None,
) -> ExportResult:
    """Export the generator with input z to `path`; inputs other than z are fixed, see `FixedGenerator`.

    The file takes any batch size if the modulations allow it, else one. Raises ExportError, see
    `ganmod.io.program_file.export_program`.
    """
    model = FixedGenerator(G, c=c, truncation_psi=truncation_psi, truncation_cutoff=truncation_cutoff)
    plain = copy.deepcopy(G).cpu().float().eval()

    def expected(case: Mapping[str, Tensor]) -> Tensor:
        z = case["z"]
        labels = None if c is None else c.cpu().expand(len(z), -1)
        return plain(
            z,
            labels,
            truncation_psi=truncation_psi,
            truncation_cutoff=truncation_cutoff,
            noise_mode="const",
        )

    about = {
        "kind": "stylegan2",
        "inputs": {"z": f"[N,{G.z_dim}] from N(0, 1)"},
        "output": _image(G),
        "truncation_psi": truncation_psi,
        "truncation_cutoff": truncation_cutoff,
    }
    return export_batches(
        Program(model, {"z": _latents(G, _EXAMPLE_BATCH)}, "image", {"z": _any_batch()}, about),
        Path(path),
        expected=expected,
        cases=[{"z": _latents(G, batch)} for batch in _CHECKED_BATCHES],
        options=options or ExportOptions(),
    )


def export_stylegan2(G: Generator, folder: Path, options: ExportOptions | None = None) -> list[ExportResult]:
    """Write mapping and synthesis: z, class and truncation -> ws, and ws -> image.

    So ws can be truncated by any psi, layer by layer, mixed and interpolated in between. Raises ExportError,
    see `ganmod.io.program_file.export_program`.
    """
    options = options or ExportOptions()
    prepared = copy_for_export(G)
    plain = copy.deepcopy(G).cpu().float().eval()
    mapping, synthesis = TruncatedMapping(plain), Synthesis(plain)

    def latents(batch: int) -> dict[str, Tensor]:
        inputs = {"z": _latents(G, batch), "truncation_psi": torch.linspace(0.5, 1.0, G.num_ws)}
        if G.c_dim:
            inputs["c"] = torch.eye(G.c_dim)[torch.arange(batch) % G.c_dim]
        return inputs

    def ws(batch: int) -> dict[str, Tensor]:
        return {"ws": mapping(**latents(batch))}

    about: dict[str, Any] = {
        "kind": "stylegan2",
        "num_ws": G.num_ws,
        "w_dim": G.w_dim,
        "image": _image(G),
    }
    inputs = {
        "z": f"[N,{G.z_dim}] from N(0, 1)",
        "truncation_psi": f"[{G.num_ws}], of every layer, 1 for none",
    }
    if G.c_dim:
        inputs["c"] = f"[N,{G.c_dim}], one-hot or weights of the classes"
    shape = f"[N,{G.num_ws},{G.w_dim}]"
    batch = _any_batch()
    with torch.no_grad():
        return [
            export_batches(
                Program(
                    TruncatedMapping(prepared),
                    latents(_EXAMPLE_BATCH),
                    "ws",
                    {name: batch for name in ("z", "c") if name in latents(1)},
                    about | {"inputs": inputs, "output": shape},
                ),
                folder / f"mapping.{options.file_format}",
                expected=lambda case: mapping(**case),
                cases=[latents(batch) for batch in _CHECKED_BATCHES],
                options=options,
            ),
            export_batches(
                Program(
                    Synthesis(prepared),
                    ws(_EXAMPLE_BATCH),
                    "image",
                    {"ws": batch},
                    about | {"inputs": {"ws": shape}, "output": _image(G)},
                ),
                folder / f"synthesis.{options.file_format}",
                expected=lambda case: synthesis(**case),
                cases=[ws(batch) for batch in _CHECKED_BATCHES],
                options=options,
            ),
        ]


def _image(G: Generator) -> str:
    return f"[N,{G.img_channels},H,W], about [-1, 1]"


def _latents(G: Generator, batch: int) -> Tensor:
    return torch.randn(batch, G.z_dim, generator=torch.Generator().manual_seed(batch))


def _any_batch() -> dict[int, Any]:
    return {0: torch.export.Dim("batch")}
