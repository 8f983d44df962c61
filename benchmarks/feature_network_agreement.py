"""Do the small feature networks rank style differences alike, and which is the better loss network?

    python benchmarks/feature_network_agreement.py --teacher 4SE.pth \\
        --data PHOTOS --data PAINTINGS --style PAINTINGS --classes TEXTURES

1. agreement: Spearman correlation of each network's style losses with vgg19-slim's, over pairs of
   different held-out images (names in --held-out, looked up in --data);
2. crops: how often, of one crop per held-out style image, the nearest by style loss to another crop is
   the one of the same image (--style);
3. classes: how often the nearest other texture is of the same class (--classes, all images; the class is
   the file's name up to its last "_");
4. milliseconds per forward pass.
With --vgg19 the real VGG-19 takes part, as pip install '.[vgg]' brings it.
Writes feature_networks.json in --out and prints the table.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch
from scipy.stats import spearmanr
from torch import Tensor
from tqdm import tqdm

from ganmod.features.style_losses import STYLE_LOSSES, gram
from ganmod.features.vgg import LAYERS, VGGFeatures, load_features
from ganmod.io.images import center_crop, list_images, read_image, resize_short_side, to_tensor
from ganmod.modulation.statistics import mean_std

REFERENCE = "vgg19-slim"


def held_out_images(list_file: Path, folders: Sequence[Path]) -> list[Path]:
    """Files in `folders` that the list names, in the order of the folders; ValueError for none."""
    names = set(list_file.read_text().split())
    files = [path for folder in folders for path in list_images(folder) if path.name in names]
    if not files:
        where = ", ".join(map(str, folders))
        raise ValueError(f"no image named in {list_file} lies in {where}: check the folders and --held-out")
    return files


def square(path: Path, size: int) -> Tensor:
    """The middle of an image, its short side resized to `size` -> [1,3,size,size] in [0,1]."""
    return to_tensor(center_crop(resize_short_side(read_image(path), size), size))[None]


def draw_pairs(count: int, total: int, seed: int) -> list[tuple[int, int]]:
    """`count` different unordered pairs of different indices below `total`."""
    most = total * (total - 1) // 2
    if count > most:
        raise ValueError(f"{total} images form {most} pairs, got --pairs {count}: give more images")
    rng, pairs = np.random.default_rng(seed), set[tuple[int, int]]()
    while len(pairs) < count:
        a, b = sorted(int(i) for i in rng.choice(total, 2, replace=False))
        pairs.add((a, b))
    return sorted(pairs)


@torch.inference_mode()
def pair_losses(
    network: VGGFeatures, pairs: Iterable[tuple[Path, Path]], size: int, label: str
) -> dict[str, list[float]]:
    """{"mean_std": one value per pair, "mean_std relu1_1": ..., "gram": ...}: every loss and layer."""
    losses: dict[str, list[float]] = {}
    for a, b in tqdm(list(pairs), desc=label, disable=None):
        first, second = network.normalized(square(a, size)), network.normalized(square(b, size))
        for loss, function in STYLE_LOSSES.items():
            by_layer = [float(function({i: first[i]}, {i: second[i]})) for i in LAYERS]
            losses.setdefault(loss, []).append(sum(by_layer))  # every style loss is a sum over layers
            for layer, value in zip(LAYERS, by_layer, strict=True):
                losses.setdefault(f"{loss} {layer}", []).append(value)
    return losses


def mean_std_vector(features: Mapping[str, Tensor]) -> Tensor:
    """Features -> [N,D] whose squared Euclidean distances are `mean_std_loss`."""
    parts = [part.flatten(1) / f.shape[1] ** 0.5 for f in features.values() for part in mean_std(f)]
    return torch.cat(parts, dim=1)


def gram_vector(features: Mapping[str, Tensor]) -> Tensor:
    """Features -> [N,D] whose squared Euclidean distances are `gram_loss`."""
    return torch.cat([gram(f).flatten(1) / f.shape[1] for f in features.values()], dim=1)


VECTORS: dict[str, Callable[[Mapping[str, Tensor]], Tensor]] = {
    "mean_std": mean_std_vector,
    "gram": gram_vector,
}


@torch.inference_mode()
def style_vectors(network: VGGFeatures, images: Iterable[Tensor], label: str) -> dict[str, Tensor]:
    """Images [1,3,H,W] -> {loss: vectors [N,D]}, checked against the loss on the first two images."""
    found: dict[str, list[Tensor]] = {name: [] for name in VECTORS}
    checked: list[Mapping[str, Tensor]] = []
    for image in tqdm(images, desc=label, disable=None):
        features = network.normalized(image)
        if len(checked) < 2:
            checked.append(features)
        for name, vector in VECTORS.items():
            found[name].append(vector(features)[0])
    for name, vectors in found.items():
        distance = (vectors[0] - vectors[1]).square().sum()[None]
        torch.testing.assert_close(distance, STYLE_LOSSES[name](*checked), rtol=1e-3, atol=1e-6)
    return {name: torch.stack(vectors) for name, vectors in found.items()}


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances between rows, [N,D] and [M,D] -> [N,M]."""
    center = a.mean(dim=0)  # a common offset would cost digits in |a|^2 + |b|^2 - 2ab
    return torch.cdist(a - center, b - center, compute_mode="use_mm_for_euclid_dist")


