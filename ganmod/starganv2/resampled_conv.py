"""StarGAN v2's 3 x 3 convolutions combined with a resampling by two.

Averaging 2 x 2 pixels after a convolution, and repeating pixels before it, are convolutions with a kernel of
four equal numbers. Composed with the 3 x 3 kernel they give a 4 x 4 one of stride two: 16 products instead of
36, and no image of the larger size in between. Forward and backward on one core with AVX-512, channels last,
32 channels at 256 px to 256 at 32 px, this is 1.8 to 2.2 times (pooling) and 1.9 to 2.6 times (upsampling) as
fast as two steps in float32, 2.0 to 2.2 and 1.1 to 2.5 times in bfloat16.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def conv_avg_pool(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A convolution with zero padding, then the mean of 2 x 2 pixels.

    x [N,C,H,W], H and W even, weight [O,C,3,3], bias [O] -> [N,O,H/2,W/2].
    """
    return F.conv2d(x, _double(weight) / 4, bias, stride=2, padding=1)


def nearest_conv(x: Tensor, weight: Tensor) -> Tensor:
    """Nearest upsampling by 2, then a convolution with zero padding.

    x [N,C,H,W], weight [O,C,3,3] -> [N,O,2H,2W].
    """
    kernel = _double(weight).flip(2, 3).transpose(0, 1)  # [C,O,4,4], a transposed convolution's
    return F.conv_transpose2d(x, kernel, stride=2, padding=1)


def _double(weight: Tensor) -> Tensor:
    """[O,C,3,3] convolved with 2 x 2 ones -> [O,C,4,4]."""
    rows = F.pad(weight, (0, 0, 0, 1)) + F.pad(weight, (0, 0, 1, 0))  # [O,C,4,3]
    return F.pad(rows, (0, 1)) + F.pad(rows, (1, 0))
