"""Exact stylisation of large images in little memory: overlapping tiles, statistics of the full image.

There is one sweep over the tiles for the encoder, then one for each stage of the decoder. A sweep writes its
output for the full image and measures the statistics for the next normalisation. Only the margins of tiles,
as wide as the sweep's receptive field, are computed twice. Padding mirrors at the border of the image only.
At most the outputs of two scales are kept, which is little compared with what a layer works on.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganmod.modulation.statistics import mean_variance
from style_transfer.model import StyleTransferModel
from style_transfer.networks.staged_decoder import InputStatistics
from style_transfer.prepare import from_batch, pad_to_multiple, resize_content, spread_params, to_batch

CPU_TILE, GPU_TILE = 256, 1024  # pixels: what stays in a cache, and what keeps many cores busy
UNIT = 8  # pixels: tiles begin at multiples, to align with relu4_1 and a content encoder's output
# VGG-19's two 3x3 convolutions at full size, two at half, four at a quarter and one at an eighth have a reach
# of 30 pixels; the residual host's content encoder has one of 7.
ENCODER_MARGIN = 32
ProgressCallback = Callable[[int, int], None]  # units of work done, and of all


@dataclass(frozen=True)
class _Span:
    """A tile's extent along one axis of a sweep's input, and with its margin."""

    start: int
    stop: int
    padded_start: int
    padded_stop: int


def check_tile(tile: int) -> None:
    """Raise ValueError unless tile, in pixels, is a multiple of 8 and at least 16."""
    if tile < 2 * UNIT or tile % UNIT:
        near = max(round(tile / UNIT), 2) * UNIT
        raise ValueError(f"tile is {tile} pixels, expected a multiple of {UNIT} from 16 on: try {near}")


def auto_tile(device: torch.device) -> int:
    """The side of a tile in pixels that suits the device."""
    return CPU_TILE if device.type == "cpu" else GPU_TILE


@torch.inference_mode()
def stylize_tiled(
    model: StyleTransferModel,
    content: np.ndarray | Tensor,
    params: list[Any],
    *,
    tile: int = CPU_TILE,
    size: int | None = None,
    progress: ProgressCallback = lambda done, total: None,
) -> Any:
    """`model.apply_params`, equal up to rounding, in the memory of a tile and two feature maps.

    Full feature maps stay on the CPU; tiles are computed on the model's device.

    Args:
        content: uint8 [H,W,3], or float [3,H,W] or [N,3,H,W] in [0,1], of any size.
        params: from `model.predict_style`.
        tile: side of a tile in pixels, a multiple of 8 from 16 on.
        size: as for `apply_params`.
        progress: called with the number of tiles done and of all, over all sweeps.

    Raises:
        ValueError: for another tile, and for a modulation that does not accept statistics.
    """
    check_tile(tile)
    decoder = model.decoder
    decoder.check_takes_statistics()
    images = resize_content(to_batch(content, "content"), size)
    height, width = images.shape[2:]
    x = pad_to_multiple(images, UNIT).cpu()
    spread = spread_params(params, len(images))
    rows, columns = (_cuts(side // UNIT, tile // UNIT) for side in x.shape[2:])
    total, done = (decoder.num_stages + 1) * (len(rows) - 1) * (len(columns) - 1), 0

    def sweep(
        x: Tensor, run: Callable[[Tensor, tuple[int, int]], Tensor], margin: int, measure: bool
    ) -> _SweepOutput:
        nonlocal done
        swept = _SweepOutput(measure)
        for row, column in _tiles(x, rows, columns, margin):
            part = x[:, :, row.padded_start : row.padded_stop, column.padded_start : column.padded_stop]
            origin = row.padded_start, column.padded_start
            result = run(part.to(model.feature_rms.device), origin)
            swept.add(result, x.shape, part.shape, row, column)
            done += 1
            progress(done, total)
        return swept

    def encode(part: Tensor, origin: tuple[int, int]) -> Tensor:
        return model.encode(part, origin=origin)

    swept = sweep(x, encode, ENCODER_MARGIN, decoder.uses_statistics(0))
    for stage in range(decoder.num_stages):
        statistics = swept.statistics(model.feature_rms.device)
        measure = stage + 1 < decoder.num_stages and decoder.uses_statistics(stage + 1)

        def run(part: Tensor, origin: tuple[int, int], stage: int = stage) -> Tensor:
            return decoder.run_stage(stage, part, spread, statistics=statistics)  # noqa: B023

        swept = sweep(swept.out, run, decoder.reach(stage), measure)
    return from_batch(swept.out[:, :, :height, :width].float().clamp_(0, 1), content)


class _SweepOutput:
    """A sweep's output for the full image, as far as it is written, and its statistics."""

    out: Tensor

    def __init__(self, measure: bool) -> None:
        self.measure = measure
        self.pixels = 0
        self.moments: tuple[Tensor, Tensor] | None = None  # mean and sum of squared deviations, float64

    def add(self, result: Tensor, full: torch.Size, part: torch.Size, row: _Span, column: _Span) -> None:
        """Write the result of a tile with its margin; full, part: shapes of the sweep's input and tile."""

        def scale(pixels: int) -> int:
            return pixels * result.shape[2] // part[2]  # features are smaller or larger by a fixed factor

        if self.pixels == 0:
            shape = (*result.shape[:2], scale(full[2]), scale(full[3]))
            self.out = torch.empty(shape, dtype=result.dtype)
        top, left = scale(row.start - row.padded_start), scale(column.start - column.padded_start)
        height, width = scale(row.stop - row.start), scale(column.stop - column.start)
        inner = result[:, :, top : top + height, left : left + width]
        y, x = scale(row.start), scale(column.start)
        self.out[:, :, y : y + height, x : x + width] = inner
        if self.measure:
            self._measure(inner)
        self.pixels += height * width

    def _measure(self, inner: Tensor) -> None:
        count = inner.shape[2] * inner.shape[3]
        mean, var = (i.cpu().double() for i in mean_variance(inner))  # some devices have no float64
        if self.moments is None:
            self.moments = mean, var * count
            return
        # Merges two sets of numbers without cancellation (Chan, Golub & LeVeque 1983).
        before, squares = self.moments
        share = count / (self.pixels + count)
        shift = mean - before
        self.moments = before + shift * share, squares + var * count + shift.square() * (self.pixels * share)

    def statistics(self, device: torch.device) -> InputStatistics | None:
        if self.moments is None:
            return None
        wide = torch.promote_types(self.out.dtype, torch.float32)
        mean, var = self.moments[0], self.moments[1] / self.pixels
        return InputStatistics(mean.to(device, wide), var.to(device, wide), self.pixels)


def _cuts(units: int, most: int) -> list[int]:
    """Boundaries that cut 0..units into the fewest parts of at most `most`, about equally large."""
    parts = -(-units // most)
    return [i * units // parts for i in range(parts + 1)]


def _tiles(x: Tensor, rows: list[int], columns: list[int], margin: int) -> Iterator[tuple[_Span, _Span]]:
    """Yield tiles row by row; rows, columns: cuts in units of an integer number of pixels of x."""
    spans = [
        [
            _Span(start * unit, stop * unit, max(start * unit - margin, 0), min(stop * unit + margin, side))
            for start, stop in itertools.pairwise(cuts)
        ]
        for cuts, side, unit in (
            (rows, x.shape[2], x.shape[2] // rows[-1]),
            (columns, x.shape[3], x.shape[3] // columns[-1]),
        )
    ]
    for row in spans[0]:
        for column in spans[1]:
            yield row, column
