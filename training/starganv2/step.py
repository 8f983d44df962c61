"""The draws and losses of one StarGAN v2 step: its discriminator and generator phases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ganmod.data.domain_images import DomainItem
from ganmod.data.seeding import group_normals
from ganmod.starganv2 import Discriminator, Generator, MappingNetwork, StyleEncoder
from ganmod.starganv2.generator import Content
from training.gan_losses import discriminator_loss, nonsaturating_generator_loss, r1_penalty
from training.starganv2.losses import cycle_loss, diversity_loss, style_reconstruction_loss


class Networks(NamedTuple):
    """The four networks; their names are those in checkpoints and model files."""

    G: Generator
    mapping: MappingNetwork
    style_encoder: StyleEncoder
    D: Discriminator

    def averaged(self) -> dict[str, nn.Module]:
        """The three of which a moving average is kept, by name."""
        return {"G": self.G, "mapping": self.mapping, "style_encoder": self.style_encoder}


class FirstOrder(NamedTuple):
    """The networks where they are differentiated once, and so may be compiled; R1 needs the plain D."""

    G: Callable[..., Tensor]
    content: Callable[..., Content]  # of G, for images that get several styles
    stylize: Callable[..., Tensor]  # of G
    style_encoder: Callable[..., Tensor]
    D: Callable[..., Tensor]

    @classmethod
    def of(cls, networks: Networks, *, compiled: bool) -> FirstOrder:
        """The networks themselves, or compiled; their parameters and state dicts stay as they are."""
        G = networks.G
        plain: tuple[Callable[..., Any], ...] = G, G.content, G.stylize, networks.style_encoder, networks.D
        return cls(*map(torch.compile, plain)) if compiled else cls(*plain)


class Samples(NamedTuple):
    """The inputs of one pass; N of each."""

    images: Tensor  # [N,3,S,S] in [-1,1]
    domains: Tensor  # [N]
    references: tuple[Tensor, Tensor]  # [N,3,S,S] each, of the target domain
    latents: tuple[Tensor, Tensor]  # [N,latent_dim] each
    targets: Tensor  # [N]


class DiscriminatorLosses(NamedTuple):
    """Terms of the discriminator's loss [N] and its logits [N,1], by the names of the statistics."""

    D: Tensor  # adversarial
    r1: Tensor  # |dD/dx|^2 on the real images
    logits_real: Tensor
    logits_fake: Tensor


class GeneratorLosses(NamedTuple):
    """Terms of the generator's loss, [N] each."""

    adversarial: Tensor
    style: Tensor
    diversity: Tensor
    cycle: Tensor

    def total(self, *, style: float, diversity: float, cycle: float) -> Tensor:
        """adversarial + weighted terms [N]; diversity is maximised (Choi et al. 2020, Eq. 5)."""
        return self.adversarial + style * self.style - diversity * self.diversity + cycle * self.cycle


@dataclass(frozen=True)
class SampleMaker:
    """From items of the stream to samples; latents belong to positions, so that no process shares them."""

    seed: int
    latent_dim: int
    device: torch.device
    dtype: torch.dtype
    memory_format: torch.memory_format

    def __call__(self, items: DomainItem, positions: Sequence[int]) -> Samples:
        """items: a batch of the stream, whose positions are given."""

        def images(x: Tensor) -> Tensor:
            x = x.to(self.device, non_blocking=True).to(self.dtype)
            return x.div(127.5).sub(1).contiguous(memory_format=self.memory_format)

        return Samples(
            images(items.image),
            items.domain.to(self.device),
            (images(items.reference), images(items.other_reference)),
            (self.latents("z", positions), self.latents("other z", positions)),
            items.target.to(self.device),
        )

    def blank(self, img_size: int) -> Samples:
        """One sample of black images and latents of zeros."""
        image = torch.zeros(1, 3, img_size, img_size, device=self.device, dtype=self.dtype)
        domain = torch.zeros(1, dtype=torch.int64, device=self.device)
        latent = torch.zeros(1, self.latent_dim, device=self.device, dtype=self.dtype)
        return Samples(image, domain, (image, image), (latent, latent), domain)

    def latents(self, purpose: str, positions: Sequence[int]) -> Tensor:
        """z [len(positions),latent_dim] from N(0,1)."""
        z = group_normals(self.seed, purpose, positions, 1, [self.latent_dim], self.device)
        return z.to(self.dtype)


def split_samples(samples: Samples, microbatch: int) -> list[Samples]:
    """The samples in consecutive parts of `microbatch` each."""

    def rows(start: int) -> Samples:
        part = slice(start, start + microbatch)
        (first, second), (z1, z2) = samples.references, samples.latents
        return Samples(
            samples.images[part],
            samples.domains[part],
            (first[part], second[part]),
            (z1[part], z2[part]),
            samples.targets[part],
        )

    return [rows(start) for start in range(0, len(samples.images), microbatch)]


def styles_of(networks: Networks, samples: Samples, which: int, *, from_reference: bool) -> Tensor:
    """Style codes of the target domains [N,style_dim], from the first (0) or second (1) reference or z."""
    if from_reference:
        return networks.style_encoder(samples.references[which], samples.targets)
    return networks.mapping(samples.latents[which], samples.targets)


def discriminator_phase(
    networks: Networks, first_order: FirstOrder, samples: Samples, *, from_reference: bool
) -> DiscriminatorLosses:
    """The terms for translated images in styles from latents or from references."""
    with torch.no_grad():
        style = styles_of(networks, samples, 0, from_reference=from_reference)
        fakes = first_order.G(samples.images, style)
    images = samples.images.detach().requires_grad_()
    real_logits = networks.D(images, samples.domains)
    penalties = r1_penalty(real_logits, images)
    fake_logits = first_order.D(fakes, samples.targets)
    losses = discriminator_loss(real_logits, fake_logits)
    return DiscriminatorLosses(losses, penalties, real_logits.detach(), fake_logits.detach())


def generator_phase(
    networks: Networks, first_order: FirstOrder, samples: Samples, *, from_reference: bool
) -> GeneratorLosses:
    """The four terms of the generator's loss (Choi et al. 2020, section 3.2).

    Styles from latents train G, mapping network and style encoder; styles from references train G alone: the
    two others then take no gradient.
    """
    with torch.set_grad_enabled(not from_reference):
        style = styles_of(networks, samples, 0, from_reference=from_reference)
        source_style = first_order.style_encoder(samples.images, samples.domains)
    content = first_order.content(samples.images)
    fakes = first_order.stylize(content, style)
    logits = first_order.D(fakes, samples.targets)
    predicted = first_order.style_encoder(fakes, samples.targets)
    with torch.no_grad():  # as published: only one of the two images is pushed away from the other
        other_style = styles_of(networks, samples, 1, from_reference=from_reference)
        others = first_order.stylize(content, other_style)
    reconstructed = first_order.G(fakes, source_style)
    return GeneratorLosses(
        nonsaturating_generator_loss(logits),
        style_reconstruction_loss(predicted, style),
        diversity_loss(fakes, others),
        cycle_loss(reconstructed, samples.images),
    )