def crop_retrieval(first: Tensor, second: Tensor) -> float:
    """Share of second crops [N,D] whose nearest first crop [N,D] is of the same image."""
    nearest = distances(second, first).argmin(dim=1)
    return float((nearest == torch.arange(len(first))).float().mean())


def class_retrieval(vectors: Tensor, classes: Sequence[str]) -> float:
    """Share of images [N,D] whose nearest other image is of the same class."""
    away = distances(vectors, vectors).fill_diagonal_(torch.inf)
    return float(np.mean([classes[i] == classes[int(j)] for i, j in enumerate(away.argmin(dim=1))]))


@torch.inference_mode()
def milliseconds(networks: Mapping[str, VGGFeatures], size: int, rounds: int = 9) -> dict[str, float]:
    """Median time of one forward pass on one image; the networks take turns, so load hits all alike."""
    image, times = torch.rand(1, 3, size, size), {name: list[float]() for name in networks}
    for i in range(rounds + 2):
        for name, network in networks.items():
            begin = time.perf_counter()
            network(image)
            if i >= 2:
                times[name].append(1000 * (time.perf_counter() - begin))
    return {name: statistics.median(taken) for name, taken in times.items()}


def table(networks: Sequence[str], results: Mapping[str, Mapping[str, Any]]) -> str:
    """All measurements as Markdown, one column per network."""
    lines = ["| | " + " | ".join(networks) + " |", "|---" * (len(networks) + 1) + "|"]
    for kind, rows in results.items():
        for row, values in rows.items():
            cells = (f"{values[name]:.4g}" if name in values else "" for name in networks)
            lines.append(f"| {kind}: {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--teacher", required=True, help="vgg19-slim's 4SE.pth, or its folder")
    parser.add_argument("--network", help="a ganmod-slim file; without it the shipped one")
    parser.add_argument("--vgg19", action="store_true", help="with the real VGG-19, of the extra `vgg`")
    parser.add_argument("--data", action="append", type=Path, required=True, help="images for 1; repeatable")
    parser.add_argument(
        "--style", action="append", type=Path, help="images for 2; repeatable (default: --data)"
    )
    parser.add_argument("--classes", type=Path, help="images for 3, named CLASS_number")
    parser.add_argument("--held-out", type=Path, default=Path("results/style/held_out.txt"))
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--crop-images", type=int, default=100)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("results/features"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    networks = {
        REFERENCE: load_features(REFERENCE, path=args.teacher),
        f"{REFERENCE}-aux": load_features(f"{REFERENCE}-aux", path=args.teacher),
        "ganmod-slim": load_features("ganmod-slim", path=args.network),
    }
    if args.vgg19:
        networks["vgg19"] = load_features("vgg19")
    results: dict[str, dict[str, dict[str, float]]] = {}

    # 1. Agreement.
    files = held_out_images(args.held_out, args.data)
    pairs = [(files[a], files[b]) for a, b in draw_pairs(args.pairs, len(files), args.seed)]
    losses = {name: pair_losses(network, pairs, args.size, name) for name, network in networks.items()}
    results[f"Spearman with {REFERENCE}, {len(pairs)} pairs"] = {
        loss: {
            name: float(spearmanr(of[loss], losses[REFERENCE][loss]).statistic)
            for name, of in losses.items()
            if name != REFERENCE
        }
        for loss in losses[REFERENCE]
    }
    print(table(list(networks), results), file=sys.stderr, flush=True)  # so far: the whole takes minutes

    # 2. Two disjoint crops of one style image: opposite corners.
    styles, half = held_out_images(args.held_out, args.style or args.data), args.size // 2
    rng = np.random.default_rng(args.seed)
    chosen = sorted(rng.choice(len(styles), min(args.crop_images, len(styles)), replace=False))
    images = [square(styles[i], args.size) for i in chosen]
    crops = [x[:, :, :half, :half] for x in images] + [x[:, :, half:, half:] for x in images]
    scores = results[f"same image found by {half} px crops, of {len(images)}"] = {}
    for name, network in networks.items():
        for loss, vectors in style_vectors(network, crops, name).items():
            first, second = vectors.chunk(2)
            score = (crop_retrieval(first, second) + crop_retrieval(second, first)) / 2
            scores.setdefault(loss, {})[name] = score

    # 3. The class of a texture.
    if args.classes:
        textures = list_images(args.classes)
        classes = [path.stem.rpartition("_")[0] for path in textures]
        scores = results[f"same of {len(set(classes))} texture classes found, of {len(textures)} images"] = {}
        for name, network in networks.items():
            found = style_vectors(network, (square(path, args.size) for path in textures), name)
            for loss, vectors in found.items():
                scores.setdefault(loss, {})[name] = class_retrieval(vectors, classes)

    # 4. Cost.
    results["cost"] = {f"ms per {args.size} px image": milliseconds(networks, args.size)}

    record = {
        "options": {k: getattr(args, k) for k in ("pairs", "crop_images", "size", "seed", "threads")},
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "scipy": scipy.__version__,
            "machine": platform.machine(),
        },
        "results": results,
        "pairs": [[a.name, b.name] for a, b in pairs],
        "losses": {name: {k: [round(i, 6) for i in v] for k, v in of.items()} for name, of in losses.items()},
    }
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "feature_networks.json"
    file.write_text(json.dumps(record) + "\n")
    print(f"wrote {file}", file=sys.stderr)
    print(table(list(networks), results))


if __name__ == "__main__":
    main()
