"""The StarGAN v2 generator: an image and a style code to an image, with any modulation in its decoder."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from ganmod.layers import LRELU_SLOPE, RESIDUAL_GAIN, ScaledReLU, StaticConv2d, widen
from ganmod.modulation import (
    ModulatedConv2d,
    StyleSpec,
    create_modulation,
    modulation_per_resolution,
    options_per_modulation,
)
from ganmod.starganv2.resampled_conv import nearest_conv
from ganmod.starganv2.residual_block import AffineInstanceNorm, ResidualBlock, he_init
from ganmod.starganv2.spec import StarGANv2Spec

HIGH_PASS_SIZES = (32, 64, 128)  # pixels; the first has a separate mask, the others share one


def high_pass(x: Tensor, w_hpf: float) -> Tensor:
    """x [N,C,H,W] convolved with [[-1,-1,-1],[-1,8,-1],[-1,-1,-1]] / w_hpf, zeros outside (StarGAN v2)."""
    kernel = x.new_full((3, 3), -1 / w_hpf)
    kernel[1, 1] = 8 / w_hpf
    channels = x.shape[1]
    return F.conv2d(x, kernel.expand(channels, 1, 3, 3), padding=1, groups=channels)


class PlainStaticConv2d(StaticConv2d):
    """A static convolution without run-time gain, He-initialised as StarGAN v2's plain layers."""

    def __init__(self, in_channels: int, out_channels: int, *, up: bool = False) -> None:
        resample = nn.Upsample(scale_factor=2, mode="nearest") if up else None
        super().__init__(in_channels, out_channels, 3, resample=resample)
        self.gain = 1.0
        nn.init.kaiming_normal_(self.weight, mode="fan_in", nonlinearity="relu")

    @property
    def scaled_weight(self) -> Tensor:
        return self.weight

    def apply_weight(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """x [N,C,H,W], weight [O,C,3,3] or [N,O,C,3,3], bias [O] -> [N,O,H',W'], upsampled if `up`."""
        if self.resample is None or weight.ndim == 5 or bias is not None:
            return super().apply_weight(x, weight, bias)
        return nearest_conv(x, weight)


class DecoderLayer(ModulatedConv2d):
    """modulate -> leaky ReLU -> [nearest upsampling] -> 3 x 3 convolution -> + bias.

    The modulation learns as fast as the plain layers around it (`Modulation.use_plain_gains`). If it
    normalises the outputs, it removes the factor sqrt 2 with which He initialisation compensates for the
    leaky ReLU; the ReLU then has it as a gain.

    Args:
        modulation: registered name.
        options: of the modulation.
        up: upsample before the convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        style: StyleSpec,
        *,
        modulation: str,
        options: Mapping[str, Any],
        up: bool = False,
    ) -> None:
        layer = create_modulation(modulation, in_channels, style, options)
        layer.use_plain_gains()
        gain = 2**0.5 if layer.normalizes_outputs else 1.0
        between = ScaledReLU(LRELU_SLOPE, gain=gain) if gain != 1 else nn.LeakyReLU(LRELU_SLOPE)
        super().__init__(PlainStaticConv2d(in_channels, out_channels, up=up), layer, between=between)


class DecoderBlock(nn.Module):
    """Two modulated convolutions: x [N,C,H,W] -> [N,O,H',W'] (Choi et al. 2020, appendix).

    Args:
        modulation: registered name.
        options: of the modulation.
        up: upsample in the first convolution.
        shortcut: add the input and divide by sqrt 2. The published networks with the high-pass filter do
            not, though they contain the shortcut's weight.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        style: StyleSpec,
        *,
        modulation: str,
        options: Mapping[str, Any],
        up: bool,
        shortcut: bool,
    ) -> None:
        super().__init__()
        self.up, self.shortcut = up, shortcut
        self.conv1 = DecoderLayer(
            in_channels, out_channels, style, modulation=modulation, options=options, up=up
        )
        self.conv2 = DecoderLayer(out_channels, out_channels, style, modulation=modulation, options=options)
        different = in_channels != out_channels
        self.skip = nn.Conv2d(in_channels, out_channels, 1, bias=False) if different else nn.Identity()
        self.skip.requires_grad_(shortcut)

    def predict(self, style: Tensor) -> tuple[Any, Any]:
        """The parameters of both modulations for this style."""
        return self.conv1.predict(style), self.conv2.predict(style)

    def forward(self, x: Tensor, params: tuple[Any, Any]) -> Tensor:
        out = self.conv1.apply_params(x, params[0])  # [N,O,H',W']
        out = self.conv2.apply_params(out, params[1])
        if not self.shortcut:
            return out
        x = self.skip(x)  # 1 x 1, before the upsampling: the same as after it, at a quarter of the cost
        if self.up:
            x = F.interpolate(x, scale_factor=2, mode="nearest")
        return (x + out) * RESIDUAL_GAIN


class Content(NamedTuple):
    """Images [N,3,S,S] encoded by `Generator.content`, independent of any style."""

    features: Tensor  # [N,C,h,w] of the coarsest level
    skipped: dict[int, Tensor]  # by side in pixels [N,C,h,w], for the high-pass filter

    def repeat(self, count: int) -> Content:
        """Every image `count` times in a row, for `count` styles each."""
        return Content(
            self.features.repeat_interleave(count, dim=0),
            {size: x.repeat_interleave(count, dim=0) for size, x in self.skipped.items()},
        )


