"""Content and style losses on features divided by their stored RMS: pure functions.

Features are dictionaries {relu1_1: [N,C,H,W], ...} from `VGGFeatures.normalized`. Every loss is returned per
sample, [N].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ganmod.layers import widen
from ganmod.modulation.statistics import mean_std

Features = Mapping[str, Tensor]
SHIFTS = ((1, 0), (0, 1), (2, 2), (2, -2))


def content_loss(features: Features, target: Features, *, layer: str = "relu4_1") -> Tensor:
    """Mean squared difference at one layer -> [N] (Huang & Belongie 2017, Eq. 12)."""
    return (features[layer] - target[layer]).square().mean(dim=(1, 2, 3))


def mean_std_loss(features: Features, target: Features) -> Tensor:
    """Squared differences of channel means and standard deviations -> [N].

    Averaged over channels, summed over layers (Huang & Belongie 2017, Eq. 13). Image sizes may differ.
    """
    total = torch.zeros([], device=next(iter(features.values())).device)
    for layer in features:
        mean, std = mean_std(features[layer])
        target_mean, target_std = mean_std(target[layer])
        total = (
            total
            + (mean - target_mean).square().mean(dim=(1, 2, 3))
            + (std - target_std).square().mean(dim=(1, 2, 3))
        )
    return total


def gram(x: Tensor, *, shift: tuple[int, int] = (0, 0)) -> Tensor:
    """Products of channel pairs, averaged over positions -> [N,C,C] (Gatys et al. 2016, Eq. 3).

    Args:
        x: [N,C,H,W].
        shift: (rows, columns) by which the second channel is moved (Berger & Memisevic 2017); other shifts
            than (0, 0) make the products depend on arrangement.
    """
    rows, columns = shift
    height, width = x.shape[2] - abs(rows), x.shape[3] - abs(columns)
    if min(height, width) < 1:
        raise ValueError(
            f"features are {x.shape[2]} x {x.shape[3]}, too small to shift by {shift}: use larger images"
        )
    top, left = max(-rows, 0), max(-columns, 0)
    x = widen(x)
    first = x[:, :, top : top + height, left : left + width].flatten(2)
    second = x[:, :, top + rows : top + rows + height, left + columns : left + columns + width].flatten(2)
    with torch.autocast(x.device.type, enabled=False):  # it would round the sums to half precision
        return first @ second.transpose(1, 2) / first.shape[2]


def gram_loss(features: Features, target: Features) -> Tensor:
    """Squared differences of Gram matrices, averaged over entries, summed over layers -> [N]."""
    return _gram_distance(features, target, ((0, 0),))


def shifted_gram_loss(features: Features, target: Features) -> Tensor:
    """`gram_loss` averaged over the four SHIFTS; sensitive to arrangement and direction of strokes."""
    return _gram_distance(features, target, SHIFTS)


def _gram_distance(features: Features, target: Features, shifts: tuple[tuple[int, int], ...]) -> Tensor:
    total = torch.zeros([], device=next(iter(features.values())).device)
    for layer in features:
        for shift in shifts:
            difference = gram(features[layer], shift=shift) - gram(target[layer], shift=shift)
            total = total + difference.square().mean(dim=(1, 2)) / len(shifts)
    return total


STYLE_LOSSES: dict[str, Callable[[Features, Features], Tensor]] = {
    "mean_std": mean_std_loss,
    "gram": gram_loss,
    "shifted_gram": shifted_gram_loss,
}
