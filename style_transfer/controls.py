"""All controls of stylisation: strength, rotation and scale of styles, colours, mixtures, masks.

sunset = ControlledStyle(model, [painting, texture], weights=[0.7, 0.3], controls=Controls(style_scale=2))
stylized = sunset.apply(photo)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from style_transfer.color import match_color, match_luma, shift_chroma, to_grey, with_luma
from style_transfer.masks import style_mask
from style_transfer.mixing import check_scales, mix_params, normalize_weights, pick_scales
from style_transfer.model import StyleTransferModel
from style_transfer.prepare import check_rotation, from_batch, resize_content, to_batch

PreserveColor = Literal["none", "luminance", "coral"]
Mask = np.ndarray | Tensor  # uint8 [H,W] or [H,W,3], or float [H,W] in [0,1]
Image = np.ndarray | Tensor  # uint8 [H,W,3], or float [3,H,W] or [1,3,H,W] in [0,1]
Style = Image | str  # an image, or the name of a learned style


@dataclass(frozen=True)
class Controls:
    """How styles are applied; the default is plain stylisation. ValueError for values out of range.

    Attributes:
        alpha: strength, 0 (the content as the model draws it in its own style) to 1 (style).
        rotate_style: degrees counter-clockwise.
        style_scale: width of the strokes, 0.1 to 10 times the style's.
        preserve_color: "luminance" transfers brightness only and keeps every pixel's chroma; "coral" matches
            the style's colours to the content's first, and the result's mean chroma in the end.
    """

    alpha: float = 1.0
    rotate_style: float = 0.0
    style_scale: float = 1.0
    preserve_color: PreserveColor = "none"

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha is {self.alpha}, expected a number from 0 (content) to 1 (style)")
        check_rotation(self.rotate_style, self.style_scale)
        if self.preserve_color not in get_args(PreserveColor):
            raise ValueError(
                f"preserve_color is {self.preserve_color!r}, expected one of "
                f"{', '.join(get_args(PreserveColor))}"
            )


class ControlledStyle:
    """Styles that are prepared, and if possible predicted, once for any number of contents.

    Args:
        styles: images of any size, or names of styles that the model has learned, mixed by `weights`.
        weights: normalised to sum 1; None: equal.
        style_at: styles of single scales, {(1, 2): image}, 1 (coarse) to 4 (fine); the mixture of `styles`
            has the others.
        masks: [R,H,W] from `style_transfer.masks.make_masks`: one style per region of the content.
        style_masks: which part of a style counts (`style_transfer.masks.style_mask`), None for all of it; one
            for each of `styles`, then of `style_at`, or one for all. Needs `sees_whole_styles`.
        style_size: short side of the styles in pixels; None: style_image_size. Needs `sees_whole_styles`.
        controls: None: plain stylisation.

    Raises:
        ValueError: for combinations that exclude each other.
    """

    def __init__(
        self,
        model: StyleTransferModel,
        styles: Sequence[Style],
        *,
        weights: Sequence[float] | None = None,
        style_at: Mapping[tuple[int, ...], Style] | None = None,
        masks: Tensor | None = None,
        style_masks: Sequence[Mask | None] | None = None,
        style_size: int | None = None,
        controls: Controls | None = None,
    ) -> None:
        style_at = dict(style_at or {})
        if not styles and not style_at:
            raise ValueError("got no style, expected one at least")
        if masks is not None and (weights is not None or style_at):
            raise ValueError(
                "got masks together with weights or styles per scale, expected one of them: with masks, "
                "every region has one style"
            )
        if masks is not None and len(masks) != len(styles):
            raise ValueError(f"got {len(styles)} styles and {len(masks)} masks, expected one mask per style")
        if weights is not None and len(weights) != len(styles):
            raise ValueError(
                f"got {len(styles)} styles and {len(weights)} weights, expected one weight per style"
            )
        if style_at:
            check_scales(list(style_at), has_fallback=bool(styles))
        self.model = model
        self.controls = controls or Controls()
        self.weights = normalize_weights(weights or [1.0] * len(styles)) if styles else []
        self.scales = list(style_at)
        self.masks = masks
        self.style_size = style_size
        images = (*styles, *style_at.values())
        parts = list(style_masks or [None])
        if len(parts) == 1:
            parts *= len(images)
        if len(parts) != len(images):
            raise ValueError(
                f"got {len(images)} styles and {len(parts)} style masks, expected one for each or one for all"
            )
        self._prepared = [self._prepare(*pair) for pair in zip(images, parts, strict=True)]
        self._predicted: list[list[Any]] | None = None  # kept where they do not depend on the content

    def _prepare(self, style: Style, mask: Mask | None) -> tuple[Tensor, Tensor | None]:
        """Prepare a style and its mask for the model, on their device."""
        if isinstance(style, str):
            weights = self.model.learned_style(style)
            changed = [
                name
                for name in ("rotate_style", "style_scale", "preserve_color")
                if getattr(self.controls, name) != getattr(Controls, name)
            ]
            if changed or mask is not None or self.style_size is not None:
                what = changed[0] if changed else "style_mask" if mask is not None else "style_size"
                raise ValueError(f"{style!r} is a learned style, no picture: leave out {what}")
            return weights, None
        images = to_batch(style, "style")
        if len(images) != 1:
            raise ValueError(f"a style is a batch of {len(images)} images, expected one: give several styles")
        transform: dict[str, Any] = {
            "degrees": self.controls.rotate_style,
            "scale": self.controls.style_scale,
            "size": self.style_size,
        }
        prepared = self.model.prepare_style(images, **transform)
        if mask is None:
            return prepared, None
        fitted = style_mask(mask, *images.shape[2:]).to(images)
        return prepared, self.model.prepare_mask(fitted, **transform)

    def params(self, content: Image) -> list[list[Any]]:
        """Parameters for a content: one list per region, a single one without masks."""
        images = to_batch(content, "content")
        mixed = self._predicted if self._predicted is not None else self._combine_styles(images)
        if self.controls.preserve_color == "none":
            self._predicted = mixed
        return self.model.with_strength(mixed, self._model_input(images), self.controls.alpha)

    @torch.inference_mode()
    def _combine_styles(self, content: Tensor) -> list[list[Any]]:
        """Predict all styles, coloured for this content, and combine them: one list per region."""
        predicted = [self._predict(*prepared, content) for prepared in self._prepared]
        num_mixed = len(predicted) - len(self.scales)
        if self.masks is not None:
            return predicted
        if sum(weight > 0 for weight in self.weights) > 1:
            self.model.decoder.check_mixes()
        mixture = mix_params(predicted[:num_mixed], self.weights) if num_mixed else None
        if not self.scales:
            assert mixture is not None  # there is a style
            return [mixture]
        at = dict(zip(self.scales, predicted[num_mixed:], strict=True))
        return [pick_scales(at, mixture, scales=self.model.decoder.scales)]

    def _predict(self, style: Tensor, mask: Tensor | None, content: Tensor) -> list[Any]:
        match self.controls.preserve_color:
            case "luminance":
                style = match_luma(style, content.to(style.device), mask)
            case "coral":
                style = match_color(style, content.to(style.device), mask)
        device = self.model.feature_rms.device
        return self.model.predict(style.to(device), None if mask is None else mask.to(device))

    def _model_input(self, content: Tensor) -> Tensor:
        """The content as the model receives it."""
        return to_grey(content) if self.controls.preserve_color == "luminance" else content

    @torch.inference_mode()
    def apply(
        self,
        content: Image,
        *,
        size: int | None = None,
        stylize: Callable[[Tensor, list[Any]], Tensor] | None = None,
    ) -> Any:
        """Stylise a content; the result has its type and layout.

        Args:
            content: uint8 [H,W,3], or float [3,H,W] or [N,3,H,W] in [0,1].
            size: short side of the result in pixels; None: as the content.
            stylize: images [N,3,H,W], parameters -> images; replaces `model.apply_params`, as with tiles.

        Raises:
            ValueError: for contents below 16 pixels, and for masks together with `stylize`.
            ImageError: for masks of another aspect.
        """
        if stylize is not None and self.masks is not None:
            raise ValueError("got masks and another way to stylise: one image is stylised whole with masks")
        params = self.params(content)
        images = resize_content(to_batch(content, "content"), size)
        inputs = self._model_input(images)
        if self.masks is None:
            out = (stylize or self.model.apply_params)(inputs, params[0])
        else:
            out = self.model.apply_regions(inputs, params, self.masks)
        if self.controls.preserve_color == "luminance":
            out = with_luma(images, out)
        elif self.controls.preserve_color == "coral":
            out = shift_chroma(out, images)
        return from_batch(out, content)
