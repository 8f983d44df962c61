"""The content's colours in the style's strokes, by luminance or by covariance.

After Gatys et al., "Preserving Color in Neural Artistic Style Transfer" (2016). Images are RGB [N,3,H,W] in
[0,1]. Chroma is RGB minus luma.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ganmod.io.images import LUMA

_STEPS = 20  # of `shift_chroma`: each makes up for what clamping took from the one before


def to_luma(images: Tensor) -> Tensor:
    """Rec. 601 luma: [N,3,H,W] -> [N,1,H,W]."""
    weights = torch.tensor(LUMA, dtype=images.dtype, device=images.device)
    return torch.einsum("nchw,c->nhw", images, weights)[:, None]


def to_grey(images: Tensor) -> Tensor:
    """Repeat the luma of images [N,3,H,W] in all three channels."""
    return to_luma(images).expand_as(images)


def match_luma(style: Tensor, content: Tensor, mask: Tensor | None = None) -> Tensor:
    """Make a style grey, with mean and deviation of the content's luma (Gatys et al. 2016, Eq. 10).

    Args:
        style: [1 or N,3,S,T] -> [N,3,S,T], clamped to [0,1].
        content: [N,3,H,W].
        mask: how much each pixel of the style counts, [1,1,S,T] in [0,1].
    """
    y, target = to_luma(style), to_luma(content)
    dims = (2, 3)
    shares = _shares(style, mask)
    mean = (y * shares).sum(dims, keepdim=True)
    deviation = ((y - mean).square() * shares).sum(dims, keepdim=True).sqrt()
    wanted, spread = target.mean(dims, keepdim=True), target.std(dims, keepdim=True, correction=0)
    matched = (y - mean) * (spread / deviation.clamp_min(1e-3)) + wanted
    return matched.clamp(0, 1).expand(-1, 3, -1, -1)


def with_luma(content: Tensor, stylized: Tensor) -> Tensor:
    """Combine the content's chroma with the stylized image's luma, [N,3,H,W] each -> [N,3,H,W].

    Outside the RGB gamut, the luma is clamped and the chroma kept.
    """
    chroma = content - to_luma(content)
    low, high = -chroma.amin(dim=1, keepdim=True), 1 - chroma.amax(dim=1, keepdim=True)
    return to_luma(stylized).clamp(low, high) + chroma


def match_color(style: Tensor, content: Tensor, mask: Tensor | None = None, *, eps: float = 1e-4) -> Tensor:
    """Match mean and covariance of a style's colours to the content's (CORAL; Gatys et al. 2016, Eq. 1-5).

    Symmetric square roots of the covariances rotate colours as little as possible.

    Args:
        style: [1 or N,3,S,T] -> [N,3,S,T], clamped to [0,1].
        content: [N,3,H,W].
        mask: as for `match_luma`.
        eps: variance added to both, which keeps the noise of a grey style from being amplified to colours.
    """
    s, t = style.flatten(2).double(), content.flatten(2).double()  # [N,3,P]
    shares, equal = (_shares(i.double(), m).flatten(2) for i, m in ((style, mask), (content, None)))
    mean, wanted = (s * shares).sum(dim=2, keepdim=True), t.mean(dim=2, keepdim=True)
    whiten = _power(_covariance(s - mean, shares, eps), -0.5)
    color = _power(_covariance(t - wanted, equal, eps), 0.5)
    matched = (color @ whiten) @ (s - mean) + wanted  # [N,3,P]
    return matched.unflatten(2, style.shape[2:]).clamp(0, 1).to(style.dtype)


def _shares(images: Tensor, mask: Tensor | None) -> Tensor:
    """Weights of the pixels, [1,1,H,W] of sum 1; equal without a mask."""
    weights = images.new_ones((1, 1, *images.shape[2:])) if mask is None else mask.to(images)
    return weights / weights.sum(dim=(2, 3), keepdim=True)


def _covariance(centered: Tensor, shares: Tensor, eps: float) -> Tensor:
    """[N,3,P] of mean 0, shares [1,1,P] -> [N,3,3]."""
    eye = torch.eye(3, dtype=centered.dtype, device=centered.device)
    return (centered * shares) @ centered.transpose(1, 2) + eps * eye


def _power(matrix: Tensor, exponent: float) -> Tensor:
    """A symmetric positive matrix [N,3,3] to a real power."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.pow(exponent)[:, None]) @ vectors.transpose(1, 2)


def shift_chroma(images: Tensor, content: Tensor) -> Tensor:
    """Shift the colours of each image [N,3,H,W] to the content's mean chroma; the mean luma stays.

    The result is clamped to [0,1]; the shift compensates for the clamping.
    """
    target = (content - to_luma(content)).mean(dim=(2, 3), keepdim=True)
    shift = torch.zeros_like(target)
    shifted = images
    for _ in range(_STEPS):
        shift = shift + target - (shifted - to_luma(shifted)).mean(dim=(2, 3), keepdim=True)
        shifted = (images + shift).clamp(0, 1)
    return shifted
