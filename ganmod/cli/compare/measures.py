"""What `ganmod compare` measures of runs: one function per recipe, the same images in every space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import torch
from torch import Tensor

from ganmod.cli.measure.image_sets import hash_of_files, measured_reference, measured_set
from ganmod.cli.options.generator import load_generator
from ganmod.process_shares import Processes
from metrics.compare.runs import MeasuredRun
from metrics.features.base import FeatureSpace
from metrics.image_sets.distances import (
    PreparedReal,
    cautions,
    least_images,
    measure_distances,
    needs_features,
    prepare_real,
    settings,
)
from metrics.image_sets.features import SetFeatures
from metrics.image_sets.joined_spaces import JoinedSpaces
from metrics.image_sets.sources import FileImages, GeneratorImages, ImageSource, labels_of
from metrics.image_sets.stylized import CroppedImages, StylizedImages, draw_pairs
from metrics.images.image_watch import ImageWatch
from training.run.records import RunRecord

SPECTRUM_IMAGES = 5000  # real ones, spread evenly
GRID_ROWS, GRID_COLUMNS = 4, 12
STYLE_GRID_ROWS, STYLE_GRID_COLUMNS = 3, 6


@dataclass(frozen=True)
class Measurement:
    """How to measure, the same for all runs. num: images per draw, None: what the recipe can do.

    data, content, styles, lpips_weights: what the recipes need of them; size: of stylized images, pixels.
    """

    metrics: tuple[str, ...]
    spaces: tuple[FeatureSpace, ...]
    num: int | None
    draws: int
    seed: int
    truncation_psi: float
    batch: int
    device: torch.device
    processes: Processes
    use_cache: bool
    plugin: tuple[str, ...] = ()
    data: Path | None = None
    content: Path | None = None
    styles: tuple[Path, ...] = ()
    size: int = 256
    lpips_weights: Path | None = None


class Outcome(NamedTuple):
    """Of all runs: what was measured, rows of samples of each by its name (equal places, equal inputs) with
    what stands above them, what all of it depends on, what to know.
    """

    runs: list[MeasuredRun]
    pictures: dict[str, list[list[np.ndarray | None]]]
    header: list[np.ndarray | None] | None
    conditions: dict[str, Any]
    notes: list[str]


class Reference(NamedTuple):
    """The real images, measured."""

    sets: list[SetFeatures]
    prepared: list[PreparedReal]
    content_hash: str
    conditions: dict[str, Any]
    notes: list[str]


def measure_generators(records: Sequence[RunRecord], how: Measurement) -> Outcome:
    """StyleGAN2: samples of equal seeds against all images of the data set."""
    if how.data is None:
        raise click.UsageError("--data is missing: the real images, a folder or a zip")
    if how.truncation_psi < 0:
        raise click.UsageError(f"--trunc is {how.truncation_psi}, expected 0 or more")
    num = 5000 if how.num is None else how.num
    reference = FileImages(how.data, at_least=least_images(how.metrics))
    real = _measured_real(reference, [how.data], how)
    runs, pictures, notes = [], {}, list(real.notes)
    bands_of: dict[tuple[int, int], dict[str, float] | None] = {}
    for record in records:
        # In full precision: half of it on a GPU would be another measurement than on a CPU.
        G, _ = load_generator(record.model, plugin=how.plugin, device="cpu")
        G = G.to(how.device)
        labels = labels_of(how.data, c_dim=G.c_dim) if G.c_dim else None

        def source(first: int, count: int, G: Any = G, labels: Tensor | None = labels) -> ImageSource:
            return GeneratorImages(
                G, count, first_seed=first, truncation_psi=how.truncation_psi, labels=labels
            )

        sources = [source(how.seed + draw * num, num) for draw in range(how.draws)]
        size = G.img_resolution
        if size not in bands_of:
            bands_of[size] = _real_bands(reference, size, how)
        bands = bands_of[size]
        if bands is None:
            height, width = reference.first_size
            notes.append(
                f"{record.facts.name}: its images are {G.img_resolution[1]}x{G.img_resolution[0]}, the first "
                f"real one is {width}x{height}: a reference of the training resolution is expected"
            )
        count = sum(p.numel() for p in G.parameters())
        runs.append(_measured_run(record, sources, real, how, parameters=count, real_bands=bands))
        grid = _arrays(
            source(how.seed, GRID_ROWS * GRID_COLUMNS).load(torch.arange(GRID_ROWS * GRID_COLUMNS))
        )
        pictures[record.facts.name] = [
            grid[i * GRID_COLUMNS : (i + 1) * GRID_COLUMNS] for i in range(GRID_ROWS)
        ]
    reference.close()
    conditions = {
        "generator": "averaged (EMA) weights, float32, random noise of the seed, rounded to 8 bits",
        "truncation_psi": how.truncation_psi,
        "images_per_draw": num,
        "sampling_seeds": [f"{how.seed + d * num}-{how.seed + (d + 1) * num - 1}" for d in range(how.draws)],
        "labels": "drawn from the real images' where the model is conditional",
    }
    notes += _cautions(real, how, num)
    return Outcome(runs, pictures, None, conditions | _stated(real, how, num), notes)


def measure_stylized(records: Sequence[RunRecord], how: Measurement) -> Outcome:
    """Style transfer: stylized contents against the style images, both at one size."""
    import style_transfer
    from ganmod.cli.options.checks import import_plugins

    if how.content is None or not how.styles:
        raise click.UsageError("--content and --styles are missing: images to stylize, and those to match")
    import_plugins(how.plugin)
    contents = CroppedImages([how.content], size=how.size)
    reference = CroppedImages(how.styles, size=how.size, at_least=least_images(how.metrics))
    pairs_at_all = contents.num_images * reference.num_images
    num = min(5000, pairs_at_all // how.draws) if how.num is None else how.num
    draws = draw_pairs(contents.num_images, reference.num_images, num, draws=how.draws, seed=how.seed)
    real = _measured_real(reference, how.styles, how)
    bands = _real_bands(reference, reference.first_size, how)
    chosen, above = _spread(contents, STYLE_GRID_ROWS), _spread(reference, STYLE_GRID_COLUMNS)
    photos = _arrays(contents.load(chosen))
    shown = [(int(c), int(s)) for c in chosen for s in above]
    runs, pictures = [], {}
    for record in records:
        model = style_transfer.load(record.model).to(how.device)
        sources = [StylizedImages(model, contents, reference, pairs) for pairs in draws]
        count = sum(p.numel() for p in model.trainable().values())
        runs.append(_measured_run(record, sources, real, how, parameters=count, real_bands=bands))
        made = _arrays(StylizedImages(model, contents, reference, shown).load(torch.arange(len(shown))))
        pictures[record.facts.name] = [
            [photo, *made[i * len(above) : (i + 1) * len(above)]] for i, photo in enumerate(photos)
        ]
    header: list[np.ndarray | None] = [None, *_arrays(reference.load(above))]
    contents.close()
    reference.close()
    conditions = {
        "generator": "averaged (EMA) weights, float32, full strength, rounded to 8 bits",
        "parameters": "the trained ones, without the frozen encoder's",
        "content": contents.conditions() | {"path": how.content.name},
        "images_per_draw": num,
        "pairs": f"{how.draws} disjoint draws of {num} of {pairs_at_all} pairs, seed {how.seed}",
    }
    notes = real.notes + _cautions(real, how, num)
    return Outcome(runs, pictures, header, conditions | _stated(real, how, num), notes)


def _measured_real(
    reference: FileImages | CroppedImages, names: Sequence[Path], how: Measurement
) -> Reference:
    content = hash_of_files(reference, how.processes, title="real images")
    sets = [
        measured_reference(
            reference,
            space,
            how.processes,
            keep=needs_features(how.metrics),
            batch=how.batch,
            title=f"real images, {space.name}",
            content_hash=content if how.use_cache else None,
        )
        for space in how.spaces
    ]
    conditions = reference.conditions() | {"path": ", ".join(path.name for path in names)}
    notes = []
    if lossy := conditions["num_lossy_files"]:
        notes.append(
            f"{lossy:,} of {conditions['num_files']:,} real images have a lossy format such as JPEG, which "
            "alone moves these figures: use PNG"
        )
    if skipped := conditions["num_files"] - sets[0].count:
        notes.append(f"{skipped:,} real images could not be read and were left out")
    prepared = [
        prepare_real(found, how.metrics, space) for found, space in zip(sets, how.spaces, strict=True)
    ]
    return Reference(sets, prepared, content, conditions, notes)


def _measured_run(
    record: RunRecord,
    sources: Sequence[ImageSource],
    real: Reference,
    how: Measurement,
    *,
    parameters: int,
    real_bands: dict[str, float] | None,
) -> MeasuredRun:
    """A run's draws in every space; ValueError, which names the run, where its images or features fail."""
    joined = JoinedSpaces(how.spaces)
    num = sources[0].num_images
    watch = ImageWatch(num * len(sources))
    draws = []
    try:
        for number, source in enumerate(sources):
            title = f"{record.facts.name}, draw {number + 1}"
            seen = _Watched(source, watch, number * num)
            keep = needs_features(how.metrics)
            found = measured_set(seen, joined, how.processes, keep=keep, batch=how.batch, title=title)
            values: dict[str, float] = {}
            own_sets = zip(how.spaces, joined.split(found), real.sets, real.prepared, strict=True)
            for space, own, whole, known in own_sets:
                values |= measure_distances(own, whole, how.metrics, space, seed=how.seed, prepared=known)
            draws.append(values)
    except ValueError as error:
        raise ValueError(f"{record.facts.name}: {error}") from error
    power = {}
    if real_bands is not None:
        own_bands = watch.band_powers(sources[0].first_size, how.processes)
        power = {band: own_bands[band] / value for band, value in real_bands.items() if value > 0}
    return MeasuredRun(
        record.facts,
        parameters,
        draws,
        num_images=num * len(sources),
        num_repeated=watch.num_repeated(how.processes),
        power_to_real=power,
    )


