"""Random changes of a style's colours and contrast, for palettes that the paintings lack."""

from __future__ import annotations

import math

import numpy as np

from ganmod.io.images import LUMA

_LUMA = np.array(LUMA, dtype=np.float32)
_GREY_AXIS = np.ones(3) / math.sqrt(3)


def hue_rotation(angle: float) -> np.ndarray:
    """The matrix [3,3] that rotates RGB about the grey axis by an angle in radians (Rodrigues' formula)."""
    x, y, z = _GREY_AXIS
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    outer = np.outer(_GREY_AXIS, _GREY_AXIS)
    turned = np.eye(3) * math.cos(angle) + math.sin(angle) * cross + (1 - math.cos(angle)) * outer
    return turned.astype(np.float32)


def change_colors(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change the colours of a picture, uint8 [H,W,3], at random.

    Saturation: a quarter grey, a quarter 1.5 to 3 times, the others 0.3 to 1.6 times. Half get a rotation of
    all hues. Contrast 0.6 to 2.5 times, brightness by up to a quarter; one in seven is inverted.
    """
    x = pixels.astype(np.float32) / 255
    luma = x @ _LUMA
    chroma = x - luma[..., None]
    kind = int(rng.integers(4))
    saturation = 0.0 if kind == 0 else rng.uniform(1.5, 3.0) if kind == 1 else rng.uniform(0.3, 1.6)
    if rng.random() < 0.5:
        chroma = chroma @ hue_rotation(rng.uniform(-math.pi, math.pi)).T
    luma = (luma - 0.5) * math.exp(rng.uniform(-0.5, 0.9)) + 0.5 + rng.uniform(-0.25, 0.25)
    if rng.random() < 1 / 7:
        luma = 1 - luma
    changed = luma[..., None] + chroma * np.float32(saturation)
    return np.rint(np.clip(changed, 0, 1) * 255).astype(np.uint8)
