"""If this fails, StarGAN v2 minimises something else than the published losses, or with the wrong network."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tiny_starganv2 import build, draw
from torch import Tensor

from ganmod.starganv2 import Discriminator, Generator, MappingNetwork, StyleEncoder
from training.starganv2.losses import cycle_loss, diversity_loss, diversity_weight, style_reconstruction_loss
from training.starganv2.step import (
    FirstOrder,
    Networks,
    Samples,
    discriminator_phase,
    generator_phase,
    split_samples,
)


def test_closed_forms():
    codes = torch.tensor([[1.0, -2.0], [0.0, 4.0]])
    assert style_reconstruction_loss(codes, torch.zeros(2, 2)).tolist() == [1.5, 2.0]
    images = torch.zeros(2, 3, 2, 2)
    others = images.clone()
    others[0, 0, 0, 0], others[1] = -6, 0.5
    assert diversity_loss(images, others).tolist() == [0.5, 0.5]
    assert cycle_loss(others, images).tolist() == [0.5, 0.5]


def test_the_diversity_weight_falls_linearly_to_zero():
    weights = [diversity_weight(2.0, nimg, decay_kimg=0.8) for nimg in (0, 200, 400, 800, 5000)]
    assert weights == pytest.approx([2.0, 1.5, 1.0, 0.0, 0.0])
    # As published: less lambda / iterations after every step, here of 8 images.
    weight = 2.0
    for step in range(100):
        assert diversity_weight(2.0, 8 * step, decay_kimg=0.8) == pytest.approx(weight)
        weight -= 2.0 / 100
    assert diversity_weight(2.0, 10**9, decay_kimg=None) == 2.0


def setting() -> tuple[Networks, Samples]:
    networks = Networks(*map(build, (Generator, MappingNetwork, StyleEncoder, Discriminator)))
    samples = Samples(
        draw(4, 3, 32, 32).tanh(),
        torch.tensor([0, 1, 1, 0]),
        (draw(4, 3, 32, 32, seed=1).tanh(), draw(4, 3, 32, 32, seed=2).tanh()),
        (draw(4, 4, seed=3), draw(4, 4, seed=4)),
        torch.tensor([1, 1, 0, 0]),
    )
    return networks, samples


def bce(logits: Tensor, target: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("from_reference", [False, True])
def test_the_generator_phase_is_the_published_one(from_reference: bool):
    nets, x = setting()
    terms = generator_phase(nets, FirstOrder.of(nets, compiled=False), x, from_reference=from_reference)
    # Written as in the paper, every term a mean over the batch.
    E, y = nets.style_encoder, x.targets
    s, s2 = ((E(x.references[i], y) if from_reference else nets.mapping(x.latents[i], y)) for i in range(2))
    fake = nets.G(x.images, s)
    expected = (
        bce(nets.D(fake, y), 1.0)
        + 3.0 * (E(fake, y) - s).abs().mean()
        - 0.7 * (fake - nets.G(x.images, s2).detach()).abs().mean()
        + 0.4 * (nets.G(fake, E(x.images, x.domains)) - x.images).abs().mean()
    )
    total = terms.total(style=3.0, diversity=0.7, cycle=0.4)
    assert total.shape == (4,)
    close(total.mean(), expected)

    trained = [*nets.G.parameters()]
    if not from_reference:  # by references the published code steps the generator alone
        trained += [*nets.mapping.parameters(), *E.parameters()]
    gradients = torch.autograd.grad(expected, trained, retain_graph=True, materialize_grads=True)
    found = torch.autograd.grad(total.mean(), trained, materialize_grads=True)
    for gradient, own in zip(gradients, found, strict=True):
        close(own, gradient)


@pytest.mark.parametrize("from_reference", [False, True])
def test_the_discriminator_phase_is_the_published_one(from_reference: bool):
    nets, x = setting()
    first_order = FirstOrder.of(nets, compiled=False)
    losses, penalties, real_logits, fake_logits = discriminator_phase(
        nets, first_order, x, from_reference=from_reference
    )
    style = nets.style_encoder(x.references[0], x.targets)
    if not from_reference:
        style = nets.mapping(x.latents[0], x.targets)
    images = x.images.clone().requires_grad_()
    logits = nets.D(images, x.domains)
    (slope,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    fake = nets.G(x.images, style).detach()
    r1 = 0.5 * slope.square().reshape(4, -1).sum(1).mean(0)
    expected = bce(logits, 1.0) + bce(nets.D(fake, x.targets), 0.0) + r1
    own = (losses + 0.5 * penalties).mean()
    close(own, expected)
    assert real_logits.shape == fake_logits.shape == (4, 1)
    close(real_logits, logits)
    parameters = list(nets.D.parameters())
    pairs = (torch.autograd.grad(loss, parameters, materialize_grads=True) for loss in (own, expected))
    for a, b in zip(*pairs, strict=True):
        close(a, b)
    nets, x = setting()
    losses, *_ = discriminator_phase(nets, FirstOrder.of(nets, compiled=False), x, from_reference=True)
    losses.sum().backward()
    assert all(p.grad is None for net in nets[:3] for p in net.parameters())


def test_parts_of_a_batch_give_the_same_terms():
    nets, x = setting()
    first_order = FirstOrder.of(nets, compiled=False)
    whole = generator_phase(nets, first_order, x, from_reference=False)
    parts = [
        generator_phase(nets, first_order, part, from_reference=False)
        for part in split_samples(x, 3)  # of three and of one
    ]
    for name, value in whole._asdict().items():
        close(torch.cat([getattr(part, name) for part in parts]), value)
