"""A discriminator on projected features of a frozen network: Projected GANs (Sauer et al. 2021)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs.stylegan2 import DiscriminatorOptions
from ganmod.features.vgg import SLIM_WIDTHS, load_features
from ganmod.layers import LRELU_SLOPE, EqualizedLinear, half_precision, widen
from ganmod.network_spec import NetworkSpec
from ganmod.stylegan2.spec import HALF_DTYPES, HalfDtype

END_SIDE = 8  # pixels of the shorter side at which a scale's discriminator stops halving
WARM_UP = 20  # power iterations on the initial weights


@dataclass(frozen=True, kw_only=True)
class ProjectedDiscriminatorSpec(NetworkSpec, DiscriminatorOptions):
    """Everything needed to build a projected discriminator again.

    Args:
        img_resolution: height and width in pixels, multiples of 8 from 32 on.
        c_dim: classes, 0 for an unconditional network.
        channel_base: a level of side r has min(channel_base / (4 r), channel_max) channels.
        mbstd_group_size: consecutive samples that are normalised together.
        mixed_channels: of the finest projected features; every coarser scale has twice as many.
        cmap_dim: length of a conditional one's class embedding.
        half_dtype: None for float32.
    """

    img_resolution: tuple[int, int]
    c_dim: int = 0
    channel_base: int = 16384
    mbstd_group_size: int = 4
    mixed_channels: int = 32
    cmap_dim: int = 64
    half_dtype: HalfDtype | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "img_resolution", tuple(self.img_resolution))
        self.check_choice("half_dtype", (*HALF_DTYPES, None))  # type: ignore[arg-type]
        self.check_at_least(
            1, "channel_base", "channel_max", "mbstd_group_size", "mixed_channels", "cmap_dim"
        )
        self.check_at_least(0, "c_dim")
        if min(self.img_resolution) < 32 or any(side % 8 for side in self.img_resolution):
            raise ValueError(
                f"img_resolution is {self.img_resolution}, expected two multiples of 8 from 32 on for a "
                "projected discriminator: its features have up to an eighth of the image's sides"
            )

    def channels(self, side: int) -> int:
        """Of a level whose shorter side has so many pixels."""
        return min(max(self.channel_base // (4 * side), 1), self.channel_max)


class RandomMixing(nn.Module):
    """Frozen random maps of features [N,C_l,H/2^l,W/2^l], fine to coarse, across channels and scales.

    Each scale goes through a 1x1 convolution to its channels (cross-channel mixing); from coarse to fine, a
    3x3 convolution of the scale below, enlarged bilinearly, is added (cross-scale mixing). Weights are drawn
    from N(0, 1 / fan in) and never trained; they are stored with the model.

    Args:
        widths: C_l. mixed: channels of each scale afterwards.
    """

    def __init__(self, widths: Sequence[int], mixed: Sequence[int]) -> None:
        super().__init__()
        self.across_channels = nn.ModuleList(
            _random_conv(i, o, 1) for i, o in zip(widths, mixed, strict=True)
        )
        self.across_scales = nn.ModuleList(
            _random_conv(coarse, fine, 3) for fine, coarse in itertools.pairwise(mixed)
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        mixed = [conv(x) for conv, x in zip(self.across_channels, features, strict=True)]
        for scale in reversed(range(len(mixed) - 1)):
            enlarged = F.interpolate(mixed[scale + 1], scale_factor=2, mode="bilinear", align_corners=False)
            mixed[scale] = mixed[scale] + self.across_scales[scale](enlarged)
        return mixed


def _random_conv(in_channels: int, out_channels: int, kernel_size: int) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
    nn.init.normal_(conv.weight, std=(in_channels * kernel_size**2) ** -0.5)
    return conv.requires_grad_(False)


class SpectralConv2d(nn.Module):
    """Convolution without bias whose weight, as a matrix [O, I*k*k], is divided by its spectral norm.

    Spectral normalisation (Miyato et al. 2018). Unlike torch's, which iterates in every forward pass in
    training, the singular vectors follow when `update_norm` is called: once a step, however a batch is split.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, *, stride: int, padding: int
    ) -> None:
        super().__init__()
        self.stride, self.padding = stride, padding
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel_size, kernel_size))
        nn.init.normal_(self.weight, std=(in_channels * kernel_size**2) ** -0.5)
        self.u: Tensor
        self.v: Tensor
        self.register_buffer("u", F.normalize(torch.randn(out_channels), dim=0))
        self.register_buffer("v", torch.zeros(in_channels * kernel_size**2))
        for _ in range(WARM_UP):
            self.update_norm()

    @torch.no_grad()
    def update_norm(self) -> None:
        """One power iteration."""
        matrix = self.weight.flatten(1)
        self.v.copy_(F.normalize(matrix.T @ self.u, dim=0))
        self.u.copy_(F.normalize(matrix @ self.v, dim=0))

    def forward(self, x: Tensor) -> Tensor:
        norm = self.u @ (self.weight.flatten(1) @ self.v)
        return F.conv2d(x, self.weight / norm, stride=self.stride, padding=self.padding)


