"""FIR resampling in plain PyTorch: zero insertion, padding, filtering, decimation, as in StyleGAN2.

One depthwise convolution, strided to decimate and transposed to insert zeros. For the filters of 2 to 5 taps
used here it was the fastest form on a CPU in both memory formats, forward and backward: two passes along the
axes take 1.3 to 2.7 times as long, sums of slices 1.5 to 10 times, one-channel images in the batch 30 times.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganmod.layers import StaticConv2d, convolve

RESAMPLE_TAPS = (1.0, 3.0, 3.0, 1.0)  # StyleGAN2's low-pass filter, before normalisation

_MAX_TAPS_IN_ONE_PASS = 5  # T * T products in one pass; above, two passes of T


def filter_taps(taps: Sequence[float] = RESAMPLE_TAPS) -> Tensor:
    """A one-dimensional filter whose taps sum to one, float32 [T]."""
    total = sum(taps)
    if total == 0:
        raise ValueError(
            f"taps are {list(taps)}, expected numbers that do not sum to zero, such as 1, 3, 3, 1"
        )
    return torch.tensor([tap / total for tap in taps], dtype=torch.float32)


def upfirdn2d(
    x: Tensor,
    kernel: Tensor,
    *,
    up: int = 1,
    down: int = 1,
    padding: tuple[int, int] = (0, 0),
    gain: float = 1.0,
) -> Tensor:
    """Insert up - 1 zeros after every pixel, pad, convolve with kernel x kernel * gain, keep every down-th.

    Any floating dtype and memory format, both kept; differentiable any number of times in x.

    Args:
        x: [N,C,H,W].
        kernel: [T], for both axes, mirrored as in a mathematical convolution.
        padding: (before, after), in pixels of the enlarged image; negative values crop.

    Returns:
        [N,C,H',W'] with H' = (H*up + before + after - T) // down + 1.

    Raises:
        ValueError: for factors below one, a kernel that is not [T], and an output without pixels.
    """
    if up < 1 or down < 1:
        raise ValueError(f"up is {up} and down {down}, expected whole numbers from 1")
    if kernel.ndim != 1:
        raise ValueError(f"kernel has shape {list(kernel.shape)}, expected [T], one filter for both axes")
    taps = len(kernel)
    before, after = padding
    if min(x.shape[2:]) * up + before + after < taps:
        raise ValueError(
            f"x is {x.shape[2]} x {x.shape[3]}, with padding ({before}, {after}) too small for {taps} taps: "
            "use a larger image or more padding"
        )
    kernel = kernel.to(x)
    if taps <= _MAX_TAPS_IN_ONE_PASS:
        return _filter(x, kernel[:, None] * (kernel * gain), (up, up), (down, down), (padding, padding))
    x = _filter(x, kernel[:, None] * gain, (up, 1), (down, 1), (padding, (0, 0)))
    return _filter(x, kernel[None], (1, up), (1, down), ((0, 0), padding))


def _filter(
    x: Tensor,
    kernel: Tensor,
    up: tuple[int, int],
    down: tuple[int, int],
    padding: tuple[tuple[int, int], tuple[int, int]],
) -> Tensor:
    """`upfirdn2d` with kernel [Ty,Tx], and factors and padding for the y axis, then the x axis."""
    channels = x.shape[1]
    if max(up) == 1:
        both_ends = _both_ends(padding)
        if both_ends is None:
            x = F.pad(x, [*padding[1], *padding[0]])
        weight = kernel.flip(0, 1).expand(channels, 1, *kernel.shape)
        return F.conv2d(x, weight, stride=down, padding=both_ends or 0, groups=channels)

    # A transposed convolution gives the full convolution of the enlarged image, (H-1) * up + T pixels; the
    # output lacks T - 1 - before of them at one end and T - up - after at the other.
    crops = [
        (taps - 1 - before, taps - factor - after)
        for taps, factor, (before, after) in zip(kernel.shape, up, padding, strict=True)
    ]
    weight = kernel.expand(channels, 1, *kernel.shape)
    both_ends = _both_ends(crops)
    x = F.conv_transpose2d(x, weight, stride=up, padding=both_ends or 0, groups=channels)
    if both_ends is None:
        x = F.pad(x, [-crop for crop in (*crops[1], *crops[0])])
    return x[:, :, :: down[0], :: down[1]] if max(down) > 1 else x


def _both_ends(pairs: Sequence[tuple[int, int]]) -> list[int] | None:
    """The padding of each axis, as convolutions take it; None where the ends differ or are negative."""
    return [start for start, _ in pairs] if all(start == end >= 0 for start, end in pairs) else None


def upsample_2x(x: Tensor, kernel: Tensor) -> Tensor:
    """[N,C,H,W] -> [N,C,2H,2W]; the gain of 4 makes up for the inserted zeros. Outside the image is zero."""
    taps = len(kernel)
    return upfirdn2d(x, kernel, up=2, padding=((taps + 1) // 2, (taps - 2) // 2), gain=4.0)


def downsample_2x(x: Tensor, kernel: Tensor) -> Tensor:
    """[N,C,H,W] -> [N,C,H/2,W/2], low-pass filtered first. Outside the image is zero."""
    taps = len(kernel)
    return upfirdn2d(x, kernel, down=2, padding=((taps - 1) // 2, (taps - 2) // 2))


class _Resample2x(nn.Module):
    """Holds the filter, which is not learned and therefore not part of the state_dict."""

    kernel: Tensor

    def __init__(self, taps: Sequence[float] = RESAMPLE_TAPS) -> None:
        super().__init__()
        self.register_buffer("kernel", filter_taps(taps), persistent=False)


class Upsample2x(_Resample2x):
    """[N,C,H,W] -> [N,C,2H,2W] with StyleGAN2's filter."""

    def forward(self, x: Tensor) -> Tensor:
        return upsample_2x(x, self.kernel)


