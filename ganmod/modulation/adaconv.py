"""Adaptive convolution: kernels predicted from the style (Chandran et al., CVPR 2021)."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

from torch import Tensor

from ganmod.layers import StaticConv2d
from ganmod.modulation import functional
from ganmod.modulation.base import Modulation, StyleSpec, check_style
from ganmod.modulation.functional import Normalize
from ganmod.modulation.kernel_predictor import KernelPredictor
from ganmod.modulation.per_sample_conv import ConvImpl
from ganmod.modulation.registry import register_modulation
from ganmod.modulation.statistics import Statistics

LayerNormalize = Literal[Normalize, "demod_output"]


class AdaConvParams(NamedTuple):
    depthwise: Tensor  # [N,C,C/g,K,K]
    pointwise: Tensor  # [N,C,C/g,1,1]
    bias: Tensor  # [N,C]


def largest_group_size(channels: int, kernel_budget: int) -> int:
    """Largest divisor of channels that is <= kernel_budget / channels, and at least 1."""
    limit = max(kernel_budget // channels, 1)
    return max(d for d in range(1, min(limit, channels) + 1) if channels % d == 0)


@register_modulation("adaconv")
class AdaConv(Modulation):
    """Convolves the normalised features with depthwise and pointwise kernels predicted from the style.

    kernel_budget: predicted kernel maps per layer; a group holds the largest divisor of C that is <= budget /
    C channels. None takes the host's widest layer: 512, 128, 32, 8 groups at 512, 256, 128, 64 channels.
    normalize: "instance", "none" or "demod" as in `functional.adaconv`; "demod_output" is "none" there, and
    scales the static convolution's outputs as weight demodulation does, with the kernels' energies for
    squared scales: with diagonal 1 x 1 kernels and no bias it is weight demodulation.
    lr_mul: learning rate of the predictor as a multiple of the others', under Adam.
    """

    def __init__(
        self,
        channels: int,
        style: StyleSpec,
        *,
        kernel_size: int = 3,
        kernel_budget: int | None = None,
        normalize: LayerNormalize = "instance",
        residual_gain: float = 0.1,
        lr_mul: float = 1.0,
        eps: float = 1e-5,
        impl: ConvImpl = "auto",
    ) -> None:
        super().__init__(channels, style)
        if kernel_size % 2 == 0 or kernel_size < 1:
            raise ValueError(f"kernel_size is {kernel_size}, expected an odd number: 1, 3, 5 ...")
        known = [*get_args(Normalize), "demod_output"]
        if normalize not in known:
            raise ValueError(f"unknown normalize {normalize!r}: expected one of {', '.join(known)}")
        if lr_mul <= 0:
            raise ValueError(f"lr_mul is {lr_mul}, expected a positive number such as 1 or 0.3")
        self.normalize: LayerNormalize = normalize
        self.convolves_plainly = normalize != "demod_output"
        self.eps = eps
        self.impl: ConvImpl = impl
        self.uses_statistics = normalize == "instance"
        self.reach = kernel_size // 2
        budget = kernel_budget if kernel_budget is not None else max(style.host_width, channels)
        self.kernel_predictor = KernelPredictor(
            channels,
            style,
            kernel_size=kernel_size,
            group_size=largest_group_size(channels, budget),
            residual_gain=residual_gain,
            lr_mul=lr_mul,
        )

    def predict(self, style: Tensor) -> AdaConvParams:
        check_style(style, self.style)
        return AdaConvParams(*self.kernel_predictor(style))

    @property
    def input_normalize(self) -> Normalize:
        """What is normalised before the static convolution, as `functional.adaconv` names it."""
        return "none" if self.normalize == "demod_output" else self.normalize

    def modulate(self, x: Tensor, params: AdaConvParams) -> Tensor:
        return self._convolved(x, params, None)

    def modulate_with(self, x: Tensor, params: AdaConvParams, statistics: Statistics) -> Tensor:
        return self._convolved(x, params, statistics)

    def _convolved(self, x: Tensor, params: AdaConvParams, statistics: Statistics | None) -> Tensor:
        return functional.adaconv(
            x,
            params.depthwise,
            params.pointwise,
            params.bias,
            normalize=self.input_normalize,
            eps=self.eps,
            impl=self.impl,
            statistics=statistics,
        )

    def convolve(self, x: Tensor, conv: StaticConv2d, params: AdaConvParams) -> Tensor:  # type: ignore[override]
        out = conv(x)
        if self.normalize != "demod_output":
            return out
        energies = functional.kernel_energies(params.depthwise, params.pointwise)
        scale = functional.demodulation_of_energies(conv.scaled_weight, energies)  # [N,O]
        return out * scale[:, :, None, None].to(out.dtype)
