"""Do a model's strokes turn when the style image is turned? The rotation response and its controls.

A model stylizes one content with a style turned by t = 0, 15 ... 165 degrees. The orientation moment z_t of
each result (metrics/images/structure.py) is measured where the content is flat. As a function of the doubled
angle, z_t has Fourier coefficient 1, A1 = |mean z_t e^{-2it}|, the part that turns with the style, and
coefficient 0, A0 = |mean z_t|, the part that stays. The response is A1 / (A0 + A1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ganmod.io.images import center_crop, resize, to_tensor
from metrics.images.patch_swd import PatchTarget, match_histogram
from metrics.images.structure import (
    circular_emd,
    coherence,
    flat_mask,
    luma,
    orientation_field,
    orientation_histogram,
    orientation_moment,
)
from metrics.style.pair_scores import Contestant, to_array

ANGLES = tuple(15.0 * i for i in range(12))  # degrees
WINDOW = 4.0  # pixels, sigma of the neighbourhood of a direction
DIRECTION_SIDE = 256  # pixels: short side at which the direction of a style is measured
MIN_STRENGTH, MIN_COHERENCE = 0.15, 0.3  # a style below either has no direction


class Strokes(NamedTuple):
    """The directions in an image: orientation moment, and histogram [bins] of sum 1."""

    moment: complex
    histogram: np.ndarray


class Direction(NamedTuple):
    """Whether the strokes of an image run one way.

    Attributes:
        strength: |moment|, how far they agree on one direction, in [0,1].
        coherence: share of the change that has a direction in its neighbourhood, in [0,1].
    """

    strength: float
    coherence: float

    @property
    def is_common(self) -> bool:
        """Whether they do, so that turning the image turns its strokes."""
        return self.strength > MIN_STRENGTH and self.coherence > MIN_COHERENCE


def style_direction(image: np.ndarray, *, size: int = DIRECTION_SIDE, window: float = WINDOW) -> Direction:
    """The direction of the strokes in the middle of uint8 [H,W,3], brought to `size` pixels."""
    grey = luma(resize(rotate_and_crop(image, 0), (size, size)))
    strength = abs(orientation_moment(orientation_field(grey, window=window)))
    return Direction(strength, coherence(grey, window=window))


@dataclass(frozen=True)
class RotationResponse:
    """Response of the strokes to a style turned by several angles.

    Args:
        follows: A1, the part of the moments that turns with the style.
        stays: A0, the part that does not.
    """

    follows: float
    stays: float

    @property
    def response(self) -> float:
        """follows / (follows + stays), in [0,1]: 1 if strokes turn with the style, 0 if not; 0/0 is 0."""
        total = self.follows + self.stays
        return self.follows / total if total > 0 else 0.0


@dataclass(frozen=True)
class TurnedStyle:
    """A style at every angle, all at one scale.

    Args:
        name: of the style.
        degrees: the angles.
        images: uint8 [S,S,3] for each angle.
        strokes: of each image.
        strength: |moment| of the style at angle 0, see `has_direction`.
        coherence: of the style at angle 0.
    """

    name: str
    degrees: tuple[float, ...]
    images: tuple[np.ndarray, ...]
    strokes: tuple[Strokes, ...]
    strength: float
    coherence: float

    @property
    def has_direction(self) -> bool:
        """Whether the strokes agree on a direction, without which their turning cannot be measured."""
        return Direction(self.strength, self.coherence).is_common


@dataclass(frozen=True)
class RotationScore:
    """One model's response to one style on one content. Distances of histograms are in degrees, in [0,90].

    Args:
        style: index of the style.
        content: index of the content.
        response: see `RotationResponse`; also follows and stays.
        strength: mean |z_t|, how much of a result agrees on one direction.
        emd_turned: mean distance of the result at angle t to the style turned by t; smallest of the three if
            strokes follow the style.
        emd_unturned: to the style at angle 0.
        emd_across: to the style turned by t + 90 degrees, a control that must be large.
        lpips: mean distance of content and result, or None.
        lpips_range: largest minus smallest over the angles, or None. A response is worthless if the content
            is preserved at some angles only.
    """

    style: int
    content: int
    response: float
    follows: float
    stays: float
    strength: float
    emd_turned: float
    emd_unturned: float
    emd_across: float
    lpips: float | None
    lpips_range: float | None


def rotate_and_crop(image: np.ndarray, degrees: float) -> np.ndarray:
    """The middle of uint8 [H,W,3] turned counter-clockwise -> uint8 [S,S,3], S about min(H,W) / sqrt(2) - 2.

    The crop has the same size at every angle, including 0, which preserves the texture's scale. None of its
    corners lies outside the image.
    """
    side = min(image.shape[:2])
    inner = math.floor(side / math.sqrt(2)) - 2  # minus the margin that the interpolation reads
    inner -= (side - inner) % 2  # keeps its middle at the centre of the rotation
    if inner < 1:
        raise ValueError(f"got an image {list(image.shape)}, expected sides of at least 5 pixels to turn it")
    picture = Image.fromarray(center_crop(image, side))
    turned = picture.rotate(degrees, resample=Image.Resampling.BICUBIC)
    return center_crop(np.asarray(turned), inner)


def measure_strokes(grey: np.ndarray, *, mask: np.ndarray | None = None, window: float = WINDOW) -> Strokes:
    """Strokes of float [H,W], in the mask (bool [H,W]); `window` is the neighbourhood's sigma in pixels."""
    field = orientation_field(grey, window=window)
    return Strokes(orientation_moment(field, mask), orientation_histogram(field, mask=mask))


