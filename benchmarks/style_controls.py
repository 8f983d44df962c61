"""Every control of stylisation in one picture; how far alpha and style-scale move the result.

    python benchmarks/style_controls.py --picture results/style/controls.jpg
    python benchmarks/style_controls.py --content PHOTOS --style PAINTINGS --style TEXTURES \\
        --pairs results/style/held_out_pairs.json --lpips-weights squeezenet1_1-b8a52dc0.pth \\
        --size 128 --out results/style
    python benchmarks/style_controls.py --strokes --size 192 --out results/style

The second form stylizes every content of the list with every `--every`-th style at five values of alpha, and
prints the mean LPIPS (SqueezeNet) to the content, and in how many pairs it rises at every step. The third
prints the mean wavelength (1 / mean frequency, weighted by power) of the strokes at several style scales: of
the luma minus its blur, of two built-in photos.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from tqdm import tqdm

from ganmod.io.images import center_crop, list_images, make_grid, read_image, resize_short_side, to_tensor
from ganmod.io.small_jpeg import write_small_jpeg
from metrics.images.lpips import load_lpips
from metrics.images.structure import luma
from style_transfer import ControlledStyle, Controls, StyleTransferModel, load, make_masks
from style_transfer.procedural_styles import PROCEDURAL_STYLES, builtin_contents, draw_style

ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)
SCALES = (0.5, 0.71, 1, 1.41, 2, 3)
FINE_SIGMA = 12.0  # pixels: what is broader than this is shading, not strokes
CELL = 144  # pixels in the picture
PICTURE_BYTES = 400_000


def photo(name: str, size: int) -> np.ndarray:
    """A built-in photo as uint8 [size,size,3]."""
    image = builtin_contents()[name]
    return resize_short_side(center_crop(image, min(image.shape[:2])), size)


def controls_picture(model: StyleTransferModel, size: int) -> np.ndarray:
    """uint8 [H,W,3]: one row per control, of one photo, its styles and the control's values."""
    mosaic, stripes, dots, hatching, brush = (
        draw_style(name, 256, seed)
        for name, seed in (("mosaic", 3), ("stripes", 3), ("dots", 1), ("hatching", 0), ("brush_strokes", 2))
    )
    rows: list[tuple[list[str], list[np.ndarray]]] = []

    def add(name: str, shown: dict[str, np.ndarray], made: dict[str, ControlledStyle]) -> None:
        content = photo(name, size)
        results = [style.apply(content) for style in made.values()]
        rows.append((["content", *shown, *made], [content, *shown.values(), *results]))

    def one(style: np.ndarray, controls: Controls | None = None) -> ControlledStyle:
        return ControlledStyle(model, [style], controls=controls)

    add("coffee", {"style": mosaic}, {f"alpha {a:g}": one(mosaic, Controls(alpha=a)) for a in ALPHAS})
    add(
        "chelsea",
        {"A": brush, "B": hatching},
        {
            f"A:{w:g} B:{1 - w:g}": ControlledStyle(model, [brush, hatching], weights=[w, 1 - w])
            for w in (1.0, 0.7, 0.3, 0.0)
        },
    )
    per_scale = {
        f"A {at[0]}-{at[-1]}, B": ControlledStyle(model, [dots], style_at={at: stripes})
        for at in ((1, 2, 3), (1, 2), (3, 4))
    }
    add("coffee", {"A": stripes, "B": dots}, {"A": one(stripes), **per_scale})
    add(
        "astronaut",
        {"style": stripes},
        {f"turned {d:g}": one(stripes, Controls(rotate_style=d)) for d in (0, 30, 60, 90, 135)},
    )
    add(
        "rocket",
        {"style": dots},
        {f"scale {s:g}": one(dots, Controls(style_scale=s)) for s in (0.5, 1, 1.5, 2, 3)},
    )
    for style in (mosaic, brush):
        kept = {
            kind: one(style, Controls(preserve_color=kind))  # type: ignore[arg-type]
            for kind in ("none", "luminance", "coral")
        }
        add("astronaut", {"style": style}, kept)
    down, right = np.mgrid[:size, :size] / size
    ramp = np.repeat((255 * (1 - right))[..., None], 3, axis=2).astype(np.uint8)
    disc = (down - 0.5) ** 2 + (right - 0.5) ** 2 < 0.09
    colors = np.array([[255, 220, 60], [220, 60, 60], [40, 60, 160]], np.uint8)
    regions = colors[np.where(disc, 0, np.where(right < 0.5, 1, 2))]
    for mask, styles in ((ramp, [stripes, mosaic]), (regions, [brush, hatching, dots])):
        masked = ControlledStyle(model, styles, masks=make_masks([mask], len(styles)))
        add("coffee", {"mask": mask, **dict(zip("ABC", styles, strict=False))}, {"masked": masked})

    columns = max(len(images) for _, images in rows)
    blocks = []
    for labels, images in rows:
        empty = columns - len(images)
        cells: list[np.ndarray | None] = [*images, *[None] * empty]
        blocks.append(make_grid([cells], column_labels=[*labels, *[""] * empty], cell_size=(CELL, CELL)))
    return np.concatenate(blocks)


