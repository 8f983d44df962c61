"""Do a model's strokes turn when the style image is turned? Measured with the structure tensor.

    python benchmarks/rotate_style.py --model adaconv=adaconv.safetensors --model adain=adain.safetensors \\
        --out results/style --picture results/style/rotation.jpg

Drawn styles with upright strokes are turned by i * 180 / n degrees and given to smooth contents, which have
no strokes of their own. Of each result the fine part (luma minus its blur) is measured. Per model and style:
turned: degrees between the strokes for the upright and for the lying style: 90 when they follow, 0 when they
do not, 45 on average when they run by chance;
strength: how much of the result agrees on one direction, 0 to 1;
follows, stays: lengths of the part of the direction that turns with the style, and of the part that never
turns; response: follows / (follows + stays).
The styles themselves, measured in the same way, are the first rows. Prints the table, writes rotation.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from tqdm import tqdm

from ganmod.images import center_crop, make_grid, resize_short_side, write_image
from metrics.structure import (
    from_moment,
    luma,
    orientation_difference,
    orientation_field,
    orientation_moment,
    rotation_response,
)
from style_transfer import StyleTransferModel, load
from style_transfer.procedural_styles import PROCEDURAL_STYLES, builtin_contents, draw_style

STYLES = ("stripes", "hatching")
ITSELF = "(the style itself)"
FINE_SIGMA = 12.0  # pixels: what is broader than this is shading, not strokes
PICTURE_ANGLES = (0, 45, 90, 135)
PICTURE_CELL = 128  # pixels

# Angles -> one moment per angle: what is measured of one model, style, seed and content.
Moments = Mapping[float, complex]


def smooth_contents(size: int) -> dict[str, np.ndarray]:
    """Two uint8 [size,size,3] without strokes: photos blurred down to their shades.

    A drawn gradient would not do: what is constant along every row stays so in any convolutional network,
    whatever the style, and no upright stroke can appear.
    """
    contents = {}
    for name in ("coffee", "astronaut"):
        photo = builtin_contents()[name]
        square = resize_short_side(center_crop(photo, min(photo.shape[:2])), size)
        blurred = gaussian_filter(square.astype(float), (size / 16, size / 16, 0))
        contents[f"blurred {name}"] = np.rint(blurred).astype(np.uint8)
    return contents


def measure(image: np.ndarray, window: float) -> complex:
    """The orientation moment of the fine part of uint8 [H,W,3]."""
    grey = luma(image)
    return orientation_moment(orientation_field(grey - gaussian_filter(grey, FINE_SIGMA), window=window))


def summary(series: list[Moments]) -> dict[str, Any]:
    """Means over several series of moments, each with the angles 0 and 90 among others."""
    turned, rows = [], []
    for moments in series:
        upright, lying = (from_moment(moments[angle])[0] for angle in (0.0, 90.0))
        turned.append(orientation_difference(upright, lying))
        found = rotation_response(list(moments.values()), list(moments))
        strength = float(np.mean([abs(z) for z in moments.values()]))
        rows.append((strength, found.follows, found.stays, found.response))
    means = np.mean(rows, axis=0)
    return {
        "turned": float(np.mean(turned)),
        "turned_each": [round(i, 2) for i in turned],
        **dict(zip(("strength", "follows", "stays", "response"), map(float, means), strict=True)),
    }


def measure_all(
    models: Mapping[str, StyleTransferModel], args: argparse.Namespace, angles: list[float]
) -> dict[tuple[str, str], dict[str, Any]]:
    """{(model, style): summary}, the styles themselves first."""
    contents = smooth_contents(args.size)
    found: dict[tuple[str, str], dict[str, Any]] = {}
    bar = tqdm(total=len(models) * len(args.style) * args.seeds * len(angles), disable=None)
    for style in args.style:
        drawn = [{a: draw_style(style, args.size, seed, a) for a in angles} for seed in range(args.seeds)]
        itself: list[Moments] = [
            {a: measure(image, args.window) for a, image in by_angle.items()} for by_angle in drawn
        ]
        found[ITSELF, style] = summary(itself)
    for name, model in models.items():
        for style in args.style:
            series: list[Moments] = []
            for seed in range(args.seeds):
                by_content: dict[str, dict[float, complex]] = {content: {} for content in contents}
                for angle in angles:
                    params = model.predict_style(draw_style(style, args.size, seed, angle))
                    for content, image in contents.items():
                        by_content[content][angle] = measure(model.apply_params(image, params), args.window)
                    bar.update()
                series += by_content.values()
            found[name, style] = summary(series)
    bar.close()
    return found


def rotation_picture(models: Mapping[str, StyleTransferModel], styles: list[str], size: int) -> np.ndarray:
    """uint8 [H,W,3]: the turned styles along the top, below one row per model on the same photo."""
    photo = builtin_contents()["coffee"]
    square = resize_short_side(center_crop(photo, min(photo.shape[:2])), size)
    turned = [(style, angle) for style in styles for angle in PICTURE_ANGLES]
    images = [draw_style(style, size, 0, angle) for style, angle in turned]
    rows: list[list[np.ndarray | None]] = [[None, *images]]
    for model in models.values():
        rows.append([square if len(rows) == 1 else None, *(model.stylize(square, image) for image in images)])
    labels = ["content", *(f"{style} {angle}" for style, angle in turned)]
    cell = (PICTURE_CELL, PICTURE_CELL)
    return make_grid(rows, column_labels=labels, row_labels=["style", *models], cell_size=cell)


def to_markdown(found: Mapping[tuple[str, str], Mapping[str, Any]]) -> str:
    """One row per model and style."""
    lines = [
        "| model | style | turned | strength | follows | stays | response |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for (model, style), row in found.items():
        values = " | ".join(f"{row[key]:.2f}" for key in ("strength", "follows", "stays", "response"))
        lines.append(f"| {model} | {style} | {row['turned']:.0f} deg | {values} |")
    return "\n".join(lines)


def named(text: str) -> tuple[str, Path]:
    """NAME=PATH, for argparse."""
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected NAME=PATH")
    return name, Path(path)


def main() -> None:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--model", action="append", type=named, required=True, metavar="NAME=FILE")
    parser.add_argument(
        "--style", action="append", choices=list(PROCEDURAL_STYLES), help=f"default: {STYLES}"
    )
    parser.add_argument("--angles", type=int, default=8, help="even, so that a quarter turn is among them")
    parser.add_argument("--seeds", type=int, default=3, help="drawings of each style")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--window", type=float, default=4.0, help="sigma in pixels of the neighbourhood")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--out", type=Path, help="folder for rotation.json")
    args = parser.parse_args()
    if args.angles < 4 or args.angles % 2:
        parser.error(f"--angles is {args.angles}: give an even number from 4 up, such as 8")
    args.style = args.style or list(STYLES)
    torch.set_num_threads(args.threads)

    models = {name: load(path) for name, path in args.model}
    found = measure_all(models, args, [i * 180 / args.angles for i in range(args.angles)])
    if args.picture:
        write_image(args.picture, rotation_picture(models, args.style, args.size))
        print(f"wrote {args.picture}", file=sys.stderr)
    if args.out:
        record = {
            "rows": [{"model": model, "style": style, **row} for (model, style), row in found.items()],
            "options": {k: getattr(args, k) for k in ("angles", "seeds", "size", "window", "threads")},
            "models": {name: path.name for name, path in args.model},
            "versions": {"python": platform.python_version()}
            | {name: version(name) for name in ("ganmod", "torch", "numpy", "scipy", "pillow")},
        }
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "rotation.json").write_text(json.dumps(record, indent=1) + "\n")
        print(f"wrote {args.out / 'rotation.json'}", file=sys.stderr)
    print(to_markdown(found))


if __name__ == "__main__":
    main()
