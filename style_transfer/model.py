"""The style-transfer model: a frozen encoder and the networks of one architecture; its file."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from configs.suggestion import did_you_mean
from ganmod.features.vgg import FeatureError, VGGFeatures, calibration_images, load_features, weights_digest
from ganmod.io.model_file import ModelFileError, read_model_file, save_model_file
from ganmod.modulation import check_plugins, describe_plugins
from ganmod.network_file import build_to_fit
from style_transfer.masks import check_mask, fit_masks
from style_transfer.networks.host import build_host
from style_transfer.networks.residual_host import Origin
from style_transfer.prepare import (
    MIN_SIDE,
    Filter,
    from_batch,
    pad_to_multiple,
    resize_content,
    rotate_style_tensor,
    spread_params,
    to_batch,
)
from style_transfer.spec import ModelSpec

_KIND = "style-transfer"
SHIPPED_MODEL = Path(__file__).parent / "weights" / "style-adaconv-slim.safetensors"


class StyleTransferModel(nn.Module):
    """content image, style image -> stylized image, RGB [N,3,H,W] in [0,1].

    `predict` turns style images into parameters, once per style; `decode` applies them to content features.
    """

    feature_rms: Tensor

    def __init__(self, spec: ModelSpec, encoder: VGGFeatures) -> None:
        """Build untrained networks around a frozen encoder, whose weights are saved with them."""
        super().__init__()
        if tuple(encoder.widths) != tuple(spec.encoder_widths):
            raise ValueError(
                f"the encoder has widths {encoder.widths}, the model expects {spec.encoder_widths}"
            )
        self.spec = spec
        self.encoder = encoder.requires_grad_(False).eval()
        # Divisor of relu4_1, per channel, before decoding; 1 unless the decoder needs unit variance.
        self.register_buffer("feature_rms", torch.ones(spec.encoder_widths[-1]))
        self.content_encoder, self.style_encoder, self.decoder = build_host(spec)
        self._added: frozenset[str] = frozenset()  # parameters of styles that `with_styles` added

    @property
    def feature_stride(self) -> int:
        """Side, in pixels of the image, of one pixel of the encoded content."""
        return math.prod(self.decoder.upsampling)

    @property
    def sees_whole_styles(self) -> bool:
        """Whether styles may have any size and aspect, not only squares of style_image_size."""
        return self.spec.sees_whole_styles

    @torch.no_grad()
    def calibrate(self) -> None:
        """Compute the scales of the style encoder's or decoder's inputs; needed once, before training.

        Paper's model: per-channel RMS of relu4_1 on two bundled photos. Residual model: mean and spread of
        the style statistics of these photos and of drawn styles.
        """
        self.style_encoder.calibrate(self.encoder.normalized)
        if self.decoder.unit_variance:
            rms = self.encode(calibration_images()).square().mean(dim=(0, 2, 3)).sqrt()
            self.feature_rms.copy_(rms.clamp_min(0.05))  # channels that are almost never active stay small

    def trainable(self) -> dict[str, nn.Parameter]:
        """The parameters to train, by name: all but the encoder's, or those of `with_styles` alone."""
        if self._added:
            return {name: p for name, p in self.named_parameters() if name in self._added}
        return {name: p for name, p in self.named_parameters() if not name.startswith("encoder.")}

    @property
    def adds_styles(self) -> bool:
        """Whether only the styles that `with_styles` added are trained."""
        return bool(self._added)

    def with_styles(self, names: Sequence[str]) -> StyleTransferModel:
        """A copy that has further learned styles, of which only their own parameters are `trainable`.

        All else, and so each earlier style, stays as it is to the bit. Raises ValueError for a name that the
        model has, and for one that reads style images.
        """
        if not self.spec.learned_styles:
            raise ValueError("this model reads style images, which need no training: give it the pictures")
        spec = replace(self.spec, learned_styles=(*self.spec.learned_styles, *names))
        model = StyleTransferModel(spec, copy.deepcopy(self.encoder)).to(self.feature_rms)
        known = self.state_dict()
        added = {name for name, _ in model.named_parameters() if name not in known}
        model.load_state_dict({name: x for name, x in model.state_dict().items() if name in added} | known)
        model._added = frozenset(added)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in added)
        return model.train(self.training)

    def calibration(self) -> dict[str, Tensor]:
        """The buffers that `calibrate` sets, by name."""
        read = {f"style_encoder.{name}": x for name, x in self.style_encoder.calibration().items()}
        return {"feature_rms": self.feature_rms} | read

    def encode(
        self, x: Tensor, features: Mapping[str, Tensor] | None = None, *, origin: Origin = (0, 0)
    ) -> Tensor:
        """Encode RGB [N,3,H,W] in [0,1] for the decoder -> [N,C,H/s,W/s] with s = `feature_stride`.

        The frozen encoder's scaled relu4_1, without a gradient, or the learned content encoder's output.

        Args:
            x: images whose sides are multiples of 8.
            features: `VGGFeatures.normalized` of x, if already computed.
            origin: (row, column) of x in the full image, if x is a tile.
        """
        if self.content_encoder is not None:
            return self.content_encoder(x, origin)
        with torch.no_grad():
            return self._scale(features or self.encoder.normalized(x))["relu4_1"]

    def _scale(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {**features, "relu4_1": features["relu4_1"] / self.feature_rms[:, None, None]}

    def predict_from_features(self, features: Mapping[str, Tensor], mask: Tensor | None = None) -> list[Any]:
        """Features of style images (`VGGFeatures.normalized`) -> one NamedTuple per modulated stage.

        The mask is that of `predict`, but not checked.
        """
        return self.decoder.predict(self.style_encoder(self._scale(features), mask))

    def prepare_style(
        self, images: Tensor, *, degrees: float = 0.0, scale: float = 1.0, size: int | None = None
    ) -> Tensor:
        """Resize, rotate and scale style images [N,3,H,W] in [0,1] of any size for `predict`.

        Args:
            degrees, scale: see `rotate_style_tensor`.
            size: short side in pixels; None: style_image_size.

        Raises:
            ValueError: for a size below 16, and for any size unless `sees_whole_styles`.
        """
        return self._rotate(images, degrees, scale, size, "bicubic")

    def prepare_mask(
        self, masks: Tensor, *, degrees: float = 0.0, scale: float = 1.0, size: int | None = None
    ) -> Tensor:
        """Transform masks [N,1,H,W] in [0,1] of style images as `prepare_style` transforms the images."""
        self.spec.check_takes_masks()
        return self._rotate(masks, degrees, scale, size, "bilinear")

    def _rotate(self, images: Tensor, degrees: float, scale: float, size: int | None, mode: Filter) -> Tensor:
        if self.spec.learned_styles:
            raise self._reads_no_images()
        if size is not None:
            self.spec.check_sees_whole(f"style_size is {size}")
            if size < MIN_SIDE:
                raise ValueError(f"style_size is {size} pixels, expected at least {MIN_SIDE}")
        size = size or self.spec.style_image_size
        return rotate_style_tensor(
            images, size, degrees=degrees, scale=scale, whole=self.sees_whole_styles, mode=mode
        )

    def predict(self, style: Tensor, mask: Tensor | None = None) -> list[Any]:
        """Predict parameters from style images [N,3,S,S] in [0,1], or from weights of learned styles.

        Args:
            style: S is style_image_size; images of any size and aspect if `sees_whole_styles`. For a model
                of learned styles, the weight of each, [N,number of styles], see `learned_style`.
            mask: weight of each pixel in the statistics, [N or 1,1,H,W] in [0,1] of the images' size; it is
                averaged to the size of each layer's features.

        Raises:
            ValueError: for images or masks of another shape, for empty masks, and for any mask unless
                `sees_whole_styles`.
        """
        if mask is not None:
            self.spec.check_takes_masks()
            check_mask(mask, style)
        if self.spec.learned_styles:
            if style.ndim != 2:
                raise self._reads_no_images()
            return self.decoder.predict(style)
        if self.spec.architecture == "cascade":  # which has encoders of its own
            return self.decoder.predict(style)
        size = self.spec.style_image_size
        if not self.sees_whole_styles and style.shape[2:] != (size, size):
            raise ValueError(
                f"style images are {list(style.shape[2:])}, expected [{size}, {size}]: see prepare_style"
            )
        with torch.no_grad():
            features = self.encoder.normalized(style)
        return self.predict_from_features(features, mask)

    def learned_style(self, name: str) -> Tensor:
        """The weights [1,number of styles] of one learned style; ValueError for an unknown name."""
        names = self.spec.learned_styles
        if not names:
            raise ValueError(
                f"got the learned style {name!r}, but this model reads style images: give a picture"
            )
        if name not in names:
            hint = did_you_mean(name, names, hint=" (did you mean {!r}?)")
            raise ValueError(f"this model has no style {name!r}{hint}; it has learned {', '.join(names)}")
        weights = torch.zeros((1, len(names)), device=self.feature_rms.device, dtype=self.feature_rms.dtype)
        weights[0, names.index(name)] = 1
        return weights

    def _reads_no_images(self) -> ValueError:
        return ValueError(
            f"this model reads no style images, it has learned {', '.join(self.spec.learned_styles)}: give "
            "one of these, as learned:NAME on the command line"
        )

    def decode(self, features: Tensor, params: list[Any]) -> Tensor:
        """Decode content [N,C,H/s,W/s] with parameters -> images [N,3,H,W], not clamped."""
        return self.decoder(features, params)

    def decode_regions(self, features: Tensor, params: Sequence[list[Any]], masks: Tensor) -> Tensor:
        """`decode` with one style per region, blended at every scale by masks [N,R,H,W] of sum 1.

        Normalisation uses the statistics of the entire image.
        """
        return self.decoder(features, list(zip(*params, strict=True)), masks)

    def forward(self, content: Tensor, style: Tensor) -> Tensor:
        """For training: content [N,3,H,W], prepared styles -> stylized images [N,3,H,W], not clamped."""
        return self.decode(self.encode(content), self.predict(style))

    @torch.inference_mode()
    def predict_style(self, style: np.ndarray | Tensor | str, *, size: int | None = None) -> list[Any]:
        """`predict` for a style of any size: uint8 [H,W,3], or float [3,H,W] or [N,3,H,W] in [0,1].

        Args:
            style: the image; for a model of learned styles the name of one.
            size: see `prepare_style`.
        """
        if isinstance(style, str):
            if size is not None:
                raise ValueError(f"{style!r} is a learned style, no picture: leave out size")
            return self.predict(self.learned_style(style))
        images = self.prepare_style(to_batch(style, "style"), size=size)
        return self.predict(images.to(self.feature_rms.device))

    def with_strength(
        self, styles: Sequence[list[Any]], content: np.ndarray | Tensor, alpha: float
    ) -> list[list[Any]]:
        """Interpolate from parameters predicted from the content, at alpha 0, to those of styles, at 1.

        At 0 the model draws the content in the content's own style. That is near to it but not the content.
        The classic model interpolates features instead, (1 - alpha) * content + alpha * stylized (Huang &
        Belongie 2017, Eq. 14).
        """
        if alpha == 1:
            return [*styles]
        if self.spec.learned_styles and self.spec.architecture != "stylebank":
            raise ValueError(
                f"alpha is {alpha}, but this model's styles are learned, and the content is none of them: "
                "leave alpha at 1, or mix two styles"
            )
        return self.decoder.weaken(styles, lambda: self.predict_style(content), alpha)

    @torch.inference_mode()
    def apply_params(
        self, content: np.ndarray | Tensor, params: list[Any], *, size: int | None = None
    ) -> Any:
        """`stylize` with parameters from `predict_style`, for many contents or video frames in one style."""
        images = resize_content(to_batch(content, "content"), size)
        padded = pad_to_multiple(images, 8).to(self.feature_rms.device)
        out = self.decode(self.encode(padded), spread_params(params, len(images)))
        out = out[:, :, : images.shape[2], : images.shape[3]]
        return from_batch(out.float().clamp(0, 1), content)

    @torch.inference_mode()
    def apply_regions(
        self,
        content: np.ndarray | Tensor,
        params: Sequence[list[Any]],
        masks: Tensor,
        *,
        size: int | None = None,
    ) -> Any:
        """`apply_params` with one style per region.

        Args:
            params: one list per region.
            masks: [R,h,w] in [0,1] of the content's aspect, sum 1 at every pixel (`style_transfer.masks`).

        Raises:
            ValueError: for another number of masks than of styles, and for another aspect.
        """
        images = resize_content(to_batch(content, "content"), size)
        if len(params) != len(masks):
            raise ValueError(f"got {len(params)} styles and {len(masks)} masks, expected one mask per style")
        shares = fit_masks(masks, images.shape[2], images.shape[3])[None]
        padded = pad_to_multiple(images, 8).to(self.feature_rms.device)
        shares = pad_to_multiple(shares, 8).to(padded)
        spread = [spread_params(p, len(images)) for p in params]
        out = self.decode_regions(self.encode(padded), spread, shares)
        out = out[:, :, : images.shape[2], : images.shape[3]]
        return from_batch(out.float().clamp(0, 1), content)

    @torch.inference_mode()
    def stylize(
        self,
        content: np.ndarray | Tensor,
        style: np.ndarray | Tensor | str,
        *,
        alpha: float = 1.0,
        size: int | None = None,
    ) -> Any:
        """Stylise a content; the result has its type, layout and range.

        Args:
            content: uint8 [H,W,3], or float [3,H,W] or [N,3,H,W] in [0,1].
            style: the same, of any size; one style can serve all contents. A name for a learned style.
            alpha: strength, 0 (the content as the model draws it in its own style) to 1 (style); see
                `with_strength`.
            size: short side of the result in pixels, aspect kept; None: as the content.

        Raises:
            ValueError: for images below 16 pixels, and for alpha outside [0, 1].
        """
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha is {alpha}, expected a number from 0 (content) to 1 (style)")
        (params,) = self.with_strength([self.predict_style(style)], content, alpha)
        return self.apply_params(content, params, size=size)

    def save(
        self,
        path: str | Path,
        *,
        half: bool = False,
        store_encoder: bool | None = None,
        training: Mapping[str, Any] | None = None,
        licence: str | None = None,
    ) -> None:
        """Write a model file.

        Args:
            half: whether to store float16.
            store_encoder: False stores the SHA-256 of the frozen encoder's weights instead of the weights,
                and `load` gets them from `load_features`. None: False for VGG-19, which has its own license.
            training: plain values to record in the file.
            licence: of the weights, which exported files repeat.
        """
        stored = store_encoder if store_encoder is not None else self.spec.encoder != "vgg19"
        config: dict[str, Any] = {"model": asdict(self.spec), "training": dict(training or {})}
        config |= describe_plugins(self)
        if licence is not None:
            config["licence"] = licence
        tensors = self.state_dict()
        if not stored:
            config["encoder_sha256"] = weights_digest(self.encoder)
            left_out = {f"encoder.{name}" for name in self.encoder.state_dict() if name != "rms"}
            tensors = {name: x for name, x in tensors.items() if name not in left_out}
        save_model_file(Path(path), tensors, kind=_KIND, config=config, half=half)


def build(spec: ModelSpec, encoder: VGGFeatures) -> StyleTransferModel:
    """Create an untrained model, calibrated to its encoder."""
    model = StyleTransferModel(spec, encoder)
    model.calibrate()
    return model


def load(path: str | Path | None = None, *, encoder_weights: str | Path | None = None) -> StyleTransferModel:
    """Load a model file, in eval mode on the CPU; without a path, the shipped AdaConv model.

    Args:
        path: the model file.
        encoder_weights: the frozen encoder's weights (see `load_features`), if the file has only their hash.

    Raises:
        ModelFileError: for a file that is damaged, of another kind, or holds other tensors.
        FeatureError: for an encoder that is missing, or is not the one that the model was trained with.
    """
    source = Path(path) if path is not None else SHIPPED_MODEL
    file = read_model_file(source, expect_kind=_KIND)
    try:
        spec = ModelSpec.from_dict(file.config["model"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(
            f"{source}: its configuration describes no style-transfer model ({error}); "
            "it may come from a newer ganmod, or train and save it again"
        ) from error
    check_plugins(file.config, source=source)
    tensors = dict(file.tensors)
    digest = file.config.get("encoder_sha256")
    frozen: VGGFeatures | None = None
    if digest is not None:
        frozen = _load_encoder(spec, str(digest), encoder_weights, source)
        tensors = {f"encoder.{name}": x for name, x in frozen.state_dict().items()} | tensors

    def make() -> StyleTransferModel:
        return StyleTransferModel(spec, frozen or VGGFeatures(spec.encoder_widths))

    return build_to_fit(make, tensors, source=source).eval()


def _load_encoder(spec: ModelSpec, digest: str, path: str | Path | None, source: Path) -> VGGFeatures:
    encoder = load_features(spec.encoder, path=path)
    actual = weights_digest(encoder)
    if actual != digest:
        raise FeatureError(
            f"{source} needs the weights of {spec.encoder} with the SHA-256 {digest}, but those found have "
            f"{actual}: give the file that it was trained with as encoder_weights, or put it where "
            f"load_features({spec.encoder!r}) looks first"
        )
    return encoder
