"""Which form of AdaConv suits StyleGAN2: variants trained for an equal time, their distances and lattices.

    python benchmarks/runs/adaconv_in_gan.py --data cifar10_30k.zip --out runs/adaconv_in_gan --minutes 10 \\
        --squeezenet squeezenet1_1-b8a52dc0.pth --resnet resnet56-4bfd9763.th

Each of VARIANTS is trained for --minutes of processor time on one thread, everything but the modulation
equal, and then measured: Frechet distances in two feature spaces, the share of the energy in isolated
spectral lines (`metrics.images.lattice.line_share`; a photo has nearly none, a lattice much), parameters,
images seen. Writes adaconv_in_gan.json and adaconv_in_gan.png: real images, then every variant's samples for
the same latents.

The same command goes on where it was stopped: trained variants are not trained again, measured ones not
measured again unless the images, --num or --num-real have changed. With more --minutes each is trained
further. --only and --seeds train and measure some; the files always show all that are measured in the folder.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ganmod.io.atomic_write import atomic_write_text
from ganmod.io.images import make_grid, write_image
from ganmod.machine import describe_machine
from ganmod.stylegan2.stylegan2_file import read_stylegan2
from metrics.compare.distances import Reference, measure_real, measure_run, spread_indices, to_arrays
from metrics.compare.protocol import RunProtocol
from metrics.features.pretrained import load_feature_space
from metrics.image_sets.sources import FileImages, GeneratorImages, ImageSource
from metrics.images.lattice import line_share
from metrics.images.structure import luma
from training.run.records import read_run


class Variant(NamedTuple):
    """A modulation, as --modulation takes it, and its options, as model.modulation_options does."""

    modulation: str
    options: Mapping[str, Any] = {}


COARSE = "adaconv@4-16,weight_demod@32-"
VARIANTS: dict[str, Variant] = {
    "defaults": Variant("adaconv"),
    "mixed": Variant(COARSE),
    "demod": Variant("adaconv", {"normalize": "demod"}),
    "slow": Variant("adaconv", {"lr_mul": 0.1}),
    "zero_sum": Variant("adaconv", {"zero_sum": True}),
    "gate": Variant("adaconv", {"gate": True}),
    "demod_mixed": Variant(COARSE, {"adaconv": {"normalize": "demod"}}),
    "rank8": Variant("adaconv", {"rank": 8}),
    "demod_mixed_512": Variant(COARSE, {"adaconv": {"normalize": "demod", "kernel_budget": 512}}),
    "none": Variant("adaconv", {"normalize": "none"}),
    "weight_demod": Variant("weight_demod"),
}
SETTINGS = {"model.channel_max": 64, "model.z_dim": 64, "model.w_dim": 64, "schedule.clock": "cpu"}
SHEET_ROWS, SHEET_COLUMNS = 2, 12  # samples of a variant
STRONG = 0.05  # a line share that an eye sees as a lattice


def training_command(variant: Variant, run_dir: Path, data: Path, *, minutes: float, seed: int) -> list[str]:
    """The command line that trains a variant."""
    settings = SETTINGS | {"model.modulation_options": json.dumps(dict(variant.options))}
    command = [sys.executable, "-m", "ganmod", "train", "stylegan2", "--config", "stylegan2-cifar10"]
    command += ["--data", str(data), "--modulation", variant.modulation, "--out", str(run_dir)]
    command += ["--aug", "none", "--batch", "32", "--precision", "bfloat16"]
    command += ["--minutes", str(minutes), "--seed", str(seed)]
    return command + [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]


def line_shares(images: ImageSource, indices: Tensor, title: str) -> np.ndarray:
    """`line_share` of some images of a source, [n]."""
    shares: list[float] = []
    for some in tqdm(indices.split(100), desc=title, disable=None):
        shares += [line_share(luma(x)) for x in to_arrays(images.load(some)) if x is not None]
    return np.array(shares)


def lattice_figures(shares: np.ndarray) -> dict[str, float]:
    """The mean line share of two or more images, its standard error, and how large a part has STRONG ones."""
    return {
        "line_share": float(shares.mean()),
        "standard_error": float(shares.std(ddof=1) / len(shares) ** 0.5),
        "images_with_lines": float((shares > STRONG).mean()),
    }


def measure(
    name: str, run_dir: Path, real: Reference, protocol: RunProtocol, num: int
) -> tuple[dict[str, Any], np.ndarray]:
    """(figures of a trained variant, its samples for the sheet: uint8 [n,H,W,3])."""
    record = read_run(run_dir, name=name)
    G = read_stylegan2(record.model, half_precision=False).G
    fakes = GeneratorImages(G, num)
    parameters = sum(p.numel() for p in G.parameters())
    run = measure_run(record, [fakes], real, protocol, parameters=parameters, real_bands=None)
    facts = record.facts
    assert facts.kimg is not None
    assert facts.seconds is not None
    figures = {
        "kimg": facts.kimg,
        "processor_seconds": facts.seconds,
        "seconds_per_kimg": facts.seconds / facts.kimg,
        "g_parameters": parameters,
        **run.draws[0],
        **lattice_figures(line_shares(fakes, torch.arange(num), f"{name}, lattice")),
    }
    samples = to_arrays(fakes.load(torch.arange(SHEET_ROWS * SHEET_COLUMNS)))
    return figures, np.stack([x for x in samples if x is not None])


def is_measured(file: Path, conditions: Mapping[str, Any]) -> bool:
    """Whether the file holds figures that were measured under these conditions, which it states."""
    if not file.is_file():
        return False
    figures = json.loads(file.read_text())
    return all(key in figures and figures[key] == value for key, value in conditions.items())


def write_sheet(out: Path, names: Sequence[str]) -> None:
    """The real images, then each variant's samples for the same latents, in adaconv_in_gan.png."""
    rows: list[list[np.ndarray]] = [list(np.load(out / "real.npy"))]
    labels = ["real images"]
    for row in range(SHEET_ROWS):
        for name in names:
            samples = np.load(out / f"{name}.npy")
            rows.append(list(samples[row * SHEET_COLUMNS : (row + 1) * SHEET_COLUMNS]))
            labels.append(name)
    enlarged = [[x.repeat(2, axis=0).repeat(2, axis=1) for x in row] for row in rows]
    write_image(out / "adaconv_in_gan.png", make_grid(enlarged, row_labels=labels, gap=2))


