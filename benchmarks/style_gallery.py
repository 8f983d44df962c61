"""Pictures to judge a style-transfer model by: six photos in every style, and single pairs beside other ways.

The photos come with scikit-image. The first picture, --out, has a column for every style and a row for every
photo. The second, --beside, has a column for every style, each with another photo, and rows: photo, style,
pictures made by other programs (--pictures, such as those of `ganmod optimize`), and each model. --photos
writes the photos, from which other programs start.

    python benchmarks/style_gallery.py --style a.jpg --style b.jpg --out gallery.jpg \\
        --beside pairs.jpg --pictures optimised=optima/ --model adain=a.safetensors --model adaconv=shipped
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from skimage import data

from ganmod.io.images import center_crop, make_grid, read_image, resize, resize_short_side, write_image
from ganmod.io.small_jpeg import write_small_jpeg
from style_transfer import StyleTransferModel, load
from style_transfer.procedural_styles import builtin_contents

SHIPPED = "shipped"
MAX_BYTES = 590_000


def photos() -> dict[str, np.ndarray]:
    """Six photos, uint8 [H,W,3] squares."""
    camera = np.repeat(data.camera()[..., None], 3, axis=2)
    every = builtin_contents() | {"camera": camera, "coins": np.repeat(data.coins()[..., None], 3, axis=2)}
    return {name: center_crop(image, min(image.shape[:2])) for name, image in every.items()}


def named(text: str) -> tuple[str, StyleTransferModel]:
    """NAME=FILE -> the name and the model; the file may be `shipped`."""
    name, separator, file = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=FILE")
    return name, load(None if file == SHIPPED else file)


def folder(text: str) -> tuple[str, Path]:
    """NAME=DIR -> the name and the folder."""
    name, separator, path = text.partition("=")
    if not separator or not Path(path).is_dir():
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=DIR with an existing folder")
    return name, Path(path)


def picture(path: Path, side: int) -> np.ndarray | None:
    """The picture as a square, None if there is no such file."""
    return square(read_image(path), side) if path.exists() else None


def square(image: np.ndarray, side: int) -> np.ndarray:
    return resize(center_crop(image, min(image.shape[:2])), (side, side))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--style", type=Path, action="append", required=True, help="style image; repeatable")
    parser.add_argument(
        "--model",
        type=named,
        action="append",
        help="NAME=FILE, repeatable; the last one draws --out  [default: AdaConv=shipped]",
    )
    parser.add_argument("--size", type=int, default=384, help="short side of the pictures  [384]")
    parser.add_argument("--cell", type=int, default=170, help="side of a cell of the grid  [170]")
    parser.add_argument("--out", type=Path, help="JPEG of all photos in all styles")
    parser.add_argument("--beside", type=Path, help="JPEG of one pair for each style, beside other ways")
    parser.add_argument(
        "--pictures",
        type=folder,
        action="append",
        default=[],
        metavar="NAME=DIR",
        help="row of --beside: PHOTO--STYLE.png in a folder, what it lacks stays empty; repeatable",
    )
    parser.add_argument(
        "--photos", type=Path, help="folder for the photos, PHOTO.png with the short side --size"
    )
    args = parser.parse_args()
    models = dict(args.model or [named(f"AdaConv={SHIPPED}")])
    contents = {name: resize_short_side(image, args.size) for name, image in photos().items()}
    styles = {path.stem: read_image(path) for path in args.style}
    cells = (args.cell, args.cell)
    if args.photos is not None:
        args.photos.mkdir(parents=True, exist_ok=True)
        for name, image in contents.items():
            write_image(args.photos / f"{name}.png", image)

    if args.out is not None:
        model = list(models.values())[-1]
        params = [model.predict_style(style) for style in styles.values()]
        rows: list[list[np.ndarray | None]] = [[None, *(square(s, args.cell) for s in styles.values())]]
        for content in contents.values():
            results = (square(model.apply_params(content, p), args.cell) for p in params)
            rows.append([square(content, args.cell), *results])
        write_small_jpeg(args.out, make_grid(rows, cell_size=cells), max_bytes=MAX_BYTES)
        print(args.out)
    if args.beside is not None:
        columns = []
        for i, (style_name, style) in enumerate(styles.items()):
            photo = list(contents)[i % len(contents)]
            others = [picture(path / f"{photo}--{style_name}.png", args.cell) for _, path in args.pictures]
            with torch.inference_mode():
                results = [model.stylize(contents[photo], style) for model in models.values()]
            shown = [contents[photo], style, *results]
            squares: list[np.ndarray | None] = [square(image, args.cell) for image in shown]
            columns.append([*squares[:2], *others, *squares[2:]])
        labels = ["photo", "style", *(name for name, _ in args.pictures), *models]
        grid = make_grid([*zip(*columns, strict=True)], row_labels=labels, cell_size=cells)
        write_small_jpeg(args.beside, grid, max_bytes=MAX_BYTES)
        print(args.beside)


if __name__ == "__main__":
    main()
