"""Entries of a comparison of style-transfer models: the models, and two trivial baselines."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from metrics.compare.style.pictures import Interpolate
from metrics.style.pair_scores import Contestant
from style_transfer import StyleTransferModel, prepare_style
from style_transfer.prepare import interpolate_params

UNCHANGED, COPIED = "(content unchanged)", "(style itself)"


class Entry(NamedTuple):
    """A model in the comparison, and a function that mixes two of its predictions."""

    contestant: Contestant
    interpolate: Interpolate


class Unchanged:
    """The model that returns the content unchanged, a lower bound."""

    def encode(self, x: Tensor) -> Tensor:
        return x

    def predict(self, style: Tensor) -> None:
        return None

    def decode(self, features: Tensor, params: None) -> Tensor:
        return features


class Copied(Unchanged):
    """The model that returns the style instead of the content, an upper bound for strokes."""

    def predict(self, style: Tensor) -> Any:
        return style

    def decode(self, features: Tensor, params: Any) -> Tensor:
        height, width = features.shape[2:]
        down, right = (-(-side // params.shape[i + 2]) for i, side in enumerate((height, width)))
        return params.repeat(1, 1, down, right)[:, :, :height, :width]


def model_entry(name: str, model: StyleTransferModel, size: int) -> Entry:
    """The entry of a model, in a comparison whose losses use styles as squares of `size` pixels.

    Models that accept styles of any size get the same squares, for strokes of the width that the losses
    expect. Others get squares of their style_image_size.
    """
    if model.spec.learned_styles:
        raise ValueError(
            f"{name} has learned {', '.join(model.spec.learned_styles)} and reads no style images, which a "
            "comparison needs: leave it out"
        )
    side = size if model.sees_whole_styles else model.spec.style_image_size
    contestant = Contestant(
        name=name,
        model=model,
        prepare_style=lambda style: prepare_style(style, side),
        trained_parameters=sum(p.numel() for p in model.trainable().values()),
        all_parameters=sum(p.numel() for p in model.parameters()),
    )
    return Entry(contestant, interpolate_params)


def unchanged_entry() -> Entry:
    """The entry that returns the content."""
    return Entry(Contestant(UNCHANGED, Unchanged(), _identity, 0, 0), lambda a, b, weight: None)


def copied_entry() -> Entry:
    """The entry that returns the style."""
    return Entry(Contestant(COPIED, Copied(), _identity, 0, 0), torch.lerp)


def _identity(style: Tensor) -> Tensor:
    return style
