"""`ganmod fid`: FID, KID, precision and recall, density and coverage of two sets of images."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ganmod.cli.measure.image_sets import (
    LIBRARIES,
    MetricList,
    check_count,
    check_space_name,
    hash_of_files,
    measured_reference,
    measured_set,
    print_values,
    warnings_as_lines,
)
from ganmod.cli.options.checks import check_device, refuse_given
from ganmod.cli.options.shared import (
    batch_option,
    device_option,
    json_option,
    plugin_option,
    reference_cache_option,
)

if TYPE_CHECKING:
    import torch

    from metrics.features.base import FeatureSpace
    from metrics.image_sets.features import SetFeatures
    from metrics.image_sets.sources import FileImages, ImageSource

NUM_GENERATED = 50_000
MAX_SOURCES = 8  # source images at a time of a StarGAN v2 model, each of which has several translations
MODEL_SUFFIX = ".safetensors"

SET = click.Path(exists=True, path_type=Path)


@click.command()
@click.argument("generated", metavar="A", type=SET)
@click.argument("real", metavar="B", type=SET)
@click.option(
    "--metrics",
    type=MetricList(),
    default="fid",
    show_default=True,
    metavar="LIST",
    help="Some of fid, kid, pr (precision, recall), dc (density, coverage), all in one pass.",
)
@click.option(
    "--features",
    default="inception",
    show_default=True,
    metavar="NAME",
    help="Feature space: inception, squeezenet1_1, cifar-resnet56, vgg19, dinov2, module:callable, ...",
)
@click.option("--feature-weights", type=click.Path(path_type=Path), help="Its weights, a file or a folder.")
@click.option(
    "--num",
    type=click.IntRange(2),
    help=f"Images to generate [default: {NUM_GENERATED}], or to draw from the files of A [default: all]; of "
    "StarGAN v2, sources of each domain [default: all].",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="First seed of generated images; of drawing files, and of KID's subsets.",
)
@click.option(
    "--trunc", "truncation_psi", type=float, default=1.0, show_default=True, help="Truncation psi of a model."
)
@click.option("--class", "which", metavar="INDEX|NAME", help="One class of a conditional model.")
@click.option(
    "--starganv2-protocol",
    "protocol",
    is_flag=True,
    help="A StarGAN v2 model as published: torchvision's Inception, LPIPS with AlexNet, --training-images.",
)
@click.option(
    "--training-images",
    type=SET,
    help="Real images for a StarGAN v2 model, one sub-folder per domain.  [default: those of B]",
)
@click.option(
    "--outputs",
    type=click.IntRange(2),
    default=10,
    show_default=True,
    help="Translations of each source image, for a StarGAN v2 model.",
)
@click.option("--lpips-weights", type=click.Path(path_type=Path), help="Of a StarGAN v2 model's diversity.")
@batch_option(64)
@device_option()
@json_option
@reference_cache_option
@plugin_option
def fid(
    generated: Path,
    real: Path,
    metrics: tuple[str, ...],
    features: str,
    feature_weights: Path | None,
    num: int | None,
    seed: int,
    truncation_psi: float,
    which: str | None,
    protocol: bool,
    training_images: Path | None,
    outputs: int,
    lpips_weights: Path | None,
    batch: int,
    device: str,
    as_json: bool,
    reference_cache: bool,
    plugin: tuple[str, ...],
) -> None:
    """Distance of the images in A to the real ones in B, each a folder or a zip.

    A may also be a model file, or a run folder of `ganmod train`, whose latest model counts.

    A model's images are generated here: image i from seed + i, with random noise. Only figures of equal
    numbers of images, feature space and settings can be compared; all of these are printed. Under torchrun
    (`torchrun --nproc-per-node 2 -m ganmod -- fid ...`, with the dashes, for it takes --num as its own), the
    processes share the images, and the result is that of one process.

    With a StarGAN v2 model as A, the images of B, one sub-folder per domain, are translated into all other
    domains, by latents and by references: the Frechet distance to real images of the target domain, LPIPS
    between the translations of an image, and the error of styles read off them, as means over domain pairs.
    """
    from ganmod import distributed
    from ganmod.cli.measure.fid_translation import (
        TranslationOptions,
        is_translation_model,
        report_translations,
    )
    from ganmod.process_shares import current_processes
    from metrics.features.pretrained import load_feature_space
    from metrics.image_sets.distances import least_images, measure_distances, needs_features
    from metrics.image_sets.sources import FileImages

    check_space_name(features)
    if device != "auto":
        check_device(device)
    generated = _latest_model(generated)
    is_model = generated.suffix.lower() == MODEL_SUFFIX and generated.is_file()
    translates = is_model and is_translation_model(generated)
    if not translates and (protocol or training_images is not None or lpips_weights is not None):
        raise click.UsageError(
            "--starganv2-protocol, --training-images and --lpips-weights are for a StarGAN v2 model as A"
        )
    if not translates:
        refuse_given(["outputs"], "is for a StarGAN v2 model as A")
        check_count(num, metrics)
    if translates and (metrics != ("fid",) or which is not None or truncation_psi != 1):
        raise click.UsageError("--metrics, --class and --trunc are not for a StarGAN v2 model")
    rank, _, place = distributed.start(device)
    try:
        if translates:
            options = TranslationOptions(
                protocol,
                training_images,
                features,
                feature_weights,
                lpips_weights,
                num,
                outputs,
                seed,
                min(batch, MAX_SOURCES),
            )
            processes = current_processes(place)
            with warnings_as_lines():
                report_translations(
                    generated,
                    real,
                    options,
                    device=place,
                    processes=processes,
                    plugin=plugin,
                    as_json=as_json,
                )
            return
        reference = FileImages(real, at_least=least_images(metrics))
        if is_model:
            source = _model_source(
                generated, real, place, num=num, seed=seed, psi=truncation_psi, which=which, plugin=plugin
            )
        else:
            if which is not None or truncation_psi != 1:
                raise click.UsageError("--class and --trunc are for a model file as A")
            source = FileImages(generated, num=num, seed=seed, at_least=least_images(metrics))
        space = load_feature_space(features, feature_weights, device=place)
        processes = current_processes(place)
        keep = needs_features(metrics)
        with warnings_as_lines():
            kept = reference_cache and space.fingerprint is not None
            found_real = measured_reference(
                reference,
                space,
                processes,
                keep=keep,
                batch=batch,
                title="B",
                content_hash=hash_of_files(reference, processes, title="B") if kept else None,
            )
            found = measured_set(source, space, processes, keep=keep, batch=batch, title="A")
        if rank == 0:
            values = measure_distances(found, found_real, metrics, space, seed=seed)
            _report(values, source, reference, found, found_real, metrics, space, seed, as_json)
        source.close()
        reference.close()
    finally:
        distributed.stop()


def _latest_model(path: Path) -> Path:
    """The model of a run folder, whose pictures are sheets of samples; any other path as it is."""
    from training.run.folder import CONFIG_FILE, MODEL_FILE

    model = path / MODEL_FILE
    return model if (path / CONFIG_FILE).is_file() and model.is_file() else path


def _model_source(
    model: Path,
    real: Path,
    device: torch.device,
    *,
    num: int | None,
    seed: int,
    psi: float,
    which: str | None,
    plugin: tuple[str, ...],
) -> ImageSource:
    """The images of a model file, with labels as the real ones have them or of one class."""
    from ganmod.cli.options.generator import chosen_label, load_generator
    from metrics.image_sets.sources import GeneratorImages, labels_of

    # In full precision: half of it on a GPU would be another measurement than on a CPU.
    G, class_names = load_generator(model, plugin=plugin, device="cpu")
    labels = None
    if which is not None:
        labels = chosen_label(which, G, class_names)
    elif G.c_dim:
        labels = labels_of(real, c_dim=G.c_dim)
    count = NUM_GENERATED if num is None else num
    return GeneratorImages(
        G.to(device), count, first_seed=seed, truncation_psi=psi, labels=labels, name=str(model)
    )


def _report(
    values: dict[str, float],
    source: ImageSource,
    reference: FileImages,
    found: SetFeatures,
    found_real: SetFeatures,
    metrics: tuple[str, ...],
    space: FeatureSpace,
    seed: int,
    as_json: bool,
) -> None:
    """Print values and all that they depend on: a table, or JSON."""
    from metrics.image_sets.distances import cautions, settings

    sides = {"A": source.conditions(), "B": reference.conditions()}
    counts = {"A": found.count, "B": found_real.count}
    notes = cautions(metrics, found.count, found_real.count, space.dim)
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
    used = settings(metrics, found.count, found_real.count, seed=seed)
    if as_json:
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
