"""Losses of adversarial training, each a pure function of logits or of a differentiable network output."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def nonsaturating_generator_loss(fake_logits: Tensor) -> Tensor:
    """-log sigmoid(D(G(z))) per sample: logits [N] or [N,1] -> [N] (Goodfellow et al. 2014)."""
    return F.softplus(-fake_logits).flatten()


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-log sigmoid(D(x)) - log(1 - sigmoid(D(G(z)))) per sample, [N] each -> [N]."""
    return F.softplus(-real_logits).flatten() + F.softplus(fake_logits).flatten()


def relativistic_loss(logits: Tensor, others: Tensor) -> Tensor:
    """-log sigmoid(D(a) - D(b)) per pair, [N] or [N,K] each -> [N], mean over K (R3GAN, Huang et al. 2024).

    The discriminator's with a real and b generated; the generator's the other way round.
    """
    return F.softplus(others - logits).reshape(len(logits), -1).mean(dim=1)


def hinge_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """max(0, 1 - D(x)) + max(0, 1 + D(G(z))) per sample, [N,K] each -> [N], mean over K (Lim & Ye 2017)."""
    return (F.relu(1 - real_logits) + F.relu(1 + fake_logits)).flatten(1).mean(dim=1)


def hinge_generator_loss(fake_logits: Tensor) -> Tensor:
    """-D(G(z)) per sample, [N,K] -> [N], mean over K."""
    return -fake_logits.flatten(1).mean(dim=1)


def r1_penalty(logits: Tensor, images: Tensor) -> Tensor:
    """|dD/dx|^2 per sample, to be weighted by gamma / 2 (Mescheder et al. 2018, Eq. 9); of fakes, it is R2.

    images [N,C,H,W], which require a gradient and from which the logits were computed -> [N]. Differentiable.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3))


def path_lengths(images: Tensor, ws: Tensor, noise: Tensor) -> Tensor:
    """|J_w^T y|, root of the mean over layers of its squared norm (StyleGAN2, Eq. 4 and appendix B).

    images [N,C,H,W] computed from ws [N,L,D]; noise y: N(0, 1) of the images' shape, which is divided by
    sqrt(H * W) here -> [N]. Differentiable.
    """
    scaled = noise / math.sqrt(images.shape[2] * images.shape[3])
    (gradient,) = torch.autograd.grad((images * scaled).sum(), ws, create_graph=True)
    return gradient.square().sum(dim=2).mean(dim=1).sqrt()


def mix_styles(ws: Tensor, others: Tensor, cutoff: int) -> Tensor:
    """Style mixing: ws [N,L,D], from layer `cutoff` on those of `others` (Karras et al. 2019, 3.1)."""
    return torch.cat([ws[:, :cutoff], others[:, cutoff:]], dim=1)
