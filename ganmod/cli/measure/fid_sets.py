"""`ganmod fid` of two sets of images, files or a generator's samples: measured and printed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import click
import torch

from ganmod.cli.measure.options import NUM_GENERATED, print_values, terminal_progress
from ganmod.cli.options.generator import chosen_label
from ganmod.process_shares import Processes
from ganmod.stylegan2.stylegan2_file import read_stylegan2
from metrics.features.base import FeatureSpace
from metrics.features.pretrained import load_feature_space
from metrics.image_sets.distances import (
    LIBRARIES,
    cautions,
    measure_distances,
    min_images,
    needs_features,
    settings,
)
from metrics.image_sets.features import SetFeatures
from metrics.image_sets.meter import SetMeter
from metrics.image_sets.sources import FileImages, GeneratorImages, ImageSource, read_labels


@dataclass(frozen=True)
class SetOptions:
    """What a user says about the measurement; None where it was left out.

    is_model: whether the first set is made by a model. which: the class of its images.
    """

    is_model: bool
    metrics: tuple[str, ...]
    features: str
    feature_weights: Path | None
    num: int | None
    seed: int
    truncation_psi: float
    which: str | None
    batch: int
    cache_dir: Path | None
    as_json: bool


def report_sets(
    generated: Path, real: Path, options: SetOptions, *, device: torch.device, processes: Processes
) -> None:
    """Measure the images of `generated` against those in `real`; the first process prints."""
    at_least = min_images(options.metrics)
    reference = FileImages(real, at_least=at_least)
    source: ImageSource
    if options.is_model:
        source = _model_source(generated, real, options, device)
    else:
        source = FileImages(generated, num=options.num, seed=options.seed, at_least=at_least)
    space = load_feature_space(options.features, options.feature_weights, device=device)
    meter = SetMeter(
        keep=needs_features(options.metrics),
        batch_size=options.batch,
        processes=processes,
        cache_dir=options.cache_dir,
        progress=terminal_progress(processes.rank),
    )
    is_cached = options.cache_dir is not None and space.fingerprint is not None
    content_hash = meter.content_hash(reference, title="B") if is_cached else None
    reals = meter.measure_reference(reference, space, title="B", content_hash=content_hash)
    fakes = meter.measure(source, space, title="A")
    if processes.rank == 0:
        _report(source, reference, fakes, reals, space, options)
    source.close()
    reference.close()


def _model_source(model: Path, real: Path, options: SetOptions, device: torch.device) -> ImageSource:
    """The images of a model file, with labels as the real ones have them or of one class."""
    # In full precision: half of it on a GPU would be another measurement than on a CPU.
    G, class_names = read_stylegan2(model, half_precision=False)
    labels = None
    if options.which is not None:
        labels = chosen_label(options.which, G, class_names)
    elif G.c_dim:
        labels = read_labels(real, c_dim=G.c_dim)
    return GeneratorImages(
        G.to(device),
        NUM_GENERATED if options.num is None else options.num,
        first_seed=options.seed,
        truncation_psi=options.truncation_psi,
        labels=labels,
        name=str(model),
    )


def _report(
    source: ImageSource,
    reference: FileImages,
    fakes: SetFeatures,
    reals: SetFeatures,
    space: FeatureSpace,
    options: SetOptions,
) -> None:
    """Print the distances and all that they depend on: lines, or JSON."""
    values = measure_distances(fakes, reals, options.metrics, space, seed=options.seed)
    sides = {"A": source.conditions(), "B": reference.conditions()}
    counts = {"A": fakes.count, "B": reals.count}
    notes = cautions(options.metrics, fakes.count, reals.count, space.dim)
    for side, conditions in sides.items():
        if lossy := conditions.get("num_lossy_files"):
            notes.append(
                f"{side}: {lossy:,} of {conditions['num_files']:,} files have a lossy format such as JPEG, "
                "which alone moves these figures: use PNG for both"
            )
        if skipped := conditions.get("num_files", counts[side]) - counts[side]:
            notes.append(f"{side}: {skipped:,} unreadable images were left out")
    if source.first_size != reference.first_size:
        first = [sides[side]["first_size"] for side in "AB"]
        notes.append(f"the first images of A and B are {first[0]} and {first[1]}: compare equal resolutions")
    used = settings(options.metrics, fakes.count, reals.count, seed=options.seed)
    if options.as_json:
        report = {
            "metrics": values,
            "num_images": counts,
            "features": space.fingerprint or space.name,
            "settings": used,
            "images": sides,
            "versions": {name: version(name) for name in LIBRARIES},
            "warnings": notes,
        }
        click.echo(json.dumps(report, indent=1))
        return
    print_values(values)
    for side, conditions in sides.items():
        facts = ", ".join(f"{key} {value}" for key, value in conditions.items() if value is not None)
        click.echo(f"{side}: {counts[side]:,} images; {facts}")
    click.echo(f"features: {space.fingerprint or space.name + ' (no fingerprint)'}")
    for line in used.values():
        click.echo(line)
    for note in notes:
        click.echo(f"note: {note}")
