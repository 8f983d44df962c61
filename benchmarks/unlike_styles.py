"""Ten styles unlike those that the shipped model was trained on, drawn by code that training does not use.

Pencil hatching, ink wash, newsprint dots, flat shapes in full colours, stained glass, pastel, a night nearly
black, a page of letters, a woodcut, a blueprint. They show how a model does on styles of another kind than
its training's paintings and textures.

    python benchmarks/unlike_styles.py --out unlike
    ganmod compare style model.safetensors --content photos --styles unlike -o report
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from ganmod.io.images import write_image

SIDE = 512  # pixels
DRAWN_SIDE = 2 * SIDE  # drawn at twice the size and reduced, so that edges are smooth

Rgb = tuple[int, int, int]


def clouds(rng: np.random.Generator, side: int, *, cells: int, octaves: int = 5) -> np.ndarray:
    """Smooth noise [side,side] in [0,1]: octaves of random cells, each finer one half as strong."""
    total = np.zeros((side, side))
    for octave in range(octaves):
        grid = rng.random((cells * 2**octave + 1,) * 2) * 255
        image = Image.fromarray(grid.astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
        total += np.asarray(image) / 255 / 2**octave
    return (total - total.min()) / (total.max() - total.min())


def mixed(low: Rgb, high: Rgb, share: np.ndarray) -> np.ndarray:
    """uint8 [H,W,3] from low at share 0 to high at 1."""
    return (np.array(low) + (np.array(high) - np.array(low)) * share[..., None]).clip(0, 255).astype(np.uint8)


def pencil(rng: np.random.Generator) -> np.ndarray:
    """Grey strokes in three directions, as many as the tone of the place asks for."""
    tone = clouds(rng, DRAWN_SIDE, cells=3)
    paper = Image.new("L", (DRAWN_SIDE, DRAWN_SIDE), 238)
    draw = ImageDraw.Draw(paper)
    for angle, darkest in ((0.8, 0.75), (2.3, 0.5), (1.5, 0.3)):
        for _ in range(5000):
            x, y = rng.random(2) * DRAWN_SIDE
            if tone[int(y), int(x)] > darkest:
                continue
            turned, length = angle + rng.normal(0, 0.07), rng.uniform(25, 70)
            dx, dy = np.cos(turned) * length / 2, np.sin(turned) * length / 2
            draw.line((x - dx, y - dy, x + dx, y + dy), fill=int(rng.uniform(70, 170)), width=2)
    return np.asarray(paper.convert("RGB"))


def ink_wash(rng: np.random.Generator) -> np.ndarray:
    """Wet black ink on warm paper: soft clouds with darker rims."""
    paper = np.full((DRAWN_SIDE, DRAWN_SIDE), 1.0)
    for _ in range(9):
        level = clouds(rng, DRAWN_SIDE, cells=2) - rng.uniform(0.35, 0.55)
        inside = 1 / (1 + np.exp(-level * 40))
        rim = np.exp(-((level * 45 - 1.2) ** 2))
        paper *= 1 - inside * rng.uniform(0.1, 0.35) - 0.12 * rim
    return mixed((22, 24, 30), (243, 238, 226), paper.clip(0, 1))


def newsprint(rng: np.random.Generator) -> np.ndarray:
    """Halftone dots of cyan, magenta, yellow and black, each screen turned by its angle."""
    y, x = np.mgrid[:DRAWN_SIDE, :DRAWN_SIDE].astype(float)
    image = np.ones((DRAWN_SIDE, DRAWN_SIDE, 3))
    inks = (((0, 0.62, 0.85), 0.26), ((0.85, 0.1, 0.5), 1.3), ((1, 0.88, 0.1), 0.0), ((0.1, 0.1, 0.1), 0.78))
    for ink, angle in inks:
        amount = clouds(rng, DRAWN_SIDE, cells=3, octaves=3) ** 1.5 * 0.9
        across = np.cos(angle) * x + np.sin(angle) * y
        along = np.cos(angle) * y - np.sin(angle) * x
        screen = (np.cos(across * 2 * np.pi / 18) + np.cos(along * 2 * np.pi / 18)) / 4 + 0.5
        dots = 1 / (1 + np.exp(-(amount - (1 - screen)) * 30))[..., None]
        image *= 1 - dots * (1 - np.array(ink))
    return (image * np.array([0.94, 0.92, 0.86]) * 255).astype(np.uint8)


def flat_shapes(rng: np.random.Generator) -> np.ndarray:
    """Cut-out leaves and blocks of full colours, without shading."""
    colors = [(230, 30, 45), (250, 200, 20), (20, 90, 200), (0, 150, 90), (245, 120, 20), (250, 245, 235)]
    image = Image.new("RGB", (DRAWN_SIDE, DRAWN_SIDE), (15, 50, 140))
    draw = ImageDraw.Draw(image)
    for _ in range(28):
        x, y = rng.random(2) * DRAWN_SIDE
        w, h = rng.uniform(90, 300, 2)
        draw.rectangle((x - w, y - h / 2, x + w, y + h / 2), fill=colors[rng.integers(len(colors))])
    for _ in range(60):
        center, turned = rng.random(2) * DRAWN_SIDE, rng.uniform(0, 2 * np.pi)
        t = np.linspace(0, 2 * np.pi, 120)
        radius = rng.uniform(60, 130) * (0.55 + 0.45 * np.cos(t * rng.integers(3, 7)) ** 2)
        points = center + radius[:, None] * np.stack([np.cos(t + turned), np.sin(t + turned)], axis=1)
        draw.polygon([tuple(p) for p in points], fill=colors[rng.integers(len(colors))])
    return np.asarray(image)


def stained_glass(rng: np.random.Generator) -> np.ndarray:
    """Panes of glowing colours between leads: the cells of random points."""
    seeds = rng.random((130, 2)) * DRAWN_SIDE
    y, x = np.mgrid[:DRAWN_SIDE, :DRAWN_SIDE]
    nearest = np.full((2, DRAWN_SIDE, DRAWN_SIDE), np.inf)
    owner = np.zeros((DRAWN_SIDE, DRAWN_SIDE), int)
    for i, (sy, sx) in enumerate(seeds):
        distance = np.hypot(y - sy, x - sx)
        owner = np.where(distance < nearest[0], i, owner)
        nearest[1] = np.minimum(nearest[1], np.maximum(nearest[0], distance))
        nearest[0] = np.minimum(nearest[0], distance)
    palette = np.array([(190, 20, 40), (20, 60, 190), (240, 180, 30), (20, 130, 70), (120, 30, 140)])
    panes = palette[rng.integers(len(palette), size=len(seeds))][owner]
    glow = 0.6 + 0.7 * clouds(rng, DRAWN_SIDE, cells=12, octaves=3)
    lead = np.clip((nearest[1] - nearest[0] - 9) / 4, 0, 1)
    return (panes * (glow * lead)[..., None] + 18 * (1 - lead[..., None])).clip(0, 255).astype(np.uint8)


def pastel(rng: np.random.Generator) -> np.ndarray:
    """Soft chalk in light colours, rubbed in one direction, on grained paper."""
    colors = [(244, 200, 205), (200, 222, 240), (250, 235, 190), (205, 232, 205), (225, 208, 238)]
    image = np.full((DRAWN_SIDE, DRAWN_SIDE, 3), 245.0)
    for _ in range(16):
        share = np.clip(clouds(rng, DRAWN_SIDE, cells=2) * 4 - rng.uniform(1.8, 2.4), 0, 1)
        image += (np.array(colors[rng.integers(len(colors))]) - image) * share[..., None]
    grain = Image.fromarray((rng.random((DRAWN_SIDE, DRAWN_SIDE)) * 255).astype(np.uint8))
    rubbed = np.asarray(grain.filter(ImageFilter.BoxBlur((6, 1)))) / 255 - 0.5
    return (image + 130 * rubbed[..., None]).clip(0, 255).astype(np.uint8)


def night(rng: np.random.Generator) -> np.ndarray:
    """Nearly black, with a few dim lights and their reflections."""
    sky = clouds(rng, DRAWN_SIDE, cells=3)
    image = Image.fromarray(mixed((3, 4, 8), (20, 24, 38), sky))
    draw = ImageDraw.Draw(image)
    for _ in range(50):
        x, y = rng.random(2) * DRAWN_SIDE
        color = [(150, 110, 40), (90, 100, 120), (140, 60, 30)][rng.integers(3)]
        draw.ellipse((x - 5, y - 5, x + 5, y + 5), fill=color)
        draw.line((x, y + 12, x, y + rng.uniform(40, 110)), fill=tuple(c // 3 for c in color), width=4)
    return np.asarray(image.filter(ImageFilter.GaussianBlur(3)))


def letters(rng: np.random.Generator) -> np.ndarray:
    """A printed page: lines of black letters on white paper."""
    image = Image.new("L", (DRAWN_SIDE, DRAWN_SIDE), 246)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size=34)
    alphabet = np.array(list("aaabcdeeeefghiijklmnnooprrssttuuvwxyz   "))
    for y in range(24, DRAWN_SIDE, 44):
        draw.text((20, y), "".join(rng.choice(alphabet, 70)), fill=25, font=font)
    return np.asarray(image.convert("RGB"))


def woodcut(rng: np.random.Generator) -> np.ndarray:
    """Black and white lines that follow a relief and swell where it is dark."""
    relief = clouds(rng, DRAWN_SIDE, cells=3, octaves=3)
    tone = clouds(rng, DRAWN_SIDE, cells=4, octaves=3)
    lines = np.cos(relief * 2 * np.pi * 34)
    return mixed((20, 18, 16), (238, 230, 214), 1 / (1 + np.exp(-(lines + 2 * tone - 1) * 12)))


def blueprint(rng: np.random.Generator) -> np.ndarray:
    """White construction lines, circles and a grid on blue."""
    image = Image.new("RGB", (DRAWN_SIDE, DRAWN_SIDE), (24, 62, 138))
    draw = ImageDraw.Draw(image)
    for place in range(0, DRAWN_SIDE, 32):
        draw.line((place, 0, place, DRAWN_SIDE), fill=(48, 90, 166))
        draw.line((0, place, DRAWN_SIDE, place), fill=(48, 90, 166))
    for _ in range(26):
        (x, y), r = rng.random(2) * DRAWN_SIDE, rng.uniform(20, 170)
        draw.ellipse((x - r, y - r, x + r, y + r), outline=(214, 226, 246), width=3)
        x2, y2 = rng.random(2) * DRAWN_SIDE
        draw.line((x, y, x2, y2), fill=(214, 226, 246), width=3)
        draw.rectangle((x2, y2, x2 + 1.4 * r, y2 + r), outline=(214, 226, 246), width=3)
    return np.asarray(image)


DRAWN: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    function.__name__: function
    for function in (
        pencil,
        ink_wash,
        newsprint,
        flat_shapes,
        stained_glass,
        pastel,
        night,
        letters,
        woodcut,
        blueprint,
    )
}


def draw_unlike(name: str) -> np.ndarray:
    """One of DRAWN, always the same: uint8 [SIDE,SIDE,3]."""
    drawn = Image.fromarray(DRAWN[name](np.random.default_rng([7, list(DRAWN).index(name)])))
    return np.asarray(drawn.resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the ten PNG files")
    out = parser.parse_args().out
    for name in DRAWN:
        write_image(out / f"{name}.png", draw_unlike(name))
        print(out / f"{name}.png")


if __name__ == "__main__":
    main()
