"""Does mixing per scale do what it says? Spectra with stripes at the coarse scales and dots at the fine ones.

    python benchmarks/mix_scales.py --out results/style --picture results/style/mix_scales.jpg

Two drawn styles: upright stripes with a period of 16 pixels of the style encoder's image, and a honeycomb of
dots with a pitch of 6. Blurred photos, which have no strokes of their own, are stylized with either, and with
the stripes at the scales up to k and the dots at the others, or the other way round.

The prediction, written before the first run. The decoder's four grids have cells of 8, 4, 2 and 1 pixels. A
grid holds no period below two of its cells: stripes of 16 pixels fit on grids 1 and 2, dots with a pitch of 6
pixels do not, and fit on 3 and 4. There the kernels are 3 x 3, and see too little to lay broad stripes. So
- stripes at 1-2, dots at 3-4: power in the stripes' band as under stripes alone, in the dots' band as under
  dots alone: both positions (below) above 0.5;
- dots at 1-2, stripes at 3-4: both below 0.5;
- the more scales have the stripes, the higher the position in the stripes' band.
Bands of the luma's spectrum. Stripes: a period of 11 to 22 pixels, within 20 degrees of across. Dots: 4.5 to
8 pixels, outside 20 degrees of across (a honeycomb with level rows has its peaks at 30, 90 and 150 degrees).
A band's position between the two styles alone is the share of the way on a logarithmic scale, 0 the other
style and 1 the band's own.

A second prediction, after the first run and before its own: whatever the styles, a scale acts at its size.
Every drawn style is given to unblurred photos, with one scale taken from another style; the difference from
the style alone has a mean frequency (weighted by power), and it rises from scale 1 to scale 4.

What came out, for the shipped model (results/style/mix_scales.json). Of the first prediction, the dots' band
and the order held: dots at 3-4 are at 0.74, at 1-2 at 0.44, and each further scale moves both bands to its
style's. The stripes' band did not: stripes at 1-2 are at 0.41, at 3-4 at 0.66. Scale 3 moves it most (0.41 to
0.85): this model makes even its broad strokes there. (Nor are they the style's: under stripes alone, power is
about even over periods of 6 to 32 pixels.) In the picture, the coarse scales still decide which way strokes
run; the fine ones decide colour, contrast and grain. Of the second prediction, the rise from 2 to 4 held
(0.173, 0.197, 0.220 cycles per pixel); scale 1, at 0.183, lies above 2.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from tqdm import tqdm

from ganmod.io.images import center_crop, make_grid, resize_short_side
from ganmod.io.small_jpeg import write_small_jpeg
from metrics.images.spectrum import power_spectrum
from metrics.images.structure import luma
from metrics.table import Table
from style_transfer import ControlledStyle, StyleTransferModel, load
from style_transfer.mixing import NUM_SCALES
from style_transfer.procedural_styles import PROCEDURAL_STYLES, builtin_contents, draw_style

STRIPES_PERIOD, DOTS_PITCH = 16.0, 6.0  # pixels of the style encoder's image
STRIPES_BAND, DOTS_BAND = (11.0, 22.0), (4.5, 8.0)  # periods in pixels
WEDGE = math.radians(20)  # about the direction across upright stripes
CASES = {  # scales of the stripes, of the dots
    "stripes": ((1, 2, 3, 4), ()),
    "stripes 1-3, dots 4": ((1, 2, 3), (4,)),
    "stripes 1-2, dots 3-4": ((1, 2), (3, 4)),
    "stripes 1, dots 2-4": ((1,), (2, 3, 4)),
    "dots": ((), (1, 2, 3, 4)),
    "dots 1, stripes 2-4": ((2, 3, 4), (1,)),
    "dots 1-2, stripes 3-4": ((3, 4), (1, 2)),
    "dots 1-3, stripes 4": ((4,), (1, 2, 3)),
}
OVERSAMPLING = 4
PICTURE_CELL, PICTURE_BYTES = 192, 300_000


def draw_pattern(name: str, size: int, ink: tuple[int, int, int]) -> np.ndarray:
    """ "stripes" or "dots" in one ink on white, antialiased -> uint8 [size,size,3]."""
    at = (np.arange(size * OVERSAMPLING) + 0.5) / OVERSAMPLING
    x, y = at[None, :], at[:, None]
    if name == "stripes":
        inside = (x % STRIPES_PERIOD < STRIPES_PERIOD / 2) & (y >= 0)
    else:
        row_pitch = DOTS_PITCH * math.sqrt(0.75)
        row = np.floor(y / row_pitch)
        dx = (x + row % 2 * DOTS_PITCH / 2) % DOTS_PITCH - DOTS_PITCH / 2
        dy = y - (row + 0.5) * row_pitch
        inside = dx**2 + dy**2 < (0.34 * DOTS_PITCH) ** 2
    cover = inside.reshape(size, OVERSAMPLING, size, OVERSAMPLING).mean(axis=(1, 3))[..., None]
    return np.rint(255 + cover * (np.array(ink) - 255)).astype(np.uint8)


def smooth_contents(size: int) -> dict[str, np.ndarray]:
    """The built-in photos as squares, blurred down to their shades."""
    contents = {}
    for name, photo in builtin_contents().items():
        square = resize_short_side(center_crop(photo, min(photo.shape[:2])), size)
        blurred = gaussian_filter(square.astype(float), (size / 16, size / 16, 0))
        contents[name] = np.rint(blurred).astype(np.uint8)
    return contents


def band_powers(spectrum: Tensor) -> dict[str, float]:
    """Mean power per frequency in the two bands of a spectrum [H,W] from `power_spectrum`."""
    down, across = (torch.fft.fftfreq(size, dtype=torch.float64) for size in spectrum.shape)
    radius = (down[:, None].square() + across[None].square()).sqrt()
    is_across = torch.atan2(down[:, None].abs(), across[None].abs()) <= WEDGE

    def ring(periods: tuple[float, float]) -> Tensor:
        return (radius >= 1 / periods[1]) & (radius <= 1 / periods[0])

    bands = {"stripes": ring(STRIPES_BAND) & is_across, "dots": ring(DOTS_BAND) & ~is_across}
    return {name: spectrum[band].mean().item() for name, band in bands.items()}


def mixed_style(
    model: StyleTransferModel, stripes: np.ndarray, dots: np.ndarray, case: str
) -> ControlledStyle:
    """The styles at the scales of CASES."""
    scales = dict(zip(CASES[case], (stripes, dots), strict=True))
    return ControlledStyle(model, [], style_at={at: style for at, style in scales.items() if at})


def measure(model: StyleTransferModel, size: int) -> dict[str, dict[str, float]]:
    """{case: powers and positions of both bands}, means over contents and three inks."""
    contents = smooth_contents(size)
    side = model.spec.style_image_size
    found: dict[str, dict[str, float]] = {}
    inks = ((20, 20, 20), (29, 53, 120), (160, 30, 40))
    for case in tqdm(CASES, disable=None):
        spectra = []
        for ink in inks:
            style = mixed_style(model, *(draw_pattern(i, side, ink) for i in ("stripes", "dots")), case)
            results = [torch.from_numpy(style.apply(photo)).movedim(-1, 0) for photo in contents.values()]
            spectra.append(power_spectrum([torch.stack(results)]))
        found[case] = band_powers(torch.stack(spectra).mean(dim=0))
    for powers in list(found.values()):
        for band, other in (("stripes", "dots"), ("dots", "stripes")):
            low, high = found[other][band], found[band][band]
            powers[f"{band}_position"] = math.log(powers[band] / low) / math.log(high / low)
    return found


def measure_swaps(model: StyleTransferModel, size: int) -> dict[int, float]:
    """{scale: mean frequency, cycles per pixel, of what changes when it alone has the next style}."""
    contents = [
        resize_short_side(center_crop(photo, min(photo.shape[:2])), size)
        for photo in builtin_contents().values()
    ]
    down, across = (torch.fft.fftfreq(size, dtype=torch.float64) for _ in range(2))
    radius = (down[:, None].square() + across[None].square()).sqrt()
    names = list(PROCEDURAL_STYLES)
    drawn = [draw_style(name, model.spec.style_image_size, seed=1) for name in names]
    frequencies: dict[int, list[float]] = {scale: [] for scale in range(1, NUM_SCALES + 1)}
    for i, style in enumerate(tqdm(drawn, disable=None)):
        plain = [model.stylize(photo, style).astype(float) for photo in contents]
        for scale in frequencies:
            swapped = ControlledStyle(model, [style], style_at={(scale,): drawn[(i + 1) % len(drawn)]})
            changes = [luma(swapped.apply(photo) - p) for photo, p in zip(contents, plain, strict=True)]
            power = torch.fft.fft2(torch.from_numpy(np.stack(changes))).abs().square().sum(dim=0)
            power[0, 0] = 0  # a change of the mean has no size
            frequencies[scale].append(((power * radius).sum() / power.sum()).item())
    return {scale: float(np.mean(found)) for scale, found in frequencies.items()}


def picture(model: StyleTransferModel, size: int) -> np.ndarray:
    """uint8 [H,W,3]: the styles, then a photo under every case."""
    side, photo = model.spec.style_image_size, builtin_contents()["coffee"]
    square = resize_short_side(center_crop(photo, min(photo.shape[:2])), size)
    stripes, dots = (draw_pattern(name, side, (29, 53, 120)) for name in ("stripes", "dots"))
    results = [mixed_style(model, stripes, dots, case).apply(square) for case in CASES]
    rows = [[square, stripes, dots], results[:4], results[4:]]
    blocks = []
    names = list(CASES)
    for row, labels in zip(rows, (["content", "stripes", "dots", ""], names[:4], names[4:]), strict=True):
        blocks.append(
            make_grid([[*row, *[None] * (4 - len(row))]], column_labels=labels, cell_size=(size, size))
        )
    return np.concatenate(blocks)


def mix_table(rows: dict[str, dict[str, float]]) -> Table:
    """One row per case: power per frequency in each band, and its position."""
    bands = ("stripes", "dots")
    columns = [heading for band in bands for heading in (f"power, {band}' band", "position")]
    cells = [
        [case, *(x for band in bands for x in (f"{row[band]:.3f}", f"{row[f'{band}_position']:.2f}"))]
        for case, row in rows.items()
    ]
    return Table(["scales", *columns], cells)


def main() -> None:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--model", type=Path, help="none: the shipped one")
    parser.add_argument("--size", type=int, default=256, help="side of the contents in pixels")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--out", type=Path, help="folder for mix_scales.json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    model = load(args.model)
    found = measure(model, args.size)
    swaps = measure_swaps(model, args.size)
    if args.picture:
        write_small_jpeg(args.picture, picture(model, PICTURE_CELL), max_bytes=PICTURE_BYTES)
        print(f"wrote {args.picture}", file=sys.stderr)
    if args.out:
        record: dict[str, Any] = {
            "rows": [{"scales": case, **row} for case, row in found.items()],
            "swapped_scale_mean_frequency": swaps,
            "options": {"model": args.model.name if args.model else "shipped", "size": args.size},
            "versions": {"python": platform.python_version()}
            | {name: version(name) for name in ("ganmod", "torch", "numpy", "scipy", "pillow")},
        }
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "mix_scales.json").write_text(json.dumps(record, indent=1) + "\n")
        print(f"wrote {args.out / 'mix_scales.json'}", file=sys.stderr)
    print(mix_table(found).to_markdown())
    print("mean frequency of a change, scales 1 to 4: " + ", ".join(f"{f:.3f}" for f in swaps.values()))


if __name__ == "__main__":
    main()
