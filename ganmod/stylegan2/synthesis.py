"""The synthesis network: ws to an image, its convolutions modulated by any modulation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ganmod.layers import (
    LRELU_SLOPE,
    RESIDUAL_GAIN,
    EqualizedLinear,
    ScaledReLU,
    StaticConv2d,
    half_precision,
    widen,
)
from ganmod.modulation import (
    ModulatedConv2d,
    StyleSpec,
    WeightDemod,
    create_modulation,
    modulation_per_resolution,
    options_per_modulation,
)
from ganmod.resample import UpConv2d, Upsample2x
from ganmod.stylegan2.mapping import LRELU_GAIN
from ganmod.stylegan2.spec import HALF_DTYPES, GeneratorSpec, Level

NoiseMode = Literal["random", "const", "none"]


class DescriptorLift(nn.Module):
    """w [N,w_dim] -> style descriptor [N,D,S,S]: two fully connected layers."""

    def __init__(self, w_dim: int, descriptor_dim: int, descriptor_size: int) -> None:
        super().__init__()
        self.shape = (descriptor_dim, descriptor_size, descriptor_size)
        self.hidden = EqualizedLinear(w_dim, w_dim)
        self.activation = ScaledReLU(LRELU_SLOPE, gain=LRELU_GAIN)
        self.out = EqualizedLinear(w_dim, descriptor_dim * descriptor_size**2)

    def forward(self, w: Tensor) -> Tensor:
        return self.out(self.activation(self.hidden(w))).unflatten(1, self.shape)


class SynthesisLayer(ModulatedConv2d):
    """A modulated convolution with noise, leaky ReLU and clamp; its state includes a fixed noise image."""

    noise_const: Tensor

    def __init__(
        self,
        in_channels: int,
        level: Level,
        style: StyleSpec,
        *,
        modulation: str,
        options: Mapping[str, Any],
        up: bool = False,
        modulate_after_upsampling: bool = False,
        gain: float = 1.0,
        conv_clamp: float | None = None,
        lift: DescriptorLift | None = None,
    ) -> None:
        conv = (
            UpConv2d(in_channels, level.channels, input_upsampled=modulate_after_upsampling)
            if up
            else StaticConv2d(in_channels, level.channels)
        )
        super().__init__(
            conv,
            create_modulation(modulation, in_channels, style, options),
            activation=ScaledReLU(
                LRELU_SLOPE,
                gain=LRELU_GAIN * gain,
                clamp=None if conv_clamp is None else conv_clamp * gain,
            ),
            noise=True,
            resample_first=Upsample2x() if up and modulate_after_upsampling else None,
        )
        self.lift = lift
        self.register_buffer("noise_const", torch.randn(level.height, level.width))

    def predict(self, style: Tensor) -> Any:
        """w [N,w_dim], or the shared descriptor [N,D,S,S], -> the modulation's parameters."""
        return super().predict(style if self.lift is None else self.lift(style))


class SynthesisBlock(nn.Module):
    """One resolution: conv0 (upsampling; not at the coarsest, which starts from a constant), conv1, torgb."""

    def __init__(
        self,
        spec: GeneratorSpec,
        level: Level,
        *,
        in_channels: int,
        is_last: bool,
        modulation: str,
        options: Mapping[str, Any],
        style: StyleSpec,
    ) -> None:
        super().__init__()
        self.half_dtype = HALF_DTYPES[spec.half_dtype] if level.half else None
        self.is_resnet = spec.architecture == "resnet" and in_channels > 0

        def layer(in_channels: int, *, up: bool, gain: float) -> SynthesisLayer:
            per_layer = spec.style_lift == "per_layer"
            return SynthesisLayer(
                in_channels,
                level,
                style,
                modulation=modulation,
                options=options,
                up=up,
                modulate_after_upsampling=spec.modulate_after_upsampling,
                gain=gain,
                conv_clamp=spec.conv_clamp,
                lift=DescriptorLift(spec.w_dim, style.dim, style.size) if per_layer else None,
            )

        if in_channels == 0:
            self.const = nn.Parameter(torch.randn(level.channels, level.height, level.width))
        self.conv0 = layer(in_channels, up=True, gain=1.0) if in_channels else None
        self.conv1 = layer(level.channels, up=False, gain=RESIDUAL_GAIN if self.is_resnet else 1.0)
        self.skip = UpConv2d(in_channels, level.channels, 1) if self.is_resnet else None
        self.torgb = None
        if is_last or spec.architecture == "skip":
            # Always weight demodulation, so that comparisons of modulations vary one factor at a time.
            self.torgb = ModulatedConv2d(
                StaticConv2d(level.channels, spec.img_channels, 1),
                WeightDemod(level.channels, StyleSpec("vector", spec.w_dim), demodulate=False),
                activation=None
                if spec.conv_clamp is None
                else nn.Hardtanh(-spec.conv_clamp, spec.conv_clamp),
            )
        self.upsample_img = Upsample2x()

    @property
    def layers(self) -> list[SynthesisLayer]:
        """The layers that take noise: conv0, if any, and conv1."""
        return [layer for layer in (self.conv0, self.conv1) if layer is not None]

    def forward(
        self,
        x: Tensor | None,
        img: Tensor | None,
        params: Sequence[Any],
        noise: Sequence[Tensor | None],
    ) -> tuple[Tensor, Tensor | None]:
        """x [N,C,h,w], img [N,3,h,w], this block's parameters and noise -> x [N,O,H,W], img [N,3,H,W]."""
        if x is None:
            x = self.const.expand(params[0][0].shape[0], *self.const.shape)  # [N,C,h,w]
        with half_precision(x.device, self.half_dtype):
            shortcut = x = x if self.half_dtype is None else x.to(self.half_dtype)
            for layer, layer_params, layer_noise in zip(self.layers, params, noise, strict=False):
                x = layer.apply_params(x, layer_params, layer_noise)  # [N,O,H,W]
            if self.skip is not None:
                x = self.skip.apply_weight(shortcut, self.skip.scaled_weight * RESIDUAL_GAIN) + x
            rgb = None if self.torgb is None else widen(self.torgb.apply_params(x, params[-1]))  # [N,3,H,W]
        if img is not None:
            img = self.upsample_img(img)
        if rgb is not None:
            img = rgb if img is None else img + rgb
        return x, img


