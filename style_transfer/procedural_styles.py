"""Style and content images that need no download: six drawn styles, and the photos inside scikit-image.

A style is a texture in the plane, drawn larger than the image, rotated and cut out. Lengths are in units of
the image's side; angles are in degrees in the public functions, in radians elsewhere.
"""

import math
from collections.abc import Callable
from importlib.resources import files
from itertools import pairwise

import numpy as np
from numpy.random import Generator

from configs.suggestion import did_you_mean
from ganmod.io.images import read_image
from style_transfer.pattern_drawing import (
    REACH,
    Canvas,
    Color,
    arcs,
    inset,
    ribbons,
    round_corners,
    shift_sideways,
    smooth_field,
    to_colors,
)

__all__ = ["PROCEDURAL_STYLES", "builtin_contents", "draw_style", "draw_style_set"]

_BLACK, _WHITE = (14, 14, 14), (247, 247, 247)

# Ground first, then the colours laid on it, from dark to light.
_PALETTES = (
    ("#f3e9d2", "#1d3557", "#2a6f97", "#c1121f", "#e07a1f", "#f2b632"),
    ("#0b1d3a", "#16407a", "#2f74c0", "#74b3e8", "#f2c14e", "#fbe8a6"),
    ("#fff4e0", "#3b1c4a", "#8e2f6b", "#d9455f", "#f28a4b", "#f9cf6b"),
    ("#eef1e6", "#14342b", "#2e6f57", "#60a561", "#b7cf5b", "#e9724c"),
    ("#20121a", "#6d1f2f", "#b63a2b", "#e4792c", "#f3b545", "#f6e3b4"),
    ("#f6f1ea", "#12263a", "#0f6e75", "#2bb3a3", "#f25f5c", "#ffd166"),
)


# Styles with names of their own, for commands: (pattern, seed, angle in degrees) of `draw_style`.
BUILTIN_STYLES: dict[str, tuple[str, int, float]] = {
    "bands-amber": ("stripes", 5, 35),
    "dots-night": ("dots", 2, 0),
    "dots-plum": ("dots", 4, 0),
    "dots-spring": ("dots", 7, 35),
    "mosaic-azure": ("mosaic", 4, 0),
    "mosaic-coral": ("mosaic", 5, 35),
    "mosaic-ember": ("mosaic", 0, 0),
    "mosaic-night": ("mosaic", 7, 35),
    "strokes-autumn": ("brush_strokes", 7, 35),
    "strokes-dawn": ("brush_strokes", 0, 0),
    "strokes-meadow": ("brush_strokes", 4, 0),
    "strokes-primary": ("brush_strokes", 5, 35),
    "strokes-sea": ("brush_strokes", 6, 0),
    "strokes-teal": ("brush_strokes", 8, 0),
    "woodcut": ("circles_and_squares", 0, 0),
}
BUILTIN_SIDE = 512  # pixels


def draw_style(name: str, size: int = 256, seed: int = 0, angle: float = 0.0) -> np.ndarray:
    """Draw one of PROCEDURAL_STYLES -> uint8 [size,size,3]; equal arguments give equal images.

    Args:
        size: side in pixels; a larger one shows the same picture in finer detail.
        angle: degrees counter-clockwise; at 0 the lines of stripes, hatching and brush_strokes are vertical.

    Raises:
        ValueError: for an unknown name or size < 1.
    """
    if name not in _DRAWERS:
        raise ValueError(f"got style {name!r}, expected one of {', '.join(_DRAWERS)}")
    if size < 1:
        raise ValueError(f"got size {size}, expected at least 1 pixel")
    # SeedSequence takes no negative entropy; the name keeps equal seeds of two styles apart.
    rng = np.random.default_rng([seed % 2**63, list(_DRAWERS).index(name)])
    return _DRAWERS[name](size, rng).rotate(angle)


