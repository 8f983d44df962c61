"""A picture in tiles: sweeps over the overlapping tiles of a map, with statistics of the whole.

Every sweep computes one network for all tiles and writes its output for the full picture. Only margins, as
wide as the network looks, are computed twice; borders are mirrored at the edge of the picture only.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from typing import NamedTuple

import numpy as np

Run = Callable[[np.ndarray, tuple[int, int]], np.ndarray]  # tile [1,C,h,w], its origin -> [1,C',h',w']


class Span(NamedTuple):
    """A tile's extent along one axis of a map, without and with its margin, in pixels of the map."""

    start: int
    stop: int
    padded_start: int
    padded_stop: int


class Moments(NamedTuple):
    """Of each channel of a map: number of pixels, mean [C] and sum of squared deviations [C], float64."""

    pixels: int
    mean: np.ndarray
    squares: np.ndarray

    @property
    def variance(self) -> np.ndarray:
        """[C], biased."""
        return self.squares / self.pixels


def measure(x: np.ndarray) -> Moments:
    """Moments of a map [C,h,w]."""
    pixels = x.shape[1] * x.shape[2]
    mean = x.mean(axis=(1, 2))
    deviation = x - mean[:, None, None]
    squares = np.einsum("chw,chw->c", deviation, deviation)
    return Moments(pixels, mean.astype(np.float64), squares.astype(np.float64))


def merge(parts: Sequence[Moments]) -> Moments:
    """Moments of all parts together, without cancellation (Chan, Golub & LeVeque 1983)."""
    total = parts[0]
    for part in parts[1:]:
        pixels = total.pixels + part.pixels
        share = part.pixels / pixels
        shift = part.mean - total.mean
        squares = total.squares + part.squares + shift**2 * (total.pixels * share)
        total = Moments(pixels, total.mean + shift * share, squares)
    return total


def cuts(units: int, most: int) -> list[int]:
    """Boundaries that cut 0..units into the fewest parts of at most `most`, about equally large."""
    parts = -(-units // most)
    return [i * units // parts for i in range(parts + 1)]


def balanced_cuts(rows: int, columns: int, most: int) -> tuple[list[int], list[int]]:
    """Boundaries of the fewest tiles, about square, of at most `most` units^2 each."""
    num_rows = num_columns = 1
    while rows * columns > most * num_rows * num_columns:
        if rows * num_columns > columns * num_rows:
            num_rows += 1
        else:
            num_columns += 1
    return cuts(rows, -(-rows // num_rows)), cuts(columns, -(-columns // num_columns))


def tiles(
    shape: tuple[int, int], rows: Sequence[int], columns: Sequence[int], margin: int
) -> Iterator[tuple[Span, Span]]:
    """Yield tiles of a map row by row.

    Args:
        shape: height and width of the map.
        rows: cuts, in units of a whole number of the map's pixels; columns: the same.
        margin: how far a tile reaches beyond, in pixels.
    """
    spans = []
    for side, edges in zip(shape, (rows, columns), strict=True):
        unit = side // edges[-1]
        spans.append(
            [
                Span(a * unit, b * unit, max(a * unit - margin, 0), min(b * unit + margin, side))
                for a, b in itertools.pairwise(edges)
            ]
        )
    yield from itertools.product(*spans)


class Sweep(NamedTuple):
    """The grid of tiles of a picture, and who computes them.

    Attributes:
        rows: cuts in units of 8 pixels of the picture, as columns.
        pool: computes several tiles at a time; None: one after the other.
        progress: called after each tile.
    """

    rows: list[int]
    columns: list[int]
    pool: Executor | None = None
    progress: Callable[[], None] = lambda: None

    @property
    def num_tiles(self) -> int:
        return (len(self.rows) - 1) * (len(self.columns) - 1)

    def __call__(
        self, x: np.ndarray, run: Run, margin: int, *, with_moments: bool = False
    ) -> tuple[np.ndarray, Moments | None]:
        """Run a network over all tiles of x [C,H,W] -> (its output for the whole, moments of the output).

        Args:
            x: the map.
            run: the network.
            margin: how far it looks around a pixel, in pixels of x.
            with_moments: whether to measure the output.
        """
        if self.num_tiles == 1:
            whole = run(x[None], (0, 0))[0]
            self.progress()
            return whole, measure(whole) if with_moments else None
        plan = list(tiles(x.shape[1:], self.rows, self.columns, margin))

        lock = threading.Lock()
        out: np.ndarray | None = None  # the first result tells its shape

        def compute(tile: tuple[Span, Span]) -> Moments | None:
            nonlocal out
            row, column = tile
            part = x[None, :, row.padded_start : row.padded_stop, column.padded_start : column.padded_stop]
            result = run(np.ascontiguousarray(part), (row.padded_start, column.padded_start))[0]
            inner, factor = _inner(result, part.shape, row, column)
            with lock:
                if out is None:
                    out = np.empty((len(inner), *(round(side * factor) for side in x.shape[1:])), inner.dtype)
            y, left = round(row.start * factor), round(column.start * factor)
            out[:, y : y + inner.shape[1], left : left + inner.shape[2]] = inner
            moments = measure(inner) if with_moments else None
            with lock:
                self.progress()
            return moments

        found = list((self.pool.map if self.pool else map)(compute, plan))
        assert out is not None
        return out, merge([part for part in found if part is not None]) if with_moments else None


def _inner(result: np.ndarray, part: tuple[int, ...], row: Span, column: Span) -> tuple[np.ndarray, float]:
    """Cut the margin off a tile's result [C,h,w]; also the factor between the sides of result and part."""
    factor = result.shape[1] / part[2]
    top, left = ((span.start - span.padded_start) * factor for span in (row, column))
    height, width = ((span.stop - span.start) * factor for span in (row, column))
    return result[:, round(top) : round(top + height), round(left) : round(left + width)], factor
