"""Canvas, strokes and shapes of the procedural styles.

Lengths are in units of the image's side, with the origin in its centre: a style looks the same at every size
and can be rotated about the centre. The canvas's inscribed circle contains the image's corners, so no
rotation leaves a corner empty.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw

__all__ = [
    "REACH",
    "Canvas",
    "Color",
    "arcs",
    "inset",
    "ribbons",
    "round_corners",
    "shift_sideways",
    "smooth_field",
    "to_colors",
]

Color = tuple[int, int, int]

# Half a side of the canvas: the image's half diagonal and a margin for the resampling filter.
REACH = 0.72

# Pillow extends a filled shape by half a pixel. With at least this many pixels across, thin strokes are as
# thin in small images as in large ones.
_SUPERSAMPLING = 3
_MIN_PIXELS = 576


class Canvas:
    """A picture of size x size pixels and a margin around it, with coordinates in units of that size.

    The origin is the centre, y points down.
    """

    def __init__(self, size: int, ground: Color):
        self.supersampling = max(_SUPERSAMPLING, math.ceil(_MIN_PIXELS / size))
        self.pixels_per_side = size * self.supersampling
        # Whole pixels: an image that is not rotated is cut out without resampling.
        margin = math.ceil((REACH - 0.5) * self.pixels_per_side)
        side = self.pixels_per_side + 2 * margin
        self.origin = side / 2
        self.picture = Image.new("RGB", (side, side), ground)
        self.draw = ImageDraw.Draw(self.picture)

    def polygons(self, outlines: np.ndarray, colors: list[Color]) -> None:
        """Draw outlines [N,P,2] in order."""
        points = self._to_pixels(outlines)
        for outline, color in zip(points.reshape(len(points), -1).tolist(), colors, strict=True):
            self.draw.polygon(outline, fill=color)

    def discs(self, centers: np.ndarray, radii: np.ndarray, colors: list[Color]) -> None:
        """Draw discs with centers [N,2] and radii [N] in order."""
        corners = self._to_pixels(np.concatenate([centers - radii[:, None], centers + radii[:, None]], 1))
        for box, color in zip(corners.tolist(), colors, strict=True):
            self.draw.ellipse(box, fill=color)

    def _to_pixels(self, points: np.ndarray) -> np.ndarray:
        return points * self.pixels_per_side + (self.origin - 0.5)  # Pillow draws from pixel centres

    def rotate(self, angle: float) -> np.ndarray:
        """Cut out the image, rotated by `angle` degrees counter-clockwise -> uint8 [size,size,3]."""
        side, turn = self.pixels_per_side, math.radians(angle % 360)
        # Rounded, so that quarter turns are exact.
        cos, sin = round(math.cos(turn), 12), round(math.sin(turn), 12)
        # Output pixel -> canvas pixel, both about their centres.
        dx, dy = self.origin - side / 2 * (cos - sin), self.origin - side / 2 * (sin + cos)
        picture = self.picture.transform(
            (side, side), Image.Transform.AFFINE, (cos, -sin, dx, sin, cos, dy), Image.Resampling.BILINEAR
        )
        return np.array(picture.reduce(self.supersampling))


def to_colors(values: np.ndarray) -> list[Color]:
    """Float [N,3] -> colours, rounded and clamped to 0..255."""
    return [(r, g, b) for r, g, b in np.clip(np.round(values), 0, 255).astype(int).tolist()]


def smooth_field(rng: Generator, *, waves_per_side: float) -> Callable[[np.ndarray], np.ndarray]:
    """A smooth random function of the plane: [N,2] -> [N], about unit variance, from eight plane waves."""
    turns, phases = rng.uniform(0, 2 * math.pi, 8), rng.uniform(0, 2 * math.pi, 8)
    rates = 2 * math.pi * waves_per_side * rng.uniform(0.4, 1.0, 8)
    waves = np.stack([np.cos(turns), np.sin(turns)]) * rates
    return lambda points: 0.5 * np.cos(points @ waves + phases).sum(-1)


def arcs(
    centers: np.ndarray, angles: np.ndarray, lengths: np.ndarray, *, bends: np.ndarray, points: int
) -> np.ndarray:
    """[N,points,2]: arcs about `centers` [N,2] that turn by `bends` [N] radians from end to end."""
    along = np.linspace(-0.5, 0.5, points)
    direction = np.stack([np.cos(angles), np.sin(angles)], -1)[:, None]
    normal = np.stack([-np.sin(angles), np.cos(angles)], -1)[:, None]
    # A parabola, which approximates an arc for small bends.
    rise = 0.5 * (bends * lengths)[:, None] * (along**2 - 1 / 12)
    return centers[:, None] + direction * (lengths[:, None] * along)[..., None] + normal * rise[..., None]


def _normals(spines: np.ndarray) -> np.ndarray:
    steps = np.gradient(spines, axis=1)
    steps /= np.sqrt((steps**2).sum(-1, keepdims=True))
    return np.stack([-steps[..., 1], steps[..., 0]], -1)


def shift_sideways(spines: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Move each spine [N,P,2] sideways by shifts [N]."""
    return spines + _normals(spines) * shifts[:, None, None]


def ribbons(spines: np.ndarray, widths: np.ndarray, *, taper: float) -> np.ndarray:
    """Outlines [N,2P,2] of spines [N,P,2] with widths [N]; taper: the share of the width lost at the ends."""
    along = np.linspace(-1, 1, spines.shape[1])
    half = 0.5 * widths[:, None, None] * (1 - taper * np.abs(along) ** 3)[:, None]
    side = _normals(spines) * half
    return np.concatenate([spines + side, (spines - side)[:, ::-1]], 1)


def inset(outline: np.ndarray, distance: float) -> np.ndarray | None:
    """Shrink a convex outline [P,2] about its centre until its nearest edge has moved by `distance`.

    Returns None if less than half of the distance to that edge would be left.
    """
    center = outline.mean(0)
    step = np.roll(outline, -1, 0) - outline
    normal = np.stack([-step[:, 1], step[:, 0]], 1) / np.sqrt((step**2).sum(1, keepdims=True)).clip(1e-12)
    nearest = np.abs(((outline - center) * normal).sum(1)).min()
    return center + (outline - center) * (1 - distance / nearest) if nearest > 2 * distance else None


def round_corners(outline: np.ndarray) -> np.ndarray:
    """Chaikin's corner cutting, twice: [P,2] -> [4P,2]."""
    for _ in range(2):
        following = np.roll(outline, -1, 0)
        pairs = np.stack([0.8 * outline + 0.2 * following, 0.2 * outline + 0.8 * following], 1)
        outline = pairs.reshape(-1, 2)
    return outline
