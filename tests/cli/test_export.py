"""If this fails, an exported generator gives other images than PyTorch, or a wrong file is kept."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_generator import tiny_generator
from torch import Tensor

from ganmod.io import program_file
from ganmod.io.program_file import ExportError, ExportOptions
from ganmod.modulation import Modulation, StyleSpec, register_modulation, registry
from ganmod.stylegan2 import Generator, export
from ganmod.stylegan2.export import (
    FixedGenerator,
    copy_for_export,
    export_generator,
)
from ganmod.stylegan2.stylegan2_file import save_stylegan2

PT2 = ExportOptions(file_format="pt2")
MODULATIONS = ("weight_demod", "adain", "adaconv")


@pytest.fixture(autouse=True)
def _keep_the_log_of_the_compiler_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collecting its thousands of records takes as long as the export."""
    monkeypatch.setattr(logging.getLogger("torch.__trace"), "disabled", True)


def smallest_generator(**values: Any) -> Generator:
    """8 pixels, two levels: one convolution of each kind."""
    small = {"img_resolution": 8, "channel_base": 32, "channel_max": 8, "mapping_layers": 1}
    return tiny_generator(**{**small, **values})


def images(G: Generator, z: Tensor, *, c: Tensor | None = None, **truncation: Any) -> Tensor:
    labels = None if c is None else c.expand(len(z), -1)
    return G(z, labels, noise_mode="const", **truncation)


@pytest.mark.parametrize("modulation", MODULATIONS)
@pytest.mark.parametrize("style_lift", ["none", "per_layer"])
def test_exportable_forms_give_the_same_images(modulation: str, style_lift: str):
    options = {"impl": "fused"} if modulation == "weight_demod" else {}
    G = tiny_generator(
        modulation=modulation, modulation_options=options, style_lift=style_lift, descriptor_dim=4
    )
    z = torch.randn(3, G.z_dim)
    state = {name: tensor.clone() for name, tensor in G.state_dict().items()}
    torch.testing.assert_close(images(copy_for_export(G), z), images(G, z), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(tensor, state[name]) for name, tensor in G.state_dict().items())


def test_half_precision_and_label_are_fixed():
    G = tiny_generator(c_dim=3, num_half_res=2)
    exact = tiny_generator(c_dim=3)
    exact.load_state_dict(G.state_dict())
    z, c = torch.randn(2, G.z_dim), torch.eye(3)[[2]]
    fixed = FixedGenerator(G, c=c, truncation_psi=0.4, truncation_cutoff=3)(z)
    wanted = images(exact, z, c=c, truncation_psi=0.4, truncation_cutoff=3)
    torch.testing.assert_close(fixed, wanted)


@pytest.mark.parametrize("modulation", MODULATIONS)
def test_pt2_takes_any_batch(modulation: str, tmp_path: Path, ganmod_command):
    G = smallest_generator(modulation=modulation, c_dim=2)
    save_stylegan2(tmp_path / "g.safetensors", G_ema=G, class_names=("cat", "dog"))
    options = ["--format", "pt2", "-o", tmp_path / "g.pt2", "--class", "dog", "--trunc", 0.6, "--cutoff", 2]
    ended = ganmod_command("export", tmp_path / "g.safetensors", *options)
    assert ended.code == 0, ended.err
    assert f"wrote {tmp_path / 'g.pt2'}: largest difference from PyTorch" in ended.out
    program = torch.export.load(tmp_path / "g.pt2")
    truncation = {"truncation_psi": 0.6, "truncation_cutoff": 2}
    for count in (1, 4):
        z = torch.randn(count, G.z_dim)
        wanted = images(G, z, c=torch.eye(2)[[1]], **truncation)
        torch.testing.assert_close(program.module()(z), wanted, rtol=1e-4, atol=1e-4)
    # ONNX has the number of groups as a constant of the file: none may follow the batch.
    convolutions = [n for n in program.graph.nodes if n.op == "call_function" and "conv" in str(n.target)]
    assert len(convolutions) >= 7  # three layers, two torgb, two resamplings
    assert all(isinstance(n.args[6], int) for n in convolutions if len(n.args) > 6)


@pytest.mark.parametrize("modulation", MODULATIONS)
def test_onnx_equals_pytorch(modulation: str, tmp_path: Path):
    for name in ("onnx", "onnxscript"):
        pytest.importorskip(name, reason=f"the package {name} is not installed")
    onnxruntime = pytest.importorskip("onnxruntime", reason="the package onnxruntime is not installed")

    G = smallest_generator(modulation=modulation)
    done = export_generator(G, tmp_path / "g.onnx", truncation_psi=0.6)
    assert done.any_batch
    assert [path.name for path in tmp_path.iterdir()] == ["g.onnx"]  # weights inside
    session = onnxruntime.InferenceSession(tmp_path / "g.onnx", providers=["CPUExecutionProvider"])
    z = torch.randn(4, G.z_dim)
    found = session.run(None, {"z": z.numpy()})[0]
    np.testing.assert_allclose(found, images(G, z, truncation_psi=0.6), rtol=1e-4, atol=1e-4)


def test_a_modulation_that_fixes_the_batch_is_exported_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))

    @register_modulation("stubborn")
    class Stubborn(Modulation):
        """Counts its samples in a loop."""

        def __init__(self, channels: int, style: StyleSpec) -> None:
            super().__init__(channels, style)
            self.affine = torch.nn.Linear(style.dim, channels)

        def predict(self, style: Tensor) -> tuple[Tensor]:
            return (self.affine(style),)

        def modulate(self, x: Tensor, params: Any) -> Tensor:
            return torch.stack([x[i] * (1 + params[0][i, :, None, None]) for i in range(x.shape[0])])

    G = smallest_generator(modulation="stubborn")
    done = export_generator(G, tmp_path / "g.pt2", PT2)
    assert not done.any_batch
    assert done.reason
    z = torch.randn(1, G.z_dim)
    found = torch.export.load(tmp_path / "g.pt2").module()(z)
    torch.testing.assert_close(found, images(G, z), rtol=1e-4, atol=1e-5)


def test_a_file_that_differs_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    G = smallest_generator()
    monkeypatch.setattr(program_file, "trace", lambda program: None)
    monkeypatch.setattr(program_file, "_pt2_bytes", lambda traced: b"program")
    for shift in (0.05, float("nan")):
        wrong = lambda case, shift=shift: images(G, case["z"]) + shift  # noqa: E731
        monkeypatch.setattr(program_file, "_pt2_session", lambda data, wrong=wrong: wrong)
        with pytest.raises(ExportError, match=r"differ from PyTorch's by .* at most 0\.001"):
            export_generator(G, tmp_path / "g.pt2", PT2)
    assert not list(tmp_path.iterdir())
    slight = lambda case: images(G, case["z"]) + 1e-4  # noqa: E731
    monkeypatch.setattr(program_file, "_pt2_session", lambda data: slight)
    done = export_generator(G, tmp_path / "g.pt2", PT2)
    largest = [images(G, export._latents(G, batch)).abs().max().item() for batch in (1, 3)]
    assert done.difference == pytest.approx(max(1e-4 / max(x, 1) for x in largest), rel=0.1)
    assert (tmp_path / "g.pt2").read_bytes() == b"program"
