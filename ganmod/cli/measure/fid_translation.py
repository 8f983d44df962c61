"""`ganmod fid` of a StarGAN v2 model: its translations between all domains."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ganmod.cli.measure.options import offer_other_space, print_values, terminal_progress

if TYPE_CHECKING:
    import torch

    from ganmod.process_shares import Processes
    from metrics.features.base import FeatureSpace
    from metrics.images.lpips import LpipsDistance

PUBLISHED_OUTPUTS = 10
PUBLISHED_SPACE = "inception-torchvision"
LIBRARIES = ("ganmod", "torch", "torchvision", "numpy", "pillow")


@dataclass(frozen=True)
class TranslationOptions:
    """The user's options; None where an option is not set.

    protocol: whether to use the published one: torchvision's Inception, AlexNet for LPIPS, training images as
        the real ones.
    """

    protocol: bool
    training_images: Path | None
    features: str
    feature_weights: Path | None
    lpips_weights: Path | None
    num_sources: int | None
    num_outputs: int
    seed: int
    batch: int
    cache_dir: Path | None
    as_json: bool

    def check(self) -> None:
        """click.UsageError for the protocol without the options that it needs."""
        if not self.protocol:
            return
        if self.training_images is None:
            raise click.UsageError(
                "--starganv2-protocol measures distances to training images: give --training-images DIR, and "
                "the validation images as B"
            )
        if self.features not in ("inception", PUBLISHED_SPACE):
            raise click.UsageError(
                f"--features {self.features}: --starganv2-protocol means {PUBLISHED_SPACE}, leave one out"
            )


def is_translation_model(path: Path) -> bool:
    """Whether a model file is of StarGAN v2. Raises ModelFileError for one that cannot be read."""
    from ganmod.io.model_file import read_model_file
    from ganmod.starganv2.starganv2_file import KIND

    return read_model_file(path).kind == KIND


def report_translations(
    model: Path,
    data: Path,
    options: TranslationOptions,
    *,
    device: torch.device,
    processes: Processes,
) -> None:
    """Measure a model's translations of the images in `data`; the first process prints."""
    from ganmod.starganv2 import load_starganv2
    from metrics.features.pretrained import load_feature_space
    from metrics.translation_evaluation import evaluate_starganv2

    options.check()
    networks = load_starganv2(model)
    name = PUBLISHED_SPACE if options.protocol else options.features
    with nullcontext() if options.protocol else offer_other_space([name]):
        space = load_feature_space(name, options.feature_weights, device=device)
    lpips = _lpips(options)
    notes: list[str] = []
    values = evaluate_starganv2(
        networks,
        data,
        space,
        real_data=options.training_images,
        lpips=lpips,
        num_outputs=options.num_outputs,
        num_sources=options.num_sources,
        seed=options.seed,
        batch_size=options.batch,
        device=device,
        processes=processes,
        progress=terminal_progress(processes.rank),
        cautioned=notes.append,
        cache_dir=options.cache_dir,
    )
    if processes.rank:
        return
    conditions = _conditions(model, data, options, space, lpips, networks.spec.img_size)
    notes += _notes(options, lpips, filtered=networks.spec.w_hpf > 0)
    if options.as_json:
        report = {
            "metrics": values,
            "settings": conditions,
            "versions": {library: version(library) for library in LIBRARIES},
            "warnings": notes,
        }
        click.echo(json.dumps(report, indent=1))
        return
    print_values(values)
    for key, text in conditions.items():
        click.echo(f"{key}: {text}")
    for note in notes:
        click.echo(f"note: {note}")


def _lpips(options: TranslationOptions) -> LpipsDistance | None:
    """AlexNet's for the protocol, by default from torch's cache folder; else SqueezeNet's if it is set."""
    from ganmod.features.weights_file import torch_cache_path
    from metrics.images.lpips import ALEXNET_FILE, load_lpips

    if options.protocol:
        return load_lpips(options.lpips_weights or torch_cache_path(ALEXNET_FILE), network="alex")
    return None if options.lpips_weights is None else load_lpips(options.lpips_weights)


def _conditions(
    model: Path,
    data: Path,
    options: TranslationOptions,
    space: FeatureSpace,
    lpips: LpipsDistance | None,
    size: int,
) -> dict[str, str]:
    """Everything that two values must share to be comparable, human-readable."""
    sources = (
        "all" if options.num_sources is None else f"{options.num_sources} drawn from seed {options.seed}"
    )
    return {
        "protocol": "starganv2-protocol" if options.protocol else "ganmod's own",
        "model": str(model),
        "sources and references": f"{data}, resized to {size} px; sources of each domain: {sources}",
        "real images": str(options.training_images or data),
        "translations": f"{options.num_outputs} of each source, seed {options.seed}; means over domain pairs",
        "features": space.fingerprint or f"{space.name} (no fingerprint)",
        "lpips": "left out" if lpips is None else f"v0.1, {lpips.network}, mean over the pairs of a source",
    }


def _notes(options: TranslationOptions, lpips: LpipsDistance | None, *, filtered: bool) -> list[str]:
    notes = []
    if lpips is None:
        notes.append("LPIPS diversity needs --lpips-weights FILE, torchvision's SqueezeNet 1.1")
    if options.training_images is None:
        notes.append("the real images are the sources and references: held-out ones tell more")
    published = options.num_outputs == PUBLISHED_OUTPUTS and options.num_sources is None
    if options.protocol and not published:
        notes.append(f"published figures are of all sources and {PUBLISHED_OUTPUTS} outputs of each")
    if filtered:
        notes.append("published figures of a model with the high-pass filter use masks of a face network")
    return notes
