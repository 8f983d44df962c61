"""Geometric warps and band filters of ADA: twice-differentiable functions of images [N,C,H,W].

Source: Karras et al. 2020, appendix B. A warp is reflect padding, 2x upsampling with the sym6 low-pass,
bilinear sampling, and 2x downsampling with the same filter; flips, quarter turns and integer translations are
copies of pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# Low-pass of the symlet with 6 vanishing moments: sums to sqrt(2), orthogonal to its own shifts by 2.
SYM6 = (
    0.015404109327027373,
    0.0034907120842174702,
    -0.11799011114819057,
    -0.048311742585633,
    0.4910559419267466,
    0.787641141030194,
    0.3379294217276218,
    -0.07263752278646252,
    -0.021060292512300564,
    0.04472490177066578,
    0.0017677118642428036,
    -0.007800708325034148,
)
_EDGE = len(SYM6) // 2 - 1  # rows of the 2x image that the filter reaches beyond either edge
_MARGIN_STEP = 16  # pixels; see `resample`
_REACH = 4  # pixels around a sampled point that its value depends on
# Where the 2x image's samples lie, in pixels of the image: a quarter of a pixel from its own, as published.
# The filter is not symmetric and delays by 0.2009: rotations turn about a point 0.05 pixels off the centre.
_OFFSET = 0.25

# Low-pass of the sym2 wavelet with its mirror image, and what it leaves, on taps -3..3.
_BAND_LOW = (-1 / 32, 0.0, 9 / 32, 16 / 32, 9 / 32, 0.0, -1 / 32)
_BAND_HIGH = (1 / 32, 0.0, -9 / 32, 16 / 32, -9 / 32, 0.0, 1 / 32)


def transform_some(images: Tensor, active: Tensor, transform: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """images [N,...] with the active ones replaced by transform(images[index], index); shape kept.

    active [N] bool: on the CPU, since the host decides what runs. An image is left alone or transformed
    whatever the other images of the batch, and what is left alone costs nothing.
    """
    index = active.nonzero().squeeze(1)
    if len(index) == 0:
        return images
    if len(index) == len(images):
        return transform(images, index)
    rows = index.to(images.device)
    return images.index_copy(0, rows, transform(images[rows], index))


def warp(images: Tensor, inverse: Tensor) -> Tensor:
    """images [N,C,H,W] moved by inverse [N,3,3] (output pixel -> input pixel, origin in the centre).

    Beyond its edges an image is continued by reflection. Identities return the image bit for bit.
    Differs from the published code, which sends flips, quarter turns and integer translations through the
    resampling; here they are what the paper calls them, copies of pixels.
    """
    height, width = images.shape[-2:]
    moved = (inverse != torch.eye(3, dtype=inverse.dtype)).flatten(1).any(dim=1)
    copied = is_blit(inverse, height, width)
    images = transform_some(images, moved & copied, lambda x, index: blit(x, inverse[index]))
    return transform_some(images, moved & ~copied, lambda x, index: resample(x, inverse[index]))


def is_blit(inverse: Tensor, height: int, width: int) -> Tensor:
    """[N] bool: does inverse [N,3,3] map every pixel centre onto a pixel centre, and neighbours onto such?"""
    linear = inverse[:, :2, :2]
    signed = (
        (linear.abs().sum(dim=1) == 1) & (linear.abs().sum(dim=2) == 1) & (linear == linear.round()).all(1)
    )
    corner = _source_of_first_pixel(inverse, height, width)
    return signed.all(dim=1) & (corner == corner.round()).all(dim=1)


def blit(images: Tensor, inverse: Tensor) -> Tensor:
    """`warp` by copying pixels, for matrices [N,3,3] that are blits: [N,C,H,W] -> [N,C,H,W]."""
    n, channels, height, width = images.shape
    corner = _source_of_first_pixel(inverse, height, width).long()  # [N,2]
    linear = inverse[:, :2, :2].long()
    steps = torch.stack(
        [torch.arange(width).expand(height, width), torch.arange(height)[:, None].expand(height, width)]
    )
    source = torch.einsum("nij,jhw->nihw", linear, steps) + corner[:, :, None, None]  # [N,2,H,W]
    x, y = _reflect(source[:, 0], width), _reflect(source[:, 1], height)
    flat = (y * width + x).reshape(n, 1, -1).to(images.device).expand(-1, channels, -1)
    return images.flatten(2).gather(2, flat).reshape(images.shape)


def resample(images: Tensor, inverse: Tensor) -> Tensor:
    """`warp` through the 2x image, for any matrices: [N,C,H,W] -> [N,C,H,W].

    The margin is what the batch needs, and somewhat more for few different sizes: libraries keep something
    for each that they meet. It is at most the longer side less 1; what lies further out is 0.
    """
    height, width = images.shape[-2:]
    left, right, top, bottom = margins = _in_steps(warp_margins(inverse, height, width), height, width)
    x = reflect_extend(images, margins)  # [N,C,h,w], h = H + top + bottom
    x = upsample_sym6(x)  # [N,C,2h,2w]
    matrix = _between_upsampled(inverse).to(images.device, x.dtype)[:, :2, :, None, None]  # [N,2,3,1,1]
    out_x = _centred_positions(width, like=x)  # [2W+10]
    out_y = _centred_positions(height, like=x)[:, None]  # [2H+10,1]
    # Written out, since a matrix product may run in TF32, whose 10 bits would move pixels.
    source = matrix[:, :, 0] * out_x + matrix[:, :, 1] * out_y + matrix[:, :, 2]  # [N,2,2H+10,2W+10]
    grid_x = (2 * source[:, 0] + width + 2 * left) / (width + left + right) - 1
    grid_y = (2 * source[:, 1] + height + 2 * top) / (height + top + bottom) - 1
    x = bilinear(x, torch.stack([grid_x, grid_y], dim=3))  # [N,C,2H+10,2W+10]
    return downsample_sym6(x)  # [N,C,H,W]


def warp_margins(inverse: Tensor, height: int, width: int) -> tuple[int, int, int, int]:
    """Pixels (left, right, top, bottom) beyond the edges that `resample` reads for any of [N,3,3]."""
    reach_x, reach_y = width / 2 + _EDGE / 2, height / 2 + _EDGE / 2
    corners = torch.tensor(
        [[x, y, 1.0] for x in (-reach_x, reach_x) for y in (-reach_y, reach_y)], dtype=inverse.dtype
    )
    size = torch.tensor([width, height], dtype=inverse.dtype)
    source = torch.einsum("nij,kj->nki", _between_upsampled(inverse)[:, :2], corners) + size / 2  # [N,4,2]
    before = (_REACH - source.amin(dim=(0, 1))).ceil()
    beyond = (source.amax(dim=(0, 1)) + _REACH - size).ceil()
    left, top, right, bottom = torch.cat([before, beyond]).clamp(0, max(height, width) - 1).long().tolist()
    return left, right, top, bottom


def _in_steps(margins: tuple[int, int, int, int], height: int, width: int) -> tuple[int, int, int, int]:
    """Enlarge margins so that opposite ones sum to a multiple of `_MARGIN_STEP`, or to the most."""
    most = max(height, width) - 1
    stepped = []
    for before, beyond in (margins[:2], margins[2:]):
        total = min(before + beyond + -(before + beyond) % _MARGIN_STEP, 2 * most)
        beyond = min(total - before, most)
        stepped += [total - beyond, beyond]
    left, right, top, bottom = stepped
    return left, right, top, bottom


def reflect_extend(images: Tensor, margins: tuple[int, int, int, int]) -> Tensor:
    """[N,C,H,W] -> [N,C,H+top+bottom,W+left+right], mirrored about the edge pixels as often as needed."""
    left, right, top, bottom = margins
    height, width = images.shape[-2:]
    if max(left, right) < width and max(top, bottom) < height:
        return F.pad(images, margins, mode="reflect")
    columns = _reflect(torch.arange(-left, width + right), width).to(images.device)
    rows = _reflect(torch.arange(-top, height + bottom), height).to(images.device)
    return images.index_select(3, columns).index_select(2, rows)


def upsample_sym6(images: Tensor) -> Tensor:
    """[N,C,H,W] -> [N,C,2H,2W], zeros beyond the edges; a constant keeps its value."""
    x = _planes(images)
    kernel = (_sym6(like=images) * 2**0.5).expand(x.shape[1], 1, -1)
    groups = x.shape[1]
    x = F.conv_transpose2d(x, kernel[..., None], stride=(2, 1), padding=(_EDGE, 0), groups=groups)
    x = F.conv_transpose2d(x, kernel[:, :, None], stride=(1, 2), padding=(0, _EDGE), groups=groups)
    return x.reshape(*images.shape[:2], *x.shape[2:])


def downsample_sym6(images: Tensor) -> Tensor:
    """[N,C,2H+10,2W+10] -> [N,C,H,W]: inverts `upsample_sym6` (extended by 5 rows and columns per edge)."""
    x = _planes(images)
    kernel = (_sym6(like=images) / 2**0.5).expand(x.shape[1], 1, -1)
    x = F.conv2d(x, kernel[:, :, None], stride=(1, 2), groups=x.shape[1])
    x = F.conv2d(x, kernel[..., None], stride=(2, 1), groups=x.shape[1])
    return x.reshape(*images.shape[:2], *x.shape[2:])


def bilinear(images: Tensor, grid: Tensor) -> Tensor:
    """images [N,C,h,w], grid [N,H,W,2] in [-1,1] over the edges -> [N,C,H,W]; zeros outside.

    `F.grid_sample` as a linear function of the images, differentiable any number of times with respect to
    them on every device; the grid gets no gradient.
    """
    return _Bilinear.apply(images, grid)


def band_filter(images: Tensor, gains: Tensor) -> Tensor:
    """Amplify octave bands: images [N,C,H,W], gains [N,4] (lowest band first) -> [N,C,H,W].

    Separable: a frequency's gain is that of its horizontal part times that of its vertical part.
    """
    bank = filter_bank().to(gains.dtype)  # [4,43]
    kernel = (gains @ bank).to(images.device, images.dtype)  # [N,43]
    n, pad = len(images), kernel.shape[1] // 2
    x = reflect_extend(images, (pad,) * 4)
    x = x.transpose(0, 1)  # [C,N,H+42,W+42]: one filter per image, the same for its channels
    x = F.conv2d(x, kernel[:, None, None, :], groups=n)
    x = F.conv2d(x, kernel[:, None, :, None], groups=n)
    return x.transpose(0, 1)


def filter_bank() -> Tensor:
    """[4,43] float64: symmetric filters for [0,pi/8], [pi/8,pi/4], [pi/4,pi/2], [pi/2,pi]; their sum is 1.

    The low-pass of sym2 times its mirror image, H(z) H(1/z) / 2, splits a band in two; applied to the lower
    half at every octave (appendix B).
    """
    low, high = torch.tensor(_BAND_LOW, dtype=torch.float64), torch.tensor(_BAND_HIGH, dtype=torch.float64)
    bands = [torch.ones(1, dtype=torch.float64)]
    for _ in range(3):
        bands = [_convolve(_insert_zeros(band), low) for band in bands]
        bands.append(F.pad(high, ((len(bands[0]) - len(high)) // 2,) * 2))
    return torch.stack(bands)


class _Bilinear(torch.autograd.Function):
    """Sampling is linear in the images; its adjoint is the other class, and the adjoint of that is this."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.shape = images.shape
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (grid,) = ctx.saved_tensors
        return _BilinearAdjoint.apply(gradient, grid, ctx.shape), None