class SynthesisNetwork(nn.Module):
    """ws [N,num_ws,w_dim] -> image [N,img_channels,H,W], about [-1,1] once trained (Karras et al. 2020).

    Blocks are named by resolution, `b4`, `b8` ...; static weights have the same names under every modulation.
    """

    def __init__(self, spec: GeneratorSpec) -> None:
        super().__init__()
        self.spec = spec
        levels = spec.levels()
        self.num_ws = 2 * len(
            levels
        )  # a convolution at the coarsest level, two at each other, the last torgb
        self.w_dim = spec.w_dim
        lifted = spec.style_lift != "none"
        style = StyleSpec(
            "map" if lifted else "vector",
            spec.descriptor_dim if lifted else spec.w_dim,
            spec.descriptor_size if lifted else 1,
            host_width=max(level.channels for level in levels),
        )
        self.lift = DescriptorLift(spec.w_dim, style.dim, style.size) if spec.style_lift == "shared" else None
        names = modulation_per_resolution(spec.modulation, [level.resolution for level in levels])
        options = options_per_modulation(spec.modulation_options, names.values())
        self.block_names = [f"b{level.resolution}" for level in levels]
        in_channels = 0
        for name, level in zip(self.block_names, levels, strict=True):
            block = SynthesisBlock(
                spec,
                level,
                in_channels=in_channels,
                is_last=level == levels[-1],
                modulation=names[level.resolution],
                options=options[names[level.resolution]],
                style=style,
            )
            self.add_module(name, block)
            in_channels = level.channels

    @property
    def blocks(self) -> list[SynthesisBlock]:
        """Coarse to fine."""
        return [getattr(self, name) for name in self.block_names]

    @property
    def layers(self) -> list[SynthesisLayer]:
        """The layers that take noise, coarse to fine; layer i reads ws[:, i]."""
        return [layer for block in self.blocks for layer in block.layers]

    def predict(self, ws: Tensor) -> list[list[Any]]:
        """ws [N,num_ws,w_dim] -> the parameters of every block: first of its convolutions, then of its torgb.

        A torgb reads the w of the next level's first convolution. Raises ValueError for another shape.
        """
        if ws.ndim != 3 or list(ws.shape[1:]) != [self.num_ws, self.w_dim]:
            raise ValueError(
                f"ws has shape {list(ws.shape)}, expected [N, {self.num_ws}, {self.w_dim}]; one w for all "
                "layers is w[:, None].expand(-1, num_ws, -1)"
            )
        styles = ws if self.lift is None else self.lift(ws.flatten(0, 1)).unflatten(0, ws.shape[:2])
        params: list[list[Any]] = []
        index = 0
        for block in self.blocks:
            of_block = []
            for layer in block.layers:
                of_block.append(layer.predict(styles[:, index]))
                index += 1
            if block.torgb is not None:
                of_block.append(block.torgb.predict(ws[:, index]))
            params.append(of_block)
        return params

    def noise_shapes(self) -> list[tuple[int, int]]:
        """Height and width of the noise of every layer, coarse to fine."""
        return [tuple(layer.noise_const.shape) for layer in self.layers]  # type: ignore[misc]

    def make_noise(
        self, num: int, mode: NoiseMode = "random", *, generator: torch.Generator | None = None
    ) -> list[Tensor | None]:
        """Noise for `num` samples, one image per layer: random [num,1,H,W], const [H,W], or none."""
        if mode not in get_args(NoiseMode):
            raise ValueError(f"noise_mode is {mode!r}, expected {', '.join(get_args(NoiseMode))}")
        if mode == "none":
            return [None] * len(self.layers)
        if mode == "const":
            return [layer.noise_const for layer in self.layers]
        return [
            torch.randn(num, 1, *const.shape, generator=generator, dtype=const.dtype, device=const.device)
            for const in (layer.noise_const for layer in self.layers)
        ]

    def forward(
        self,
        ws: Tensor,
        *,
        noise_mode: NoiseMode = "random",
        noise: Sequence[Tensor | None] | None = None,
    ) -> Tensor:
        """noise: one tensor per layer, as from `make_noise`; overrides noise_mode."""
        params = self.predict(ws)
        return self.render(params, self.make_noise(ws.shape[0], noise_mode) if noise is None else noise)

    def render(self, params: Sequence[Sequence[Any]], noise: Sequence[Tensor | None]) -> Tensor:
        """The image for the parameters of `predict` and one noise tensor per layer."""
        if len(noise) != len(self.layers):
            raise ValueError(f"noise has {len(noise)} entries, expected {len(self.layers)}: one per layer")
        x: Tensor | None = None
        img: Tensor | None = None
        start = 0
        for block, block_params in zip(self.blocks, params, strict=True):
            stop = start + len(block.layers)
            x, img = block(x, img, block_params, noise[start:stop])
            start = stop
        assert img is not None
        return img
