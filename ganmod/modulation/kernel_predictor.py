"""The network that turns a style into AdaConv's depthwise, pointwise and bias kernels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganmod.layers import EqualizedLinear
from ganmod.modulation.base import StyleSpec, pool_style


class KernelPredictor(nn.Module):
    """Style [N,D] or [N,D,S,S] -> depthwise [N,C,C/g,K,K], pointwise [N,C,C/g,1,1], bias [N,C].

    The depthwise head is a convolution where the descriptor is as large as the kernel (S = K), a transposed
    convolution where it is smaller, a valid convolution where it is larger; the two other heads read the
    pooled style (Chandran et al. 2021, section 4.2).

    Differs from the paper: kernels are the identity (delta depthwise, identity pointwise) plus a predicted
    residual, and the depthwise head has a bias per kernel element. With kernels predicted from scratch and
    a scalar bias per kernel, the output of an untrained decoder shows nothing of its content.

    Args:
        group_size: channels of a group, C/g.
        residual_gain: initial size of the residual.
        lr_mul: as in `EqualizedLinear`.
        rank: R; the depthwise residual is the sum of R learned kernels [C,C/g,K,K], weighted by numbers that
            are linear in the pooled style. None predicts every element.
        gate: whether a learned factor per output channel, 0 at first, multiplies both kernels' residuals.
        zero_sum: whether the taps of each depthwise residual sum to 0.
    """

    def __init__(
        self,
        channels: int,
        style: StyleSpec,
        *,
        kernel_size: int,
        group_size: int,
        residual_gain: float,
        lr_mul: float = 1.0,
        rank: int | None = None,
        gate: bool = False,
        zero_sum: bool = False,
    ) -> None:
        super().__init__()
        self.channels, self.kernel_size, self.group_size = channels, kernel_size, group_size
        self.style_size = style.size if style.kind == "map" else 1
        maps = channels * group_size
        taps = abs(kernel_size - self.style_size) + 1
        if self.style_size == kernel_size:
            taps = min(3, kernel_size)
        # Residuals are summed over the group (depthwise, over the taps, too): dividing by the root of their
        # number keeps the deviation from the identity at residual_gain for every group and kernel size.
        depthwise_std = residual_gain / (group_size * kernel_size**2) ** 0.5
        pointwise_std = residual_gain / group_size**0.5
        self.basis = self.basis_weights = None
        if rank is None:
            weight = torch.randn(maps, style.dim, taps, taps) * (depthwise_std / lr_mul)
            self.depthwise_weight = nn.Parameter(weight)
        else:
            kernels = torch.randn(rank, maps * kernel_size**2)
            self.basis = nn.Parameter(kernels * (depthwise_std / rank**0.5 / lr_mul))
            self.basis_weights = EqualizedLinear(style.dim, rank, lr_mul=lr_mul, bias=False)
        self.depthwise_bias = nn.Parameter(torch.zeros(channels, group_size, kernel_size, kernel_size))
        self.lr_mul = lr_mul
        self.depthwise_gain = lr_mul * (style.dim * min(taps, self.style_size) ** 2) ** -0.5
        self.pointwise = EqualizedLinear(style.dim, maps, init_std=pointwise_std, lr_mul=lr_mul)
        self.bias = EqualizedLinear(style.dim, channels, init_std=residual_gain, lr_mul=lr_mul)
        self.gate = nn.Parameter(torch.zeros(channels)) if gate else None
        self.zero_sum = zero_sum

        identity = torch.eye(group_size).repeat(channels // group_size, 1)  # [C,C/g]: in-group identity
        self.identity: Tensor
        self.register_buffer("identity", identity, persistent=False)

    @torch.no_grad()
    def fold_gain_(self) -> None:
        """Fold the depthwise head's gain into its weight and keep lr_mul; see `layers.fold_gains`."""
        if self.basis is None:
            self.depthwise_weight.mul_(self.depthwise_gain / self.lr_mul)
            self.depthwise_gain = self.lr_mul

    def forward(self, style: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        n, c, g, k = style.shape[0], self.channels, self.group_size, self.kernel_size
        pooled = pool_style(style)
        depthwise = self._depthwise_residual(style).reshape(n, c, g, k, k) + self.depthwise_bias * self.lr_mul
        if self.zero_sum:
            depthwise = depthwise - depthwise.mean(dim=(3, 4), keepdim=True)
        pointwise = self.pointwise(pooled).reshape(n, c, g)
        if self.gate is not None:
            gate = (self.gate * self.lr_mul)[:, None]  # [C,1]
            depthwise, pointwise = depthwise * gate[..., None, None], pointwise * gate
        delta = F.pad(self.identity[..., None, None], (k // 2,) * 4)  # [C,C/g,K,K]
        return delta + depthwise, (pointwise + self.identity)[..., None, None], self.bias(pooled)

    def _depthwise_residual(self, style: Tensor) -> Tensor:
        if self.basis is not None and self.basis_weights is not None:
            return self.basis_weights(pool_style(style)) @ (self.basis * self.lr_mul)
        style = style[:, :, None, None] if style.ndim == 2 else style
        weight = self.depthwise_weight * self.depthwise_gain
        if self.style_size == self.kernel_size:
            return F.conv2d(style, weight, padding=weight.shape[-1] // 2)
        if self.style_size < self.kernel_size:
            return F.conv_transpose2d(style, weight.transpose(0, 1))
        return F.conv2d(style, weight)
