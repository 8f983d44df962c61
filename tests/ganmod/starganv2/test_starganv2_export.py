"""If this fails, StarGAN v2's exported networks give other images and style codes than PyTorch."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from tiny_starganv2 import build

from ganmod.io.program_file import ExportOptions, onnx_session, read_metadata
from ganmod.modulation import list_modulations
from ganmod.starganv2 import Generator, MappingNetwork, StyleEncoder
from ganmod.starganv2.export import export_starganv2


@pytest.fixture(autouse=True)
def _keep_the_log_of_the_compiler_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collecting its thousands of records takes as long as the export."""
    monkeypatch.setattr(logging.getLogger("torch.__trace"), "disabled", True)
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason=f"the package {name} is not installed")


@pytest.mark.parametrize(
    "modulation",
    [
        name if name == "adaconv" else pytest.param(name, marks=pytest.mark.slow)
        for name in list_modulations("vector")
    ],
)
def test_networks_equal_pytorch(modulation: str, tmp_path: Path):
    networks = [
        build(kind, modulation=modulation).float().eval()
        for kind in (Generator, MappingNetwork, StyleEncoder)
    ]
    done = export_starganv2(*networks, tmp_path, ExportOptions())
    assert [result.file.name for result in done] == ["generator.onnx", "mapping.onnx", "style_encoder.onnx"]
    assert all(result.any_batch for result in done)
    generator, mapping, encoder = (onnx_session(result.file.read_bytes()) for result in done)
    images, z, domains = torch.rand(4, 3, 32, 32) * 2 - 1, torch.randn(4, 4), torch.tensor([1, 0, 0, 1])
    with torch.no_grad():
        codes = networks[1](z, domains)
        wanted = networks[0](images, codes)
        of_images = networks[2](images, domains)
    torch.testing.assert_close(mapping({"z": z, "domains": domains}), codes, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(encoder({"img": images, "domains": domains}), of_images, rtol=1e-3, atol=1e-3)
    scale = wanted.abs().max().clamp_min(1)
    torch.testing.assert_close(
        generator({"img": images, "style": codes}) / scale, wanted / scale, rtol=0, atol=1e-3
    )
    assert read_metadata(done[1].file.read_bytes())["inputs"]["domains"] == "int64 [N], 0 cat, 1 dog"
