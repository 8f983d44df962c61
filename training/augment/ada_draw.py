"""Draws the parameters of ADA's augmentations; `training.augment.ada_augment` applies them.

Source: Karras et al., "Training Generative Adversarial Networks with Limited Data" (NeurIPS 2020), section 2
and appendix B.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]

# Expected power of a natural image in the bands [0,pi/8], [pi/8,pi/4], [pi/4,pi/2], [pi/2,pi] (spectrum 1/f).
BAND_POWER = np.array([10.0, 1.0, 1.0, 1.0]) / 13
BANDS = len(BAND_POWER)

_GROUPS: dict[str, tuple[str, ...]] = {
    "blit": ("xflip", "rotate90", "xint"),
    "geom": ("scale", "rotate", "aniso", "xfrac"),
    "color": ("brightness", "contrast", "lumaflip", "hue", "saturation"),
    "filter": ("imgfilter",),
    "noise": ("noise",),
    "cutout": ("cutout",),
}


@dataclass(frozen=True, kw_only=True)
class AugmentSpec:
    """Which transforms are used, how often (multipliers of p, 0 to 1), how strongly (as published).

    ValueError: a multiplier outside [0, 1], a negative strength, band multipliers of another number than 4.
    """

    # Multipliers: a transform is applied with probability multiplier * p.
    xflip: float = 0.0
    rotate90: float = 0.0
    xint: float = 0.0
    scale: float = 0.0
    rotate: float = 0.0
    aniso: float = 0.0
    xfrac: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    lumaflip: float = 0.0
    hue: float = 0.0
    saturation: float = 0.0
    imgfilter: float = 0.0
    noise: float = 0.0
    cutout: float = 0.0
    # Strengths.
    xint_max: float = 0.125  # largest integer translation, in image sizes
    scale_std: float = 0.2  # of log2 of the isotropic scale
    rotate_max: float = 1.0  # largest rotation either way, in half turns
    aniso_std: float = 0.2  # of log2 of the anisotropic scale
    xfrac_std: float = 0.125  # of the fractional translation, in image sizes
    brightness_std: float = 0.2
    contrast_std: float = 0.5  # of log2 of the contrast
    hue_max: float = 1.0  # largest hue rotation either way, in half turns
    saturation_std: float = 1.0  # of log2 of the saturation
    imgfilter_bands: tuple[float, ...] = (1.0,) * BANDS  # multipliers per band
    imgfilter_std: float = 1.0  # of log2 of a band's gain
    noise_std: float = 0.1  # of the noise's standard deviation, which is half-normal
    cutout_size: float = 0.5  # side of the box, in image sizes

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "imgfilter_bands":
                if len(value) != BANDS or not all(0 <= v <= 1 for v in value):
                    raise ValueError(f"imgfilter_bands is {value}: give {BANDS} multipliers from 0 to 1")
            elif field.name.endswith(("_std", "_max", "_size")):
                if not 0 <= value < float("inf"):
                    raise ValueError(f"{field.name} is {value}: give 0 or more")
            elif not 0 <= value <= 1:
                raise ValueError(f"{field.name} is {value}: give a multiplier of p from 0 to 1")


def _pipe(*groups: str) -> AugmentSpec:
    multipliers: dict[str, Any] = {name: 1.0 for group in groups for name in _GROUPS[group]}
    return AugmentSpec(**multipliers)


# The published pipelines; bgc is the default of every preset.
AUGMENT_PIPES: dict[str, AugmentSpec] = {
    **{group: _pipe(group) for group in _GROUPS},
    "bg": _pipe("blit", "geom"),
    "bgc": _pipe("blit", "geom", "color"),
    "bgcf": _pipe("blit", "geom", "color", "filter"),
    "bgcfn": _pipe("blit", "geom", "color", "filter", "noise"),
    "bgcfnc": _pipe("blit", "geom", "color", "filter", "noise", "cutout"),
}


class AugmentParams(NamedTuple):
    """What happens to each of N images. CPU tensors: applying them reads which images are left alone."""

    inverse: Tensor  # [N,3,3] float64: output pixel (x, y, 1) -> input pixel, origin in the image's centre
    color: Tensor  # [N,4,4] float64: (r, g, b, 1) -> (r, g, b, 1), for values in [-1, 1]
    band_gains: Tensor  # [N,4] float64: gain of each octave band, lowest first
    noise_std: Tensor  # [N] float64, in units of the values
    noise_seed: Tensor  # [N] int64
    cutout: Tensor  # [N,3] float64: centre x, centre y, side, in image sizes; side 0 for none


def augment_pipe(name: str) -> AugmentSpec:
    """The published pipeline of this name ("bgc", ...). ValueError: unknown name, with the list."""
    if name not in AUGMENT_PIPES:
        raise ValueError(f"unknown augmentation pipe {name!r}: choose one of {', '.join(AUGMENT_PIPES)}")
    return AUGMENT_PIPES[name]


def draw_augmentation(
    rng: np.random.Generator, num_samples: int, p: float, *, spec: AugmentSpec, image_shape: tuple[int, int]
) -> AugmentParams:
    """Augmentation parameters of `num_samples` images (Karras et al. 2020, appendix B).

    p: strength, 0 (nothing, exactly) to 1. image_shape: (height, width) in pixels.
    The generator is read equally far whatever p and spec: with a larger p, the images augmented at a smaller
    one keep their augmentations.
    ValueError: p outside [0, 1], no samples, an empty image.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"augmentation strength p is {p}: give a value from 0 to 1")
    if num_samples < 1 or min(image_shape) < 1:
        raise ValueError(f"{num_samples} samples of {image_shape} pixels: give at least one of each")
    arrays = (
        draw_inverse(rng, num_samples, p, spec=spec, image_shape=image_shape),
        draw_color(rng, num_samples, p, spec=spec),
        draw_band_gains(rng, num_samples, p, spec=spec),
        _gate(rng, num_samples, p * spec.noise) * np.abs(rng.standard_normal(num_samples)) * spec.noise_std,
        rng.integers(0, 2**63 - 1, num_samples),
        _draw_cutout(rng, num_samples, p, spec=spec),
    )
    return AugmentParams(*map(torch.from_numpy, arrays))


