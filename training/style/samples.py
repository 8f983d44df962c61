"""What a style run shows and measures: the sample grid, stylized crops by index, the style images."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from ganmod.data.crops import Pairs
from ganmod.io.images import ImageError, to_tensor, to_uint8
from metrics.distances.feature_statistics import to_saved_uint8
from style_transfer import StyleTransferModel, prepare_style
from training.run.training_metric import Generate, RealImages

GRID_IMAGES = 6
GRID_POSITION, METRIC_POSITION = 10**9, 2 * 10**9  # of the stream: far beyond those that training reaches


def pairs_at(
    data: Pairs, positions: Iterable[int], device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Content and style crops at some positions of their streams, [N,3,crop,crop] in [0,1]."""
    pairs = [data[position] for position in positions]
    content, style = (torch.stack(list(x)).to(device, dtype) / 255 for x in zip(*pairs, strict=True))
    return content, style


def grid_inputs(data: Pairs, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The same few crops in every snapshot."""
    return pairs_at(data, range(GRID_POSITION, GRID_POSITION + GRID_IMAGES), device, dtype)


def sample_style(model: StyleTransferModel, style: Tensor) -> Tensor:
    """Style crops as training shows them to the model."""
    return style if model.sees_whole_styles else model.prepare_style(style)


@torch.no_grad()
def stylized_grid(model: StyleTransferModel, content: Tensor, style: Tensor) -> list[list[Any]]:
    """Rows of uint8 images: contents, styles, stylized."""
    stylized = model(content, sample_style(model, style)).clamp(0, 1)
    return [list(to_uint8(images.float().cpu())) for images in (content, style, stylized)]


def style_images(data: Pairs, size: int) -> RealImages:
    """The style images as a trained model sees them: whole, short side resized to `size`, centre crop."""
    style = data.style

    def load(indices: Tensor) -> list[Tensor | None]:
        images: list[Tensor | None] = []
        for index in indices.tolist():
            try:
                image = to_tensor(style.full_image(index))
            except ImageError:
                images.append(None)
            else:
                images.append(to_saved_uint8(prepare_style(image[None], size)[0] * 2 - 1))
        return images

    return RealImages(load, len(style.images), lambda: f"{style.fingerprint()} prepared at {size} px")


def stylized_by_index(
    model: StyleTransferModel, data: Pairs, device: torch.device, dtype: torch.dtype
) -> Generate:
    """indices [N] -> uint8 [N,3,crop,crop]: content crop i in style crop i of the training images."""

    def generate(indices: Tensor) -> Tensor:
        content, style = pairs_at(data, (indices + METRIC_POSITION).tolist(), device, dtype)
        stylized = model(content, sample_style(model, style))
        return to_saved_uint8(stylized * 2 - 1)

    return generate


@contextlib.contextmanager
def averaged_weights(model: StyleTransferModel, ema: dict[str, Tensor]) -> Iterator[None]:
    """The model with its averaged weights, put back to the trained ones at the end."""
    trained = {name: p.detach().clone() for name, p in model.trainable().items()}
    copy_into(model, ema)
    try:
        yield
    finally:
        copy_into(model, trained)


@torch.no_grad()
def copy_into(model: StyleTransferModel, values: dict[str, Tensor]) -> None:
    """Set the trained parameters by name."""
    for name, parameter in model.trainable().items():
        parameter.copy_(values[name])
