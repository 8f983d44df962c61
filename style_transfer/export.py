"""Style-transfer models as files for other programs: predictor and transformation, or one style baked in."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganmod.io.program_file import ExportOptions, ExportResult, Program, export_program
from ganmod.layers import PaddingMode, StaticConv2d
from ganmod.modulation import Modulation
from style_transfer.model import StyleTransferModel
from style_transfer.piecewise.tiled import UNIT
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


def exportable(model: StyleTransferModel, *, padding: PaddingMode = "reflect") -> StyleTransferModel:
    """A copy on the CPU in float32, whose modulations take one sample in forms that every format can hold.

    padding: "zeros" instead of mirrored borders, for runtimes that have no other; pictures change there.
    Raises ValueError for a modulation that has no such form.
    """
    model = plain_copy(model)
    for module in model.modules():
        if isinstance(module, Modulation):
            module.use_exportable_form(any_batch=False, padding_mode=padding)
        if isinstance(module, StaticConv2d):
            module.padding_mode = padding
    return model


def plain_copy(model: StyleTransferModel) -> StyleTransferModel:
    """A copy on the CPU in float32, in eval mode and without gradients."""
    return copy.deepcopy(model).cpu().float().eval().requires_grad_(False)


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
    plain, prepared = plain_copy(model), exportable(model)
    params = plain.predict(example_style(model))
    layout = ParameterLayout(params)
    parameters = layout.pack(params)
    about = {"kind": "style", "stages": describe_stages(model, layout)}
    predict = export_predictor(plain, prepared, layout, folder, options, about)
    transform = export_program(
        Program(
            Transformation(prepared, layout),
            {"content": draw_picture(51, 43), "parameters": parameters},
            "image",
            {"content": _any_size()},
            about
            | {
                "inputs": {"content": f"{ANY_SIZE}, {RANGE}", "parameters": f"[1,{layout.size}]"},
                "output": f"as content, {RANGE}",
            },
        ),
        folder / f"transform.{options.file_format}",
        expected=lambda case: plain.apply_params(case["content"], layout.unpack(case["parameters"])),
        cases=[{"content": draw_picture(*size), "parameters": parameters} for size in CHECKED_SIZES],
        options=options,
    )
    return [predict, transform]


def export_predictor(
    plain: StyleTransferModel,
    prepared: StyleTransferModel,
    layout: ParameterLayout,
    folder: Path,
    options: ExportOptions,
    about: Mapping[str, Any],
) -> ExportResult:
    """Write predict.onnx of a model on the CPU.

    Args:
        plain: the model.
        prepared: the same, `exportable`.
        layout: of its parameters.
        folder: where to write.
        options: see `ExportOptions`.
        about: for the file's metadata.

    Raises:
        ExportError: see `export_program`.
    """
    program = Program(
        Predictor(prepared, layout),
        {"style": example_style(plain)},
        "parameters",
        {"style": _any_size()} if plain.sees_whole_styles and not plain.spec.learned_styles else {},
        {**about, "inputs": {"style": _style_input(plain)}, "output": f"[1,{layout.size}]"},
    )
    return export_program(
        program,
        folder / f"predict.{options.file_format}",
        expected=lambda case: layout.pack(plain.predict(case["style"])),
        cases=[{"style": example_style(plain, case)} for case in range(3)],
        options=options,
    )


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
    wanted = plain_copy(model) if padding == "reflect" else prepared
    params = [type(p)(*(x.cpu().float() for x in p)) for p in params]
    shape = ANY_SIZE if size is None else f"[1,3,{size[0]},{size[1]}]"
    program = Program(
        BakedStyle(prepared, params),
        {"content": draw_picture(*(size or (51, 43)))},
        "image",
        {} if size else {"content": _any_size()},
        {
            "kind": "style",
            "inputs": {"content": f"{shape}, {RANGE}"},
            "output": f"as content, {RANGE}",
            "padding": padding,
        },
    )
    return export_program(
        program,
        file,
        expected=lambda case: wanted.apply_params(case["content"], params),
        cases=[{"content": draw_picture(*each)} for each in ([size] if size else CHECKED_SIZES)],
        options=replace(options or ExportOptions(), fold_constants=True),
    )


def describe_stages(model: StyleTransferModel, layout: ParameterLayout) -> list[dict[str, Any]]:
    """What a program has to know of each of the decoder's stages; see `StagedDecoder`."""
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
    size, names = model.spec.style_image_size, model.spec.learned_styles
    if names:
        return f"[1,{len(names)}], the weight of each of {', '.join(names)}"
    if model.sees_whole_styles:
        return f"[1,3,h,w], {RANGE}, best with a short side of {size}"
    return f"[1,3,{size},{size}], {RANGE}"


def example_style(model: StyleTransferModel, case: int = 0) -> Tensor:
    """A picture of a size that the model takes as style, one of several; or one of its learned styles."""
    names, sizes = model.spec.learned_styles, _style_sizes(model)
    return (
        model.learned_style(names[case % len(names)])
        if names
        else draw_picture(*sizes[case % len(sizes)], case)
    )


def draw_picture(height: int, width: int, seed: int = 0) -> Tensor:
    """A smooth picture with some noise, [1,3,height,width] in [0,1]; the same for the same size and seed."""
    generator = torch.Generator().manual_seed(height * 10007 + width + seed)
    coarse = torch.rand((1, 3, 4, 4), generator=generator)
    smooth = F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=True)
    return (smooth + 0.1 * torch.randn(smooth.shape, generator=generator)).clamp(0, 1)
