"""Compare StyleGAN2 runs that differ in their modulation: Frechet distances, spectra, time, pictures.

    python benchmarks/compare_stylegan2.py --run weight_demod=runs/demod --run adaconv=runs/adaconv \\
        --data cifar10.zip --features squeezenet1_1=squeezenet1_1.pth --features cifar-resnet56=resnet56.th \\
        --out results/stylegan2

Every run's last averaged generator makes --num images for each of --draws disjoint sets of latents; the same
images are measured in every feature space, against all images of --data. Curves come from what the runs
logged. Prints which settings the runs differ in and the table, last, to stdout; writes comparison.json,
samples.jpg, a report.html, and each run's configuration without its paths.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from compare_style import named, write_small_jpeg
from torch import Tensor
from tqdm import tqdm

from ganmod import load
from ganmod.feature_spaces import FeatureSpace, load_feature_space, metric_name
from ganmod.images import make_grid
from ganmod.stylegan2 import Generator
from metrics.feature_statistics import FeatureStatistics, statistics_of_images
from metrics.frechet import GaussianStatistics, frechet_distance
from metrics.machine import describe_machine
from metrics.report import Report
from metrics.spectrum import band_powers, power_spectrum
from metrics.statistics_cache import STATISTICS, cached, user_cache_dir
from training.image_dataset import ImageDataset
from training.stylegan2_samples import fakes_by_index

BATCH = 64
GRID = (4, 12)  # rows and columns of samples a run
MAY_DIFFER = (
    "model.modulation",
    "runtime.device",
    "runtime.tensorboard",
    "plugins",
    "metric.feature_weights",
)


class Run(NamedTuple):
    name: str
    config: dict[str, Any]
    stats: list[dict[str, Any]]
    metrics: list[dict[str, Any]]
    G: Generator


def read_run(name: str, folder: Path) -> Run:
    return Run(
        name,
        yaml.safe_load((folder / "config.yaml").read_text()),
        read_lines(folder / "stats.jsonl"),
        read_lines(folder / "metrics.jsonl"),
        load(folder / "model-latest.safetensors"),
    )


def read_lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as {"model.modulation": ...}."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def differences(runs: list[Run]) -> dict[str, dict[str, Any]]:
    """Settings in which the runs differ, beside the modulation: {key: {run: value}}."""
    configs = {run.name: flat(run.config) for run in runs}
    keys = sorted({key for config in configs.values() for key in config} - set(MAY_DIFFER))
    found = {key: {name: config.get(key) for name, config in configs.items()} for key in keys}
    return {key: values for key, values in found.items() if len({str(v) for v in values.values()}) > 1}


def without_paths(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with file names instead of paths of this machine."""
    plain = json.loads(json.dumps(config))
    plain["data"]["path"] = Path(plain["data"]["path"]).name
    if plain["metric"]["feature_weights"]:
        plain["metric"]["feature_weights"] = Path(plain["metric"]["feature_weights"]).name
    return plain


def batches_of_fakes(G: Generator, labels: Tensor | None, num: int, draw: int) -> Iterator[Tensor]:
    """uint8 [N,3,H,W] in batches: image i of a draw depends on (draw, i) alone. labels: those of the data."""
    generate = fakes_by_index(G, labels if G.c_dim else None, draw, torch.device("cpu"), torch.float32)
    with torch.no_grad():
        for start in range(0, num, BATCH):
            yield generate(torch.arange(start, min(start + BATCH, num)))


def measure(
    run: Run,
    spaces: Mapping[str, FeatureSpace],
    real: Mapping[str, GaussianStatistics],
    real_bands: Mapping[str, float],
    *,
    labels: Tensor | None,
    num: int,
    draws: int,
    done: Callable[[int], object],
) -> dict[str, Any]:
    """One row: distances of every draw, spectrum against the real images', parameters, time."""
    distances: dict[str, list[float]] = {metric_name(name): [] for name in spaces}
    bands: list[dict[str, float]] = []
    for draw in range(1, draws + 1):  # not 0, which training's own metric uses
        statistics = {name: FeatureStatistics(space.dim) for name, space in spaces.items()}

        def seen(batches: Iterator[Tensor], into: Mapping[str, FeatureStatistics]) -> Iterator[Tensor]:
            for images in batches:
                for name, space in spaces.items():
                    into[name].update(space(images))
                done(len(images))
                yield images

        bands.append(
            band_powers(power_spectrum(seen(batches_of_fakes(run.G, labels, num, draw), statistics)))
        )
        for name, one in statistics.items():
            distances[metric_name(name)].append(frechet_distance(one.finish(), real[name]))
    last = run.stats[-1]
    return {
        "run": run.name,
        "modulation": run.config["model"]["modulation"],
        "channel_max": run.config["model"]["channel_max"],
        "parameters": sum(p.numel() for p in run.G.parameters()),
        "kimg": last["nimg"] / 1000,
        "seconds": last["seconds"],
        "seconds_per_kimg": last["seconds_per_kimg"],
        "nonfinite_steps": last["nonfinite_steps"],
        "frechet": distances,
        "power / real": {
            band: float(np.mean([b[band] for b in bands])) / value for band, value in real_bands.items()
        },
    }