class Generator(nn.Module):
    """img [N,3,S,S] in [-1,1], style code [N,style_dim] -> img [N,3,S,S], about [-1,1] (Choi et al. 2020).

    With w_hpf > 0, the encoder's features of 32, 64 and 128 pixels are multiplied by masks, high-pass
    filtered and added to the decoder's. The masks ([N,1,h,w] for 32 pixels, [N,1,h,w] for the others) are in
    [0,1] and of any size; the published ones come from a face landmark network. Without masks the filtered
    features are added everywhere. The published code then adds none, which keeps little of the image; masks
    of zeros do the same.
    """

    def __init__(self, spec: StarGANv2Spec) -> None:
        super().__init__()
        self.spec = spec
        self.img_size, self.img_channels, self.style_dim = spec.img_size, spec.img_channels, spec.style_dim
        widths = spec.generator_widths()
        coarsest = spec.img_size >> (len(widths) - 1)
        style = StyleSpec("vector", spec.style_dim, host_width=max(widths))
        sizes = [coarsest << i for i in range(len(widths))]
        names = modulation_per_resolution(spec.modulation, sizes)
        options = options_per_modulation(spec.modulation_options, names.values())

        def decoder_block(in_channels: int, out_channels: int, size: int, *, up: bool) -> DecoderBlock:
            return DecoderBlock(
                in_channels,
                out_channels,
                style,
                modulation=names[size],
                options=options[names[size]],
                up=up,
                shortcut=spec.w_hpf == 0,
            )

        pairs = list(itertools.pairwise(widths))  # fine to coarse
        last = widths[-1]
        self.from_rgb = nn.Conv2d(spec.img_channels, widths[0], 3, padding=1)
        self.encode = nn.ModuleList(ResidualBlock(i, o, normalize=True, down=True) for i, o in pairs)
        self.encode.extend(ResidualBlock(last, last, normalize=True) for _ in range(2))
        self.decode = nn.ModuleList(decoder_block(last, last, coarsest, up=False) for _ in range(2))
        self.decode.extend(
            decoder_block(o, i, size, up=True)
            for (i, o), size in zip(reversed(pairs), sizes[1:], strict=True)
        )
        self.norm = AffineInstanceNorm(widths[0])
        self.to_rgb = nn.Conv2d(widths[0], spec.img_channels, 1)
        he_init(self)

    def predict(self, style: Tensor) -> list[Any]:
        """Style codes [N,style_dim] -> the parameters of every decoder block, coarse to fine."""
        return [block.predict(style) for block in self.decode]  # type: ignore[operator]

    def forward(self, img: Tensor, style: Tensor, masks: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Raises ValueError for images or codes of another shape, and for masks that would have no effect."""
        if style.shape[0] != img.shape[0]:
            raise ValueError(f"got {len(img)} images and {len(style)} style codes: give one for each image")
        return self.render(img, self.predict(style), masks)

    def render(
        self, img: Tensor, params: Sequence[Any], masks: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """`forward` with parameters from `predict`."""
        return self.render_content(self.content(img), params, masks)

    def content(self, img: Tensor) -> Content:
        """Encode img [N,3,S,S] once for several styles, see `stylize`."""
        check_images(img, self.spec)
        x = self.from_rgb(img)  # [N,C,S,S]
        skipped: dict[int, Tensor] = {}
        for block in self.encode:
            if self.spec.w_hpf > 0 and x.shape[2] in HIGH_PASS_SIZES:
                skipped[x.shape[2]] = x
            x = block(x)
        return Content(x, skipped)

    def stylize(self, content: Content, style: Tensor, masks: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """`forward` with N images encoded by `content`, and N style codes."""
        return self.render_content(content, self.predict(style), masks)

    def render_content(
        self, content: Content, params: Sequence[Any], masks: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """`forward` with N images encoded by `content`, and parameters from `predict` for N styles."""
        if masks is not None and self.spec.w_hpf == 0:
            raise ValueError("this generator has no high-pass filter (w_hpf is 0): give masks=None")
        x, skipped = content
        for block, block_params in zip(self.decode, params, strict=True):
            x = block(x, block_params)
            if x.shape[2] in skipped:
                x = x + self._filter(skipped[x.shape[2]], masks)
        x = F.leaky_relu(self.norm(x), LRELU_SLOPE)
        return widen(self.to_rgb(x))  # [N,3,S,S]

    def _filter(self, features: Tensor, masks: tuple[Tensor, Tensor] | None) -> Tensor:
        if masks is not None:
            size = features.shape[2]
            mask = masks[0] if size == HIGH_PASS_SIZES[0] else masks[1]
            mask = F.interpolate(mask, size=(size, size), mode="bilinear", align_corners=False)
            features = features * mask.to(features.dtype)
        return high_pass(features, self.spec.w_hpf)


def check_images(img: Tensor, spec: StarGANv2Spec) -> None:
    """Raise ValueError unless img is [N,3,S,S] of the networks' size."""
    expected = [spec.img_channels, spec.img_size, spec.img_size]
    if img.ndim != 4 or list(img.shape[1:]) != expected:
        raise ValueError(
            f"img has shape {list(img.shape)}, expected [N, {', '.join(map(str, expected))}]: resize it"
        )