class _BilinearAdjoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gradient: Tensor, grid: Tensor, shape: torch.Size) -> Tensor:
        ctx.save_for_backward(grid)
        # The images' values matter for the gradient of the grid alone, which is not asked for.
        return torch.ops.aten.grid_sampler_2d_backward(
            gradient.contiguous(), gradient.new_zeros(shape), grid, 0, 0, False, [True, False]
        )[0]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (grid,) = ctx.saved_tensors
        return _Bilinear.apply(gradient, grid), None, None


def _source_of_first_pixel(inverse: Tensor, height: int, width: int) -> Tensor:
    """[N,2]: where (x, y) = (0, 0) of the output lies in the input, in pixel indices."""
    centre = torch.tensor([(width - 1) / 2, (height - 1) / 2], dtype=inverse.dtype)
    return inverse[:, :2, 2] + centre - inverse[:, :2, :2] @ centre


def _between_upsampled(inverse: Tensor) -> Tensor:
    """`inverse` [N,3,3] for places in the 2x image, which lie _OFFSET further on in the image."""
    offset = torch.full((2,), _OFFSET, dtype=inverse.dtype)
    matrix = inverse.clone()
    matrix[:, :2, 2] += inverse[:, :2, :2] @ offset - offset
    return matrix


def _centred_positions(size: int, *, like: Tensor) -> Tensor:
    """Pixel positions, from the centre, of the samples of a 2x image and the _EDGE around it: [2*size+10]."""
    samples = 2 * size + 2 * _EDGE
    return (torch.arange(samples, device=like.device, dtype=like.dtype) + (1 - samples) / 2) / 2


def _reflect(index: Tensor, size: int) -> Tensor:
    """Indices beyond [0, size) folded back into it, mirrored about the first and the last one."""
    period = max(2 * (size - 1), 1)
    index = index.remainder(period)
    return torch.where(index < size, index, period - index)


def _planes(images: Tensor) -> Tensor:
    """[N,C,H,W] -> [1,N*C,H,W] on a CPU, where that is 3.5 times as fast to filter, else [N*C,1,H,W]."""
    planes = images.flatten(0, 1)
    return planes[None] if images.device.type == "cpu" else planes[:, None]


def _sym6(*, like: Tensor) -> Tensor:
    return torch.tensor(SYM6, dtype=torch.float64).to(like.device, like.dtype)


def _insert_zeros(taps: Tensor) -> Tensor:
    """[K] -> [2K-1]."""
    return torch.stack([taps, torch.zeros_like(taps)], dim=1).flatten()[:-1]


def _convolve(a: Tensor, b: Tensor) -> Tensor:
    return F.conv1d(a[None, None], b.flip(0)[None, None], padding=len(b) - 1)[0, 0]
