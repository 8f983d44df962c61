"""If this fails, StyleGAN2's exported mapping and synthesis give other images, or ignore psi or the class."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_generator import tiny_generator

from ganmod.io.program_file import ExportOptions, onnx_session, read_metadata
from ganmod.modulation import list_modulations
from ganmod.stylegan2.export import export_stylegan2


@pytest.fixture(autouse=True)
def _keep_the_log_of_the_compiler_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collecting its thousands of records takes as long as the export."""
    monkeypatch.setattr(logging.getLogger("torch.__trace"), "disabled", True)
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason=f"the package {name} is not installed")


@pytest.mark.parametrize(
    ("modulation", "options"),
    [*((name, {}) for name in list_modulations("vector")), ("adaconv", {"rank": 2, "gate": True})],
)
def test_mapping_and_synthesis_equal_pytorch(modulation: str, options: dict[str, Any], tmp_path: Path):
    size = {"img_resolution": 8, "channel_base": 32, "channel_max": 8, "mapping_layers": 1, "c_dim": 3}
    G = tiny_generator(**size, modulation=modulation, modulation_options=options)
    done = export_stylegan2(G, tmp_path, ExportOptions(licence="as you like"))
    assert [(result.file.name, result.any_batch) for result in done] == [
        ("mapping.onnx", True),
        ("synthesis.onnx", True),
    ]
    mapping, synthesis = (onnx_session(result.file.read_bytes()) for result in done)
    z, c = torch.randn(4, G.z_dim), torch.eye(3)[[2, 0, 1, 2]]
    cut = torch.ones(G.num_ws)
    cut[:2] = 0.4
    ws = mapping({"z": z, "truncation_psi": cut, "c": c})
    wanted = G.mapping(z, c, truncation_psi=0.4, truncation_cutoff=2)
    torch.testing.assert_close(ws, wanted, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(ws, mapping({"z": z, "truncation_psi": cut, "c": c.roll(1, 0)}), atol=1e-2)
    images = G.synthesis(wanted, noise_mode="const")
    torch.testing.assert_close(synthesis({"ws": wanted}), images, rtol=1e-3, atol=1e-3)
    about = read_metadata(done[0].file.read_bytes())
    assert about["licence"] == "as you like"
    assert about["inputs"]["c"].startswith("[N,3]")