def measure_alpha(model: StyleTransferModel, args: argparse.Namespace) -> dict[str, Any]:
    """Mean LPIPS to the content at each alpha, over the pairs of the list."""
    lpips = load_lpips(args.lpips_weights)
    chosen = json.loads(args.pairs.read_text())
    folders = [args.content, *args.style]
    found = {path.name: path for folder in reversed(folders) for path in list_images(folder)}
    contents = [resize_short_side(read_image(found[name]), args.size) for name in chosen["contents"]]
    names = chosen["styles"][:: args.every]
    distances = []  # per pair, one per alpha
    for name in tqdm(names, disable=None):
        style = read_image(found[name])
        by_alpha = [ControlledStyle(model, [style], controls=Controls(alpha=alpha)) for alpha in ALPHAS]
        for content in contents:
            results = torch.stack([to_tensor(styled.apply(content)) for styled in by_alpha])
            with torch.inference_mode():
                distances.append(lpips(results, to_tensor(content)[None].expand_as(results)))
    table = torch.stack(distances)
    return {
        "alphas": ALPHAS,
        "lpips_to_content": table.mean(dim=0).tolist(),
        "standard_deviation": table.std(dim=0).tolist(),
        "pairs": len(table),
        "pairs_that_rise_at_every_step": int((table.diff(dim=1) > 0).all(dim=1).sum()),
        "size": args.size,
        "styles": names,
    }


def measure_strokes(model: StyleTransferModel, size: int) -> dict[str, dict[str, float]]:
    """{drawn style: {style scale: mean wavelength of the result's fine part in pixels}}."""
    frequencies = np.fft.fftfreq(size)
    radius = np.hypot(frequencies[:, None], frequencies[None])
    found: dict[str, dict[str, float]] = {}
    for name in tqdm(PROCEDURAL_STYLES, disable=None):
        style, found[name] = draw_style(name, 256, 3), {}
        for scale in SCALES:
            styled = ControlledStyle(model, [style], controls=Controls(style_scale=scale))
            means = []
            for content in ("coffee", "rocket"):
                grey = luma(styled.apply(photo(content, size)))
                power = np.abs(np.fft.fft2(grey - gaussian_filter(grey, FINE_SIGMA))) ** 2
                means.append((power * radius).sum() / power.sum())
            found[name][f"{scale:g}"] = 1 / float(np.mean(means))
    return found


def main() -> None:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--model", type=Path, help="none: the shipped one")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--strokes", action="store_true", help="measure style-scale")
    parser.add_argument("--content", type=Path)
    parser.add_argument("--style", action="append", type=Path, default=[], help="repeatable")
    parser.add_argument("--pairs", type=Path, default=Path("results/style/held_out_pairs.json"))
    parser.add_argument("--lpips-weights", type=Path, help="SqueezeNet 1.1")
    parser.add_argument("--every", type=int, default=5, help="take every so many styles of the list")
    parser.add_argument("--size", type=int, default=256, help="short side in pixels")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="folder for alpha_lpips.json, style_scale.json")
    args = parser.parse_args()
    if not args.picture and not args.strokes and not (args.content and args.style and args.lpips_weights):
        parser.error("give --picture, --strokes, or --content, --style and --lpips-weights")
    torch.set_num_threads(args.threads)

    model = load(args.model)
    if args.picture:
        write_small_jpeg(args.picture, controls_picture(model, args.size), max_bytes=PICTURE_BYTES)
        print(f"wrote {args.picture}", file=sys.stderr)
    if args.strokes:
        strokes = measure_strokes(model, args.size)
        if args.out:
            (args.out / "style_scale.json").write_text(json.dumps(strokes, indent=1) + "\n")
        for name, by_scale in strokes.items():
            print(f"{name}: " + ", ".join(f"{length:.1f} px at {s}" for s, length in by_scale.items()))
    if args.lpips_weights:
        found = measure_alpha(model, args)
        if args.out:
            (args.out / "alpha_lpips.json").write_text(json.dumps(found, indent=1) + "\n")
        for alpha, distance in zip(ALPHAS, found["lpips_to_content"], strict=True):
            print(f"alpha {alpha:g}: LPIPS to content {distance:.3f}")
        print(f"rises at every step in {found['pairs_that_rise_at_every_step']} of {found['pairs']} pairs")


if __name__ == "__main__":
    main()
