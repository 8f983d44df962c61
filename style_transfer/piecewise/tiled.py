"""Images of any size in little memory, exactly: tiles that overlap, and statistics of the whole image.

One sweep over the tiles for the encoder, then one for each of the decoder's stages. Each writes its output
for the whole image and measures the statistics that the next one's normalisation needs, so that no tile is
computed twice but for its margin, which is as wide as the sweep's receptive field. Padding mirrors at the
image's own border only. What is kept is small against what a layer works on: at most the outputs of two
scales.
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
UNIT = 8  # pixels: tiles begin at multiples, whole pixels of relu4_1 and of a content encoder's output
# VGG-19's two 3x3 convolutions at full size, two at half, four at a quarter, one at an eighth reach 30 pixels
# far; the residual host's content encoder reaches 7.
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
    """A side in pixels that suits the device."""
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

    content: uint8 [H,W,3], or float [3,H,W] or [N,3,H,W] in [0,1], of any size. params: from
    `model.predict_style`. tile: side of a tile in pixels, a multiple of 8. size: as for `apply_params`.
    progress: called with the number of tiles done, and of all, over all sweeps. Whole feature maps stay
    on the CPU, tiles are computed on the model's device. Raises ValueError for another tile, and for a
    modulation that cannot be given statistics.
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
    ) -> _Swept:
        nonlocal done
        swept = _Swept(measure)
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


class _Swept:
    """What a sweep has written so far: its output for the whole image, and the statistics of that."""

    out: Tensor

    def __init__(self, measure: bool) -> None:
        self.measure = measure
        self.pixels = 0
        self.moments: tuple[Tensor, Tensor] | None = None  # mean and sum of squared deviations, float64

    def add(self, result: Tensor, whole: torch.Size, part: torch.Size, row: _Span, column: _Span) -> None:
        """result: of a tile with its margin; whole, part: shapes of the sweep's input and of that tile."""

        def scaled(pixels: int) -> int:
            return pixels * result.shape[2] // part[2]  # features are smaller or larger by a fixed factor

        if self.pixels == 0:
            shape = (*result.shape[:2], scaled(whole[2]), scaled(whole[3]))
            self.out = torch.empty(shape, dtype=result.dtype)
        top, left = scaled(row.start - row.padded_start), scaled(column.start - column.padded_start)
        height, width = scaled(row.stop - row.start), scaled(column.stop - column.start)
        inner = result[:, :, top : top + height, left : left + width]
        y, x = scaled(row.start), scaled(column.start)
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
        # Two sets of numbers joined (Chan, Golub & LeVeque 1983): nothing cancels.
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
    """0 to units, cut into as few parts as hold at most `most` each, about equally large."""
    parts = -(-units // most)
    return [i * units // parts for i in range(parts + 1)]


def _tiles(x: Tensor, rows: list[int], columns: list[int], margin: int) -> Iterator[tuple[_Span, _Span]]:
    """Row by row; rows, columns: cuts in units, of which x has some whole number of pixels."""
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
