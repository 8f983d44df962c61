"""If this fails, an exported style model gives other pictures than PyTorch, or refuses some sizes."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_style_model import EXPORTED, NOT_EXPORTED, make, tiny
from torch import Tensor

from ganmod.io.program_file import ExportOptions, onnx_session, read_metadata
from ganmod.modulation import list_modulations
from style_transfer import StyleTransferModel
from style_transfer.export import (
    ParameterLayout,
    export_baked_style,
    export_style_model,
    exportable,
)
from style_transfer.mixing import mix_params
from style_transfer.piecewise.stage_files import export_stages
from style_transfer.piecewise.tiled import stylize_tiled

OPTIONS = ExportOptions(licence="as you like")
SIZES = ((48, 64), (37, 90), (113, 75))


@pytest.fixture(autouse=True)
def _keep_the_log_of_the_compiler_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collecting its thousands of records takes as long as the export."""
    monkeypatch.setattr(logging.getLogger("torch.__trace"), "disabled", True)
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason=f"the package {name} is not installed")


def picture(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.rand((1, 3, height, width), generator=torch.Generator().manual_seed(seed))


def style_of(model: StyleTransferModel, seed: int = 1) -> Tensor:
    """A style image as the model takes it, of an odd size where it takes any; or weights of styles."""
    if model.spec.learned_styles:
        return torch.rand((1, 3), generator=torch.Generator().manual_seed(seed))
    return model.prepare_style(picture(81, 105, seed))


def run(file: Path, **inputs: Tensor) -> Tensor:
    return onnx_session(file.read_bytes())({name: x.detach() for name, x in inputs.items()})


QUICK = ("residual-adaconv", "weight_demod", "classic")


@pytest.mark.parametrize(
    "kind", [kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.slow) for kind in EXPORTED]
)
def test_predictor_and_transformation_equal_pytorch(kind: str, tmp_path: Path):
    model = make(kind)
    done = export_style_model(model, tmp_path, OPTIONS)
    assert [(result.file.name, result.difference < 1e-3) for result in done] == [
        ("predict.onnx", True),
        ("transform.onnx", True),
    ]
    first, second = style_of(model, 1), style_of(model, 2)
    layout = ParameterLayout(model.predict(first))
    packed = [run(tmp_path / "predict.onnx", style=style) for style in (first, second)]
    torch.testing.assert_close(packed[0], layout.pack(model.predict(first)), rtol=1e-3, atol=1e-4)
    mixture = mix_params([model.predict(first), model.predict(second)], [0.3, 0.7])
    for size in SIZES:
        content = picture(*size, seed=3)
        result = run(
            tmp_path / "transform.onnx", content=content, parameters=0.3 * packed[0] + 0.7 * packed[1]
        )
        torch.testing.assert_close(result, model.apply_params(content, mixture), rtol=0, atol=1e-3)
    about = read_metadata((tmp_path / "transform.onnx").read_bytes())
    assert about["licence"] == "as you like"
    assert "RGB in [0, 1]" in about["inputs"]["content"]
    assert about["stages"][0]["parameters"][1] <= layout.size


@pytest.mark.parametrize("kind", ["residual-adaconv", "classic"])
def test_one_style_is_a_network_of_standard_operators(kind: str, tmp_path: Path):
    import onnx

    model = make(kind)
    params = model.predict(style_of(model))
    export_baked_style(model, params, tmp_path / "style.onnx", OPTIONS)
    for size in SIZES:
        content = picture(*size)
        result = run(tmp_path / "style.onnx", content=content)
        torch.testing.assert_close(result, model.apply_params(content, params), rtol=0, atol=1e-3)
    graph = onnx.load(tmp_path / "style.onnx").graph
    assert {node.domain for node in graph.node} == {""}
    assert not [node.op_type for node in graph.node if "Sequence" in node.op_type]
    constants = {weight.name for weight in graph.initializer}
    assert all(node.input[1] in constants for node in graph.node if node.op_type == "Conv")


def test_zero_padding_changes_borders_only(tmp_path: Path):
    import onnx

    model = make("residual-adaconv")
    params = model.predict(style_of(model))
    done = export_baked_style(model, params, tmp_path / "style.onnx", OPTIONS, padding="zeros", size=(64, 96))
    assert done.difference < 1e-3
    graph = onnx.load(tmp_path / "style.onnx").graph
    assert [dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim] == [1, 3, 64, 96]
    modes = {
        attribute.s
        for node in graph.node
        if node.op_type == "Pad"
        for attribute in node.attribute
        if attribute.name == "mode"
    }
    assert b"reflect" not in modes
    content = picture(64, 96)
    result = run(tmp_path / "style.onnx", content=content)
    mirrored = model.apply_params(content, params)
    assert not torch.allclose(result[:, :, :4], mirrored[:, :, :4], atol=1e-2)


