"""If this fails, optimised pixels are no reference for the quality of models, or do not resume."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_style_model import make
from torch import Tensor

from ganmod.features.style_losses import content_loss, mean_std_loss
from ganmod.features.vgg import VGGFeatures
from style_transfer.optimize import OptimizeSettings, PixelOptimizer, optimize_pixels


@pytest.fixture(scope="module")
def network() -> VGGFeatures:
    return make("adain").encoder


def image(seed: int, height: int = 32, width: int = 40) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, 3, height, width, generator=generator) * 0.5 + 0.1 * seed


def loss_of(network: VGGFeatures, x: Tensor, content: Tensor, style: Tensor) -> float:
    found = network.normalized(x)
    total = content_loss(found, network.normalized(content)) + 3 * mean_std_loss(
        found, network.normalized(style)
    )
    return float(total)


@pytest.mark.parametrize("algorithm", ["adam", "lbfgs"])
def test_the_loss_falls_far_below_the_contents(network: VGGFeatures, algorithm: str):
    content, style = image(1), image(3)
    settings = OptimizeSettings(steps=40, algorithm=algorithm)  # type: ignore[arg-type]
    found = optimize_pixels(content, style, network, settings)
    assert found.shape == content.shape
    assert found.min() >= 0
    assert found.max() <= 1
    assert loss_of(network, found, content, style) < 0.4 * loss_of(network, content, content, style)


def test_reported_losses_are_those_of_the_style_losses(network: VGGFeatures):
    content, style = image(1), image(2, 24, 24)
    step = next(iter(PixelOptimizer(content, style, network, OptimizeSettings(steps=1))))
    assert step.content == 0  # it begins with the content
    expected = float(mean_std_loss(network.normalized(content), network.normalized(style)))
    assert step.style == pytest.approx(expected, rel=1e-5)
    assert step.loss == pytest.approx(3 * expected, rel=1e-5)


def test_a_content_in_its_own_style_stays(network: VGGFeatures):
    content = image(1)
    found = optimize_pixels(content, content, network, OptimizeSettings(steps=5, algorithm="lbfgs"))
    torch.testing.assert_close(found, content)


def test_sizes_go_from_coarse_to_fine(network: VGGFeatures):
    content, style = image(1, 260, 300), image(2, 64, 64)
    run = PixelOptimizer(content, style, network, OptimizeSettings(steps=2, sizes=3))
    assert [list(step.image.shape[2:]) for step in run] == [[130, 150]] * 2 + [
        [260, 300]
    ] * 2  # 65 is below 128
    assert [list(s.shape[2:]) for _, s in run.pyramid] == [[32, 32], [64, 64]]
    assert run.done == run.total == 4


@pytest.mark.parametrize("algorithm", ["adam", "lbfgs"])
def test_an_interruption_changes_nothing(network: VGGFeatures, algorithm: str):
    content, style = image(1), image(3)
    settings = OptimizeSettings(steps=12, algorithm=algorithm)  # type: ignore[arg-type]
    whole = optimize_pixels(content, style, network, settings)
    first = PixelOptimizer(content, style, network, settings)
    for step in first:
        if step.done == 5:
            break
    second = PixelOptimizer(content, style, network, settings)
    second.load_state(first.state())
    *_, last = second
    assert last.done == 12
    assert torch.equal(last.image, whole)


def test_it_goes_on_until_it_gains_little(network: VGGFeatures):
    """A gain that no round reaches ends it after the first round that is compared with another."""
    content, style = image(1, 16, 16), image(2, 16, 16)
    settings = OptimizeSettings(steps=20, algorithm="lbfgs", sizes=1, until_gain=0.99)
    *_, last = PixelOptimizer(content, style, network, settings)
    assert last.done == 120


def test_noise_depends_on_the_seed_alone(network: VGGFeatures):
    starts = [
        PixelOptimizer(image(1), image(2), network, OptimizeSettings(start="noise", seed=seed)).pixels
        for seed in (0, 0, 1)
    ]
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])


def test_wrong_input_is_named(network: VGGFeatures):
    with pytest.raises(ValueError, match=r"style has shape \[1, 3, 8, 40\], expected \[1, 3, H, W\] with"):
        PixelOptimizer(image(1), image(2, 8, 40), network)
    for given, message in (
        ({"style_loss": "gramm"}, "style_loss is 'gramm', expected one of mean_std, gram"),
        ({"algorithm": "sgd"}, "algorithm is 'sgd', expected one of adam, lbfgs"),
        ({"style_weight": math.inf}, "style_weight is inf, expected a number from 0 up"),
        ({"steps": 0}, "steps is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            OptimizeSettings(**given)  # type: ignore[arg-type]
    run = PixelOptimizer(image(1), image(2), network)
    with pytest.raises(ValueError, match="the state is of an optimisation with"):
        run.load_state({"settings": {}})
    state = run.state()
    for foreign in ({"counts": [9, 0, 0]}, {"pixels": "x"}, {"optimizer": {"param_groups": 3}}, {"bests": 1}):
        with pytest.raises(ValueError, match="the state is no state of an optimisation"):
            run.load_state(state | foreign)
