"""Losses of StarGAN v2 beyond the adversarial ones, each a pure function with one value per sample."""

from __future__ import annotations

from torch import Tensor


def style_reconstruction_loss(predicted: Tensor, style: Tensor) -> Tensor:
    """mean |E(G(x, s), y) - s| -> [N] (Choi et al. 2020, Eq. 2).

    Style codes [N,D] of a translated image and of its style.
    """
    return (predicted - style).abs().mean(dim=1)


def diversity_loss(images: Tensor, others: Tensor) -> Tensor:
    """mean |G(x, s1) - G(x, s2)| -> [N], to be maximised (Choi et al. 2020, Eq. 3).

    Images [N,C,H,W] of two styles.
    """
    return (images - others).abs().mean(dim=(1, 2, 3))


def cycle_loss(reconstructed: Tensor, images: Tensor) -> Tensor:
    """mean |x - G(G(x, s), E(x, y))|: images [N,C,H,W] -> [N] (Choi et al. 2020, Eq. 4)."""
    return (reconstructed - images).abs().mean(dim=(1, 2, 3))


def diversity_weight(weight: float, nimg: int, *, decay_kimg: float | None) -> float:
    """The weight of the diversity loss after nimg images: falls linearly from `weight` to 0 at decay_kimg.

    A function of the image count alone, so that a resumed run has it right. None: the weight stays.
    """
    if decay_kimg is None:
        return weight
    return weight * max(1 - nimg / (decay_kimg * 1000), 0.0)