class _Watched:
    """A source whose images a watch sees, from its index `first` on."""

    def __init__(self, source: ImageSource, watch: ImageWatch, first: int) -> None:
        self.num_images, self.first_size = source.num_images, source.first_size
        self.conditions, self.close = source.conditions, source.close
        self._load = watch.watched(source.load, first=first)

    def load(self, indices: Tensor) -> list[Tensor | None]:
        """See ImageSource."""
        return list(self._load(indices))


def _real_bands(
    reference: FileImages | CroppedImages, size: tuple[int, int], how: Measurement
) -> dict[str, float] | None:
    """Band powers of real images, spread evenly over the set; None where the first has another size."""
    if reference.first_size != size:
        return None
    count = min(SPECTRUM_IMAGES, reference.num_images)
    chosen = torch.arange(count) * reference.num_images // count
    watch = ImageWatch(count)
    load = watch.watched(lambda places: reference.load(chosen[places]))
    for indices in how.processes.batches(count, how.batch):
        load(indices)
    return watch.band_powers(size, how.processes)


def _stated(real: Reference, how: Measurement, num: int) -> dict[str, Any]:
    return {
        "num_draws": how.draws,
        "real_images": real.conditions | {"count": real.sets[0].count, "content_sha256": real.content_hash},
        "spaces": {space.name: space.fingerprint or "no fingerprint" for space in how.spaces},
        "feature_precision": "float32, distances in float64",
        "metrics": settings(how.metrics, num, real.sets[0].count, seed=how.seed),
    }


def _cautions(real: Reference, how: Measurement, num: int) -> list[str]:
    found = []
    for space in how.spaces:
        for caution in cautions(how.metrics, num, real.sets[0].count, space.dim):
            found.append(f"{space.name}: {caution}")
    return found


def _spread(images: CroppedImages, count: int) -> Tensor:
    """Indices of at most `count` images, evenly over the set."""
    count = min(count, images.num_images)
    return torch.arange(count) * images.num_images // count


def _arrays(images: Sequence[Tensor | None]) -> list[np.ndarray | None]:
    return [None if image is None else image.permute(1, 2, 0).cpu().numpy() for image in images]