def rotate_style_image(
    name: str,
    image: np.ndarray,
    *,
    size: int = 256,
    degrees: Sequence[float] = ANGLES,
    window: float = WINDOW,
) -> TurnedStyle:
    """Rotate a style image to every angle.

    Args:
        size: side of the results in pixels.
        degrees: i * 180 / n for an even n, so each angle has one 90 degrees further.
        window: sigma of the neighbourhood in pixels.

    Raises:
        ValueError: for other angles.
    """
    _check_angles(degrees)
    if len(degrees) % 2:
        raise ValueError(f"got {len(degrees)} angles, expected an even number: each needs the one 90 further")
    images = [resize(rotate_and_crop(image, t), (size, size)) for t in degrees]
    strokes = tuple(measure_strokes(luma(i), window=window) for i in images)
    return TurnedStyle(
        name=name,
        degrees=tuple(degrees),
        images=tuple(images),
        strokes=strokes,
        strength=abs(strokes[0].moment),
        coherence=coherence(luma(images[0]), window=window),
    )


def rotation_response(moments: Sequence[complex], degrees: Sequence[float]) -> RotationResponse:
    """The response, from the moments of the results and the style's angles, evenly spaced over [0,180).

    Its parts are the Fourier coefficients 0 and 1 of the moment as a function of the doubled angle.
    """
    if len(moments) != len(degrees):
        raise ValueError(f"got {len(moments)} moments and {len(degrees)} angles, expected as many of both")
    _check_angles(degrees)
    z, turn = np.array(moments), np.exp(2j * np.radians(np.array(degrees)))
    return RotationResponse(follows=float(abs((z / turn).mean())), stays=float(abs(z.mean())))


