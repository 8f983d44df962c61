"""If this fails, training and the reported figures measure another distance than they name."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ganmod.features.style_losses import (
    SHIFTS,
    STYLE_LOSSES,
    content_loss,
    gram,
    gram_loss,
    mean_std_loss,
    shifted_gram_loss,
)

EPS = 1e-5
LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")


def upright_stripes(size: int = 8) -> Tensor:
    """+1 and -1 in alternating columns, [1,1,S,S]."""
    columns = torch.tensor([1.0, -1.0]).double().repeat(size // 2)
    return columns.expand(1, 1, size, size)


def lying_stripes(size: int = 8) -> Tensor:
    return upright_stripes(size).transpose(2, 3)


def checkerboard(size: int = 8) -> Tensor:
    return upright_stripes(size) * lying_stripes(size)


def random_features(seed: int, samples: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        layer: torch.randn(samples, 2 + i, 8 - i, 7, generator=generator, dtype=torch.float64)
        for i, layer in enumerate(LAYERS)
    }


def test_content_is_the_mean_squared_difference_at_one_layer():
    features, target = random_features(0), random_features(1)
    target["relu4_1"] = features["relu4_1"] + torch.tensor([2.0, 3.0])[:, None, None, None]
    torch.testing.assert_close(content_loss(features, target), torch.tensor([4.0, 9.0]).double())
    target["relu2_1"] = features["relu2_1"].clone()
    target["relu2_1"][1, 0] += 6.0  # one of three channels
    expected = torch.tensor([0.0, 36 / 3]).double()
    torch.testing.assert_close(content_loss(features, target, layer="relu2_1"), expected)


def test_mean_and_deviation_in_closed_form():
    """Constant maps against patterns of known mean and deviation; mean over channels, sum over layers."""
    constant = torch.tensor([3.0, -1.0]).double()[None, :, None, None].expand(1, 2, 8, 8)
    pattern = torch.cat([5.0 + 2.0 * upright_stripes(), -1.0 + 0.5 * checkerboard()], dim=1)
    flat = EPS**0.5
    per_channel = [
        (3 - 5) ** 2 + (flat - (2.0**2 + EPS) ** 0.5) ** 2,
        (-1 + 1) ** 2 + (flat - (0.5**2 + EPS) ** 0.5) ** 2,
    ]
    one_layer = sum(per_channel) / 2
    features, target = {"relu1_1": constant}, {"relu1_1": pattern}
    expected = torch.tensor([one_layer], dtype=torch.float64)
    torch.testing.assert_close(mean_std_loss(features, target), expected, rtol=1e-12, atol=0)
    features["relu2_1"], target["relu2_1"] = constant[:, :1], pattern[:, :1]
    expected = expected + per_channel[0]
    torch.testing.assert_close(mean_std_loss(features, target), expected, rtol=1e-12, atol=0)


def test_the_deviation_is_the_biased_one():
    x = torch.tensor([1.0, -1.0]).double().reshape(1, 1, 1, 2)  # deviation 1 biased, sqrt(2) unbiased
    loss = mean_std_loss({"relu1_1": x}, {"relu1_1": torch.zeros(1, 1, 1, 2).double()})
    torch.testing.assert_close(loss.item(), ((1 + EPS) ** 0.5 - EPS**0.5) ** 2, rtol=1e-12, atol=0)


def test_gram_of_constant_maps_is_the_product_of_their_values():
    values = torch.tensor([[1.0, -2.0, 3.0], [0.5, 0.0, 4.0]]).double()
    maps = values[:, :, None, None].expand(2, 3, 5, 7)
    expected = values[:, :, None] * values[:, None, :]
    for shift in ((0, 0), *SHIFTS):
        torch.testing.assert_close(gram(maps, shift=shift), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("shift", [(0, 0), *SHIFTS, (-1, 0), (0, -2), (-2, 1), (-1, -1)])
def test_gram_entry_by_entry(shift: tuple[int, int]):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 6).double()
    expected = torch.zeros(2, 3, 3).double()
    count = 0
    for row in range(5):
        for column in range(6):
            moved = (row + shift[0], column + shift[1])
            if 0 <= moved[0] < 5 and 0 <= moved[1] < 6:
                expected += x[:, :, None, row, column] * x[:, None, :, moved[0], moved[1]]
                count += 1
    torch.testing.assert_close(gram(x, shift=shift), expected / count, rtol=1e-12, atol=1e-12)


def test_gram_loss_in_closed_form():
    """Constant maps (a, b) against (c, d): the mean over four entries of (a_i a_j - c_i c_j)^2, per layer."""
    a, c = torch.tensor([1.0, 2.0]).double(), torch.tensor([3.0, -1.0]).double()
    features = {layer: a[None, :, None, None].expand(1, 2, 4, 4) for layer in LAYERS[:2]}
    target = {layer: c[None, :, None, None].expand(1, 2, 6, 6) for layer in LAYERS[:2]}
    one_layer = ((1 - 9) ** 2 + 2 * (2 + 3) ** 2 + (4 - 1) ** 2) / 4
    for loss in (gram_loss, shifted_gram_loss):
        assert loss(features, target).item() == pytest.approx(2 * one_layer, rel=1e-12)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        # Products at the shifts (1,0), (0,1), (2,2), (2,-2): upright +1 -1 +1 +1, lying -1 +1 +1 +1,
        # checkerboard -1 -1 +1 +1. The loss is the mean over the shifts of their squared differences.
        (upright_stripes, lying_stripes, (4 + 4 + 0 + 0) / 4),
        (upright_stripes, checkerboard, (4 + 0 + 0 + 0) / 4),
        (lying_stripes, checkerboard, (0 + 4 + 0 + 0) / 4),
    ],
)
def test_only_the_shifted_gram_sees_arrangement(first, second, expected: float):
    features, target = {"relu1_1": first()}, {"relu1_1": second()}
    assert mean_std_loss(features, target).item() == pytest.approx(0, abs=1e-20)
    assert gram_loss(features, target).item() == pytest.approx(0, abs=1e-20)
    assert shifted_gram_loss(features, target).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", STYLE_LOSSES)
def test_images_of_other_size_are_compared_by_statistics(name: str):
    features, target = {"relu1_1": upright_stripes(8)}, {"relu1_1": upright_stripes(12)[:, :, :10]}
    assert STYLE_LOSSES[name](features, target).item() == pytest.approx(0, abs=1e-20)
    target["relu1_1"] = 1 + target["relu1_1"]
    assert STYLE_LOSSES[name](features, target).item() > 0.5


@pytest.mark.parametrize("name", [*STYLE_LOSSES, "content"])
def test_losses_are_per_sample_zero_for_equals_and_symmetric(name: str):
    loss = {**STYLE_LOSSES, "content": content_loss}[name]
    features, target = random_features(0), random_features(1)
    values = loss(features, target)
    assert values.shape == (2,)
    assert values.dtype == torch.float64
    assert (values > 0).all()
    torch.testing.assert_close(loss(target, features), values, rtol=1e-12, atol=0)
    assert torch.equal(loss(features, features), torch.zeros(2).double())
    for n in range(2):
        alone = loss(*({k: v[n : n + 1] for k, v in f.items()} for f in (features, target)))
        torch.testing.assert_close(alone, values[n : n + 1], rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", STYLE_LOSSES)
def test_layers_are_summed(name: str):
    loss, features, target = STYLE_LOSSES[name], random_features(0), random_features(1)
    parts = [loss({layer: features[layer]}, {layer: target[layer]}) for layer in LAYERS]
    torch.testing.assert_close(loss(features, target), torch.stack(parts).sum(0), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", STYLE_LOSSES)
def test_constant_maps_have_finite_gradients(name: str):
    """A plain photo region has no deviation; the root of its variance must not give NaN."""
    x = torch.ones(1, 2, 8, 8, dtype=torch.float64, requires_grad=True)
    STYLE_LOSSES[name]({"relu1_1": x}, {"relu1_1": torch.randn(1, 2, 8, 8).double()}).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert x.grad.abs().max() > 0


@pytest.mark.parametrize("name", STYLE_LOSSES)
def test_half_precision_features_are_summed_in_float32(name: str):
    torch.manual_seed(0)
    features, target = ({"relu1_1": (a * torch.randn(1, 4, 64, 64) + 8).bfloat16()} for a in (1, 2))
    exact = STYLE_LOSSES[name](*({k: v.double() for k, v in f.items()} for f in (features, target)))
    value = STYLE_LOSSES[name](features, target)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), exact, rtol=1e-3, atol=0)


@pytest.mark.parametrize("name", STYLE_LOSSES)
def test_autocast_leaves_the_sums_in_float32(name: str):
    torch.manual_seed(0)
    features, target = ({"relu1_1": a * torch.randn(1, 4, 64, 64)} for a in (1.0, 1.01))
    exact = STYLE_LOSSES[name](*({k: v.double() for k, v in f.items()} for f in (features, target)))
    with torch.autocast("cpu", torch.bfloat16):
        value = STYLE_LOSSES[name](features, target)
    torch.testing.assert_close(value.double(), exact, rtol=1e-3, atol=0)


@pytest.mark.parametrize(("height", "width", "shift"), [(2, 2, (2, 2)), (5, 1, (0, 1)), (1, 5, (-2, 1))])
def test_maps_too_small_for_the_shift_are_refused(height: int, width: int, shift: tuple[int, int]):
    with pytest.raises(ValueError, match=f"features are {height} x {width}, too small"):
        gram(torch.ones(1, 2, height, width), shift=shift)
