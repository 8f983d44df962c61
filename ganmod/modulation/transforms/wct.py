"""The whitening and colouring transform (Li et al., NeurIPS 2017)."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from torch import Tensor

from configs.sections import PositiveFloat
from ganmod.layers import PaddingMode
from ganmod.modulation.base import Modulation, StyleKind, StyleSpec, check_style
from ganmod.modulation.registry import register_modulation
from ganmod.modulation.transforms.whitening import color, matrix_powers, moments, no_export, whiten


class WCTParams(NamedTuple):
    """Of a style: what colours white features."""

    root: Tensor  # [N,C,C], the covariance's symmetric square root
    mean: Tensor  # [N,C,1]


@register_modulation("wct")
class WCT(Modulation):
    """Whitens the features and colours them with a style's covariance (Li et al. 2017).

    Args:
        least_eigenvalue: smaller ones are dropped, as a share of a covariance's largest.
    """

    style_kinds: ClassVar[tuple[StyleKind, ...]] = ("features",)

    def __init__(self, channels: int, style: StyleSpec, *, least_eigenvalue: PositiveFloat = 1e-5) -> None:
        super().__init__(channels, style)
        self.needs_whole_image = True
        self.least = least_eigenvalue

    def predict(self, style: Tensor) -> WCTParams:
        check_style(style, self.style)
        _, mean, covariance = moments(style)
        (root,) = matrix_powers(covariance, 0.5, least=self.least)
        return WCTParams(root, mean)

    def use_exportable_form(self, *, any_batch: bool = True, padding_mode: PaddingMode = "reflect") -> None:
        """See `Modulation`: ValueError, as files for export hold no eigenvalues."""
        raise no_export(self)

    def modulate(self, x: Tensor, params: WCTParams) -> Tensor:
        white = whiten(x, least=self.least)  # Eq. 2: E_c D_c^-1/2 E_c^T f_c
        return color(white, params.root, params.mean).to(x.dtype)  # Eq. 3: E_s D_s^1/2 E_s^T f_c + m_s