def draw_inverse(
    rng: np.random.Generator, n: int, p: float, *, spec: AugmentSpec, image_shape: tuple[int, int]
) -> Array:
    """[n,3,3]: from output to input pixels, origin in the centre, x to the right, y down.

    Positive angles turn the image counter-clockwise. The image goes through the transforms in the order
    below, so that their inverses are multiplied from the left to the right.
    """
    size = np.array(image_shape[::-1], dtype=np.float64)
    inverse = np.broadcast_to(np.eye(3), (n, 3, 3))

    # Pixel blitting: exact integers, so that applying them can copy pixels.
    gate, flipped = _gate(rng, n, p * spec.xflip), rng.integers(0, 2, n)
    inverse = inverse @ _where(gate, _scale(np.where(flipped, -1.0, 1.0), np.ones(n)))
    gate, turns = _gate(rng, n, p * spec.rotate90), rng.integers(0, 4, n)
    inverse = inverse @ _where(
        gate, _rotate(np.array([1.0, 0, -1, 0])[turns], np.array([0.0, 1, 0, -1])[turns])
    )
    gate, shift = _gate(rng, n, p * spec.xint), rng.uniform(-spec.xint_max, spec.xint_max, (n, 2))
    inverse = inverse @ _where(gate, _translate(-np.round(shift * size)))

    # General geometric transforms. Two rotations, each with p_rot: either happens with probability p.
    p_rot = 1 - np.sqrt(1 - p * spec.rotate)
    gate, zoom = _gate(rng, n, p * spec.scale), spec.scale_std * rng.standard_normal(n)
    inverse = inverse @ _where(gate, _scale(np.exp2(-zoom), np.exp2(-zoom)))
    gate, angle = _gate(rng, n, p_rot), np.pi * spec.rotate_max * rng.uniform(-1, 1, n)
    inverse = inverse @ _where(gate, _rotate(np.cos(angle), np.sin(angle)))
    gate, zoom = _gate(rng, n, p * spec.aniso), spec.aniso_std * rng.standard_normal(n)
    inverse = inverse @ _where(gate, _scale(np.exp2(-zoom), np.exp2(zoom)))
    gate, angle = _gate(rng, n, p_rot), np.pi * spec.rotate_max * rng.uniform(-1, 1, n)
    inverse = inverse @ _where(gate, _rotate(np.cos(angle), np.sin(angle)))
    gate, shift = _gate(rng, n, p * spec.xfrac), spec.xfrac_std * rng.standard_normal((n, 2))
    return inverse @ _where(gate, _translate(-shift * size))


