"""The style decorator of Avatar-Net (Sheng et al., CVPR 2018)."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from torch import Tensor

from configs.sections import Positive, PositiveFloat
from ganmod.layers import PaddingMode, without_autocast
from ganmod.modulation.base import Modulation, StyleKind, StyleSpec, check_style
from ganmod.modulation.registry import register_modulation
from ganmod.modulation.transforms.style_swap import check_patch_size, swap_patches
from ganmod.modulation.transforms.whitening import color, matrix_powers, moments, no_export, whiten


class DecoratorParams(NamedTuple):
    white: Tensor  # [N,C,h,w], the style's features, whitened
    root: Tensor  # [N,C,C], the covariance's symmetric square root
    mean: Tensor  # [N,C,1]


@register_modulation("style_decorator")
class StyleDecorator(Modulation):
    """Whitens both, takes the nearest patches of the style, and colours them (Sheng et al. 2018).

    Args:
        patch_size: in pixels of the features, odd.
        least_eigenvalue: smaller ones are dropped, as a share of a covariance's largest.
    """

    style_kinds: ClassVar[tuple[StyleKind, ...]] = ("features",)

    def __init__(
        self,
        channels: int,
        style: StyleSpec,
        *,
        patch_size: Positive = 5,
        least_eigenvalue: PositiveFloat = 1e-5,
    ) -> None:
        super().__init__(channels, style)
        check_patch_size(patch_size)
        self.needs_whole_image = True
        self.mixes = False
        self.patch_size = patch_size
        self.least = least_eigenvalue

    def predict(self, style: Tensor) -> DecoratorParams:
        check_style(style, self.style)
        centered, mean, covariance = moments(style)
        root, inverse = matrix_powers(covariance, 0.5, -0.5, least=self.least)
        with without_autocast(style.device):
            white = (inverse @ centered).unflatten(2, style.shape[2:])
        return DecoratorParams(white, root, mean)

    def use_exportable_form(self, *, any_batch: bool = True, padding_mode: PaddingMode = "reflect") -> None:
        """See `Modulation`: ValueError, as files for export hold no eigenvalues."""
        raise no_export(self)

    def modulate(self, x: Tensor, params: DecoratorParams) -> Tensor:
        white = whiten(x, least=self.least)  # projection: ZCA of both
        swapped = swap_patches(
            white, params.white.to(white.dtype), size=self.patch_size
        )  # matching, reassembly
        return color(swapped, params.root, params.mean).to(x.dtype)  # reconstruction by the style's kernel
