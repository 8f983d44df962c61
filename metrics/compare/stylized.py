"""Compare style-transfer runs: stylized photos against the style images, at one size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

import style_transfer
from metrics.compare.distances import (
    describe_conditions,
    measure_real,
    measure_real_bands,
    measure_run,
    space_cautions,
    spread_indices,
    to_arrays,
)
from metrics.compare.protocol import Outcome, RunProtocol
from metrics.compare.runs import RunRecord
from metrics.image_sets.distances import min_images
from metrics.image_sets.stylized import CroppedImages, StylizedImages, draw_pairs

NUM_IMAGES = 5000  # per draw, if there are enough pairs
GRID_ROWS, GRID_COLUMNS = 3, 6


def measure_stylized(records: Sequence[RunRecord], protocol: RunProtocol) -> Outcome:
    """Distances of each run's stylized images to the style images, over all processes."""
    assert protocol.content is not None  # see RunProtocol.check
    contents = CroppedImages([protocol.content], size=protocol.size)
    styles = CroppedImages(protocol.styles, size=protocol.size, at_least=min_images(protocol.metrics))
    num_pairs = contents.num_images * styles.num_images
    num = min(NUM_IMAGES, num_pairs // protocol.draws) if protocol.num is None else protocol.num
    draws = draw_pairs(contents.num_images, styles.num_images, num, draws=protocol.draws, seed=protocol.seed)
    real = measure_real(styles, protocol.styles, protocol)
    bands = measure_real_bands(styles, styles.first_size, protocol)
    rows = spread_indices(contents.num_images, GRID_ROWS)
    columns = spread_indices(styles.num_images, GRID_COLUMNS)
    photos = to_arrays(contents.load(rows))
    grid_pairs = [(int(c), int(s)) for c in rows for s in columns]
    runs, pictures = [], {}
    for record in records:
        model = style_transfer.load(record.model).to(protocol.device)
        sources = [StylizedImages(model, contents, styles, pairs) for pairs in draws]
        count = sum(p.numel() for p in model.trainable().values())
        runs.append(measure_run(record, sources, real, protocol, parameters=count, real_bands=bands))
        grid = StylizedImages(model, contents, styles, grid_pairs)
        results = to_arrays(grid.load(torch.arange(len(grid_pairs))))
        pictures[record.facts.name] = [
            [photo, *results[i * len(columns) : (i + 1) * len(columns)]] for i, photo in enumerate(photos)
        ]
    header: list[np.ndarray | None] = [None, *to_arrays(styles.load(columns))]
    contents.close()
    styles.close()
    conditions = {
        "generator": "averaged (EMA) weights, float32, full strength, rounded to 8 bits",
        "parameters": "the trained ones, without the frozen encoder's",
        "content": contents.conditions() | {"path": Path(protocol.content).name},
        "images_per_draw": num,
        "pairs": f"{protocol.draws} disjoint draws of {num} of {num_pairs} pairs, seed {protocol.seed}",
    }
    notes = real.notes + space_cautions(real, protocol, num)
    conditions |= describe_conditions(real, protocol, num)
    return Outcome(runs, pictures, header, "styles", conditions, notes)
