"""StarGAN v2's networks as files for other programs: generator, mapping network and style encoder."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganmod.io.program_file import ExportOptions, ExportResult, Program, export_batches
from ganmod.modulation import ModulatedConv2d
from ganmod.starganv2.domain_networks import MappingNetwork, StyleEncoder
from ganmod.starganv2.generator import Generator

_EXAMPLE_BATCH = 2  # torch.export treats a batch of one as a constant
_CHECKED_BATCHES = (1, 3)


def export_starganv2(
    generator: Generator,
    mapping: MappingNetwork,
    style_encoder: StyleEncoder,
    folder: Path,
    options: ExportOptions | None = None,
) -> list[ExportResult]:
    """Write generator (image, style -> image), mapping (z, domain -> style) and style_encoder.

    style_encoder: image, its domain -> style. Raises ExportError, see
    `ganmod.io.program_file.export_program`.
    """
    options = options or ExportOptions()
    spec = generator.spec
    networks = [
        copy.deepcopy(n).cpu().float().eval().requires_grad_(False)
        for n in (generator, mapping, style_encoder)
    ]
    prepared = copy.deepcopy(networks[0])
    for layer in [module for module in prepared.modules() if isinstance(module, ModulatedConv2d)]:
        layer.modulation.use_exportable_form()

    def example(name: str, batch: int) -> Tensor:
        drawn = torch.Generator().manual_seed(batch)
        if name == "img":
            size = (batch, spec.img_channels, spec.img_size, spec.img_size)
            return 2 * torch.rand(size, generator=drawn) - 1
        if name == "domains":
            return torch.arange(batch) % spec.num_domains
        return torch.randn(batch, spec.style_dim if name == "style" else spec.latent_dim, generator=drawn)

    image = f"[N,{spec.img_channels},{spec.img_size},{spec.img_size}] in [-1, 1]"
    shapes = {
        "img": image,
        "style": f"[N,{spec.style_dim}]",
        "z": f"[N,{spec.latent_dim}] from N(0, 1)",
        "domains": "int64 [N], " + ", ".join(f"{i} {name}" for i, name in enumerate(spec.domains)),
    }
    batch: dict[int, Any] = {0: torch.export.Dim("batch")}
    done = []
    for name, traced, plain, inputs, output in (
        ("generator", prepared, networks[0], ("img", "style"), image),
        ("mapping", networks[1], networks[1], ("z", "domains"), shapes["style"]),
        ("style_encoder", networks[2], networks[2], ("img", "domains"), shapes["style"]),
    ):
        program = Program(
            traced,
            {i: example(i, _EXAMPLE_BATCH) for i in inputs},
            "image" if name == "generator" else "style_code",
            dict.fromkeys(inputs, batch),
            {"kind": "starganv2", "inputs": {i: shapes[i] for i in inputs}, "output": output},
        )
        done.append(
            export_batches(
                program,
                folder / f"{name}.{options.file_format}",
                expected=lambda case, plain=plain: plain(**case),  # type: ignore[misc]
                cases=[{i: example(i, n) for i in inputs} for n in _CHECKED_BATCHES],
                options=options,
            )
        )
    return done
