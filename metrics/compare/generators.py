"""Compare StyleGAN2 runs: samples of equal seeds against all images of the data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from ganmod.io.images import center_crop
from ganmod.io.model_file import read_model_header
from ganmod.stylegan2 import Generator
from ganmod.stylegan2.spec import GeneratorSpec
from ganmod.stylegan2.stylegan2_file import read_stylegan2
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
from metrics.compare.runs import MeasuredRun, RunRecord
from metrics.image_sets.distances import min_images
from metrics.image_sets.sources import FileImages, GeneratorImages, read_labels
from metrics.images.lpips import MIN_SIZE, LpipsDistance, load_lpips
from metrics.path_length import EPSILON, measure_path_length

NUM_IMAGES = 5000  # per draw
GRID_ROWS, GRID_COLUMNS = 4, 12


def measure_generators(records: Sequence[RunRecord], protocol: RunProtocol) -> Outcome:
    """Distances of each run's samples to the real images of protocol.data, over all processes."""
    assert protocol.data is not None  # see RunProtocol.check
    num = NUM_IMAGES if protocol.num is None else protocol.num
    first_seeds = [protocol.seed + draw * num for draw in range(protocol.draws)]
    files = FileImages(protocol.data, at_least=min_images(protocol.metrics))
    lpips = None if protocol.lpips_weights is None else load_lpips(protocol.lpips_weights)
    if lpips is not None:
        _check_sizes(records)
    real = measure_real(files, [protocol.data], protocol)
    runs, pictures, notes = [], {}, list(real.notes)
    bands_of: dict[tuple[int, int], dict[str, float] | None] = {}
    for record in records:
        # In full precision, for equal figures on a GPU and a CPU.
        G = read_stylegan2(record.model, half_precision=False).G.to(protocol.device)
        size = G.img_resolution
        labels = read_labels(protocol.data, c_dim=G.c_dim) if G.c_dim else None
        draws = [
            GeneratorImages(G, num, first_seed=seed, truncation_psi=protocol.truncation_psi, labels=labels)
            for seed in first_seeds
        ]
        if size not in bands_of:
            bands_of[size] = measure_real_bands(files, size, protocol)
        if bands_of[size] is None:
            height, width = files.first_size
            notes.append(
                f"{record.facts.name}: its images are {size[1]}x{size[0]}, the first real one is "
                f"{width}x{height}: a reference of the training resolution is expected"
            )
        count = sum(p.numel() for p in G.parameters())
        run = measure_run(record, draws, real, protocol, parameters=count, real_bands=bands_of[size])
        if lpips is not None:
            run = _with_path_length(run, G, lpips.to(protocol.device), draws, protocol)
        runs.append(run)
        grid = to_arrays(draws[0].load(torch.arange(GRID_ROWS * GRID_COLUMNS)))
        pictures[record.facts.name] = [
            grid[i * GRID_COLUMNS : (i + 1) * GRID_COLUMNS] for i in range(GRID_ROWS)
        ]
    shown = spread_indices(files.num_images, GRID_COLUMNS)
    reals = to_arrays(files.load(shown))
    header = [None if x is None else center_crop(x, min(x.shape[:2])) for x in reals]
    header += [None] * (GRID_COLUMNS - len(header))
    files.close()
    conditions = {
        "generator": "averaged (EMA) weights, float32, random noise of the seed, rounded to 8 bits",
        "truncation_psi": protocol.truncation_psi,
        "images_per_draw": num,
        "sampling_seeds": [f"{seed}-{seed + num - 1}" for seed in first_seeds],
        "labels": "drawn from the real images' where the model is conditional",
    }
    if lpips is not None:
        conditions["path_length"] = (
            f"LPIPS v0.1, {lpips.network}; {num} pairs per draw, steps of {EPSILON:g} in w from the "
            "samples', without truncation"
        )
    notes += space_cautions(real, protocol, num)
    conditions |= describe_conditions(real, protocol, num)
    return Outcome(runs, pictures, header, "real images", conditions, notes)


def _check_sizes(records: Sequence[RunRecord]) -> None:
    """ValueError for images that are too small for LPIPS, before anything is measured."""
    for record in records:
        spec = GeneratorSpec.from_dict(read_model_header(record.model).config["generator"])
        height, width = spec.img_size
        if min(height, width) < MIN_SIZE:
            raise ValueError(
                f"{record.facts.name}: its images are {width}x{height} (width x height), but LPIPS needs "
                f"{MIN_SIZE} pixels on both sides: leave lpips_weights out"
            )


def _with_path_length(
    run: MeasuredRun,
    G: Generator,
    lpips: LpipsDistance,
    draws: Sequence[GeneratorImages],
    protocol: RunProtocol,
) -> MeasuredRun:
    """The run with the perceptual path length of each draw: steps from its samples' w, without truncation."""
    values = []
    for number, (known, samples) in enumerate(zip(run.draws, draws, strict=True)):
        length = measure_path_length(
            G,
            lpips,
            samples.num_images,
            labels=samples.labels,
            seed=samples.first_seed,
            batch_size=max(protocol.batch_size // 2, 1),
            processes=protocol.processes,
            progress=protocol.progress,
            title=f"{run.facts.name}, draw {number + 1}, pairs",
        )
        values.append({**known, f"ppl_{lpips.network}": length.value})
    return replace(run, draws=values)
