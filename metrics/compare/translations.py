"""Compare StarGAN v2 runs: translations between all domains, by latents and by references."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ganmod.data.domain_images import DomainImages
from ganmod.starganv2 import StarGANv2, load_starganv2
from ganmod.starganv2.translation import reference_codes, translate
from metrics.compare.protocol import Outcome, RunProtocol
from metrics.compare.runs import MeasuredRun, RunRecord
from metrics.image_sets.sources import FileImages
from metrics.images.lpips import load_lpips
from metrics.translation_evaluation import MODES, NUM_OUTPUTS, RealStatistics, evaluate_starganv2

NUM_SOURCES = 100  # of each domain
MAX_SOURCES = 8  # per batch, each with NUM_OUTPUTS translations
GRID_SOURCES, GRID_REFERENCES = 6, 6


def measure_translations(records: Sequence[RunRecord], protocol: RunProtocol) -> Outcome:
    """Measure each run's translations of protocol.data against its real images, over all processes.

    Sources and references are the same for all runs; each draw has its own sources, references and latents.
    """
    assert protocol.data is not None  # see RunProtocol.check
    num = NUM_SOURCES if protocol.num is None else protocol.num
    files = FileImages(protocol.data, at_least=2)
    content_hash = protocol.meter.content_hash(files, title="real images")
    real_conditions = files.conditions() | {
        "path": Path(protocol.data).name,
        "content_sha256": content_hash,
    }
    files.close()
    lpips = None if protocol.lpips_weights is None else load_lpips(protocol.lpips_weights)
    runs, pictures, header, translated = [], {}, None, 0
    cautions: dict[str, None] = {}  # an ordered set
    real: RealStatistics = {}
    for record in records:
        networks = load_starganv2(record.model)
        draws = []
        for draw in range(protocol.draws):
            values: dict[str, float] = {}
            for number, space in enumerate(protocol.spaces):
                title = f"{record.facts.name}, draw {draw + 1}, {space.name}"
                values |= evaluate_starganv2(
                    networks,
                    protocol.data,
                    space,
                    lpips=None if number else lpips,
                    num_sources=num,
                    seed=protocol.seed + draw,
                    batch_size=min(protocol.batch_size, MAX_SOURCES),
                    device=protocol.device,
                    processes=protocol.processes,
                    progress=protocol.progress,
                    title=title,
                    cautioned=cautions.setdefault,
                    real_statistics=real,
                    cache_dir=protocol.cache_dir,
                )
            draws.append(values)
        images = DomainImages(protocol.data, img_size=networks.spec.img_size, crop_prob=0, mirror=False)
        per_domain = [min(count, num) for count in images.counts.values()]
        translated = sum(per_domain) * (len(per_domain) - 1) * NUM_OUTPUTS * len(MODES) * protocol.draws
        count = sum(p.numel() for p in networks.G.parameters())
        runs.append(MeasuredRun(record.facts, count, draws, num_images=translated))
        header, pictures[record.facts.name] = _sheet(networks, images)
    conditions = {
        "generator": "averaged (EMA) weights, float32",
        "parameters": "of the generator, without mapping network and style encoder",
        "translations": f"{NUM_OUTPUTS} of each of {num} sources per domain (or all), into all others",
        "sampling_seeds": [protocol.seed + draw for draw in range(protocol.draws)],
        "num_draws": protocol.draws,
        "values": "means over ordered pairs of domains; those of single pairs are in comparison.json",
        "lpips": "left out" if lpips is None else f"v0.1, {lpips.network}, over the translations of a source",
        "real_images": real_conditions,
        "spaces": {space.name: space.fingerprint or "no fingerprint" for space in protocol.spaces},
        "feature_precision": "float32, distances in float64",
    }
    notes = [*cautions, "the real images are the sources and references: held-out ones tell more"]
    if lpips is None:
        notes.append("LPIPS diversity needs --lpips-weights FILE, torchvision's SqueezeNet 1.1")
    return Outcome(runs, pictures, header, "references", conditions, notes)


def _sheet(
    networks: StarGANv2, images: DomainImages
) -> tuple[list[np.ndarray | None], list[list[np.ndarray | None]]]:
    """Header: references of all domains in turn. Rows: a source and its translations in their styles."""

    def pick(count: int, index: int) -> list[tuple[str, np.ndarray]]:
        turns = itertools.islice(itertools.cycle(enumerate(images.domains)), count)
        return [
            (name, images.image(number, index * (1 + i // len(images.domains))).permute(1, 2, 0).numpy())
            for i, (number, name) in enumerate(turns)
        ]

    references, sources = pick(GRID_REFERENCES, -1), [image for _, image in pick(GRID_SOURCES, 1)]
    domains, styles = zip(*references, strict=True)
    codes = reference_codes(networks, styles, domains)
    columns = [list(translate(networks, sources, code)) for code in codes]
    rows = [[source, *row] for source, row in zip(sources, zip(*columns, strict=True), strict=True)]
    return [None, *styles], rows