def sweep(folder: Path, content: Tensor, packed: Tensor, masks: Any = None) -> Tensor:
    """What a program does with the stages, on an image of one tile."""
    about = json.loads((folder / "model.json").read_text())
    x = run(folder / "encode.onnx", content=content, origin=torch.zeros(2, dtype=torch.int64))
    side = content.shape[2:]
    for i, stage in enumerate(about["stages"]):
        inputs = {"x": x}
        start, stop = stage["parameters"]
        if stop > start:
            inputs["parameters"] = packed[:, start:stop]
        if stage["uses_statistics"]:
            var, mean = torch.var_mean(x, dim=(2, 3), keepdim=True, correction=0)
            pixels = torch.tensor([float(x.shape[2] * x.shape[3])])
            inputs |= {"mean": mean, "variance": var, "pixels": pixels}
        suffix = ""
        if masks is not None and stop > start:
            rows = x.shape[2] * stage["upsampling"]
            inputs["masks"] = torch.nn.functional.avg_pool2d(masks, side[0] // rows)
            suffix = f"-regions{masks.shape[1]}"
        x = run(folder / f"stage{i}{suffix}.onnx", **inputs)
    return x.clamp(0, 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        "residual-adaconv",
        "residual-weight_demod",
        "residual-adain",
        "johnson-adain",
        "adaconv",
        "classic",
    ],
)
def test_stages_give_the_picture_and_regions(kind: str, tmp_path: Path):
    model = tiny("residual") if kind == "residual-adaconv" else make(kind)
    done = export_stages(model, tmp_path, OPTIONS, regions=(1, 2))
    assert max(result.difference for result in done) < 1e-3
    styles = [model.predict(style_of(model, seed)) for seed in (1, 2)]
    layout = ParameterLayout(styles[0])
    content = picture(64, 88)
    result = sweep(tmp_path, content, layout.pack(styles[0]))
    torch.testing.assert_close(result, model.apply_params(content, styles[0]), rtol=0, atol=1e-3)
    torch.testing.assert_close(result, stylize_tiled(model, content, styles[0], tile=32), rtol=0, atol=1e-3)
    inside = torch.zeros(1, 1, 64, 88)
    inside[:, :, :, :40] = 1
    masks = torch.cat([inside, 1 - inside], dim=1)
    result = sweep(tmp_path, content, torch.cat([layout.pack(s) for s in styles]), masks)
    torch.testing.assert_close(result, model.apply_regions(content, styles, masks[0]), rtol=0, atol=1e-3)


@pytest.mark.parametrize("kind", EXPORTED)
def test_exportable_form_is_the_same_function(kind: str):
    model = make(kind)
    params = model.predict(style_of(model))
    before = {name: x.clone() for name, x in model.state_dict().items()}
    content = picture(40, 56)
    torch.testing.assert_close(
        exportable(model).apply_params(content, params),
        model.apply_params(content, params),
        rtol=0,
        atol=1e-5,
    )
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())


def test_every_modulation_is_exported_or_says_that_it_is_not(tmp_path: Path):
    names = {kind.rpartition("-")[2] for kind in EXPORTED} - {"classic"}
    assert names | set(NOT_EXPORTED) == set(list_modulations())
    for name in NOT_EXPORTED:
        with pytest.raises(ValueError, match="has no form that files for other programs can hold"):
            export_style_model(make(f"transform-{name}", options={}), tmp_path, OPTIONS)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["johnson-cin", "stylebank-stylebank"])
def test_stages_need_style_images(kind: str, tmp_path: Path):
    with pytest.raises(ValueError, match="stages are for models that read style images"):
        export_stages(make(kind), tmp_path, OPTIONS)
    assert list(tmp_path.iterdir()) == []


def test_layout_goes_back_and_forth():
    model = make("residual-adaconv")
    params = model.predict(style_of(model))
    layout = ParameterLayout(params)
    for restored, original in zip(layout.unpack(layout.pack(params)), params, strict=True):
        assert type(restored) is type(original)
        assert all(torch.equal(a, b) for a, b in zip(restored, original, strict=True))