@torch.inference_mode()
def score_rotation(
    contestant: Contestant,
    contents: Sequence[Tensor],
    styles: Sequence[TurnedStyle],
    *,
    lpips: Callable[[Tensor, Tensor], Tensor] | None = None,
    window: float = WINDOW,
    done: Callable[[], object] = lambda: None,
) -> list[RotationScore]:
    """Score every content with every style at every angle, style by style.

    Strokes are measured in the flatter half of each content. To exclude colour and contrast, the luma is
    first matched to the histogram of the style at angle 0.

    Args:
        contents: [1,3,H,W] in [0,1], sides multiples of 8.
        styles: styles with a direction.
        lpips: two images [1,3,H,W] -> [1]; None leaves it out.
        window: sigma of the neighbourhood in pixels.
        done: called after each result.
    """
    features = [contestant.model.encode(x) for x in contents]
    masks = [flat_mask(to_array(x)) for x in contents]
    scores = []
    for s, style in enumerate(styles):
        strokes: list[list[Strokes]] = [[] for _ in contents]
        distances: list[list[float]] = [[] for _ in contents]
        grey_levels = luma(style.images[0])
        for image in style.images:
            params = _predict(contestant, image, contents[0])
            for c, content in enumerate(contents):
                result = contestant.model.decode(features[c], params).clamp(0, 1)
                grey = match_histogram(luma(to_array(result)), grey_levels)
                strokes[c].append(measure_strokes(grey, mask=masks[c], window=window))
                if lpips is not None:
                    distances[c].append(float(lpips(content, result)))
                done()
        scores += [_score(s, c, style, strokes[c], distances[c]) for c in range(len(contents))]
    return scores


@torch.inference_mode()
def score_structure(
    contestant: Contestant,
    contents: Sequence[Tensor],
    styles: Sequence[TurnedStyle],
    *,
    done: Callable[[], object] = lambda: None,
) -> list[tuple[int, int, float]]:
    """(content, style, patch-SWD of the result to the style) for styles without a direction.

    The mean over every third angle. Circles look the same when turned; only patches tell whether a model
    reproduces them. Compare with the value for the unchanged content.
    """
    features = [contestant.model.encode(x) for x in contents]
    scores = []
    for s, style in enumerate(styles):
        images = style.images[::3]
        by_content = np.zeros(len(contents))
        for image in images:
            params, patches = _predict(contestant, image, contents[0]), PatchTarget(image)
            for c in range(len(contents)):
                result = contestant.model.decode(features[c], params).clamp(0, 1)
                by_content[c] += patches.distance(to_array(result)) / len(images)
                done()
        scores += [(c, s, float(value)) for c, value in enumerate(by_content)]
    return scores


def _predict(contestant: Contestant, image: np.ndarray, like: Tensor) -> object:
    return contestant.model.predict(contestant.prepare_style(to_tensor(image)[None].to(like.device)))


def _score(
    index: int, content: int, style: TurnedStyle, strokes: Sequence[Strokes], distances: Sequence[float]
) -> RotationScore:
    response = rotation_response([i.moment for i in strokes], style.degrees)
    along = [i.histogram for i in style.strokes]
    count = len(strokes)
    across = along[count // 2 :] + along[: count // 2]  # 90 degrees further
    return RotationScore(
        style=index,
        content=content,
        response=response.response,
        follows=response.follows,
        stays=response.stays,
        strength=float(np.mean([abs(i.moment) for i in strokes])),
        emd_turned=_mean_emd(strokes, along),
        emd_unturned=_mean_emd(strokes, along[:1] * count),
        emd_across=_mean_emd(strokes, across),
        lpips=float(np.mean(distances)) if distances else None,
        lpips_range=max(distances) - min(distances) if distances else None,
    )


def _mean_emd(strokes: Sequence[Strokes], histograms: Sequence[np.ndarray]) -> float:
    return float(np.mean([circular_emd(i.histogram, h) for i, h in zip(strokes, histograms, strict=True)]))


def _check_angles(degrees: Sequence[float]) -> None:
    if len(degrees) < 3:
        raise ValueError(
            f"got {len(degrees)} angles, expected at least 3: with fewer, a part that turns looks like one "
            "that stays"
        )
    turn = np.exp(2j * np.radians(np.array(degrees)))
    if abs(turn.mean()) > 1e-6 or abs((turn**2).mean()) > 1e-6:
        raise ValueError(
            f"got angles {list(degrees)}, expected them spread evenly over [0,180), as i * 180 / n"
        )
