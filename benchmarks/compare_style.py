"""Compare style-transfer models on one fixed list of held-out pairs: losses, LPIPS, time, size, a picture.

    python benchmarks/compare_style.py --model adaconv=adaconv.safetensors --model adain=adain.safetensors \\
        --content PHOTOS --style PAINTINGS --style TEXTURES --pairs results/style/held_out_pairs.json \\
        --feature-weights 4SE.pth --lpips-weights squeezenet1_1-b8a52dc0.pth --out results/style

Every content of the list is stylized with every style. A --pairs file that does not exist is made: names
spread evenly over the held-out names (--held-out) in each folder; afterwards it is only read, so that figures
stay comparable. Prints progress to stderr and the table, last, to stdout; writes comparison.json in --out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from ganmod.features import load_features
from ganmod.images import (
    center_crop,
    list_images,
    make_grid,
    read_image,
    resize,
    resize_short_side,
    to_tensor,
)
from metrics.lpips_distance import load_lpips
from metrics.machine import cpu_name
from metrics.style_table import (
    MEASURES,
    Contestant,
    make_row,
    paired_difference,
    score_pairs,
    time_models,
    to_json,
    to_markdown,
)
from style_transfer import StyleTransferModel, load, prepare_style
from style_transfer.procedural_styles import builtin_contents, draw_style

DRAWN_STYLES = ("circles_and_squares", "hatching", "mosaic", "stripes", "brush_strokes", "dots")
PICTURE_STYLES = 6
PICTURE_CELL = 160  # pixels
PICTURE_BYTES = 600_000


class Unchanged:
    """The model that leaves the content as it is: what the losses are before anything is done."""

    def encode(self, x: Tensor) -> Tensor:
        return x

    def predict(self, style: Tensor) -> None:
        return None

    def decode(self, features: Tensor, params: None) -> Tensor:
        return features


def spread(names: Sequence[str], count: int) -> list[str]:
    """`count` names, the middles of as many equal parts of the list."""
    if count > len(names):
        raise ValueError(f"got {len(names)} held-out images, expected at least {count}: ask for fewer")
    return [names[(2 * i + 1) * len(names) // (2 * count)] for i in range(count)]


def choose_pairs(
    held_out: set[str], contents: Path, styles: Sequence[Path], num_contents: int, num_styles: int
) -> dict[str, Any]:
    """The list to compare on: names spread over the held-out ones, the styles' folders taking equal parts."""
    chosen = []
    for i, folder in enumerate(styles):
        share = num_styles // len(styles) + (i < num_styles % len(styles))
        chosen += spread([path.name for path in list_images(folder) if path.name in held_out], share)
    return {
        "about": "Every content is stylized with every style. Names spread evenly over the held-out images.",
        "contents": spread([p.name for p in list_images(contents) if p.name in held_out], num_contents),
        "styles": chosen,
    }


def find_files(names: Sequence[str], folders: Sequence[Path]) -> list[Path]:
    """The files of these names in the folders; ValueError naming those that are in none."""
    found = {path.name: path for folder in reversed(folders) for path in list_images(folder)}
    missing = [name for name in names if name not in found]
    if missing:
        where = ", ".join(map(str, folders))
        raise ValueError(
            f"{len(missing)} images of the list are not in {where}, first {missing[0]}: check the folders"
        )
    return [found[name] for name in names]


