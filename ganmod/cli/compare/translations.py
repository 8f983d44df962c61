"""What `ganmod compare` measures of StarGAN v2 runs: translations between all domains, by both guidances."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import click
import numpy as np

from ganmod.cli.compare.measures import Measurement, Outcome
from ganmod.cli.measure.image_sets import hash_of_files, progress_bar
from ganmod.cli.options.checks import import_plugins
from ganmod.data.domain_images import DomainImages
from ganmod.starganv2 import StarGANv2, load_starganv2
from ganmod.starganv2.translation import reference_codes, translate
from metrics.compare.runs import MeasuredRun
from metrics.image_sets.sources import FileImages
from metrics.images.lpips import load_lpips
from metrics.translation_evaluation import MODES, NUM_OUTPUTS, RealStatistics, evaluate_starganv2
from training.run.records import RunRecord

NUM_SOURCES = 100  # of each domain
MAX_SOURCES = 8  # at a time, each of which has NUM_OUTPUTS translations
GRID_SOURCES, GRID_REFERENCES = 6, 6


def measure_translations(records: Sequence[RunRecord], how: Measurement) -> Outcome:
    """StarGAN v2: the same sources and references for all; a draw has other sources, references, latents."""
    if how.data is None:
        raise click.UsageError("--data is missing: real images, in a sub-folder per domain")
    if how.metrics != ("fid",) or how.truncation_psi != 1:
        raise click.UsageError("--metrics and --trunc are not for runs of StarGAN v2")
    import_plugins(how.plugin)
    num = how.num or NUM_SOURCES
    files = FileImages(how.data, at_least=2)
    content = hash_of_files(files, how.processes, title="real images")
    described = files.conditions() | {"path": how.data.name, "content_sha256": content}
    files.close()
    lpips = None if how.lpips_weights is None else load_lpips(how.lpips_weights)
    runs, pictures, header, translated = [], {}, None, 0
    cautions: dict[str, None] = {}  # each once
    real: RealStatistics = {}
    for record in records:
        networks = load_starganv2(record.model)
        draws = []
        for draw in range(how.draws):
            values: dict[str, float] = {}
            for number, space in enumerate(how.spaces):
                title = f"{record.facts.name}, draw {draw + 1}, {space.name}"
                with progress_bar(0, title, how.processes) as bar:
                    values |= evaluate_starganv2(
                        networks,
                        how.data,
                        space,
                        lpips=None if number else lpips,
                        num_sources=num,
                        seed=how.seed + draw,
                        batch_size=min(how.batch, MAX_SOURCES),
                        device=how.device,
                        processes=how.processes,
                        planned=bar.reset,
                        done=bar.update,
                        cautioned=cautions.setdefault,
                        real_statistics=real,
                    )
            draws.append(values)
        images = DomainImages(how.data, img_size=networks.spec.img_size, crop_prob=0, mirror=False)
        per_domain = [min(count, num) for count in images.counts.values()]
        translated = sum(per_domain) * (len(per_domain) - 1) * NUM_OUTPUTS * len(MODES) * how.draws
        count = sum(p.numel() for p in networks.G.parameters())
        runs.append(MeasuredRun(record.facts, count, draws, num_images=translated))
        header, pictures[record.facts.name] = _sheet(networks, images)
    conditions = {
        "generator": "averaged (EMA) weights, float32",
        "parameters": "of the generator, without mapping network and style encoder",
        "translations": f"{NUM_OUTPUTS} of each of {num} sources per domain (or all), into all others",
        "sampling_seeds": [how.seed + draw for draw in range(how.draws)],
        "num_draws": how.draws,
        "values": "means over ordered pairs of domains; those of single pairs are in comparison.json",
        "lpips": "left out" if lpips is None else f"v0.1, {lpips.network}, over the translations of a source",
        "real_images": described,
        "spaces": {space.name: space.fingerprint or "no fingerprint" for space in how.spaces},
        "feature_precision": "float32, distances in float64",
    }
    notes = [*cautions, "the real images are the sources and references: held-out ones tell more"]
    if lpips is None:
        notes.append("LPIPS diversity needs --lpips-weights FILE, torchvision's SqueezeNet 1.1")
    return Outcome(runs, pictures, header, conditions, notes)


def _sheet(
    networks: StarGANv2, images: DomainImages
) -> tuple[list[np.ndarray | None], list[list[np.ndarray | None]]]:
    """References of all domains in turn above; rows of a source and its translations in their styles."""

    def picked(count: int, index: int) -> list[tuple[str, np.ndarray]]:
        turns = itertools.islice(itertools.cycle(enumerate(images.domains)), count)
        return [
            (name, images.image(number, index * (1 + i // len(images.domains))).permute(1, 2, 0).numpy())
            for i, (number, name) in enumerate(turns)
        ]

    references, sources = picked(GRID_REFERENCES, -1), [image for _, image in picked(GRID_SOURCES, 1)]
    domains, styles = zip(*references, strict=True)
    codes = reference_codes(networks, styles, domains)
    columns = [list(translate(networks, sources, code)) for code in codes]
    rows = [[source, *row] for source, row in zip(sources, zip(*columns, strict=True), strict=True)]
    return [None, *styles], rows
