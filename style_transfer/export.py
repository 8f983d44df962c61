"""Style-transfer models as files for other programs: predictor and transformation, one style, or stages."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganmod.io.atomic_write import atomic_write
from ganmod.io.program_file import ExportOptions, ExportResult, Program, export_program
from ganmod.layers import PaddingMode, StaticConv2d
from ganmod.modulation import ModulatedConv2d
from style_transfer.model import StyleTransferModel
from style_transfer.networks.staged_decoder import InputStatistics
from style_transfer.piecewise.tiled import ENCODER_MARGIN, UNIT
from style_transfer.prepare import MIN_SIDE

RANGE = "RGB in [0, 1]"
ANY_SIZE = f"[1,3,H,W], H and W from {MIN_SIDE} on"
CHECKED_SIZES = ((64, 64), (37, 90), (121, 75))  # pixels


class ParameterLayout:
    """Parameters of all stages as one vector, and back.

    Attributes:
        slices: (start, stop) of each stage's numbers in the vector.
    """

    def __init__(self, params: Sequence[Any]) -> None:
        """params: as `StyleTransferModel.predict` gives them; only their types and shapes are kept."""
        self._kinds = [(type(p), [tuple(x.shape[1:]) for x in p]) for p in params]
        self.slices: list[tuple[int, int]] = []
        start = 0
        for p in params:
            stop = start + sum(x[0].numel() for x in p)
            self.slices.append((start, stop))
            start = stop

    @property
    def size(self) -> int:
        return self.slices[-1][1]

    def slice_of(self, stage: int) -> tuple[int, int]:
        """(start, stop) of a stage's numbers; empty for one without parameters, as the classic model's."""
        return self.slices[stage] if stage < len(self.slices) else (self.size, self.size)

    def pack(self, params: Sequence[Any]) -> Tensor:
        """One NamedTuple per stage -> [N,P]."""
        return torch.cat([x.flatten(1) for p in params for x in p], dim=1)

    def unpack(self, packed: Tensor) -> list[Any]:
        """[N,P] -> one NamedTuple per stage."""
        return [self.unpack_stage(packed[:, a:b], stage) for stage, (a, b) in enumerate(self.slices)]

    def unpack_stage(self, packed: Tensor, stage: int) -> Any:
        """[N,P'] of one stage -> its NamedTuple."""
        kind, shapes = self._kinds[stage]
        fields, start = [], 0
        for shape in shapes:
            count = torch.Size(shape).numel()
            fields.append(packed[:, start : start + count].reshape(-1, *shape))
            start += count
        return kind(*fields)


class Predictor(nn.Module):
    """Style images [1,3,h,w] -> packed parameters [1,P]; see `StyleTransferModel.predict`."""

    def __init__(self, model: StyleTransferModel, layout: ParameterLayout) -> None:
        super().__init__()
        self.model, self.layout = model, layout

    def forward(self, style: Tensor) -> Tensor:
        return self.layout.pack(self.model.predict(style))


class Transformation(nn.Module):
    """Content [1,3,H,W] of any size and packed parameters [1,P] -> image [1,3,H,W] in [0,1]."""

    def __init__(self, model: StyleTransferModel, layout: ParameterLayout) -> None:
        super().__init__()
        self.model, self.layout = model, layout

    def forward(self, content: Tensor, parameters: Tensor) -> Tensor:
        return decode_any_size(self.model, content, self.layout.unpack(parameters))


class BakedStyle(nn.Module):
    """Content [1,3,H,W] -> image [1,3,H,W] in [0,1], in one style."""

    def __init__(self, model: StyleTransferModel, params: Sequence[Any]) -> None:
        super().__init__()
        self.model = model
        self._kinds = [type(p) for p in params]
        self._counts = [len(p) for p in params]
        for i, x in enumerate(x for p in params for x in p):
            self.register_buffer(f"parameter{i}", x.detach().clone())

    def forward(self, content: Tensor) -> Tensor:
        fields = iter(self.buffers(recurse=False))
        params = [
            kind(*(next(fields) for _ in range(count)))
            for kind, count in zip(self._kinds, self._counts, strict=True)
        ]
        return decode_any_size(self.model, content, params)


def decode_any_size(model: StyleTransferModel, content: Tensor, params: list[Any]) -> Tensor:
    """Content [1,3,H,W], mirrored to multiples of 8 at the bottom and right -> image [1,3,H,W] in [0,1].

    By indices: torch.export cannot tell that a padding or slice of such sizes is valid for all H and W.
    """
    height, width = content.shape[2:]
    padded = content[:, :, _mirrored(height)][:, :, :, _mirrored(width)]
    out = model.decode(model.encode(padded), params).clamp(0, 1)
    return out[:, :, torch.arange(height)][:, :, :, torch.arange(width)]


def _mirrored(side: int) -> Tensor:
    """0, 1 ... side-1, side-2 ..., up to a multiple of 8."""
    index = torch.arange((side + UNIT - 1) // UNIT * UNIT)
    return torch.where(index < side, index, 2 * (side - 1) - index)


class Encoder(nn.Module):
    """A tile of the content, with sides that are multiples of 8, and its origin [2] -> what stage 0 reads."""

    def __init__(self, model: StyleTransferModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, content: Tensor, origin: Tensor) -> Tensor:
        return self.model.encode(content, origin=origin)


class Stage(nn.Module):
    """One stage of the decoder, for tiles; see `StagedDecoder.run_stage`."""

    def __init__(self, model: StyleTransferModel, layout: ParameterLayout, stage: int) -> None:
        super().__init__()
        self.model, self.layout, self.stage = model, layout, stage

    def forward(
        self,
        x: Tensor,
        parameters: Tensor | None = None,
        mean: Tensor | None = None,
        variance: Tensor | None = None,
        pixels: Tensor | None = None,
        masks: Tensor | None = None,
    ) -> Tensor:
        """x [1,C,h,w] -> [1,C',h',w'].

        Args:
            x: the output of the stage before, or a tile of it.
            parameters: of this stage, if it has any, [1,P'], or [R,P'] with masks.
            mean: [1,C,1,1] of the whole x, as variance, where the stage uses statistics.
            variance: [1,C,1,1], biased.
            pixels: [1], their number in the whole x.
            masks: [1,R,h',w'], each region's share of the result's pixels, sum 1.
        """
        statistics = None
        if mean is not None and variance is not None and pixels is not None:
            statistics = InputStatistics(mean, variance, pixels)
        params: Any = None
        if parameters is not None:
            params = self.layout.unpack_stage(parameters, self.stage)
        if masks is not None and parameters is not None:
            params = [type(params)(*(v[i : i + 1] for v in params)) for i in range(parameters.shape[0])]
        of_all = [None] * self.stage + [params]
        return self.model.decoder.run_stage(self.stage, x, of_all, statistics=statistics, masks=masks)


def exportable(model: StyleTransferModel, *, padding: PaddingMode = "reflect") -> StyleTransferModel:
    """A copy on the CPU in float32, whose modulations take one sample in forms that every format can hold.

    padding: "zeros" instead of mirrored borders, for runtimes that have no other; pictures change there.
    """
    model = copy.deepcopy(model).cpu().float().eval().requires_grad_(False)
    for module in model.modules():
        if isinstance(module, ModulatedConv2d):
            module.modulation.use_exportable_form(any_batch=False, padding_mode=padding)
        if isinstance(module, StaticConv2d):
            module.padding_mode = padding
    return model


@torch.no_grad()
def export_style_model(
    model: StyleTransferModel, folder: Path, options: ExportOptions | None = None
) -> list[ExportResult]:
    """Write predict.onnx (style image -> parameters) and transform.onnx (content, parameters -> image).

    Contents may have any size from 16 pixels on, and so may styles, unless the model takes one size only.
    Mixtures are weighted sums of parameters; strength is how far one goes from the content's parameters,
    predicted from it, to the style's. Raises ExportError, see `export_program`.
    """
    options = options or ExportOptions()
    prepared = exportable(model)
    style = _picture(*_style_sizes(model)[0])
    layout = ParameterLayout(prepared.predict(style))
    parameters = layout.pack(model.predict(style))
    about = {"stages": _stages(model, layout)}
    predict = export_program(
        Program(
            Predictor(prepared, layout),
            {"style": style},
            "parameters",
            {"style": _any_size()} if model.sees_whole_styles else {},
            about | {"inputs": {"style": _style_input(model)}, "output": f"[1,{layout.size}]"},
        ),
        folder / f"predict.{options.file_format}",
        expected=lambda case: layout.pack(model.predict(case["style"])),
        cases=[{"style": _picture(*size)} for size in _style_sizes(model)],
        options=options,
    )
    transform = export_program(
        Program(
            Transformation(prepared, layout),
            {"content": _picture(51, 43), "parameters": parameters},
            "image",
            {"content": _any_size()},
            about
            | {
                "inputs": {"content": f"{ANY_SIZE}, {RANGE}", "parameters": f"[1,{layout.size}]"},
                "output": f"as content, {RANGE}",
            },
        ),
        folder / f"transform.{options.file_format}",
        expected=lambda case: model.apply_params(case["content"], layout.unpack(case["parameters"])),
        cases=[{"content": _picture(*size), "parameters": parameters} for size in CHECKED_SIZES],
        options=options,
    )
    return [predict, transform]


@torch.no_grad()
def export_baked_style(
    model: StyleTransferModel,
    params: list[Any],
    file: Path,
    options: ExportOptions | None = None,
    *,
    padding: PaddingMode = "reflect",
    size: tuple[int, int] | None = None,
) -> ExportResult:
    """Write one style as a network of standard operators: content [1,3,H,W] -> image [1,3,H,W] in [0,1].

    Args:
        model: any style-transfer model.
        params: from `predict_style` or `ControlledStyle.params`, so mixed, rotated and cut as one likes.
        file: to write.
        options: format and licence.
        padding: "zeros" for runtimes without mirrored borders, such as a phone's; the borders change.
        size: (height, width) of the content, fixed in the file; None takes any from 16 pixels on.

    Raises:
        ExportError: see `export_program`.
    """
    prepared = exportable(model, padding=padding)
    wanted = model if padding == "reflect" else prepared
    shape = ANY_SIZE if size is None else f"[1,3,{size[0]},{size[1]}]"
    program = Program(
        BakedStyle(prepared, params),
        {"content": _picture(*(size or (51, 43)))},
        "image",
        {} if size else {"content": _any_size()},
        {"inputs": {"content": f"{shape}, {RANGE}"}, "output": f"as content, {RANGE}", "padding": padding},
    )
    return export_program(
        program,
        file,
        expected=lambda case: wanted.apply_params(case["content"], params),
        cases=[{"content": _picture(*each)} for each in ([size] if size else CHECKED_SIZES)],
        options=replace(options or ExportOptions(), fold_constants=True),
    )


@torch.no_grad()
def export_stages(
    model: StyleTransferModel,
    folder: Path,
    options: ExportOptions | None = None,
    *,
    regions: Sequence[int] = (1,),
) -> list[ExportResult]:
    """Write what computes an image tile by tile: predict.onnx, encode.onnx, stage0.onnx ... and model.json.

    A program that runs them goes over the tiles of the content with `encode`, then over those of each result
    with the next stage, and measures mean and variance of the whole in between (see
    `style_transfer.piecewise.tiled`). model.json says for each stage which scale it belongs to, where its
    parameters stand, by how much it enlarges its input and how far around a pixel it looks.

    Args:
        model: any style-transfer model.
        folder: where to write.
        options: licence; the format is ONNX.
        regions: how many styles an image may have, each in its region: 1, or R for stageK-regionsR.onnx.

    Raises:
        ExportError: see `export_program`.
    """
    options = replace(options or ExportOptions(), file_format="onnx")
    prepared = exportable(model)
    style = _picture(*_style_sizes(model)[0])
    params = model.predict(style)
    layout = ParameterLayout(params)
    stages = _stages(model, layout)
    predict = export_program(
        Program(
            Predictor(prepared, layout),
            {"style": style},
            "parameters",
            {"style": _any_size()} if model.sees_whole_styles else {},
            {"inputs": {"style": _style_input(model)}, "output": f"[1,{layout.size}]"},
        ),
        folder / "predict.onnx",
        expected=lambda case: layout.pack(model.predict(case["style"])),
        cases=[{"style": _picture(*size)} for size in _style_sizes(model)],
        options=options,
    )
    units = {2: 8 * torch.export.Dim("rows", min=2), 3: 8 * torch.export.Dim("columns", min=2)}
    origin = torch.tensor([8, 40])
    encode = export_program(
        Program(
            Encoder(prepared),
            {"content": _picture(48, 56), "origin": origin},
            "features",
            {"content": units},
            {
                "inputs": {
                    "content": f"[1,3,8h,8w], {RANGE}",
                    "origin": "row, column of the tile, int64 [2]",
                }
            },
        ),
        folder / "encode.onnx",
        expected=lambda case: model.encode(case["content"], origin=(8, 40)),
        cases=[{"content": _picture(*size), "origin": origin} for size in ((48, 56), (64, 16))],
        options=options,
    )
    done = [predict, encode]
    x = model.encode(_picture(48, 56))
    for stage in range(model.decoder.num_stages):
        has_parameters = stage < len(layout.slices)
        for count in regions if has_parameters else (1,):
            done.append(_export_stage(model, prepared, layout, folder, options, stage, x, count))
        x = model.decoder.run_stage(stage, x, params)
    manifest = {
        "licence": options.licence,
        "style_size": model.spec.style_image_size,
        "whole_styles": model.sees_whole_styles,
        "unit": UNIT,
        # The learned content encoder has a reach of 7 pixels, the frozen one fills ENCODER_MARGIN.
        "encoder_margin": ENCODER_MARGIN if model.content_encoder is None else UNIT,
        "num_parameters": layout.size,
        "regions": list(regions),
        "stages": stages,
    }
    atomic_write(folder / "model.json", lambda path: _write_json(path, manifest))
    return done


def _export_stage(
    model: StyleTransferModel,
    prepared: StyleTransferModel,
    layout: ParameterLayout,
    folder: Path,
    options: ExportOptions,
    stage: int,
    x: Tensor,
    count: int,
) -> ExportResult:
    """One stage for an image of `count` regions; x: an example of its input."""
    styles = [_picture(*size) for size in _style_sizes(model)[:1] * count]
    start, stop = layout.slice_of(stage)
    var, mean = torch.var_mean(x, dim=(2, 3), keepdim=True, correction=0)
    pixels = torch.tensor([float(x.shape[2] * x.shape[3])])
    inputs = {"x": x}
    if stop > start:
        inputs["parameters"] = torch.cat([layout.pack(model.predict(s))[:, start:stop] for s in styles])
    if model.decoder.uses_statistics(stage):
        inputs |= {"mean": mean, "variance": var, "pixels": pixels}
    rows, columns = torch.export.Dim("rows", min=4), torch.export.Dim("columns", min=4)
    dynamic = {"x": {2: rows, 3: columns}}
    up = model.decoder.upsampling[stage]
    if count > 1:
        shares = torch.rand(1, count, up * x.shape[2], up * x.shape[3])
        inputs["masks"] = shares / shares.sum(dim=1, keepdim=True)
        dynamic["masks"] = {2: up * rows, 3: up * columns}
    tile = inputs | {"x": x[:, :, :5, 1:9]}
    if count > 1:
        tile["masks"] = inputs["masks"][:, :, : 5 * up, up : 9 * up]
    suffix = "" if count == 1 else f"-regions{count}"
    reference = Stage(model, layout, stage)
    return export_program(
        Program(
            Stage(prepared, layout, stage),
            inputs,
            "result",
            dynamic,
            {"inputs": {name: str(list(v.shape)) for name, v in inputs.items()}},
        ),
        folder / f"stage{stage}{suffix}.onnx",
        expected=lambda case: reference(**case),
        cases=[inputs, tile],
        options=options,
    )


def _stages(model: StyleTransferModel, layout: ParameterLayout) -> list[dict[str, Any]]:
    decoder = model.decoder
    return [
        {
            "scale": decoder.scales[stage],
            "parameters": list(layout.slice_of(stage)),
            "upsampling": decoder.upsampling[stage],
            "reach": decoder.reach(stage),
            "uses_statistics": decoder.uses_statistics(stage),
        }
        for stage in range(decoder.num_stages)
    ]


def _any_size() -> dict[int, Any]:
    return {2: torch.export.Dim("height", min=MIN_SIDE), 3: torch.export.Dim("width", min=MIN_SIDE)}


def _style_sizes(model: StyleTransferModel) -> list[tuple[int, int]]:
    size = model.spec.style_image_size
    return [(70, 100), (64, 64), (33, 121)] if model.sees_whole_styles else [(size, size)]


def _style_input(model: StyleTransferModel) -> str:
    size = model.spec.style_image_size
    if model.sees_whole_styles:
        return f"[1,3,h,w], {RANGE}, best with a short side of {size}"
    return f"[1,3,{size},{size}], {RANGE}"


def _picture(height: int, width: int) -> Tensor:
    """A smooth picture with some noise, [1,3,height,width] in [0,1]; the same for the same size."""
    generator = torch.Generator().manual_seed(height * 10007 + width)
    coarse = torch.rand((1, 3, 4, 4), generator=generator)
    smooth = F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=True)
    return (smooth + 0.1 * torch.randn(smooth.shape, generator=generator)).clamp(0, 1)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n")
