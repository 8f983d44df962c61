"""What a style run shows and measures: the sample grid, stylized crops by index, the style images."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from ganmod.data.crops import Pairs
from ganmod.io.images import ImageError, to_tensor, to_uint8
from metrics.distances.feature_statistics import to_saved_uint8
from style_transfer import StyleTransferModel, prepare_style
from training.run.training_metric import Generate, RealImages

GRID_IMAGES = 6
GRID_POSITION, METRIC_POSITION = 10**9, 2 * 10**9  # of the stream: far beyond those that training reaches


class StyleBatch(NamedTuple):
    """Content and style crops, [N,3,crop,crop] in [0,1]; the learned style [N] of each, if they are learned.

    Whole styles have a size of their own.
    """

    content: Tensor
    style: Tensor
    style_id: Tensor | None = None

    @classmethod
    def of(cls, batch: Sequence[Tensor], device: torch.device, dtype: torch.dtype, **to: Any) -> StyleBatch:
        """Items of `Pairs`, stacked, brought to a device and precision; `to`: see `torch.Tensor.to`."""
        content, style = (x.to(device, **to).to(dtype) / 255 for x in batch[:2])
        return cls(content, style, *(x.to(device) for x in batch[2:]))

    def split(self, size: int) -> Iterator[StyleBatch]:
        """Parts of at most `size` pairs."""
        return map(StyleBatch, *(x.split(size) for x in self if x is not None))


def pairs_at(data: Pairs, positions: Iterable[int], device: torch.device, dtype: torch.dtype) -> StyleBatch:
    """The pairs at some positions of the streams."""
    items = [data[position] for position in positions]
    return StyleBatch.of([torch.stack(list(x)) for x in zip(*items, strict=True)], device, dtype)


def grid_inputs(data: Pairs, device: torch.device, dtype: torch.dtype) -> StyleBatch:
    """The same few crops in every snapshot."""
    return pairs_at(data, range(GRID_POSITION, GRID_POSITION + GRID_IMAGES), device, dtype)


@torch.no_grad()
def stylize_pairs(model: StyleTransferModel, pairs: StyleBatch) -> Tensor:
    """Stylised contents [N,3,crop,crop], from styles as training shows them to the model; not clamped."""
    if pairs.style_id is not None:
        style = F.one_hot(pairs.style_id, len(model.spec.learned_styles)).to(pairs.content.dtype)
    else:
        style = pairs.style if model.sees_whole_styles else model.prepare_style(pairs.style)
    return cast(Tensor, model(pairs.content, style))


def stylized_grid(model: StyleTransferModel, pairs: StyleBatch) -> list[list[Any]]:
    """Rows of uint8 images: contents, styles, stylized."""
    size = list(pairs.content.shape[2:])
    style = F.interpolate(pairs.style, size=size, mode="bicubic", antialias=True).clamp(0, 1)
    style = pairs.style if list(pairs.style.shape[2:]) == size else style
    rows = (pairs.content, style, stylize_pairs(model, pairs).clamp(0, 1))
    return [list(to_uint8(images.float().cpu())) for images in rows]


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
        pairs = pairs_at(data, (indices + METRIC_POSITION).tolist(), device, dtype)
        return to_saved_uint8(stylize_pairs(model, pairs) * 2 - 1)

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