def to_markdown(rows: list[dict[str, Any]]) -> str:
    """Means over the draws, with the range in brackets."""
    names = list(rows[0]["frechet"])
    bands = list(rows[0]["power / real"])
    columns = ["run", "G parameters", "kimg", "s/kimg", *names, *(f"{band} power / real" for band in bands)]
    lines = [f"| {' | '.join(columns)} |", "|---|" + "---:|" * (len(columns) - 1)]
    for row in rows:
        cells = [row["run"], f"{row['parameters'] / 1e6:.2f} M", f"{row['kimg']:.0f}"]
        cells.append(f"{row['seconds_per_kimg']:.1f}")
        for name in names:
            values = row["frechet"][name]
            cells.append(f"{np.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})")
        cells += [f"{row['power / real'][band]:.2f}" for band in bands]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def sample_sheet(runs: list[Run], labels: Tensor | None) -> np.ndarray:
    """The same latents under every run, without truncation: uint8 [H,W,3]."""
    rows, columns = GRID
    blocks = []
    for run in runs:
        images = next(batches_of_fakes(run.G, labels, rows * columns, 0)).permute(0, 2, 3, 1).numpy()
        cells = [list(images[i * columns : (i + 1) * columns]) for i in range(rows)]
        size = images[0].shape[0] * 2
        names = [run.name] + [""] * (rows - 1)
        blocks.append(make_grid(cells, row_labels=names, cell_size=(size, size), gap=2))
    width = max(block.shape[1] for block in blocks)
    left = [np.pad(b, ((0, 6), (width - b.shape[1], 0), (0, 0)), constant_values=255) for b in blocks]
    return np.concatenate(left)


def write_report(
    file: Path,
    runs: list[Run],
    rows: list[dict[str, Any]],
    differing: Mapping[str, Any],
    sheet: np.ndarray,
) -> None:
    report = Report("StyleGAN2: modulations compared")
    names = list(rows[0]["frechet"])
    report.table(
        ["run", "G parameters", "kimg", "s/kimg", *names],
        [
            [r["run"], r["parameters"], r["kimg"], r["seconds_per_kimg"]]
            + [float(np.mean(r["frechet"][name])) for name in names]
            for r in rows
        ],
        "Frechet distances are means over the draws; they are not FID, whose features are Inception's.",
    )
    if differing:
        report.paragraph(f"The runs differ in more than the modulation: {json.dumps(differing)}")
    report.figure(sheet, "The same latents under every run, without truncation.")
    logged = [run for run in runs if run.metrics]
    for name in sorted({key for run in logged for key in run.metrics[0] if key.startswith("fd_")}):
        for key, label, unit in (("nimg", "thousand images", 1000), ("seconds", "minutes", 60)):
            series = {
                run.name: ([m[key] / unit for m in run.metrics], [m[name] for m in run.metrics])
                for run in logged
            }
            report.curves(series, label, name, f"{name} while training", log_y=True)
    report.write(file)


def main() -> None:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--run", action="append", type=named, required=True, metavar="NAME=FOLDER")
    parser.add_argument("--data", required=True, help="the real images: folder or zip")
    parser.add_argument("--features", action="append", type=named, required=True, metavar="SPACE=WEIGHTS")
    parser.add_argument("--num", type=int, default=5000, help="images per draw")
    parser.add_argument("--draws", type=int, default=3, help="disjoint sets of latents")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    runs = [read_run(name, folder) for name, folder in args.run]
    spaces = {name: load_feature_space(name, path) for name, path in args.features}
    dataset = ImageDataset(args.data)
    labels = torch.stack([dataset.label(i) for i in range(dataset.num_images)]) if dataset.c_dim else None
    content = dataset.files.fingerprint()
    real = {}
    for name, space in spaces.items():
        with tqdm(total=dataset.num_images, desc=f"real images, {name}", disable=None) as bar:
            real[name] = cached(
                STATISTICS,
                lambda s=space, b=bar: statistics_of_images(  # type: ignore[misc]
                    dataset.image_batches(BATCH), s, done=b.update
                ).finish(),
                space,
                content_hash=content,
                cache_dir=user_cache_dir(),
            )
    real_bands = band_powers(power_spectrum(dataset.image_batches(BATCH)))
    rows = []
    for run in runs:
        with tqdm(total=args.num * args.draws, desc=run.name, disable=None) as bar:
            rows.append(
                measure(
                    run,
                    spaces,
                    real,
                    real_bands,
                    labels=labels,
                    num=args.num,
                    draws=args.draws,
                    done=bar.update,
                )
            )

    differing = differences(runs)
    args.out.mkdir(parents=True, exist_ok=True)
    record = {
        "rows": rows,
        "differences beside the modulation": differing,
        "images per draw": args.num,
        "truncation_psi": 1.0,
        "generator": "averaged (EMA), float32, random noise",
        "real images": {"count": dataset.num_images, "fingerprint": content},
        "spaces": {name: space.fingerprint for name, space in spaces.items()},
        "machine": describe_machine(torch.device("cpu")),
        "versions": {name: version(name) for name in ("torchvision", "numpy", "pillow")},
    }
    (args.out / "comparison.json").write_text(json.dumps(record, indent=1) + "\n")
    for run in runs:
        folder = args.out / "runs"
        folder.mkdir(exist_ok=True)
        (folder / f"{run.name}.yaml").write_text(yaml.safe_dump(without_paths(run.config), sort_keys=False))
        curves = {"stats": run.stats[:: max(len(run.stats) // 40, 1)], "metrics": run.metrics}
        (folder / f"{run.name}.json").write_text(json.dumps(curves) + "\n")
    sheet = sample_sheet(runs, labels)
    write_small_jpeg(args.out / "samples.jpg", sheet)
    write_report(args.out / "report.html", runs, rows, differing, sheet)

    real_text = f"{args.draws} x {args.num} fakes against {dataset.num_images} real images"
    print(f"{real_text}; Frechet distances: mean over draws (range)\n")
    for key, values in differing.items():
        print(f"differs: {key}: {values}")
    print(to_markdown(rows))


if __name__ == "__main__":
    main()
