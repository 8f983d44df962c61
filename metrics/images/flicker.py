"""Flicker of a clip: the change from frame to frame, with and without motion compensation.

Without motion vectors, compare the change of a stylized clip with the change of its input or of another
result for the same input: both contain the motion. With motion vectors, the previous frame is warped first
(Ruder et al. 2016, section 5; Chen et al. 2017), which leaves the change that motion does not explain.
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

    Args:
        of_output: change of the stylized clip.
        of_input: change of the clip that was stylized.
        warped: change of the stylized clip after motion compensation, or None.
    """

    of_output: float
    of_input: float
    warped: float | None

    @property
    def ratio(self) -> float:
        """of_output / of_input: 1 if stylization neither adds nor removes flicker."""
        return self.of_output / self.of_input if self.of_input > 0 else float("nan")


def mean_change(frames: Iterable[np.ndarray]) -> float:
    """Mean of |frame - previous frame| over pixels, channels and pairs of uint8 [H,W,3] frames -> [0,1].

    Frames are read one at a time. Raises ValueError for fewer than two, and for different sizes.
    """
    return _mean_over_pairs(
        (float(np.abs(_to_float(b) - _to_float(a)).mean()) for a, b in _pairs(frames)), what="frames"
    )


def warped_change(frames: Iterable[np.ndarray], motion: Iterable[np.ndarray], *, order: int = 1) -> float:
    """`mean_change` after the previous frames are warped along the motion -> [0,1].

    Args:
        frames: uint8 [H,W,3] of one size.
        motion: float [H,W,2] for each frame but the first: offset (right, down) in pixels from a pixel to its
            origin in the previous frame. Pixels that are NaN (occluded before) or come from beyond the border
            are left out.
        order: of the interpolating spline; 1 is bilinear.
    """

    def differences() -> Iterable[float]:
        for (before, frame), field in zip(_pairs(frames), motion, strict=True):
            yield _warped_difference(before, frame, field, order)

    return _mean_over_pairs(differences(), what="frames")


def measure_flicker(
    outputs: Iterable[np.ndarray],
    inputs: Iterable[np.ndarray],
    *,
    motion: Iterable[np.ndarray] | None = None,
) -> Flicker:
    """Flicker of a stylized clip and its input, both uint8 [H,W,3]; for `motion` see `warped_change`."""
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


def _warped_difference(before: np.ndarray, frame: np.ndarray, field: np.ndarray, order: int) -> float:
    height, width = frame.shape[:2]
    if field.shape != (height, width, 2):
        raise ValueError(f"got motion {list(field.shape)} for frames of {height} x {width}: expected [H,W,2]")
    rows, columns = np.mgrid[:height, :width] + field[..., ::-1].transpose(2, 0, 1)
    seen = (rows >= 0) & (rows <= height - 1) & (columns >= 0) & (columns <= width - 1)  # not NaN either
    if not seen.any():
        raise ValueError("no pixel of a frame was seen in the frame before: the motion leads out of it")
    origins = np.stack([rows[seen], columns[seen]])
    channels = [
        map_coordinates(_to_float(before[..., i]), origins, order=order, mode="nearest") for i in range(3)
    ]
    return float(np.abs(_to_float(frame[seen]) - np.stack(channels, axis=1)).mean())


def _to_float(image: np.ndarray) -> np.ndarray:
    return image.astype(np.float64) / _LEVELS


def _mean_over_pairs(changes: Iterable[float], *, what: str) -> float:
    values = list(changes)
    if not values:
        raise ValueError(f"got fewer than two {what}, expected at least two to compare")
    return float(np.mean(values))
