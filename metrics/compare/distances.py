"""Measure runs by the distances of their images to real ones; shared by the recipes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metrics.compare.protocol import RunProtocol
from metrics.compare.runs import MeasuredRun, RunRecord
from metrics.image_sets.distances import PreparedReal, cautions, measure_distances, prepare_real, settings
from metrics.image_sets.features import SetFeatures
from metrics.image_sets.joined_spaces import JoinedSpaces
from metrics.image_sets.sources import FileImages, ImageSource
from metrics.image_sets.stylized import CroppedImages
from metrics.images.image_watch import ImageWatch

SPECTRUM_IMAGES = 5000  # real ones, evenly spaced


@dataclass(frozen=True)
class Reference:
    """The measured real images.

    Args:
        sets: their features in each space.
        prepared: `prepare_real` of each space.
        content_hash: of the images.
        conditions: description of the images, plain values.
        notes: sentences for the report.
    """

    sets: list[SetFeatures]
    prepared: list[PreparedReal]
    content_hash: str
    conditions: dict[str, Any]
    notes: list[str]

    @property
    def count(self) -> int:
        """Number of readable images."""
        return self.sets[0].count


def measure_real(
    files: FileImages | CroppedImages, paths: Sequence[str | Path], protocol: RunProtocol
) -> Reference:
    """Measure the real images in every space; `paths` are named in the conditions."""
    meter = protocol.meter
    content_hash = meter.content_hash(files, title="real images")
    sets = [
        meter.measure_reference(files, space, title=f"real images, {space.name}", content_hash=content_hash)
        for space in protocol.spaces
    ]
    conditions = files.conditions() | {"path": ", ".join(Path(path).name for path in paths)}
    notes = []
    if lossy := conditions["num_lossy_files"]:
        notes.append(
            f"{lossy:,} of {conditions['num_files']:,} real images have a lossy format such as JPEG, which "
            "alone moves these figures: use PNG"
        )
    if skipped := conditions["num_files"] - sets[0].count:
        notes.append(f"{skipped:,} real images could not be read and were left out")
    prepared = [
        prepare_real(features, protocol.metrics, space)
        for features, space in zip(sets, protocol.spaces, strict=True)
    ]
    return Reference(sets, prepared, content_hash, conditions, notes)


def measure_run(
    record: RunRecord,
    draws: Sequence[ImageSource],
    real: Reference,
    protocol: RunProtocol,
    *,
    parameters: int,
    real_bands: dict[str, float] | None,
) -> MeasuredRun:
    """Measure a run's samples in every space.

    Args:
        real: the measured real images.
        parameters: number of the model's parameters.
        real_bands: see `measure_real_bands`.

    Raises:
        ValueError: if images or features are faulty; it names the run.
    """
    joined, meter = JoinedSpaces(protocol.spaces), protocol.meter
    num = draws[0].num_images
    watch = ImageWatch(num * len(draws))
    values: list[dict[str, float]] = []
    try:
        for number, source in enumerate(draws):
            watched = _WatchedSource(source, watch, number * num)
            features = meter.measure(watched, joined, title=f"{record.facts.name}, draw {number + 1}")
            values.append({})
            for space, fakes, reals, prepared in zip(
                protocol.spaces, joined.split(features), real.sets, real.prepared, strict=True
            ):
                values[-1] |= measure_distances(
                    fakes, reals, protocol.metrics, space, seed=protocol.seed, prepared=prepared
                )
    except ValueError as error:
        raise ValueError(f"{record.facts.name}: {error}") from error
    power = {}
    if real_bands is not None:
        bands = watch.band_powers(draws[0].first_size, protocol.processes)
        power = {band: bands[band] / value for band, value in real_bands.items() if value > 0}
    return MeasuredRun(
        record.facts,
        parameters,
        values,
        num_images=num * len(draws),
        num_repeated=watch.num_repeated(protocol.processes),
        power_to_real=power,
    )


class _WatchedSource:
    """A source whose images a watch records, starting with its index `first`."""

    def __init__(self, source: ImageSource, watch: ImageWatch, first: int) -> None:
        self.num_images, self.first_size = source.num_images, source.first_size
        self.conditions, self.close = source.conditions, source.close
        self._load = watch.wrap(source.load, first=first)

    def load(self, indices: Tensor) -> list[Tensor | None]:
        """See ImageSource."""
        return list(self._load(indices))


def measure_real_bands(
    files: FileImages | CroppedImages, size: tuple[int, int], protocol: RunProtocol
) -> dict[str, float] | None:
    """Band powers of real images, evenly spaced over the set; None if the first has another size.

    Args:
        size: (height, width) in pixels of the generated images.
    """
    if files.first_size != size:
        return None
    count = min(SPECTRUM_IMAGES, files.num_images)
    chosen = spread_indices(files.num_images, count)
    watch = ImageWatch(count)
    load = watch.wrap(lambda indices: files.load(chosen[indices]))
    for indices in protocol.processes.batches(count, protocol.batch_size):
        load(indices)
    return watch.band_powers(size, protocol.processes)


def describe_conditions(real: Reference, protocol: RunProtocol, num: int) -> dict[str, Any]:
    """The conditions of the figures, for `num` images per draw, plain values."""
    return {
        "num_draws": protocol.draws,
        "real_images": real.conditions | {"count": real.count, "content_sha256": real.content_hash},
        "spaces": {space.name: space.fingerprint or "no fingerprint" for space in protocol.spaces},
        "feature_precision": "float32, distances in float64",
        "metrics": settings(protocol.metrics, num, real.count, seed=protocol.seed),
    }


def space_cautions(real: Reference, protocol: RunProtocol, num: int) -> list[str]:
    """`cautions` of each space."""
    return [
        f"{space.name}: {caution}"
        for space in protocol.spaces
        for caution in cautions(protocol.metrics, num, real.count, space.dim)
    ]


def spread_indices(num_images: int, count: int) -> Tensor:
    """Indices int64 of at most `count` images, evenly spaced over the set."""
    count = min(count, num_images)
    return torch.arange(count) * num_images // count


def to_arrays(images: Sequence[Tensor | None]) -> list[np.ndarray | None]:
    """uint8 [3,H,W] each -> uint8 [H,W,3]."""
    return [None if image is None else image.permute(1, 2, 0).cpu().numpy() for image in images]