class GroupedBatchNorm2d(nn.Module):
    """Batch normalisation over groups of consecutive samples, with scale and shift, without running means.

    As the minibatch deviation, it does not depend on how a batch is split or spread over processes.
    """

    def __init__(self, channels: int, *, group_size: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.group_size, self.eps = group_size, eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """x [N,C,H,W]. ValueError for a batch that does not divide into groups."""
        n, channels, height, width = x.shape
        size = min(self.group_size, n)
        if n % size:
            raise ValueError(f"a batch of {n} does not divide into groups of {size} samples: use a multiple")
        grouped = widen(x).reshape(n // size, size, channels, height, width)
        variance, mean = torch.var_mean(grouped, dim=(1, 3, 4), correction=0, keepdim=True)
        scale = (variance + self.eps).rsqrt() * self.weight[:, None, None]
        return ((grouped - mean) * scale + self.bias[:, None, None]).reshape(x.shape).to(x.dtype)


class ScaleDiscriminator(nn.Module):
    """Features of one scale [N,C,h,w] -> logits [N,K], or maps of class features [N,cmap_dim,K].

    Blocks of a convolution 4x4 of stride 2, normalisation and leaky ReLU down to 8 pixels, then a 4x4
    convolution. Every convolution is spectrally normalised.
    """

    def __init__(
        self, spec: ProjectedDiscriminatorSpec, in_channels: int, side: int, *, out_channels: int
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = in_channels
        while side > END_SIDE:
            side //= 2
            layers += [
                SpectralConv2d(channels, spec.channels(side), 4, stride=2, padding=1),
                GroupedBatchNorm2d(spec.channels(side), group_size=spec.mbstd_group_size),
                nn.LeakyReLU(LRELU_SLOPE),
            ]
            channels = spec.channels(side)
        padding = 0 if side > 4 else 1  # so that the smallest maps have more than one position
        self.layers = nn.Sequential(
            *layers, SpectralConv2d(channels, out_channels, 4, stride=1, padding=padding)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).flatten(2)


class ProjectedDiscriminator(nn.Module):
    """img [N,3,H,W] in [-1,1], c [N,c_dim] -> logits [N,K] of all positions of four scales, high for real.

    Features of ganmod-slim at relu1_1 to relu4_1, each divided by its RMS, are mixed at random and judged at
    each scale by a discriminator of its own. Neither the features nor the mixing are trained.

    Differs from the published code: VGG features of the image's own size where it has EfficientNet's of 224
    pixels, batch statistics over groups of `mbstd_group_size` consecutive samples, and one power
    iteration after each update of D (`update_norms`).
    """

    def __init__(self, spec: ProjectedDiscriminatorSpec) -> None:
        super().__init__()
        self.spec, self.c_dim = spec, spec.c_dim
        self.features = load_features("ganmod-slim")
        mixed = [spec.mixed_channels << scale for scale in range(len(SLIM_WIDTHS))]
        self.mixing = RandomMixing(SLIM_WIDTHS, mixed)
        out_channels = spec.cmap_dim if spec.c_dim else 1
        side = min(spec.img_resolution)
        self.scales = nn.ModuleList(
            ScaleDiscriminator(spec, channels, side >> scale, out_channels=out_channels)
            for scale, channels in enumerate(mixed)
        )
        self.embedding = EqualizedLinear(spec.c_dim, spec.cmap_dim) if spec.c_dim else None

    def update_norms(self) -> None:
        """Let the spectral norms follow the weights: call it after each optimizer step."""
        for module in self.modules():
            if isinstance(module, SpectralConv2d):
                module.update_norm()

    def forward(self, img: Tensor, c: Tensor | None = None) -> Tensor:
        """Raises ValueError for images or labels of another shape, and for a batch that does not group."""
        expected = [3, *self.spec.img_resolution]
        if img.ndim != 4 or list(img.shape[1:]) != expected:
            raise ValueError(
                f"img has shape {list(img.shape)}, expected [N, {', '.join(map(str, expected))}]"
            )
        has_labels = c is not None and c.numel() > 0
        if has_labels != bool(self.c_dim):
            raise ValueError(
                f"c is {'given' if has_labels else 'missing'}, but this network has {self.c_dim} classes"
            )
        dtype = HALF_DTYPES[self.spec.half_dtype] if self.spec.half_dtype else None
        with half_precision(img.device, dtype):
            mixed = self.mixing(list(self.features.normalized((img + 1) / 2).values()))
            judged = [
                scale(x).float() if dtype else scale(x) for scale, x in zip(self.scales, mixed, strict=True)
            ]
        logits = torch.cat(judged, dim=2)  # [N,1,K] or [N,cmap_dim,K]
        if self.embedding is None:
            return logits[:, 0]
        embedded = self.embedding(c)[:, :, None]  # [N,cmap_dim,1]
        return (logits * embedded).sum(dim=1) / math.sqrt(self.spec.cmap_dim)