def draw_style_set(count: int, size: int = 256, seed: int = 0) -> list[tuple[str, np.ndarray]]:
    """Draw `count` pairs (name, uint8 [size,size,3]), cycling through the styles with new seeds and angles.

    Image i depends on `seed` and i alone, so a larger set begins with the smaller one.
    """
    names = list(PROCEDURAL_STYLES)
    drawn = []
    for i in range(count):
        # The golden angle spreads any number of rotations evenly; the first round is not rotated.
        angle = (i // len(names)) * 137.508 % 360
        name = names[i % len(names)]
        drawn.append((name, draw_style(name, size, seed=seed * 1_000_003 + i, angle=angle)))
    return drawn


def builtin_style(name: str, size: int = BUILTIN_SIDE) -> np.ndarray:
    """Draw the style builtin:NAME -> uint8 [size,size,3]; ValueError for an unknown name."""
    if name not in BUILTIN_STYLES:
        known = list(BUILTIN_STYLES)
        hint = did_you_mean(name, known, hint=", did you mean {!r}?") or f", expected {', '.join(known)}"
        raise ValueError(f"there is no built-in style {name!r}{hint}")
    pattern, seed, angle = BUILTIN_STYLES[name]
    return draw_style(pattern, size, seed, angle)


def builtin_contents() -> dict[str, np.ndarray]:
    """Four photos (300 to 640 px) of the scikit-image package, {name: uint8 [H,W,3]}.

    They are read as files, since skimage.data may use the network. Raises ImageError if one is missing.
    """
    folder = files("skimage") / "data"
    names = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")
    return {i.rpartition(".")[0]: read_image(str(folder / i)) for i in names}


def _circles_and_squares(size: int, rng: Generator) -> Canvas:
    """Black and white discs, rings, squares and frames of all sizes, packed without overlap."""
    ground, ink = (_BLACK, _WHITE) if rng.random() < 0.3 else (_WHITE, _BLACK)
    canvas = Canvas(size, ground)
    centers = rng.uniform(-REACH, REACH, (6000, 2))
    free = np.full(len(centers), np.inf)  # distance from each candidate to the nearest placed shape
    gap = 0.005
    for radius in 0.085 * 0.8 ** np.arange(11):
        while (free > radius + gap).any():
            pick = int(np.argmax(free > radius + gap))
            r = radius * rng.uniform(0.88, 1.0)
            free = np.minimum(free, np.sqrt(((centers - centers[pick]) ** 2).sum(1)) - r)
            _draw_packed_shape(canvas, centers[pick], r, ink, ground, rng)
    return canvas


def _draw_packed_shape(
    canvas: Canvas, center: np.ndarray, radius: float, ink: Color, ground: Color, rng: Generator
) -> None:
    square, turn = rng.random() < 0.5, rng.uniform(0, math.pi / 2)
    corners = turn + np.arange(4) * math.pi / 2
    unit_square = np.stack([np.cos(corners), np.sin(corners)], 1)
    # Solid; frame; frame with a core. Frames of tiny shapes would only look grey.
    frame = 1 - max(0.22, 0.006 / radius)
    scales = [1.0, frame, frame - 0.3][: 1 + int(np.searchsorted((0.4, 0.7), rng.random()))]
    for i, scale in enumerate(scales if radius > 0.014 else scales[:1]):
        color = ground if i % 2 else ink
        if square:
            canvas.polygons(center + unit_square[None] * radius * scale, [color])
        else:
            canvas.discs(center[None], np.array([radius * scale * 0.96]), [color])


def _stripes(size: int, rng: Generator) -> Canvas:
    """Vertical straight bands of uneven width; black and white or from one palette."""
    ground, colors = _palette(rng, black_and_white=0.3)
    canvas = Canvas(size, ground)
    two_tone = len(colors) == 1
    widest = rng.uniform(0.04, 0.075)
    edges = [-REACH]
    while edges[-1] < REACH:
        edges.append(edges[-1] + widest * rng.uniform(0.25, 1.0))
    last = -1
    for i, (left, right) in enumerate(pairwise(edges)):
        if two_tone:
            color = colors[0] if i % 2 else ground
        else:
            last = (last + 1 + int(rng.integers(len(colors)))) % (len(colors) + 1)  # never the same twice
            color = (ground, *colors)[last]
        band = [(left, -REACH), (right, -REACH), (right, REACH), (left, REACH)]
        canvas.polygons(np.array([band]), [color])
    return canvas


def _hatching(size: int, rng: Generator) -> Canvas:
    """Vertical tapered pen strokes, dense where a hidden tone is dark; a second slant in deep shade."""
    inks = [(22, 20, 24), (74, 40, 22), (20, 38, 92), (96, 22, 28)]
    papers = [(250, 248, 242), (244, 232, 208), (240, 242, 246)]
    ink, paper = inks[rng.integers(len(inks))], papers[rng.integers(len(papers))]
    canvas = Canvas(size, paper)
    tone = smooth_field(rng, waves_per_side=2.6)
    pitch, length = rng.uniform(0.0125, 0.016), rng.uniform(0.09, 0.14)
    # Every other line runs everywhere, the ones between in half shade, the slant ones in deep shade.
    for slant, lines, threshold in ((0.0, 0, -9.0), (0.0, 1, -0.3), (rng.uniform(0.5, 0.8), 0, 0.7)):
        across = np.arange(-1.05, 1.05, 2 * pitch) + lines * pitch
        along = np.arange(-1.05, 1.05, 0.92 * length)
        u, v = (i.ravel() for i in np.meshgrid(across, along))
        count = len(u)
        u = u + rng.uniform(-0.22, 0.22, count) * pitch
        # Each line starts its strokes elsewhere, or the ends would line up into bars.
        v = v + length * (np.tile(rng.random(len(across)), len(along)) + rng.uniform(-0.12, 0.12, count))
        cos, sin = math.cos(slant), math.sin(slant)
        centers = np.stack([u * cos - v * sin, u * sin + v * cos], 1)
        shade = tone(centers)
        chosen = shade > threshold + rng.uniform(-0.25, 0.25, count)
        chosen &= np.abs(centers).max(1) < REACH + length
        centers, shade, count = centers[chosen], shade[chosen], int(chosen.sum())
        angles = math.pi / 2 + slant + rng.uniform(-0.045, 0.045, count)
        lengths = length * rng.uniform(0.75, 1.15, count)
        widths = rng.uniform(0.0050, 0.0068, count) * (1 + 0.3 * np.clip(shade, -1, 1))
        spines = arcs(centers, angles, lengths, bends=rng.uniform(-0.14, 0.14, count), points=6)
        canvas.polygons(ribbons(spines, widths, taper=0.8), [ink] * count)
    return canvas


def _dots(size: int, rng: Generator) -> Canvas:
    """A honeycomb of dots whose radius follows a hidden tone; one ink as in print, or many colours."""
    ground, colors = _palette(rng, black_and_white=0.3)
    canvas = Canvas(size, ground)
    pitch = rng.uniform(0.032, 0.046)
    tone, hue = smooth_field(rng, waves_per_side=2.6), smooth_field(rng, waves_per_side=2.2)
    rows = np.arange(-math.ceil(REACH / pitch) - 3, math.ceil(REACH / pitch) + 4)
    column, row = np.meshgrid(rows, rows)
    centers = np.stack([(column + 0.5 * (row % 2)) * pitch, row * pitch * math.sqrt(0.75)], -1).reshape(-1, 2)
    radii = pitch * np.clip(0.34 + 0.14 * tone(centers), 0.14, 0.49)
    colors = _sort_dark_to_light(colors)
    picks = _assign_bands(hue(centers), len(colors), rng, spread=1.1)
    canvas.discs(centers, radii, [colors[i] for i in picks])
    return canvas


def _brush_strokes(size: int, rng: Generator) -> Canvas:
    """Thick oil strokes along a flow, vertical on average, with bristle marks and a lit edge."""
    ground, colors = _palette(rng, black_and_white=0.0)
    colors = _sort_dark_to_light([ground, *colors])
    canvas = Canvas(size, colors[1])
    flow, hue = smooth_field(rng, waves_per_side=1.2), smooth_field(rng, waves_per_side=2.4)
    for count, length, width in ((420, 0.26, 0.050), (620, 0.19, 0.034), (420, 0.13, 0.022)):
        centers = rng.uniform(-REACH, REACH, (count, 2))
        angles = math.pi / 2 + 0.75 * flow(centers) + rng.uniform(-0.12, 0.12, count)
        lengths, bends = length * rng.uniform(0.7, 1.2, count), rng.uniform(-0.5, 0.5, count)
        spines = arcs(centers, angles, lengths, bends=bends, points=6)
        widths = width * rng.uniform(0.75, 1.15, count)
        bases = np.array(colors, dtype=float)[_assign_bands(hue(centers), len(colors), rng, spread=1.0)]
        bases += rng.uniform(-14, 14, (count, 1)) + rng.uniform(-8, 8, (count, 3))
        # Bottom up: shadow, body, then bristle marks across the width, from the lit edge to the dark one.
        outlines = [ribbons(i, widths, taper=0.3) for i in (shift_sideways(spines, 0.07 * widths), spines)]
        shades = [bases * 0.62, bases]
        core = 0.94 * spines + 0.06 * spines.mean(1, keepdims=True)
        for position, light in ((-0.36, 34), (-0.16, -20), (0.05, 18), (0.24, -14), (0.38, -34)):
            shifts = (position + rng.uniform(-0.05, 0.05, count)) * widths
            outlines.append(ribbons(shift_sideways(core, shifts), 0.11 * widths, taper=0.8))
            shades.append(bases + light * rng.uniform(0.5, 1.2, (count, 1)))
        by_stroke = np.stack(outlines, 1).reshape(-1, *outlines[0].shape[1:])
        canvas.polygons(by_stroke, to_colors(np.stack(shades, 1).reshape(-1, 3)))
    return canvas


def _mosaic(size: int, rng: Generator) -> Canvas:
    """Rounded stones, each the cell of a Voronoi diagram, set in grout; colours flow across the picture."""
    ground, colors = _palette(rng, black_and_white=0.0)
    grout = (20, 18, 20) if rng.random() < 0.6 else (232, 224, 210)
    canvas = Canvas(size, grout)
    pitch = rng.uniform(0.052, 0.07)
    hue = smooth_field(rng, waves_per_side=2.4)
    count = math.ceil(REACH / pitch) + 3
    lattice = np.stack(np.meshgrid(np.arange(-count, count), np.arange(-count, count)), -1).reshape(-1, 2)
    points = (lattice + rng.uniform(0.08, 0.92, lattice.shape)) * pitch
    from scipy.spatial import Voronoi  # a fifth of a second, which stylizing does not need

    diagram = Voronoi(points)
    colors = _sort_dark_to_light([ground, *colors])
    picks = _assign_bands(hue(points), len(colors), rng, spread=1.0)
    tints = rng.uniform(-16, 16, (len(points), 1)) + rng.uniform(-7, 7, (len(points), 3))
    for i, region in enumerate(diagram.point_region):
        cell = diagram.regions[region]
        if -1 in cell or np.abs(points[i]).max() > REACH + 2 * pitch:
            continue
        outline = inset(diagram.vertices[cell], 0.0042)
        if outline is None:
            continue
        stone = round_corners(outline)
        base = np.array(colors[picks[i]], dtype=float) + tints[i]
        # A darker rim and a face that sits off centre: stone that catches light from the upper left.
        center = stone.mean(0)
        face = center + 0.8 * (stone - center) - 0.0015
        canvas.polygons(np.stack([stone, face]), to_colors(np.stack([base * 0.86, base + 8])))
    return canvas


def _palette(rng: Generator, *, black_and_white: float) -> tuple[Color, list[Color]]:
    """(ground, colours); with probability `black_and_white` two tones only."""
    if rng.random() < black_and_white:
        return (_WHITE, [_BLACK]) if rng.random() < 0.5 else (_BLACK, [_WHITE])
    ground, *colors = [
        (int(i[1:3], 16), int(i[3:5], 16), int(i[5:7], 16)) for i in _PALETTES[rng.integers(len(_PALETTES))]
    ]
    return ground, colors


def _sort_dark_to_light(colors: list[Color]) -> list[Color]:
    return sorted(colors, key=lambda color: 2 * color[0] + 5 * color[1] + color[2])


def _assign_bands(values: np.ndarray, count: int, rng: Generator, *, spread: float) -> list[int]:
    """Map field values [N] (unit variance) to bands 0..count-1, mixed by +-spread of a band."""
    bands = (np.clip(values, -1.6, 1.6) / 3.2 + 0.5) * count + rng.uniform(-spread, spread, len(values))
    return np.clip(np.floor(bands), 0, count - 1).astype(int).tolist()


_DRAWERS: dict[str, Callable[[int, Generator], Canvas]] = {
    "circles_and_squares": _circles_and_squares,
    "stripes": _stripes,
    "hatching": _hatching,
    "dots": _dots,
    "brush_strokes": _brush_strokes,
    "mosaic": _mosaic,
}


def _drawer(name: str) -> Callable[[int, int], np.ndarray]:
    return lambda size, seed: draw_style(name, size, seed)


PROCEDURAL_STYLES: dict[str, Callable[[int, int], np.ndarray]] = {name: _drawer(name) for name in _DRAWERS}
