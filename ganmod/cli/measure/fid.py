"""`ganmod fid`: FID, KID, precision and recall, density and coverage of two sets of images."""

from __future__ import annotations

from pathlib import Path

import click

from ganmod.cli.measure.options import (
    NUM_GENERATED,
    MetricList,
    RecordedCommand,
    check_count,
    check_space_name,
    latest_model,
    warnings_as_lines,
)
from ganmod.cli.options.checks import check_device, import_plugins, refuse_options
from ganmod.cli.options.paths import InputPath
from ganmod.cli.options.shared import (
    SEED,
    TRUNCATION,
    batch_option,
    device_option,
    json_option,
    plugin_option,
    reference_cache_option,
)

MAX_SOURCES = 8  # source images at a time of a StarGAN v2 model, each of which has several translations
MODEL_SUFFIX = ".safetensors"

SET = InputPath()


@click.command(cls=RecordedCommand)
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
@click.option("--feature-weights", type=InputPath(exists=False), help="Its weights, a file or a folder.")
@click.option(
    "--num",
    type=click.IntRange(2),
    help=f"Images to generate [default: {NUM_GENERATED}], or to draw from the files of A [default: all]; of "
    "StarGAN v2, sources of each domain [default: all].",
)
@click.option(
    "--seed",
    type=SEED,
    default=0,
    show_default=True,
    help="First seed of generated images; of drawing files, and of KID's subsets.",
)
@click.option(
    "--trunc",
    "truncation_psi",
    type=TRUNCATION,
    default=1.0,
    show_default=True,
    help="Truncation psi of a model.",
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
@click.option("--lpips-weights", type=InputPath(exists=False), help="Of a StarGAN v2 model's diversity.")
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
    (`torchrun --nproc-per-node 2 -m ganmod -- fid ...`; without the dashes torchrun itself would take --num),
    the processes share the images, and the result is that of one process.

    With a StarGAN v2 model as A, the images of B, one sub-folder per domain, are translated into all other
    domains, by latents and by references: the Frechet distance to real images of the target domain, LPIPS
    between the translations of an image, and the error of styles read off them, as means over domain pairs.
    """
    from ganmod import distributed
    from ganmod.cli.measure.fid_sets import SetOptions, report_sets
    from ganmod.cli.measure.fid_translation import (
        TranslationOptions,
        is_translation_model,
        report_translations,
    )
    from ganmod.io.user_cache import user_cache_dir
    from ganmod.process_shares import current_processes

    check_space_name(features)
    if device != "auto":
        check_device(device)
    generated = latest_model(generated)
    is_model = generated.suffix.lower() == MODEL_SUFFIX and generated.is_file()
    translates = is_model and is_translation_model(generated)
    if not translates and (protocol or training_images is not None or lpips_weights is not None):
        raise click.UsageError(
            "--starganv2-protocol, --training-images and --lpips-weights are for a StarGAN v2 model as A"
        )
    if not translates:
        refuse_options(["outputs"], "is for a StarGAN v2 model as A")
        check_count(num, metrics)
    if translates and (metrics != ("fid",) or which is not None or truncation_psi != 1):
        raise click.UsageError("--metrics, --class and --trunc are not for a StarGAN v2 model")
    if not is_model and (which is not None or truncation_psi != 1):
        raise click.UsageError("--class and --trunc are for a model file as A")
    import_plugins(plugin)
    cache_dir = user_cache_dir() if reference_cache else None
    _, _, torch_device = distributed.start(device)
    try:
        processes = current_processes(torch_device)
        with warnings_as_lines():
            if translates:
                translation = TranslationOptions(
                    protocol=protocol,
                    training_images=training_images,
                    features=features,
                    feature_weights=feature_weights,
                    lpips_weights=lpips_weights,
                    num_sources=num,
                    num_outputs=outputs,
                    seed=seed,
                    batch=min(batch, MAX_SOURCES),
                    cache_dir=cache_dir,
                    as_json=as_json,
                )
                report_translations(generated, real, translation, device=torch_device, processes=processes)
            else:
                sets = SetOptions(
                    is_model=is_model,
                    metrics=metrics,
                    features=features,
                    feature_weights=feature_weights,
                    num=num,
                    seed=seed,
                    truncation_psi=truncation_psi,
                    which=which,
                    batch=batch,
                    cache_dir=cache_dir,
                    as_json=as_json,
                )
                report_sets(generated, real, sets, device=torch_device, processes=processes)
    finally:
        distributed.stop()
