"""How much a clip flickers: what changes from frame to frame, with and without the motion taken out.

Without motion vectors, the change of a stylized clip is compared with that of its input, or of another way to
stylise the same input: motion is then in both. With them, the frame before is moved along first (Ruder et al.
2016, section 5; Chen et al. 2017), and only what the motion does not explain is left.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates

_LEVELS = 255.0


@dataclass(frozen=True)
class Flicker:
    """Mean absolute change from a frame to the next, in [0,1].

    of_input: the same of the clip that was stylized. warped: of the stylized clip along the motion, or None.
    """

    of_output: float
    of_input: float
    warped: float | None

    @property
    def ratio(self) -> float:
        """of_output / of_input: 1 if stylising adds no flicker and takes none."""
        return self.of_output / self.of_input if self.of_input > 0 else float("nan")


def mean_change(frames: Iterable[np.ndarray]) -> float:
    """Mean of |frame - frame before| over pixels, channels and pairs -> [0,1].

    frames: uint8 [H,W,3] of one size, read one at a time. Raises ValueError for fewer than two.
    """
    return _mean_over_pairs(
        (float(np.abs(_wide(b) - _wide(a)).mean()) for a, b in _pairs(frames)), what="frames"
    )


def warped_change(frames: Iterable[np.ndarray], motion: Iterable[np.ndarray], *, order: int = 1) -> float:
    """`mean_change`, each frame before moved along first -> [0,1].

    motion: one float [H,W,2] for each frame but the first: how far right and down of a pixel, in pixels of
    the frame before, its origin lies there. NaN marks a pixel without one (hidden before), which is left
    out, as are origins beyond the border. order: of the spline between pixels; 1 is bilinear.
    """

    def differences() -> Iterable[float]:
        for (before, frame), field in zip(_pairs(frames), motion, strict=True):
            yield _along(before, frame, field, order)

    return _mean_over_pairs(differences(), what="frames")


def measure_flicker(
    outputs: Iterable[np.ndarray],
    inputs: Iterable[np.ndarray],
    *,
    motion: Iterable[np.ndarray] | None = None,
) -> Flicker:
    """Flicker of a stylized clip and of its input, both uint8 [H,W,3]; motion as for `warped_change`."""
    frames = list(outputs) if motion is not None else outputs
    return Flicker(
        mean_change(frames),
        mean_change(inputs),
        None if motion is None else warped_change(frames, motion),
    )


def _pairs(frames: Iterable[np.ndarray]) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    for before, frame in itertools.pairwise(frames):
        for image in (before, frame):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape != before.shape:
                raise ValueError(
                    f"got frames {before.dtype} {list(before.shape)} and {image.dtype} {list(image.shape)}, "
                    "expected uint8 [H,W,3] of one size"
                )
        yield before, frame


def _along(before: np.ndarray, frame: np.ndarray, field: np.ndarray, order: int) -> float:
    height, width = frame.shape[:2]
    if field.shape != (height, width, 2):
        raise ValueError(f"got motion {list(field.shape)} for frames of {height} x {width}: expected [H,W,2]")
    rows, columns = np.mgrid[:height, :width] + field[..., ::-1].transpose(2, 0, 1)
    seen = (rows >= 0) & (rows <= height - 1) & (columns >= 0) & (columns <= width - 1)  # not NaN either
    if not seen.any():
        raise ValueError("no pixel of a frame was seen in the frame before: the motion leads out of it")
    places = np.stack([rows[seen], columns[seen]])
    channels = [map_coordinates(_wide(before[..., i]), places, order=order, mode="nearest") for i in range(3)]
    return float(np.abs(_wide(frame[seen]) - np.stack(channels, axis=1)).mean())


def _wide(image: np.ndarray) -> np.ndarray:
    return image.astype(np.float64) / _LEVELS


def _mean_over_pairs(changes: Iterable[float], *, what: str) -> float:
    values = list(changes)
    if not values:
        raise ValueError(f"got fewer than two {what}, expected at least two to compare")
    return float(np.mean(values))
