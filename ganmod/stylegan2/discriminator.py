"""The StyleGAN2 discriminator, with minibatch standard deviation and projection conditioning."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ganmod.layers import LRELU_SLOPE, RESIDUAL_GAIN, Conv2d, EqualizedLinear, ScaledReLU, half_precision
from ganmod.resample import DownConv2d, Downsample2x
from ganmod.stylegan2.mapping import LRELU_GAIN, MappingNetwork
from ganmod.stylegan2.spec import HALF_DTYPES, DiscriminatorSpec, Level


def minibatch_std(x: Tensor, *, group_size: int, num_channels: int = 1, eps: float = 1e-8) -> Tensor:
    """Standard deviation over groups of samples, as further channels (Karras et al. 2018, section 3).

    x [N,C,H,W] -> [N,C+num_channels,H,W]: sqrt(var + eps) of every feature over its group (biased), averaged
    over C / num_channels channels and all pixels. Differs from the published code in its groups of
    consecutive samples, which one process can generate: there they lie N / group_size apart.

    Args:
        group_size: samples in a group; all of a smaller batch.

    Raises:
        ValueError: for a batch that does not divide into groups.
    """
    n, channels, height, width = x.shape
    size = min(group_size, n)
    if n % size:
        fits = ", ".join(str(d) for d in range(1, group_size + 1) if n % d == 0)
        raise ValueError(
            f"a batch of {n} does not divide into minibatch-standard-deviation groups of {size}: use a batch "
            f"of {n // size * size} or {-(-n // size) * size}, or a group size of {fits}"
        )
    grouped = x.reshape(n // size, size, num_channels, channels // num_channels, height, width)
    var = grouped.var(dim=1, correction=0)  # [N/size,F,C/F,H,W]
    std = (var + eps).sqrt().mean(dim=(2, 3, 4))  # [N/size,F]
    std = std.repeat_interleave(size, dim=0)[:, :, None, None]  # [N,F,1,1]
    return torch.cat([x, std.to(x.dtype).expand(-1, -1, height, width)], dim=1)


def _conv(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 3,
    *,
    clamp: float | None,
    gain: float = 1.0,
    down: bool = False,
) -> Conv2d:
    """Convolution, bias, leaky ReLU times `gain`, clamp."""
    activation = ScaledReLU(
        LRELU_SLOPE, gain=LRELU_GAIN * gain, clamp=None if clamp is None else clamp * gain
    )
    conv = DownConv2d(in_channels, out_channels, kernel_size) if down else None
    return Conv2d(in_channels, out_channels, kernel_size, activation=activation, conv=conv)


class DiscriminatorBlock(nn.Module):
    """One resolution: fromrgb (the finest; all in "skip"), conv0, conv1 (downsampling)."""

    def __init__(self, spec: DiscriminatorSpec, level: Level, *, out_channels: int, is_first: bool) -> None:
        super().__init__()
        channels, clamp = level.channels, spec.conv_clamp
        self.half_dtype = HALF_DTYPES[spec.half_dtype] if level.half else None
        is_resnet = spec.architecture == "resnet"
        has_rgb = is_first or spec.architecture == "skip"
        self.fromrgb = _conv(spec.img_channels, channels, 1, clamp=clamp) if has_rgb else None
        self.conv0 = _conv(channels, channels, clamp=clamp)
        self.conv1 = _conv(
            channels, out_channels, clamp=clamp, down=True, gain=RESIDUAL_GAIN if is_resnet else 1.0
        )
        self.skip = DownConv2d(channels, out_channels, 1) if is_resnet else None
        self.downsample_img = Downsample2x() if spec.architecture == "skip" else None

    def forward(self, x: Tensor | None, img: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """x [N,C,H,W], None at the finest level; img [N,3,H,W] -> x [N,O,H/2,W/2], that img or None."""
        if x is not None and self.half_dtype is None:
            x = x.to(self.conv0.bias.dtype)  # the level before may be in half precision
        with half_precision(self.conv0.bias.device, self.half_dtype):
            if self.fromrgb is not None:
                assert img is not None
                rgb = self.fromrgb(img)  # [N,C,H,W]
                x = rgb if x is None else x + rgb
            assert x is not None
            out = self.conv1(self.conv0(x))  # [N,O,H/2,W/2]
            if self.skip is not None:
                out = self.skip.apply_weight(x, self.skip.scaled_weight * RESIDUAL_GAIN) + out
        img = None if self.downsample_img is None or img is None else self.downsample_img(img)
        return out, img


class DiscriminatorEpilogue(nn.Module):
    """The coarsest level, in float32: minibatch deviation, 3x3 convolution, two fully connected layers."""

    def __init__(self, spec: DiscriminatorSpec, level: Level, *, out_features: int) -> None:
        super().__init__()
        channels = level.channels
        self.group_size, self.num_std = spec.mbstd_group_size, spec.mbstd_num_channels
        self.fromrgb = None
        if spec.architecture == "skip":
            self.fromrgb = _conv(spec.img_channels, channels, 1, clamp=None)
        self.conv = _conv(channels + self.num_std, channels, clamp=spec.conv_clamp)
        self.fc = EqualizedLinear(channels * level.height * level.width, channels)
        self.activation = ScaledReLU(LRELU_SLOPE, gain=LRELU_GAIN)
        self.out = EqualizedLinear(channels, out_features)

    def forward(self, x: Tensor, img: Tensor | None) -> Tensor:
        """x [N,C,h,w], img [N,3,h,w] or None -> [N,out_features]."""
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(self.conv.bias.dtype)
            if self.fromrgb is not None:
                assert img is not None
                x = x + self.fromrgb(img)
            if self.num_std:
                x = minibatch_std(x, group_size=self.group_size, num_channels=self.num_std)
            x = self.conv(x)
            return self.out(self.activation(self.fc(x.flatten(1))))


class Discriminator(nn.Module):
    """img [N,img_channels,H,W] in [-1,1], c [N,c_dim] -> logits [N,1], high for real (Karras et al. 2020).

    Conditional ones project: <features, map(c)> / sqrt(cmap_dim) (Miyato & Koyama 2018). Samples depend on
    one another through the minibatch deviation, in groups of mbstd_group_size consecutive ones.
    """

    def __init__(self, spec: DiscriminatorSpec) -> None:
        super().__init__()
        self.spec = spec
        self.c_dim = spec.c_dim
        self.img_resolution, self.img_channels = spec.img_size, spec.img_channels
        coarsest, *rest = spec.levels()
        self.block_names = [f"b{level.resolution}" for level in reversed(rest)]
        for below, level in reversed(list(zip([coarsest, *rest], rest, strict=False))):
            block = DiscriminatorBlock(spec, level, out_channels=below.channels, is_first=level == rest[-1])
            self.add_module(f"b{level.resolution}", block)
        self.cmap_dim = spec.cmap_dim or coarsest.channels
        self.epilogue = DiscriminatorEpilogue(spec, coarsest, out_features=self.cmap_dim if spec.c_dim else 1)
        self.mapping = None
        if spec.c_dim:
            self.mapping = MappingNetwork(
                0, spec.c_dim, self.cmap_dim, num_ws=None, num_layers=spec.mapping_layers, w_avg_beta=None
            )

    @property
    def blocks(self) -> list[DiscriminatorBlock]:
        """Fine to coarse, as the image passes through them."""
        return [getattr(self, name) for name in self.block_names]

    def layers(self) -> list[nn.Module]:
        """All layers with parameters, in forward order; freeze-D freezes the first of them."""
        stages: list[nn.Module] = [*self.blocks, self.epilogue]
        return [
            layer
            for stage in stages
            for layer in stage.children()
            if next(layer.parameters(), None) is not None
        ]

    def forward(self, img: Tensor, c: Tensor | None = None) -> Tensor:
        """Raises ValueError for images or labels of another shape, and for a batch that does not group."""
        expected = [self.img_channels, *self.img_resolution]
        if img.ndim != 4 or list(img.shape[1:]) != expected:
            raise ValueError(
                f"img has shape {list(img.shape)}, expected [N, {', '.join(map(str, expected))}]"
            )
        if self.mapping is None and c is not None and c.numel():
            raise ValueError(f"c has shape {list(c.shape)}, but this network is unconditional: give c=None")
        if self.mapping is not None and c is not None and len(c) != len(img):
            raise ValueError(f"c has {len(c)} rows, expected {len(img)}: one per image")
        x: Tensor | None = None
        remaining: Tensor | None = img
        for block in self.blocks:
            x, remaining = block(x, remaining)
        x = self.epilogue(x, remaining)  # [N,1] or [N,cmap_dim]
        if self.mapping is not None:
            cmap = self.mapping(None, c)  # [N,cmap_dim]
            x = (x * cmap).sum(dim=1, keepdim=True) * self.cmap_dim**-0.5
        return x
