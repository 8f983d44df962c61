"""A style-transfer model as the networks of which a program computes large images tile by tile."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ganmod.io.atomic_write import atomic_write
from ganmod.io.program_file import ExportOptions, ExportResult, Program, export_program
from style_transfer.export import (
    RANGE,
    ParameterLayout,
    describe_stages,
    draw_picture,
    example_style,
    export_predictor,
    exportable,
    plain_copy,
)
from style_transfer.model import StyleTransferModel
from style_transfer.networks.staged_decoder import InputStatistics
from style_transfer.piecewise.tiled import ENCODER_MARGIN, UNIT


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
    if model.spec.learned_styles:
        raise ValueError("stages are for models that read style images: leave out --stages")
    model.decoder.check_takes_statistics()
    options = replace(options or ExportOptions(), file_format="onnx")
    model, prepared = plain_copy(model), exportable(model)
    styles = [model.predict(example_style(model, seed)) for seed in range(max(regions))]
    params = styles[0]
    layout = ParameterLayout(params)
    packed = torch.cat([layout.pack(style) for style in styles])  # [R,P]
    stages = describe_stages(model, layout)
    predict = export_predictor(model, prepared, layout, folder, options, {"kind": "style"})
    units = {2: 8 * torch.export.Dim("rows", min=2), 3: 8 * torch.export.Dim("columns", min=2)}
    origin = torch.tensor([8, 40])
    encode = export_program(
        Program(
            Encoder(prepared),
            {"content": draw_picture(48, 56), "origin": origin},
            "features",
            {"content": units},
            {
                "kind": "style",
                "inputs": {
                    "content": f"[1,3,8h,8w], {RANGE}",
                    "origin": "row, column of the tile, int64 [2]",
                },
            },
        ),
        folder / "encode.onnx",
        expected=lambda case: model.encode(case["content"], origin=(8, 40)),
        cases=[{"content": draw_picture(*size), "origin": origin} for size in ((48, 56), (64, 16))],
        options=options,
    )
    done = [predict, encode]
    x = model.encode(draw_picture(48, 56))
    for stage in range(model.decoder.num_stages):
        has_parameters = stage < len(layout.slices)
        for count in regions if has_parameters else (1,):
            done.append(_export_stage(model, prepared, layout, folder, options, stage, x, packed[:count]))
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
    packed: Tensor,
) -> ExportResult:
    """One stage for an image of R regions; x: an example of its input, packed: R styles' parameters [R,P]."""
    count = len(packed)
    start, stop = layout.slice_of(stage)
    var, mean = torch.var_mean(x, dim=(2, 3), keepdim=True, correction=0)
    pixels = torch.tensor([float(x.shape[2] * x.shape[3])])
    inputs = {"x": x}
    if stop > start:
        inputs["parameters"] = packed[:, start:stop].contiguous()
    if model.decoder.uses_statistics(stage):
        inputs |= {"mean": mean, "variance": var, "pixels": pixels}
    least = max(4, model.decoder.reach(stage) + 1)  # of what mirrored borders can be taken from
    rows, columns = torch.export.Dim("rows", min=least), torch.export.Dim("columns", min=least)
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
            {"kind": "style", "inputs": {name: str(list(v.shape)) for name, v in inputs.items()}},
        ),
        folder / f"stage{stage}{suffix}.onnx",
        expected=lambda case: reference(**case),
        cases=[inputs, tile],
        options=options,
    )


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n")