def write_results(out: Path, conditions: Mapping[str, Any]) -> None:
    """Write the JSON and the sheet from the figures of every variant that is measured."""
    figures = {name: json.loads((out / f"{name}.json").read_text()) for name in ("real", *measured_runs(out))}
    real = figures.pop("real")
    record = {
        "about": "Variants of AdaConv in StyleGAN2, trained for an equal processor time; see "
        "benchmarks/runs/adaconv_in_gan.py",
        "conditions": dict(conditions),
        "real_images": real,
        "variants": [{"name": name} | values for name, values in figures.items()],
    }
    atomic_write_text(out / "adaconv_in_gan.json", json.dumps(record, indent=1) + "\n")
    write_sheet(out, list(figures))
    columns = ("fd_squeezenet1_1", "fd_cifar_resnet56", "line_share", "kimg", "seconds_per_kimg")
    print(f"real images: line_share {real['line_share']:.4f}, with lines {real['images_with_lines']:.3f}")
    for name, values in figures.items():
        print(f"{name:18}", *(f"{key} {values[key]:.4g}" for key in columns if key in values), sep="  ")


def run_names(variants: Sequence[str] | Mapping[str, Variant], seeds: Sequence[int]) -> list[str]:
    """Names of the runs: the variant's, with _s1 and so on for seeds other than 0."""
    return [f"{name}_s{seed}" if seed else name for name in variants for seed in seeds]


def measured_runs(out: Path) -> list[str]:
    """Names of the runs with figures in a folder, as of `run_names`: by variant, then by seed."""
    order = list(VARIANTS)
    matches = (re.fullmatch(r"(.+?)(?:_s(\d+))?", file.stem) for file in out.glob("*.json"))
    found = [match for match in matches if match and match[1] in VARIANTS]
    return [m[0] for m in sorted(found, key=lambda m: (order.index(m[1]), int(m[2] or 0)))]


def parse_arguments() -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="zip or folder of 32 x 32 images")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs and the results")
    parser.add_argument("--minutes", type=float, default=10, help="of processor time per variant")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="training seeds")
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), metavar="NAME")
    parser.add_argument("--num", type=int, default=5000, help="fakes")
    parser.add_argument("--num-real", type=int, help="real images; all by default")
    parser.add_argument("--squeezenet", type=Path, help="weights of squeezenet1_1")
    parser.add_argument("--resnet", type=Path, help="weights of cifar-resnet56")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    files = FileImages(args.data, num=args.num_real)
    spaces = [
        load_feature_space("squeezenet1_1", args.squeezenet),
        load_feature_space("cifar-resnet56", args.resnet),
    ]
    protocol = RunProtocol(spaces=spaces, draws=1, data=args.data, cache_dir=out)
    real = measure_real(files, [args.data], protocol)
    images = {"data": args.data.name, "data_sha256": real.content_hash, "real_images": real.count}
    if not is_measured(out / "real.json", images | {"num": args.num}):
        indices = spread_indices(files.num_images, args.num)
        shares = line_shares(files, indices, "real images, lattice")
        shown = to_arrays(files.load(spread_indices(files.num_images, SHEET_COLUMNS)))
        np.save(out / "real.npy", np.stack([x for x in shown if x is not None]))
        atomic_write_text(out / "real.json", json.dumps(images | {"num": args.num} | lattice_figures(shares)))
    conditions: dict[str, Any] = images | {
        "settings": SETTINGS | {"batch": 32, "precision": "bfloat16", "augmentation": "none"},
        "machine": describe_machine(protocol.device),
    }
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for name, seed in ((name, seed) for seed in args.seeds for name in args.only):
        (run_name,) = run_names([name], [seed])
        variant, run_dir = VARIANTS[name], out / "runs" / run_name
        measured = images | {"minutes": args.minutes, "fakes": args.num}
        if not is_measured(out / f"{run_name}.json", measured):
            command = training_command(variant, run_dir, args.data, minutes=args.minutes, seed=seed)
            subprocess.run(command, check=True, env=environment)
            figures, samples = measure(run_name, run_dir, real, protocol, args.num)
            np.save(out / f"{run_name}.npy", samples)
            about = {"modulation": variant.modulation, "options": dict(variant.options), "seed": seed}
            record = about | measured | figures
            atomic_write_text(out / f"{run_name}.json", json.dumps(record, indent=1) + "\n")
        write_results(out, conditions)


if __name__ == "__main__":
    main()
