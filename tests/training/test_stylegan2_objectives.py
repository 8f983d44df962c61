"""If this fails, an objective of StyleGAN2 is not the published one, or its runs do not resume exactly."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from run_checks import assert_same, final_state, short_schedule
from torch import Tensor

from configs.schema import load_stylegan2_config
from configs.stylegan2 import StyleGAN2Run
from ganmod.stylegan2.projected_discriminator import (
    GroupedBatchNorm2d,
    ProjectedDiscriminator,
    ProjectedDiscriminatorSpec,
    RandomMixing,
    SpectralConv2d,
)
from training.gan_losses import (
    hinge_discriminator_loss,
    hinge_generator_loss,
    r1_penalty,
    relativistic_loss,
)
from training.stylegan2.build import build_networks, build_optimizers, resolve
from training.stylegan2.step import Augmenter, Draws, FirstOrder, discriminator_phase, generator_phase
from training.train_stylegan2 import train

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight images of 32 x 32 pixels."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for i in range(8):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


def tiny(images: Path, steps: int, **changes: object) -> StyleGAN2Run:
    return load_stylegan2_config(
        "stylegan2-smoke",
        {"data.path": str(images), "augmentation.p": 0.4, **short_schedule(steps, 4), **changes},
    )


R3 = {"loss.objective": "r3"}
PROJECTED = {"model.discriminator": "projected"}


def test_losses_have_closed_forms():
    real, fake = torch.tensor([[0.5, -2.0], [1.5, 3.0]]), torch.tensor([[-0.5, 0.0], [2.0, -3.0]])
    assert hinge_discriminator_loss(real, fake).tolist() == [(0.5 + 3 + 0.5 + 1) / 2, (0 + 0 + 3 + 0) / 2]
    assert hinge_generator_loss(fake).tolist() == [0.25, 0.5]
    differences = [[1.0, -2.0], [-0.5, 6.0]]
    expected = [sum(math.log1p(math.exp(-d)) for d in row) / 2 for row in differences]
    assert relativistic_loss(real, fake).tolist() == pytest.approx(expected)
    assert relativistic_loss(real[:, 0], fake[:, 0]).tolist() == pytest.approx(
        [math.log1p(math.exp(-1.0)), math.log1p(math.exp(0.5))]
    )


def test_the_relativistic_loss_ignores_a_shift_of_all_logits():
    real, fake = torch.randn(5, 1), torch.randn(5, 1)
    torch.testing.assert_close(relativistic_loss(real + 7, fake + 7), relativistic_loss(real, fake))


def phases(images: Path, **changes: object) -> tuple:
    resolved = resolve(tiny(images, 1, **{"augmentation.kind": "none", **changes}), (32, 32), 1, CPU)
    G, D = build_networks(resolved.model, (32, 32), 0, precision="float32")
    G, D = G.double(), D.double()
    draws = Draws(0, 0, resolved.model.mbstd_group_size, CPU, torch.float64, None)
    real = torch.rand(4, 3, 32, 32, dtype=torch.float64) * 2 - 1
    given = FirstOrder.of(G, D, compiled=False), resolved.loss, draws, Augmenter(resolved.augmentation, 0.0)
    groups = range(4 // resolved.model.mbstd_group_size)
    return resolved, G, D, real, (given, groups)


def fakes_of(G: torch.nn.Module, given: tuple, groups: range, purpose: str) -> Tensor:
    from training.stylegan2.step import fakes

    return fakes(G, given[2], purpose, groups, mixing_prob=0).images


def test_r3_is_the_published_objective_and_its_gradient(images: Path) -> None:
    resolved, G, D, real, (given, groups) = phases(images, **R3)
    assert (resolved.loss.pl_weight, resolved.loss.style_mixing_prob) == (0, 0)
    assert resolved.loss.r1_gamma == pytest.approx(0.05)
    terms = discriminator_phase(G, D, *given, groups, real, None)
    total = terms.total(0.8)
    got = torch.autograd.grad(total, list(D.parameters()))

    x, y = real.clone().requires_grad_(), fakes_of(G, given, groups, "D").detach().requires_grad_()
    dx, dy = D(x), D(y)
    r1 = torch.autograd.grad(dx.sum(), x, create_graph=True)[0].square().sum()
    r2 = torch.autograd.grad(dy.sum(), y, create_graph=True)[0].square().sum()
    wanted = -F.logsigmoid(dx - dy).sum() + 0.4 * (r1 + r2)
    torch.testing.assert_close(total, wanted)
    for a, b in zip(got, torch.autograd.grad(wanted, list(D.parameters())), strict=True):
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(terms.confidence, (dx - dy).detach())

    losses, _ = generator_phase(G, *given, groups, real, None)
    fake = D(fakes_of(G, given, groups, "G"))
    torch.testing.assert_close(losses, -F.logsigmoid(fake - D(real)).flatten())


def test_only_the_lazy_objective_corrects_the_learning_rates(images: Path) -> None:
    def rate(**changes: object) -> tuple[float, float]:
        resolved, G, D, _, _ = phases(images, **changes)
        optimizers = build_optimizers(G, D, resolved.optimizer, resolved.loss)
        return tuple(o.param_groups[0]["lr"] for o in optimizers)

    assert rate() == pytest.approx((0.0025 * 4 / 5, 0.0025 * 16 / 17))
    assert rate(**R3) == (0.0025, 0.0025)
    assert rate(**PROJECTED) == (0.002, 0.002)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({**R3, "loss.pl_weight": 2.0}, "pl_weight is 2, but the objective r3"),
        ({**PROJECTED, "loss.r1_gamma": 1.0}, "r1_gamma is 1, but the objective hinge"),
        ({**PROJECTED, "freeze_d": 1}, "freeze_d is 1, but the first layers"),
    ],
)
def test_what_an_objective_does_not_have_is_refused(images: Path, changes: dict, name: str) -> None:
    def build() -> None:
        resolved = resolve(tiny(images, 1, **changes), (32, 32), 1, CPU)
        build_networks(resolved.model, (32, 32), 0, precision="float32", freeze_d=resolved.freeze_d)

    with pytest.raises(ValueError, match=name):
        build()


@pytest.mark.parametrize("changes", [R3, PROJECTED], ids=["r3", "projected"])
def test_a_resumed_run_equals_the_whole_one(tmp_path: Path, images: Path, changes: dict) -> None:
    changes = {**changes, "model.modulation": "adaconv"}
    train(tiny(images, 5, **changes), tmp_path / "whole", show_progress=False)
    train(tiny(images, 2, **changes), tmp_path / "parts", show_progress=False)
    train(tiny(images, 5, **changes), tmp_path / "parts", show_progress=False)
    whole, parts = (final_state(tmp_path / name) for name in ("whole", "parts"))
    assert_same(whole, parts)
    assert whole["pl_mean"] == 0


@pytest.mark.parametrize("changes", [R3, PROJECTED], ids=["r3", "projected"])
def test_accumulated_gradients_equal_the_whole_batch(tmp_path: Path, images: Path, changes: dict) -> None:
    changes = {**changes, "runtime.precision": "float64"}
    train(tiny(images, 3, **changes), tmp_path / "whole", show_progress=False)
    train(tiny(images, 3, **changes, **{"schedule.microbatch": 2}), tmp_path / "parts", show_progress=False)
    whole, parts = (final_state(tmp_path / name) for name in ("whole", "parts"))
    for network in ("G", "D"):
        for name, value in whole[network].items():
            torch.testing.assert_close(parts[network][name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_a_spectral_norm_is_the_largest_singular_value():
    conv = SpectralConv2d(3, 8, 4, stride=2, padding=1).double()
    for _ in range(2000):
        conv.update_norm()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    largest = torch.linalg.matrix_norm(conv.weight.flatten(1), ord=2)
    expected = F.conv2d(x, conv.weight / largest, stride=2, padding=1)
    torch.testing.assert_close(conv(x), expected)


def test_batches_are_normalised_in_groups_of_consecutive_samples():
    norm = GroupedBatchNorm2d(5, group_size=2).double()
    x = torch.randn(6, 5, 3, 3, dtype=torch.float64)
    expected = torch.cat([F.batch_norm(part, None, None, training=True) for part in x.split(2)])
    torch.testing.assert_close(norm(x), expected)
    with pytest.raises(ValueError, match="batch of 5 does not divide into groups of 2"):
        norm(x[:5])


def test_mixing_adds_the_coarser_scales_to_the_finer_ones_only():
    mixing = RandomMixing((4, 6), (8, 16)).double()
    fine = torch.randn(1, 4, 8, 8, dtype=torch.float64)
    coarse = torch.randn(1, 6, 4, 4, dtype=torch.float64)
    mixed_fine, mixed_coarse = mixing([fine, coarse])
    torch.testing.assert_close(mixed_coarse, mixing.across_channels[1](coarse))
    from_coarse = F.interpolate(mixed_coarse, scale_factor=2, mode="bilinear", align_corners=False)
    expected = mixing.across_channels[0](fine) + mixing.across_scales[0](from_coarse)
    torch.testing.assert_close(mixed_fine, expected)
    assert not any(p.requires_grad for p in mixing.parameters())


@pytest.mark.parametrize("c_dim", [0, 3])
def test_a_projected_discriminator_judges_four_scales(c_dim: int) -> None:
    spec = ProjectedDiscriminatorSpec(img_resolution=(64, 32), c_dim=c_dim, channel_max=16)
    assert ProjectedDiscriminatorSpec.from_dict(spec.to_dict()) == spec
    D = ProjectedDiscriminator(spec)
    img = (torch.rand(4, 3, 64, 32) * 2 - 1).requires_grad_()
    labels = torch.eye(3)[torch.tensor([0, 1, 2, 0])] if c_dim else None
    logits = D(img, labels)
    # 16 x 8 positions, 13 x 5 after the last convolution, at three scales; 8 x 4 with a border: 7 x 3
    assert logits.shape == (4, 3 * 13 * 5 + 7 * 3)
    trained = {name for name, p in D.named_parameters() if p.requires_grad}
    assert trained
    assert not any(name.startswith(("features.", "mixing.")) for name in trained)
    # R1 through the features can be differentiated again.
    penalty = r1_penalty(logits, img).sum()
    gradients = torch.autograd.grad(penalty, [p for p in D.parameters() if p.requires_grad])
    assert sum(g.abs().sum() for g in gradients) > 0
    if c_dim:
        swapped = D(img, labels.flip(0))
        assert not torch.equal(swapped, logits)
        with pytest.raises(ValueError, match="c is missing, but this network has 3 classes"):
            D(img)


def test_a_projected_discriminator_needs_room_for_its_scales():
    with pytest.raises(ValueError, match="multiples of 8 from 32 on"):
        ProjectedDiscriminatorSpec(img_resolution=(16, 16))
