"""Does structure change evenly between two styles? A style and its quarter turn, mixed in five steps.

The parameters predicted for the style and for the style turned by 90 degrees are interpolated. AdaConv's
paper states that its styles interpolate in structure. The directions of the strokes tell whether the way from
one end to the other is monotone, and whether the strokes turn or the two ends are overlaid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganmod.io.images import to_tensor
from metrics.images.patch_swd import match_histogram
from metrics.images.structure import circular_emd, flat_mask, luma
from metrics.style.pair_scores import Contestant, to_array
from metrics.style.rotation import WINDOW, Strokes, TurnedStyle, measure_strokes

WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
SLACK = 1.0  # degrees; a smaller step back counts as noise
MIN_APART = 5.0  # degrees, a bin of the histogram; nearer ends have no way between them


@dataclass(frozen=True)
class InterpolationScore:
    """One model's interpolation from a style to its quarter turn, on one content.

    Args:
        style: index of the style.
        content: index of the content.
        weights: of the interpolation.
        to_first: `circular_emd` of each result's orientation histogram to the one at weight 0, in degrees.
        to_last: likewise to the one at weight 1.
        strengths: |moment| of each result.
    """

    style: int
    content: int
    weights: tuple[float, ...]
    to_first: tuple[float, ...]
    to_last: tuple[float, ...]
    strengths: tuple[float, ...]

    @property
    def apart(self) -> float:
        """Degrees between the two ends: near 90 for a model whose strokes follow the style."""
        return self.to_first[-1]

    @property
    def monotone(self) -> bool:
        """Whether every step leads away from the first end and towards the last, up to 1 degree of noise.

        False also if the ends are less than 5 degrees apart.
        """
        steps = [*np.diff(self.to_first), *-np.diff(self.to_last)]
        return self.apart >= MIN_APART and float(min(steps)) > -SLACK

    @property
    def halfway(self) -> float:
        """Position of the middle weight between the ends: to_first / (to_first + to_last); 0/0 is 0.5."""
        middle = len(self.weights) // 2
        total = self.to_first[middle] + self.to_last[middle]
        return self.to_first[middle] / total if total > 0 else 0.5

    @property
    def kept_strength(self) -> float:
        """Strength half-way divided by that of the ends: near 1 if strokes turn, less if overlaid."""
        ends = (self.strengths[0] + self.strengths[-1]) / 2
        return self.strengths[len(self.strengths) // 2] / ends if ends > 0 else 0.0


def interpolation_response(style: int, content: int, strokes: Sequence[Strokes]) -> InterpolationScore:
    """The score of one style and content, from the strokes of the results at WEIGHTS, in order."""
    if len(strokes) != len(WEIGHTS):
        raise ValueError(f"got strokes of {len(strokes)} results, expected one for each weight of {WEIGHTS}")
    histograms = [i.histogram for i in strokes]
    return InterpolationScore(
        style=style,
        content=content,
        weights=WEIGHTS,
        to_first=tuple(circular_emd(h, histograms[0]) for h in histograms),
        to_last=tuple(circular_emd(h, histograms[-1]) for h in histograms),
        strengths=tuple(abs(i.moment) for i in strokes),
    )


@torch.inference_mode()
def score_interpolation(
    contestant: Contestant,
    contents: Sequence[Tensor],
    styles: Sequence[TurnedStyle],
    *,
    interpolate: Callable[[Any, Any, float], Any],
    window: float = WINDOW,
    done: Callable[[], object] = lambda: None,
) -> list[InterpolationScore]:
    """Score every content between every style and its quarter turn, style by style.

    Strokes are measured as in `score_rotation`.

    Args:
        contents: [1,3,H,W] in [0,1], sides multiples of 8.
        styles: styles with a direction.
        interpolate: (parameters, parameters, weight) -> parameters.
        window: sigma of the neighbourhood in pixels.
        done: called after each result.
    """
    features = [contestant.model.encode(x) for x in contents]
    masks = [flat_mask(to_array(x)) for x in contents]
    scores = []
    for s, style in enumerate(styles):
        first, last = style.images[0], style.images[len(style.images) // 2]
        ends = [
            contestant.model.predict(contestant.prepare_style(to_tensor(i)[None].to(contents[0].device)))
            for i in (first, last)
        ]
        grey_levels = luma(first)
        mixed = [interpolate(ends[0], ends[1], weight) for weight in WEIGHTS]
        for c in range(len(contents)):
            strokes = []
            for params in mixed:
                result = contestant.model.decode(features[c], params).clamp(0, 1)
                grey = match_histogram(luma(to_array(result)), grey_levels)
                strokes.append(measure_strokes(grey, mask=masks[c], window=window))
                done()
            scores.append(interpolation_response(s, c, strokes))
    return scores
