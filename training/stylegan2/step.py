"""What one StyleGAN2 step draws and computes: each phase's loss for some granules of samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from configs.stylegan2 import Augmentation, StyleGAN2Loss
from ganmod.data.seeding import draw, draw_granules, granule_normals
from ganmod.stylegan2 import Discriminator, Generator
from training.augment.ada_augment import augment
from training.augment.ada_draw import augment_pipe, draw_augmentation
from training.augment.diffaugment import diffaugment, draw_diffaugment
from training.gan_losses import (
    discriminator_loss,
    mix_styles,
    nonsaturating_generator_loss,
    path_lengths,
    r1_penalty,
)

ALL = slice(None)


class Fakes(NamedTuple):
    images: Tensor  # [N,3,H,W]
    ws: Tensor  # [N,num_ws,w_dim]
    labels: Tensor | None  # [N,c_dim]


@dataclass(frozen=True)
class Draws:
    """The random numbers of one step, by purpose and granule.

    granule: samples in one. step: its index, which seeds what a whole batch shares. labels: all labels of the
    data, from which those of fakes are drawn, None without labels.
    """

    seed: int
    step: int
    granule: int
    device: torch.device
    dtype: torch.dtype
    labels: Tensor | None

    def normals(self, purpose: str, granules: Sequence[int], shape: Sequence[int]) -> Tensor:
        """N(0,1) [len(granules) * granule, *shape]."""
        numbers = granule_normals(self.seed, purpose, granules, self.granule, shape, self.device)
        return numbers.to(self.dtype)

    def classes(self, purpose: str, granules: Sequence[int]) -> Tensor | None:
        """Labels of fakes, drawn from those of the data: [len(granules) * granule, c_dim], or None."""
        if self.labels is None:
            return None
        indices = [
            draw(self.seed, f"labels {purpose}", g).integers(len(self.labels), size=self.granule)
            for g in granules
        ]
        rows = torch.cat([torch.from_numpy(i) for i in indices])
        return self.labels[rows].to(self.device, self.dtype)

    def noise(self, purpose: str, granules: Sequence[int], G: Generator) -> list[Tensor | None]:
        """One noise image per layer and sample, from one draw per granule."""
        shapes = G.synthesis.noise_shapes()
        sizes = [height * width for height, width in shapes]
        flat = self.normals(f"noise {purpose}", granules, [sum(sizes)])
        return [
            part.reshape(-1, 1, *shape) for part, shape in zip(flat.split(sizes, dim=1), shapes, strict=True)
        ]

    def cutoff(self, purpose: str, num_ws: int, probability: float) -> int:
        """The first layer that style mixing takes from other latents: one for the batch; num_ws for none."""
        rng = draw(self.seed, f"mixing {purpose}", self.step)
        mixed, cutoff = rng.random() < probability, int(rng.integers(1, num_ws))
        return cutoff if mixed else num_ws


@dataclass(frozen=True)
class Augmenter:
    """Draws and applies the configured augmentation, at strength p."""

    config: Augmentation
    p: float

    def __call__(self, images: Tensor, draws: Draws, purpose: str, granules: Sequence[int]) -> Tensor:
        """images [N,3,H,W] in [-1,1], N the samples of `granules` -> the same, augmented."""
        kind = self.config.kind
        if kind == "none" or (kind != "diffaugment" and self.p == 0):
            return images
        size = (images.shape[2], images.shape[3])
        if kind == "diffaugment":
            policy = self.config.diffaugment_policy
            params = draw_granules(
                lambda rng: draw_diffaugment(rng, draws.granule, policy=policy, image_shape=size),
                seed=draws.seed,
                purpose=f"augment {purpose}",
                first=granules[0],
                count=len(granules),
            )
            return diffaugment(images, params)
        spec = augment_pipe(self.config.pipe)
        drawn = draw_granules(
            lambda rng: draw_augmentation(rng, draws.granule, self.p, spec=spec, image_shape=size),
            seed=draws.seed,
            purpose=f"augment {purpose}",
            first=granules[0],
            count=len(granules),
        )
        return augment(images, drawn)


class FirstOrder(NamedTuple):
    """Synthesis and discriminator for the phases that are differentiated once, and so may be compiled."""

    synthesis: Callable[..., Tensor]  # ws, noise= -> images
    discriminator: Callable[..., Tensor]  # images, labels -> logits

    @classmethod
    def of(cls, G: Generator, D: Discriminator, *, compiled: bool) -> FirstOrder:
        """The networks themselves, or compiled; their parameters and state dicts stay as they are."""
        return cls(torch.compile(G.synthesis), torch.compile(D)) if compiled else cls(G.synthesis, D)


def fakes(
    G: Generator,
    draws: Draws,
    purpose: str,
    granules: Sequence[int],
    *,
    mixing_prob: float,
    synthesis: Callable[..., Tensor] | None = None,
    chosen: slice = ALL,
) -> Fakes:
    """Generated images of some granules, with style mixing (Karras et al. 2019, section 3.1).

    synthesis: stands for G.synthesis. chosen: which of the granules' samples to make.
    """
    labels = draws.classes(purpose, granules)
    labels = None if labels is None else labels[chosen]
    ws = G.mapping(draws.normals(f"z {purpose}", granules, [G.z_dim])[chosen], labels)
    if mixing_prob > 0:
        cutoff = draws.cutoff(purpose, G.num_ws, mixing_prob)
        if cutoff < G.num_ws:
            others = G.mapping(draws.normals(f"mixed z {purpose}", granules, [G.z_dim])[chosen], labels)
            ws = mix_styles(ws, others, cutoff)
    noise = [None if n is None else n[chosen] for n in draws.noise(purpose, granules, G)]
    synthesis = G.synthesis if synthesis is None else synthesis
    return Fakes(synthesis(ws, noise=noise), ws, labels)


def generator_phase(
    G: Generator,
    networks: FirstOrder,
    config: StyleGAN2Loss,
    draws: Draws,
    augmenter: Augmenter,
    granules: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """Adversarial loss per sample [N], and the first w of every sample [N,w_dim], for the mean w."""
    mixing = config.style_mixing_prob
    made = fakes(G, draws, "G", granules, mixing_prob=mixing, synthesis=networks.synthesis)
    logits = networks.discriminator(augmenter(made.images, draws, "G", granules), made.labels)
    return nonsaturating_generator_loss(logits), made.ws[:, 0].detach()


def path_length_phase(
    G: Generator,
    config: StyleGAN2Loss,
    draws: Draws,
    granules: Sequence[int],
    first: int,
    mean: Tensor,
) -> tuple[Tensor, Tensor]:
    """Path length penalty per sample [M], and the lengths [M], of every second sample of the step.

    first: position in the step of the first sample; the even ones take part, so that M may be 0.
    Differs from the published code: `mean`, the running mean length, is that before the step, so that the
    penalty does not depend on how the batch is split.
    """
    even = slice(first % 2, None, 2)
    if first % 2 >= len(granules) * draws.granule:
        empty = mean.new_zeros(0)
        return empty, empty
    mixing = config.style_mixing_prob
    made = fakes(G, draws, "path length", granules, mixing_prob=mixing, chosen=even)
    noise = draws.normals("path length directions", granules, made.images.shape[1:])[even]
    lengths = path_lengths(made.images, made.ws, noise)
    return (lengths - mean).square(), lengths.detach()


def discriminator_phase(
    G: Generator,
    networks: FirstOrder,
    config: StyleGAN2Loss,
    draws: Draws,
    augmenter: Augmenter,
    granules: Sequence[int],
    images: Tensor,
    labels: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss per sample [N], logits of the real images and of the fakes [N,1]. images [N,3,H,W] in [-1,1]."""
    mixing = config.style_mixing_prob
    with torch.no_grad():
        made = fakes(G, draws, "D", granules, mixing_prob=mixing, synthesis=networks.synthesis)
    fake_logits = networks.discriminator(augmenter(made.images, draws, "D fake", granules), made.labels)
    real_logits = networks.discriminator(augmenter(images, draws, "D real", granules), labels)
    return discriminator_loss(real_logits, fake_logits), real_logits.detach(), fake_logits.detach()


def r1_phase(
    D: Discriminator,
    draws: Draws,
    augmenter: Augmenter,
    granules: Sequence[int],
    images: Tensor,
    labels: Tensor | None,
) -> Tensor:
    """|dD/dx|^2 per sample [N], with respect to the images before augmentation."""
    images = images.detach().requires_grad_()
    logits = D(augmenter(images, draws, "R1", granules), labels)
    return r1_penalty(logits, images)
