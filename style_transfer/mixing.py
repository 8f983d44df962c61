"""Several styles in one picture: parameters interpolated by weights, or taken from one style per scale."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

NUM_SCALES = 4  # of the decoder: 1 is coarse (an eighth of the image's side), 4 is fine (the image itself)


def normalize_weights(weights: Sequence[float]) -> list[float]:
    """Divide weights >= 0 by their sum; ValueError for negative ones, NaN, or a sum of 0 or infinity."""
    total = sum(weights)  # infinite or NaN, if one of them is
    if not math.isfinite(total) or not all(w >= 0 for w in weights) or not total > 0:
        listed = ", ".join(f"{w:g}" for w in weights)
        raise ValueError(
            f"the styles' weights are [{listed}], expected numbers from 0 up, one at least above 0"
        )
    total = math.fsum(weights)
    return [w / total for w in weights]


def mix_params(params: Sequence[list[Any]], weights: Sequence[float]) -> list[Any]:
    """Sum over styles of weight * parameters, tensor by tensor.

    Args:
        params: one list of NamedTuples per style, from `StyleTransferModel.predict_style`.
        weights: one per style, normalised here to sum 1; a style with all the weight is returned unchanged.

    Raises:
        ValueError: for another number of weights than of styles.
    """
    if len(params) != len(weights):
        raise ValueError(
            f"got {len(params)} styles and {len(weights)} weights, expected one weight per style"
        )
    used = [(p, w) for p, w in zip(params, normalize_weights(weights), strict=True) if w > 0]
    if len(used) == 1:
        return used[0][0]
    mixed = []
    for layer in zip(*(p for p, _ in used), strict=True):  # of every style
        kind = type(layer[0])
        fields = zip(*layer, strict=True)
        mixed.append(kind(*(sum(x * w for x, (_, w) in zip(field, used, strict=True)) for field in fields)))
    return mixed


def parse_scales(text: str) -> tuple[int, ...]:
    """Parse "2", "1-2" or "1,3-4" to scales, 1 (coarse) to 4 (fine); ValueError for anything else."""
    scales: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last <= NUM_SCALES:
            raise ValueError(
                f"scales are {text!r}, expected numbers from 1 (coarse) to {NUM_SCALES} (fine), such as 1-2"
            )
        scales += range(first, last + 1)
    return tuple(scales)


def check_scales(given: Sequence[tuple[int, ...]], *, has_fallback: bool) -> None:
    """Raise ValueError for repeated scales, scales outside 1 to 4, or missing ones without a fallback."""
    seen = [scale for scales in given for scale in scales]
    beyond = sorted({scale for scale in seen if not 1 <= scale <= NUM_SCALES})
    if beyond:
        raise ValueError(
            f"got a style at scale {beyond[0]}, expected scales 1 (coarse) to {NUM_SCALES} (fine)"
        )
    twice = sorted({scale for scale in seen if seen.count(scale) > 1})
    if twice:
        raise ValueError(f"scale {twice[0]} has two styles, expected each scale once: leave one of them out")
    bare = [str(scale) for scale in range(1, NUM_SCALES + 1) if scale not in seen]
    if bare and not has_fallback:
        raise ValueError(
            f"scale {', '.join(bare)} has no style, expected one for each of 1 to {NUM_SCALES}: give it one, "
            "or name a style for the rest"
        )


def pick_scales(
    at: Mapping[tuple[int, ...], list[Any]],
    fallback: list[Any] | None = None,
    *,
    scales: Sequence[int] = (1, 2, 3, 4),
) -> list[Any]:
    """Combine parameters of different styles by scale.

    Args:
        at: {scales: a style's parameters}, such as {(1, 2): a, (3, 4): b}.
        fallback: the parameters at all other scales.
        scales: the scale of each stage of the decoder (`StagedDecoder.scales`).

    Raises:
        ValueError: unless every scale has exactly one style, and for the classic AdaIN model, in which only
            one stage has a style.
    """
    check_scales(list(at), has_fallback=fallback is not None)
    if any(len(params) != len(scales) for params in (*at.values(), *([fallback] if fallback else []))):
        raise ValueError(
            "styles can be mixed per scale only where each scale is modulated, and this model is modulated "
            "elsewhere (the classic AdaIN model, feature transforms, StyleBank): mix by weights or masks, or "
            "take a modulated model"
        )
    by_scale = {scale: params for named, params in at.items() for scale in named}
    picked = []
    for stage, scale in enumerate(scales):
        params = by_scale.get(scale, fallback)
        assert params is not None  # check_scales
        picked.append(params[stage])
    return picked