class Downsample2x(_Resample2x):
    """[N,C,H,W] -> [N,C,H/2,W/2] with StyleGAN2's filter."""

    def forward(self, x: Tensor) -> Tensor:
        return downsample_2x(x, self.kernel)


class UpConv2d(StaticConv2d):
    """[N,C,H,W] -> [N,O,2H,2W]: a transposed convolution with stride 2, then the low-pass filter.

    Equal to inserting zeros, filtering and convolving without a crop in between, at a quarter of the cost.
    The kernel is mirrored as in every transposed convolution (the other layers compute a correlation), so
    weights of the published code load as they are. A 1 x 1 kernel is applied before the upsampling.

    Args:
        input_upsampled: the input is [N,C,2H,2W] already, convolved with the same mirrored kernel and zero
            padding; equal except for the outermost pixels.
    """

    kernel: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        taps: Sequence[float] = RESAMPLE_TAPS,
        input_upsampled: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size)
        self.input_upsampled = input_upsampled
        self.register_buffer("kernel", filter_taps(taps), persistent=False)

    def apply_weight(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """x [N,C,H,W], weight [O,C,K,K] or [N,O,C,K,K], bias [O] -> [N,O,2H,2W]."""
        if self.input_upsampled:
            return super().apply_weight(x, weight.flip(-2, -1), bias)
        taps, size = len(self.kernel), weight.shape[-1]
        if size == 1:
            x = upsample_2x(super().apply_weight(x, weight), self.kernel)
        else:
            x = convolve(x, weight, stride=2, transposed=True)  # [N,O,2H-2+K,2W-2+K]
            # The padding of `upsample_2x` and the convolution, less the border that the transposed one adds.
            before = self.padding + (taps + 1) // 2 - (size - 1)
            after = self.padding + (taps - 2) // 2 - (size - 2)
            x = upfirdn2d(x, self.kernel, padding=(before, after), gain=4.0)
        return x if bias is None else x + bias[:, None, None].to(x.dtype)


class DownConv2d(StaticConv2d):
    """[N,C,H,W] -> [N,O,H/2,W/2]: the low-pass filter, then a convolution with stride 2.

    A 1 x 1 kernel is applied to the downsampled image: the same result with less filtering.
    """

    kernel: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        taps: Sequence[float] = RESAMPLE_TAPS,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size)
        self.register_buffer("kernel", filter_taps(taps), persistent=False)

    def apply_weight(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """x [N,C,H,W], weight [O,C,K,K] or [N,O,C,K,K], bias [O] -> [N,O,H/2,W/2]."""
        taps, stride = len(self.kernel), 2
        if weight.shape[-1] == 1:
            x, stride = downsample_2x(x, self.kernel), 1
        else:
            pads = (self.padding + (taps - 1) // 2, self.padding + (taps - 2) // 2)
            x = upfirdn2d(x, self.kernel, padding=pads)  # [N,C,H-2+K,W-2+K]
        return convolve(x, weight, bias, stride=stride)
