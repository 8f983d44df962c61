"""The draws and losses of one StyleGAN2 step: each phase for some groups of samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from configs.stylegan2 import Augmentation, ResolvedLoss
from ganmod.data.seeding import draw, draw_groups, group_normals
from ganmod.stylegan2 import Generator
from training.augment.ada_augment import augment
from training.augment.ada_draw import augment_pipe, draw_augmentation
from training.augment.diffaugment import diffaugment, draw_diffaugment
from training.gan_losses import mix_styles, path_lengths, r1_penalty
from training.stylegan2.objective import OBJECTIVES

ALL = slice(None)


class Microbatch(NamedTuple):
    """The samples of one forward and backward pass: N of this process's batch, in whole groups."""

    first: int  # position of the first sample in the step's batch
    groups: Sequence[int]  # their global indices, which seed the draws
    images: Tensor  # real ones, [N,3,H,W] in [-1,1]
    labels: Tensor | None  # of the real images, [N,c_dim]

    @property
    def reals(self) -> tuple[Sequence[int], Tensor, Tensor | None]:
        """Groups, real images and their labels."""
        return self.groups, self.images, self.labels


def split_step(
    nimg: int,
    groups: Sequence[int],
    group_size: int,
    microbatch: int,
    images: Tensor,
    labels: Tensor | None,
) -> list[Microbatch]:
    """This process's groups and real images in consecutive microbatches of `microbatch` samples.

    nimg: images before the step, from where on the groups are numbered.
    """
    begin = groups[0] * group_size - nimg
    return [
        Microbatch(
            begin + i,
            groups[i // group_size : (i + microbatch) // group_size],
            images[i : i + microbatch],
            None if labels is None else labels[i : i + microbatch],
        )
        for i in range(0, len(images), microbatch)
    ]


class Fakes(NamedTuple):
    images: Tensor  # [N,3,H,W]
    ws: Tensor  # [N,num_ws,w_dim]
    labels: Tensor | None  # [N,c_dim]


@dataclass(frozen=True)
class Draws:
    """The random numbers of one step, by purpose and group of consecutive samples.

    group_size: samples of a group. step: its index, which seeds what a whole batch shares. labels: all labels
    of the data, from which those of fakes are drawn, None without labels.
    """

    seed: int
    step: int
    group_size: int
    device: torch.device
    dtype: torch.dtype
    labels: Tensor | None

    def normals(self, purpose: str, groups: Sequence[int], shape: Sequence[int]) -> Tensor:
        """N(0,1) [len(groups) * group_size, *shape]."""
        numbers = group_normals(self.seed, purpose, groups, self.group_size, shape, self.device)
        return numbers.to(self.dtype)

    def classes(self, purpose: str, groups: Sequence[int]) -> Tensor | None:
        """Labels of fakes, drawn from those of the data: [len(groups) * group_size, c_dim], or None."""
        if self.labels is None:
            return None
        indices = [
            draw(self.seed, f"labels {purpose}", g).integers(len(self.labels), size=self.group_size)
            for g in groups
        ]
        rows = torch.cat([torch.from_numpy(i) for i in indices])
        return self.labels[rows].to(self.device, self.dtype)

    def noise(self, purpose: str, groups: Sequence[int], G: Generator) -> list[Tensor | None]:
        """One noise image per layer and sample, from one draw per group."""
        shapes = G.synthesis.noise_shapes()
        sizes = [height * width for height, width in shapes]
        flat = self.normals(f"noise {purpose}", groups, [sum(sizes)])
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

    def __call__(self, images: Tensor, draws: Draws, purpose: str, groups: Sequence[int]) -> Tensor:
        """images [N,3,H,W] in [-1,1], N the samples of `groups` -> the same, augmented."""
        kind = self.config.kind
        if kind == "none" or (kind != "diffaugment" and self.p == 0):
            return images
        size = (images.shape[2], images.shape[3])
        if kind == "diffaugment":
            policy = self.config.diffaugment_policy
            params = draw_groups(
                lambda rng: draw_diffaugment(rng, draws.group_size, policy=policy, image_shape=size),
                seed=draws.seed,
                purpose=f"augment {purpose}",
                first=groups[0],
                count=len(groups),
            )
            return diffaugment(images, params)
        spec = augment_pipe(self.config.pipe)
        drawn = draw_groups(
            lambda rng: draw_augmentation(rng, draws.group_size, self.p, spec=spec, image_shape=size),
            seed=draws.seed,
            purpose=f"augment {purpose}",
            first=groups[0],
            count=len(groups),
        )
        return augment(images, drawn)


class FirstOrder(NamedTuple):
    """Synthesis and discriminator for the phases that are differentiated once, and so may be compiled."""

    synthesis: Callable[..., Tensor]  # ws, noise= -> images
    discriminator: Callable[..., Tensor]  # images, labels -> logits

    @classmethod
    def of(cls, G: Generator, D: nn.Module, *, compiled: bool) -> FirstOrder:
        """The networks themselves, or compiled; their parameters and state dicts stay as they are."""
        return cls(torch.compile(G.synthesis), torch.compile(D)) if compiled else cls(G.synthesis, D)


def fakes(
    G: Generator,
    draws: Draws,
    purpose: str,
    groups: Sequence[int],
    *,
    mixing_prob: float,
    synthesis: Callable[..., Tensor] | None = None,
    chosen: slice = ALL,
) -> Fakes:
    """Generated images of some groups, with style mixing (Karras et al. 2019, section 3.1).

    synthesis: stands for G.synthesis. chosen: which of the groups' samples to make.
    """
    labels = draws.classes(purpose, groups)
    labels = None if labels is None else labels[chosen]
    ws = G.mapping(draws.normals(f"z {purpose}", groups, [G.z_dim])[chosen], labels)
    if mixing_prob > 0:
        cutoff = draws.cutoff(purpose, G.num_ws, mixing_prob)
        if cutoff < G.num_ws:
            others = G.mapping(draws.normals(f"mixed z {purpose}", groups, [G.z_dim])[chosen], labels)
            ws = mix_styles(ws, others, cutoff)
    noise = [None if n is None else n[chosen] for n in draws.noise(purpose, groups, G)]
    synthesis = G.synthesis if synthesis is None else synthesis
    return Fakes(synthesis(ws, noise=noise), ws, labels)


def generator_phase(
    G: Generator,
    networks: FirstOrder,
    config: ResolvedLoss,
    draws: Draws,
    augmenter: Augmenter,
    groups: Sequence[int],
    images: Tensor,
    labels: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Adversarial loss per sample [N], and the first w of every sample [N,w_dim], for the mean w.

    images: real ones, [N,3,H,W] in [-1,1]; only paired objectives look at them.
    """
    objective = OBJECTIVES[config.objective]
    made = fakes(G, draws, "G", groups, mixing_prob=config.style_mixing_prob, synthesis=networks.synthesis)
    fake_logits = real_logits = networks.discriminator(
        augmenter(made.images, draws, "G", groups), made.labels
    )
    if objective.is_paired:
        with torch.no_grad():
            real_logits = networks.discriminator(augmenter(images, draws, "G real", groups), labels)
    return objective.generator(fake_logits, real_logits), made.ws[:, 0].detach()


def path_length_phase(
    G: Generator,
    config: ResolvedLoss,
    draws: Draws,
    groups: Sequence[int],
    first: int,
    mean: Tensor,
) -> tuple[Tensor, Tensor]:
    """Path length penalty per sample [M], and the lengths [M], of every second sample of the step.

    first: position in the step of the first sample; the even ones take part, so that M may be 0.
    Differs from the published code: `mean`, the running mean length, is that before the step, so that the
    penalty does not depend on how the batch is split.
    """
    even = slice(first % 2, None, 2)
    if first % 2 >= len(groups) * draws.group_size:
        empty = mean.new_zeros(0)
        return empty, empty
    mixing = config.style_mixing_prob
    made = fakes(G, draws, "path length", groups, mixing_prob=mixing, chosen=even)
    noise = draws.normals("path length directions", groups, made.images.shape[1:])[even]
    lengths = path_lengths(made.images, made.ws, noise)
    return (lengths - mean).square(), lengths.detach()


class DiscriminatorTerms(NamedTuple):
    """Per sample: the adversarial loss, detached logits, and R1 and R2 where the objective has them."""

    losses: Tensor  # [N]
    real: Tensor  # logits [N,K]
    fake: Tensor
    penalties: tuple[Tensor, Tensor] | None = None  # [N] each

    def total(self, gamma: float) -> Tensor:
        """Sum over the samples of loss + gamma / 2 * (R1 + R2)."""
        total = self.losses.sum()
        return total if self.penalties is None else total + gamma / 2 * sum(p.sum() for p in self.penalties)

    @property
    def confidence(self) -> Tensor:
        """What ADA takes the sign of, [N,K]: logits of real images, of pairs their differences."""
        return self.real if self.penalties is None else self.real - self.fake


def discriminator_phase(
    G: Generator,
    D: nn.Module,
    networks: FirstOrder,
    config: ResolvedLoss,
    draws: Draws,
    augmenter: Augmenter,
    groups: Sequence[int],
    images: Tensor,
    labels: Tensor | None,
) -> DiscriminatorTerms:
    """Loss, logits and penalties for real images [N,3,H,W] in [-1,1] and as many fakes.

    Penalties are taken with respect to the images before augmentation; D is then differentiated twice, and
    stands for networks.discriminator.
    """
    objective = OBJECTIVES[config.objective]
    with torch.no_grad():
        mixing = config.style_mixing_prob
        made = fakes(G, draws, "D", groups, mixing_prob=mixing, synthesis=networks.synthesis)
    generated, discriminator = made.images, networks.discriminator
    if objective.has_r1_r2:
        images, generated = images.detach().requires_grad_(), generated.requires_grad_()
        discriminator = D
    fake_logits = discriminator(augmenter(generated, draws, "D fake", groups), made.labels)
    real_logits = discriminator(augmenter(images, draws, "D real", groups), labels)
    losses, real, fake = (
        objective.discriminator(real_logits, fake_logits),
        real_logits.detach(),
        fake_logits.detach(),
    )
    if not objective.has_r1_r2:
        return DiscriminatorTerms(losses, real, fake)
    penalties = r1_penalty(real_logits, images), r1_penalty(fake_logits, generated)
    return DiscriminatorTerms(losses, real, fake, penalties)


def r1_phase(
    D: nn.Module,
    draws: Draws,
    augmenter: Augmenter,
    groups: Sequence[int],
    images: Tensor,
    labels: Tensor | None,
) -> Tensor:
    """|dD/dx|^2 per sample [N], with respect to the images before augmentation."""
    images = images.detach().requires_grad_()
    logits = D(augmenter(images, draws, "R1", groups), labels)
    return r1_penalty(logits, images)