def draw_color(rng: np.random.Generator, n: int, p: float, *, spec: AugmentSpec) -> Array:
    """[n,4,4]: brightness, contrast, luma flip, hue and saturation, in this order, as one matrix."""
    identity, luma = np.eye(4), np.zeros((4, 4))
    luma[:3, :3] = 1 / 3  # v v^T, the projection onto the grey axis v = (1, 1, 1) / sqrt(3)
    cross = np.zeros((4, 4))  # v x, for Rodrigues' rotation about v
    cross[:3, :3] = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    rgb, last = np.diag([1.0, 1, 1, 0]), np.diag([0.0, 0, 0, 1])
    chroma = rgb - luma

    gate, amount = _gate(rng, n, p * spec.brightness), spec.brightness_std * rng.standard_normal(n)
    offset = np.zeros((4, 4))
    offset[:3, 3] = 1
    color = _where(gate, identity + offset * amount[:, None, None])
    gate, amount = _gate(rng, n, p * spec.contrast), np.exp2(spec.contrast_std * rng.standard_normal(n))
    color = _where(gate, rgb * amount[:, None, None] + last) @ color
    gate, flipped = _gate(rng, n, p * spec.lumaflip), rng.integers(0, 2, n)
    color = _where(gate, identity - 2 * luma * flipped[:, None, None]) @ color
    gate = _gate(rng, n, p * spec.hue)
    angle = np.pi * spec.hue_max * rng.uniform(-1, 1, n)[:, None, None]
    color = _where(gate, luma + chroma * np.cos(angle) + cross * np.sin(angle) + last) @ color
    gate, amount = _gate(rng, n, p * spec.saturation), np.exp2(spec.saturation_std * rng.standard_normal(n))
    return _where(gate, luma + chroma * amount[:, None, None] + last) @ color


def draw_band_gains(rng: np.random.Generator, n: int, p: float, *, spec: AugmentSpec) -> Array:
    """[n,4]: one band after the other is amplified, and the expected power of the whole restored."""
    gains = np.ones((n, BANDS))
    for band in range(BANDS):
        gate = _gate(rng, n, p * spec.imgfilter * spec.imgfilter_bands[band])
        change = np.ones((n, BANDS))
        change[:, band] = np.exp2(spec.imgfilter_std * rng.standard_normal(n))
        change /= np.sqrt(change**2 @ BAND_POWER)[:, None]
        gains *= np.where(gate[:, None], change, 1.0)
    return gains


def _draw_cutout(rng: np.random.Generator, n: int, p: float, *, spec: AugmentSpec) -> Array:
    gate, centre = _gate(rng, n, p * spec.cutout), rng.uniform(0, 1, (n, 2))
    return np.column_stack([centre, gate * spec.cutout_size])


def _gate(rng: np.random.Generator, n: int, probability: float) -> NDArray[np.bool_]:
    return rng.random(n) < probability


def _where(gate: NDArray[np.bool_], matrices: Array) -> Array:
    """The matrices [n,D,D] where the gate is open, the identity elsewhere: exactly, for p = 0."""
    return np.where(gate[:, None, None], matrices, np.eye(matrices.shape[-1]))


def _scale(x: Array, y: Array) -> Array:
    matrices = np.tile(np.eye(3), (len(x), 1, 1))
    matrices[:, 0, 0], matrices[:, 1, 1] = x, y
    return matrices


def _rotate(cos: Array, sin: Array) -> Array:
    matrices = np.tile(np.eye(3), (len(cos), 1, 1))
    matrices[:, 0, 0], matrices[:, 0, 1], matrices[:, 1, 0], matrices[:, 1, 1] = cos, -sin, sin, cos
    return matrices


def _translate(shift: Array) -> Array:
    matrices = np.tile(np.eye(3), (len(shift), 1, 1))
    matrices[:, :2, 2] = shift
    return matrices
