"""Checks of two sets of features, shared by all measures."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def check_pair(
    first: Tensor | np.ndarray, second: Tensor | np.ndarray, *, at_least: int
) -> tuple[Tensor, Tensor]:
    """Check two sets of features and return them as tensors, without a copy, on the first one's device.

    Args:
        first: float [N,D].
        second: float [M,D].
        at_least: minimum number of images in each set.

    Raises:
        ValueError: for other shapes or types, different D, NaN or infinity, and too few images.
    """
    pair = [torch.as_tensor(features) for features in (first, second)]
    for features, name in zip(pair, ("first", "second"), strict=True):
        if features.ndim != 2 or not features.is_floating_point():
            raise ValueError(
                f"the {name} features are {features.dtype} {list(features.shape)}, expected float [N, D]: a "
                "row per image, as a feature space returns them"
            )
        if len(features) < at_least:
            raise ValueError(
                f"the {name} set has {len(features)} images, expected at least {at_least}: give more images"
            )
        bad = int((~torch.isfinite(features).all(dim=1)).sum())
        if bad:
            raise ValueError(
                f"the {name} features of {bad} of {len(features)} images hold NaN or infinity: look at the "
                "images and at the network's weights"
            )
    if pair[0].shape[1] != pair[1].shape[1]:
        raise ValueError(
            f"got {pair[0].shape[1]} and {pair[1].shape[1]} features: take both in the same feature space"
        )
    return pair[0].detach(), pair[1].detach().to(pair[0].device)


def computing_dtype(features: Tensor) -> torch.dtype:
    """float64 if the features' device supports it, else float32."""
    return torch.float32 if features.device.type == "mps" else torch.float64
