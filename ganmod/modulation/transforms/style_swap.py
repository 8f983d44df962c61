"""Style-Swap (Chen & Schmidt 2016)."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from configs.sections import Positive
from ganmod.layers import PaddingMode
from ganmod.modulation.base import Modulation, StyleKind, StyleSpec, check_style
from ganmod.modulation.registry import register_modulation
from ganmod.modulation.transforms.whitening import no_export

_NEARBY = 2**27  # scores of all patches at as many pixels as fit in 512 MiB


class SwapParams(NamedTuple):
    features: Tensor  # [N,C,h,w], of the style


@register_modulation("style_swap")
class StyleSwap(Modulation):
    """Replaces each patch of the features by the nearest patch of a style's (Chen & Schmidt 2016).

    Args:
        patch_size: in pixels of the features, odd.
    """

    style_kinds: ClassVar[tuple[StyleKind, ...]] = ("features",)

    def __init__(self, channels: int, style: StyleSpec, *, patch_size: Positive = 3) -> None:
        super().__init__(channels, style)
        check_patch_size(patch_size)
        self.needs_whole_image = True
        self.mixes = False
        self.patch_size = patch_size

    def predict(self, style: Tensor) -> SwapParams:
        check_style(style, self.style)
        return SwapParams(style)

    def use_exportable_form(self, *, any_batch: bool = True, padding_mode: PaddingMode = "reflect") -> None:
        """See `Modulation`: ValueError, as the number of patches is the style's."""
        raise no_export(self)

    def modulate(self, x: Tensor, params: SwapParams) -> Tensor:
        return swap_patches(x, params.features.to(x.dtype), size=self.patch_size)


def check_patch_size(size: int) -> None:
    """ValueError for an even size."""
    if size % 2 == 0:
        raise ValueError(f"patch_size is {size}, expected an odd number: 1, 3, 5 ...")


def swap_patches(content: Tensor, style: Tensor, *, size: int) -> Tensor:
    """Each patch of the content becomes the style's nearest one; overlaps are averaged.

    The nearest has the largest normalised cross-correlation: the style's patches are divided by their norm,
    and the content's norm does not matter.

    Args:
        content: [N,C,H,W].
        style: [N,C,h,w], of any size from one patch on.
        size: side of a patch, at steps of one pixel.

    Returns:
        [N,C,H,W].

    Raises:
        ValueError: for features smaller than a patch.
    """
    for name, x in (("content", content), ("style", style)):
        if min(x.shape[2:]) < size:
            raise ValueError(
                f"the {name}'s features have {x.shape[2]} x {x.shape[3]} pixels, expected at least one patch "
                f"of {size} x {size}: take a larger image or a smaller patch_size"
            )
    swapped = []
    for c, s in zip(content, style, strict=True):
        patches = F.unfold(s[None], size)[0]  # [C*K*K,p]
        swapped.append(_paste(patches, nearest_patches(c, patches, size), size))
    return torch.stack(swapped)


def nearest_patches(content: Tensor, patches: Tensor, size: int) -> Tensor:
    """The number of the style's nearest patch for each of the content's.

    Args:
        content: [C,H,W].
        patches: of the style, [C*K*K,p], numbered row by row.
        size: side of a patch.

    Returns:
        int64 [H - size + 1, W - size + 1].
    """
    directions = patches / patches.norm(dim=0).clamp_min(1e-12)
    kernels = directions.T.reshape(-1, len(content), size, size)
    width = content.shape[2] - size + 1
    rows = max(_NEARBY // (len(kernels) * width), 1)  # of scores at a time
    height = content.shape[1] - size + 1
    found = []
    for start in range(0, height, rows):
        strip = content[None, :, start : min(start + rows, height) + size - 1]
        found.append(F.conv2d(strip, kernels)[0].argmax(dim=0))
    return torch.cat(found)


def _paste(patches: Tensor, index: Tensor, size: int) -> Tensor:
    """Patches [C*K*K,p] by their numbers [H',W'], overlaps averaged -> [C,H,W]."""
    full = index.shape[0] + size - 1, index.shape[1] + size - 1
    summed = F.fold(patches[:, index.flatten()][None], full, size)[0]
    ones = patches.new_ones((1, size * size, index.numel()))
    return summed / F.fold(ones, full, size)[0]
