"""Writer of HTML reports: a single self-contained page, without scripts."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from html import escape
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from ganmod.io.atomic_write import atomic_write_text
from metrics.table import Table

# The chart and the plot in it, in units of the viewBox.
CHART_WIDTH, CHART_HEIGHT = 760, 340
PLOT_LEFT, PLOT_TOP, PLOT_WIDTH, PLOT_HEIGHT = 70, 14, 670, 270
MAX_POINTS = 1000  # of a curve; longer ones keep the extremes of each interval
COLORS = ("#2f7ed8", "#e0712c", "#2a9d6a", "#c4447a", "#8a63d2", "#b08a16", "#2a9fb5", "#8b8b8b")
DASHES, BORDERS = ("", "7 4", "1 4"), ("solid", "dashed", "dotted")

STYLE = """
:root {
  color-scheme: light dark;
  --ink: #1c2330; --soft: #5c6675; --line: #d9dee6; --tint: #f4f6f9; --ground: #ffffff;
}
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e8ee; --soft: #9aa5b4; --line: #38414e; --tint: #1d232b; --ground: #14181e; }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 62rem;
  color: var(--ink); background: var(--ground);
  font: 16px/1.6 system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
}
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 1.5rem; }
h2 { font-size: 1.35rem; margin: 2.5rem 0 .75rem; padding-top: 1rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.08rem; margin: 1.75rem 0 .5rem; }
p { max-width: 44rem; margin: .6rem 0; overflow-wrap: break-word; }
pre { padding: .8rem 1rem; background: var(--tint); border-radius: 6px; overflow-x: auto; font-size: .85rem; }
figure { margin: 1.25rem 0; }
figcaption { color: var(--soft); font-size: .9rem; margin-top: .4rem; max-width: 44rem; }
img { max-width: 100%; height: auto; border-radius: 3px; display: block; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .8rem; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 600; border-bottom-width: 2px; }
.number { text-align: right; }
td.number { white-space: nowrap; }
svg { display: block; width: 100%; max-width: 760px; height: auto; }
svg text { fill: var(--soft); font: 12px system-ui, "Segoe UI", Roboto, sans-serif; }
.grid { stroke: var(--line); stroke-width: 1; }
.curve { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.4rem; max-width: 760px; padding-left: 70px; }
.legend { color: var(--soft); font-size: .85rem; }
.legend i { display: inline-block; width: 1.6rem; margin-right: .45rem; vertical-align: middle; }
"""


class Report:
    """A page that is written from top to bottom. All text is escaped: any string is safe."""

    def __init__(self, title: str) -> None:
        """Start a page with this title, plain text."""
        self.title = title
        self._parts: list[str] = []

    def heading(self, text: str, *, level: int = 2) -> None:
        """Add a heading of level 2 or 3."""
        if level not in (2, 3):
            raise ValueError(f"got heading level {level}, expected 2 or 3: 1 is the title")
        self._parts.append(f"<h{level}>{escape(text)}</h{level}>")

    def paragraph(self, text: str) -> None:
        """Add a paragraph of plain text."""
        self._parts.append(f"<p>{escape(text)}</p>")

    def code(self, text: str) -> None:
        """Add preformatted lines, such as a command."""
        self._parts.append(f"<pre><code>{escape(text)}</code></pre>")

    def figure(self, image: np.ndarray, caption: str = "", *, lossless: bool = False) -> None:
        """Add an image, uint8 [H,W,3], as PNG if `lossless` or if that is smaller, otherwise as JPEG."""
        kind, data = _encode(image, lossless)
        source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
        height, width = image.shape[:2]
        tag = f'<img src="{source}" width="{width}" height="{height}" alt="{escape(caption)}">'
        self._figure(tag, caption)

    def table(self, table: Table, caption: str = "") -> None:
        """Add a table, which scrolls if it is wider than the page."""
        self._figure(f'<div class="scroll">{table.to_html()}</div>', caption)

    def curves(
        self,
        series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
        xlabel: str,
        ylabel: str,
        caption: str = "",
        *,
        log_y: bool = False,
    ) -> None:
        """Add a line chart.

        Args:
            series: {name: (xs, ys)}, xs ascending. Non-finite values (on a logarithmic axis also those <= 0)
                leave gaps.

        Raises:
            ValueError: if nothing can be shown, or a curve has unequal numbers of xs and ys.
        """
        self._figure(
            _chart(series, xlabel, ylabel, log_y, title=caption or f"{ylabel} against {xlabel}"), caption
        )

    def html(self) -> str:
        """The page as text."""
        title, body = escape(self.title), "\n".join(self._parts)
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n{body}\n</body>\n</html>\n"
        )

    def write(self, path: str | Path) -> None:
        """Write the page atomically; creates its folder."""
        text = self.html().encode("utf-8", errors="replace").decode()  # a lone surrogate, from an odd name
        atomic_write_text(path, text)

    def _figure(self, content: str, caption: str) -> None:
        text = f"\n<figcaption>{escape(caption)}</figcaption>" if caption else ""
        self._parts.append(f"<figure>\n{content}{text}\n</figure>")


def _encode(image: np.ndarray, lossless: bool) -> tuple[str, bytes]:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"got image {image.dtype} {list(image.shape)}, expected uint8 [H,W,3] in 0..255")
    picture, png, jpeg = Image.fromarray(image), BytesIO(), BytesIO()
    picture.save(png, format="PNG", optimize=True)
    # Without optimize=True, whose buffer is too small for noisy pictures.
    picture.save(jpeg, format="JPEG", quality=90, subsampling=0)
    if lossless or png.tell() <= jpeg.tell():
        return "png", png.getvalue()
    return "jpeg", jpeg.getvalue()


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers that enclose low..high, in steps of 1, 2 or 5 times a power of ten."""
    if low == high:  # a single value gets room on both sides
        room = abs(low) / 2 or 1.0
        low, high = low - room, high + room
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(i for i in (1, 2, 5, 10) if i * power >= 0.75 * rough)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten that enclose low..high (> 0), and their multiples by 2 and 5 if the range is short."""
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    decades = range(first, max(last, first + 1) + 1)
    every = max(1, len(decades) // 6)
    factors = (1, 2, 5) if len(decades) <= 3 else (1,)
    ticks = [10.0**i * k for i in decades if (i - first) % every == 0 for k in factors]
    below = max((t for t in ticks if t <= low * 1.0001), default=ticks[0])
    above = min(
        (t for t in ticks if t >= high * 0.9999 and t > below), default=10.0 ** (decades[-1] + every - 1)
    )
    return [t for t in ticks if below <= t <= above] + ([above] if above not in ticks else [])


def _chart(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    xlabel: str,
    ylabel: str,
    log_y: bool,
    *,
    title: str,
) -> str:
    curves = {name: _points(name, xs, ys, log_y) for name, (xs, ys) in series.items()}
    shown = [points[np.isfinite(points).all(axis=1)] for points in curves.values()]
    everything = np.concatenate(shown) if shown else np.empty((0, 2))
    if not len(everything):
        raise ValueError(
            f"no value of {list(series)} can be shown: all are empty, not finite or, on a log axis, <= 0"
        )
    (x_low, y_low), (x_high, y_high) = everything.min(axis=0), everything.max(axis=0)
    x_ticks = nice_ticks(float(x_low), float(x_high), 6)
    y_ticks = log_ticks(float(y_low), float(y_high)) if log_y else nice_ticks(float(y_low), float(y_high))

    def to_x(x: float) -> float:
        return PLOT_LEFT + PLOT_WIDTH * (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0])

    def to_y(y: float) -> float:
        low, high, y = (math.log10(i) if log_y else i for i in (y_ticks[0], y_ticks[-1], y))
        return PLOT_TOP + PLOT_HEIGHT * (1 - (y - low) / (high - low))

    right, bottom = PLOT_LEFT + PLOT_WIDTH, PLOT_TOP + PLOT_HEIGHT
    parts = []
    for tick in y_ticks:
        y = f"{to_y(tick):.2f}"
        parts.append(f'<line class="grid" x1="{PLOT_LEFT}" x2="{right}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{PLOT_LEFT - 8}" y="{y}" text-anchor="end" dy="4">{_number(tick)}</text>')
    for tick in x_ticks:
        x = f"{to_x(tick):.2f}"
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{bottom}" y2="{bottom + 4}"/>')
        parts.append(f'<text x="{x}" y="{bottom + 18}" text-anchor="middle">{_number(tick)}</text>')
    middle_x, middle_y = PLOT_LEFT + PLOT_WIDTH // 2, PLOT_TOP + PLOT_HEIGHT // 2
    parts.append(f'<text x="{middle_x}" y="{bottom + 40}" text-anchor="middle">{escape(xlabel)}</text>')
    turn = f'transform="rotate(-90 16 {middle_y})"'
    parts.append(f'<text x="16" y="{middle_y}" text-anchor="middle" {turn}>{escape(ylabel)}</text>')

    keys = []
    for i, (name, points) in enumerate(curves.items()):
        color, dash = COLORS[i % len(COLORS)], i // len(COLORS) % len(DASHES)
        stroke = f'stroke="{color}"' + (f' stroke-dasharray="{DASHES[dash]}"' if dash else "")
        for run in _finite_runs(points):
            pairs = [f"{to_x(a):.2f},{to_y(b):.2f}" for a, b in _thin(run)]
            if len(pairs) == 1:  # a line of length 0, whose round caps make a dot
                pairs, attributes = pairs * 2, f'{stroke} stroke-width="5"'
            else:
                attributes = stroke
            parts.append(f'<polyline class="curve" {attributes} points="{" ".join(pairs)}"/>')
        border = f"border-top: 3px {BORDERS[dash]} {color}"
        keys.append(f'<span><i style="{border}"></i>{escape(name)}</span>')
    svg = f'<svg role="img" viewBox="0 0 {CHART_WIDTH} {CHART_HEIGHT}">\n<title>{escape(title)}</title>\n'
    return svg + "\n".join(parts) + '\n</svg>\n<div class="legend">' + "".join(keys) + "</div>"


def _points(name: str, xs: Sequence[float], ys: Sequence[float], log_y: bool) -> np.ndarray:
    """[N,2], with NaN for points that cannot be drawn."""
    if len(xs) != len(ys):
        raise ValueError(f"curve {name!r} has {len(xs)} xs and {len(ys)} ys, expected as many of both")
    points = np.stack([np.asarray(xs, float), np.asarray(ys, float)], axis=1)
    bad = ~np.isfinite(points).all(axis=1) | (log_y & (points[:, 1] <= 0))
    points[bad] = np.nan
    return points


def _finite_runs(points: np.ndarray) -> list[np.ndarray]:
    """Split points at gaps."""
    finite = np.isfinite(points[:, 0])
    cuts = np.flatnonzero(np.diff(finite.astype(int))) + 1
    return [run for run in np.split(points, cuts) if len(run) and np.isfinite(run[0, 0])]


def _thin(points: np.ndarray) -> np.ndarray:
    """At most about MAX_POINTS of [N,2]: the lowest and the highest of equal intervals, to keep spikes."""
    if len(points) <= MAX_POINTS:
        return points
    kept = {0, len(points) - 1}
    for part in np.array_split(np.arange(len(points)), MAX_POINTS // 2):
        kept |= {int(part[points[part, 1].argmin()]), int(part[points[part, 1].argmax()])}
    return points[sorted(kept)]


def _number(value: float) -> str:
    text = f"{value:.6g}"  # 0.30000000000000004 -> 0.3
    return "0" if float(text) == 0 else text.replace("e+0", "e").replace("e-0", "e-")
