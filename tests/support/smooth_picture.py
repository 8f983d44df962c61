"""A picture with smooth waves and some noise, like a photo."""

from __future__ import annotations

import numpy as np


def smooth(height: int, width: int, *, shift: float = 0) -> np.ndarray:
    """uint8 [height,width,3]; shift: moves the waves by so many pixels, the noise stays."""
    rows, columns = np.mgrid[:height, :width].astype(float)
    waves = [np.sin(rows / a + (columns + shift) / b) for a, b in ((9, 14), (17, -8), (-6, 21))]
    noise = np.random.default_rng(0).normal(0, 6, (height, width, 3))
    return np.clip(127 + 90 * np.stack(waves, axis=-1) + noise, 0, 255).astype(np.uint8)