def content_tensor(path: Path, size: int) -> Tensor:
    """Short side `size`, cropped to multiples of 8 -> [1,3,H,W]."""
    image = resize_short_side(read_image(path), size)
    return to_tensor(center_crop(image, (image.shape[0] // 8 * 8, image.shape[1] // 8 * 8)))[None]


def contestant(name: str, model: StyleTransferModel) -> Contestant:
    return Contestant(
        name=name,
        model=model,
        prepare_style=lambda style: prepare_style(style, model.spec.style_image_size),
        trained_parameters=sum(p.numel() for p in model.trainable().values()),
        all_parameters=sum(p.numel() for p in model.parameters()),
    )


def comparison_picture(
    models: Mapping[str, StyleTransferModel], styles: Mapping[str, np.ndarray], size: int
) -> np.ndarray:
    """uint8 [H,W,3]: styles along the top; below, one block per content photo, with one row per model."""
    names = ["content", *(name.replace("_", " ") for name in styles)]
    cell = (PICTURE_CELL, PICTURE_CELL)
    tops = [resize(center_crop(image, min(image.shape[:2])), cell) for image in styles.values()]
    blocks = [make_grid([[None, *tops]], column_labels=names, row_labels=["style"], cell_size=cell)]
    for content in builtin_contents().values():
        square = resize_short_side(center_crop(content, min(content.shape[:2])), size)
        rows: list[list[np.ndarray | None]] = []
        for model in models.values():
            stylized = [model.stylize(square, style) for style in styles.values()]
            rows.append([None if rows else square, *stylized])
        blocks.append(make_grid(rows, row_labels=list(models), cell_size=cell))
    width = max(block.shape[1] for block in blocks)
    left = [np.pad(b, ((0, 8), (width - b.shape[1], 0), (0, 0)), constant_values=255) for b in blocks]
    return np.concatenate(left)


def write_small_jpeg(path: Path, image: np.ndarray, limit: int = PICTURE_BYTES) -> None:
    """Write a JPEG below `limit` bytes, at the highest quality that allows it."""
    for quality in range(92, 30, -4):
        buffer = BytesIO()
        Image.fromarray(image).save(buffer, format="JPEG", quality=quality, optimize=True)
        if buffer.tell() < limit:
            break
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue())


def named(text: str) -> tuple[str, Path]:
    """NAME=PATH, for argparse."""
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected NAME=PATH")
    return name, Path(path)


def sha256(path: Path) -> str:
    file = path / "4SE.pth" if path.is_dir() else path
    return hashlib.sha256(file.read_bytes()).hexdigest()


def main() -> None:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--model", action="append", type=named, required=True, metavar="NAME=FILE")
    parser.add_argument("--content", type=Path, required=True)
    parser.add_argument("--style", action="append", type=Path, required=True, help="repeatable")
    parser.add_argument("--pairs", type=Path, default=Path("results/style/held_out_pairs.json"))
    parser.add_argument("--held-out", type=Path, default=Path("results/style/held_out.txt"))
    parser.add_argument("--num-contents", type=int, default=20, help="used only to make the --pairs file")
    parser.add_argument("--num-styles", type=int, default=20, help="used only to make the --pairs file")
    parser.add_argument("--loss-network", default="vgg19-slim", help="vgg19, vgg19-slim or ganmod-slim")
    parser.add_argument("--feature-weights", type=Path, help="the loss network's file")
    parser.add_argument("--lpips-weights", type=Path, required=True, help="SqueezeNet 1.1")
    parser.add_argument("--size", type=int, default=256, help="short side in pixels")
    parser.add_argument("--repeats", type=int, default=5, help="of the timing")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--picture", type=Path, help="also write a comparison picture (JPEG) here")
    parser.add_argument("--picture-style", action="append", type=named, default=[], metavar="NAME=FILE")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    models = {name: load(path) for name, path in args.model}
    loss_network = load_features(args.loss_network, path=args.feature_weights)
    lpips = load_lpips(args.lpips_weights)

    if not args.pairs.is_file():
        held_out = set(args.held_out.read_text().split())
        chosen = choose_pairs(held_out, args.content, args.style, args.num_contents, args.num_styles)
        args.pairs.parent.mkdir(parents=True, exist_ok=True)
        args.pairs.write_text(json.dumps(chosen, indent=1) + "\n")
        print(f"wrote the list of images to {args.pairs}", file=sys.stderr)
    pairs = json.loads(args.pairs.read_text())
    contents = [content_tensor(path, args.size) for path in find_files(pairs["contents"], [args.content])]
    styles = [
        prepare_style(to_tensor(read_image(path))[None], args.size)
        for path in find_files(pairs["styles"], args.style)
    ]

    contestants = [contestant(name, model) for name, model in models.items()]
    timed = time_models(contestants, styles[0], repeats=args.repeats, num_threads=args.threads)
    unchanged = Contestant("(content unchanged)", Unchanged(), lambda style: style, 0, 0)
    timed[unchanged.name] = (dict.fromkeys(timed[contestants[0].name][0], 0.0), 0.0)
    rows = []
    for entry in [*contestants, unchanged]:
        bar = tqdm(total=len(contents) * len(styles), desc=entry.name, disable=None)
        scores = score_pairs(entry, contents, styles, loss_network=loss_network, lpips=lpips, done=bar.update)
        bar.close()
        rows.append(make_row(entry, scores, *timed[entry.name]))
    differences = {
        f"{row.model} - {rows[0].model}": {m: paired_difference(rows[0], row, m) for m in MEASURES}
        for row in rows[1:-1]
    }

    if args.picture:
        shown = {name: read_image(path) for name, path in args.picture_style}
        for name in DRAWN_STYLES[: PICTURE_STYLES - len(shown)]:
            shown[name] = draw_style(name, 512)
        write_small_jpeg(args.picture, comparison_picture(models, shown, args.size))
        print(f"wrote {args.picture}", file=sys.stderr)

    record = {
        "rows": to_json(rows),
        "paired_differences (mean, standard error)": differences,
        "pairs": pairs,
        "size": args.size,
        "models": {name: {"file": path.name, "sha256": sha256(path)} for name, path in args.model},
        "loss_network": {
            "name": args.loss_network,
            "sha256": sha256(args.feature_weights) if args.feature_weights else None,
        },
        "lpips": {"network": "SqueezeNet 1.1", "sha256": sha256(args.lpips_weights)},
        "timing": {"threads": args.threads, "repeats": args.repeats, "statistic": "median"},
        "hardware": {"processor": cpu_name(), "cores": os.cpu_count()},
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("ganmod", "torch", "torchvision", "lpips", "numpy", "pillow")},
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "comparison.json").write_text(json.dumps(record) + "\n")
    print(f"wrote {args.out / 'comparison.json'}", file=sys.stderr)

    print(
        f"{len(pairs['contents'])} contents x {len(pairs['styles'])} styles at {args.size} px, losses in "
        f"{args.loss_network}, standard errors in brackets; {args.threads} thread(s), {cpu_name()}\n"
    )
    for name, by_measure in differences.items():
        text = ", ".join(f"{m} {mean:+.4f} ({se:.4f})" for m, (mean, se) in by_measure.items())
        print(f"{name}, pair by pair: {text}\n")
    print(to_markdown(rows))


if __name__ == "__main__":
    main()
