"""The picture of a comparison: samples of each run for the same inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ganmod.io.images import make_grid

CELL = 64, 160  # pixels; small samples are enlarged to the first, large ones reduced to the second


def sample_sheet(
    pictures: Mapping[str, Sequence[Sequence[np.ndarray | None]]],
    header: Sequence[np.ndarray | None] | None = None,
    *,
    header_label: str = "",
) -> np.ndarray:
    """Arrange samples: the first rows of all runs, then the second ones, ... -> uint8 [H,W,3].

    Args:
        pictures: {run: rows of uint8 samples}, equal inputs at equal positions.
        header: a row above all others, of any size.
        header_label: its label.
    """
    names = list(pictures)
    shapes = [p.shape for rows in pictures.values() for row in rows for p in row if p is not None]
    side = max(max(shape[:2]) for shape in shapes)
    scale = max(1, round(CELL[0] / side))
    cell = tuple(min(max(shape[i] for shape in shapes) * scale, CELL[1]) for i in (0, 1))
    parts = []
    for number in range(len(pictures[names[0]])):
        rows = [[_enlarge(p, scale) for p in pictures[name][number]] for name in names]
        labels = list(names)
        if header is not None and number == 0:
            rows, labels = [list(header), *rows], [header_label, *labels]
        parts.append(make_grid(rows, row_labels=labels, cell_size=(cell[0], cell[1]), gap=2))
    width = max(part.shape[1] for part in parts)  # the header's label may be the longest
    margins = [((0, 6), (width - part.shape[1], 0), (0, 0)) for part in parts]
    padded = [np.pad(part, margin, constant_values=255) for part, margin in zip(parts, margins, strict=True)]
    return np.concatenate(padded)


def _enlarge(image: np.ndarray | None, scale: int) -> np.ndarray | None:
    return None if image is None else image.repeat(scale, axis=0).repeat(scale, axis=1)
