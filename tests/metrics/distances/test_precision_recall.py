"""If this fails, precision, recall, density or coverage differ from their definitions or from prdc's."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
import torch
from torch import Tensor

from metrics.distances import precision_recall
from metrics.distances.precision_recall import density_and_coverage, neighbour_distances, precision_and_recall


def features(num: int, seed: int, *, dim: int = 4, scale: float = 1) -> Tensor:
    return torch.randn(num, dim, generator=torch.Generator().manual_seed(seed)) * scale


SETS = [(features(60, 0, scale=0.7), features(45, 1)), (features(30, 2, scale=1.5), features(50, 3))]


def distance(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).square().sum().sqrt())


def radius(points: Tensor, i: int, k: int) -> float:
    return sorted(distance(points[i], other) for j, other in enumerate(points) if j != i)[k - 1]


@pytest.fixture(params=[7, 2048])
def tile(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Tiles smaller and larger than the sets."""
    monkeypatch.setattr(precision_recall, "TILE", request.param)
    return request.param


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize(("generated", "real"), SETS)
def test_precision_and_recall_point_by_point(generated: Tensor, real: Tensor, k: int, tile: int):
    real_radii = [radius(real, i, k) for i in range(len(real))]
    fake_radii = [radius(generated, i, k) for i in range(len(generated))]
    precision = np.mean(
        [any(distance(x, y) <= r for y, r in zip(real, real_radii, strict=True)) for x in generated]
    )
    recall = np.mean(
        [any(distance(x, y) <= r for x, r in zip(generated, fake_radii, strict=True)) for y in real]
    )
    assert 0.1 < precision <= 1
    assert 0.1 < recall <= 1
    assert precision_and_recall(generated, real, k=k) == (precision, recall)


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize(("generated", "real"), SETS)
def test_density_and_coverage_point_by_point(generated: Tensor, real: Tensor, k: int, tile: int):
    radii = [radius(real, i, k) for i in range(len(real))]
    inside = [[distance(x, y) < r for x in generated] for y, r in zip(real, radii, strict=True)]
    found = density_and_coverage(generated, real, k=k)
    assert found.density == pytest.approx(np.sum(inside) / (k * len(generated)), rel=1e-12)
    assert found.coverage == np.mean([any(row) for row in inside])
    assert 0.1 < found.coverage <= 1


def test_neighbours_on_a_line():
    """0, 1, 3, 7: squared distances to the nearest and the second nearest other one."""
    points = torch.tensor([[0.0], [1], [3], [7]])
    assert neighbour_distances(points, k=1).tolist() == pytest.approx([1, 1, 4, 16])
    assert neighbour_distances(points, k=2).tolist() == pytest.approx([9, 4, 9, 36])
    # An equal image is a neighbour at distance 0, the image itself is not.
    assert neighbour_distances(torch.tensor([[2.0], [2], [5]]), k=1).tolist() == pytest.approx([0, 0, 9])


def test_a_set_against_itself_and_against_one_far_away(tile: int):
    x = features(40, 5)
    assert precision_and_recall(x, x) == (1, 1)
    assert density_and_coverage(x, x) == (1, 1)
    assert precision_and_recall(x + 100, x) == (0, 0)
    assert density_and_coverage(x + 100, x) == (0, 0)


def test_images_that_both_sets_share_lie_on_surfaces_whatever_the_rounding():
    """Half of the real images as generated ones: each is the k-th neighbour of some real image."""
    real = features(80, 6, dim=64) * torch.linspace(0.1, 30, 64)
    generated, k = real[::2], 3
    distances = (real.double()[:, None] - real.double()).square().sum(dim=2).sqrt().numpy()
    radii = np.sort(distances, axis=1)[:, k]  # the first is the image itself
    inside = distances[:, ::2] < radii[:, None] - 1e-6
    found = density_and_coverage(generated, real, k=k)
    assert found.density == pytest.approx(np.sum(inside) / (k * 40), rel=1e-12)
    assert precision_and_recall(generated, real, k=k).precision == 1


def test_a_common_offset_changes_nothing():
    """Distances of 1 between coordinates of 1e5 require subtraction of the mean, and float64."""
    generated, real = (x.double() for x in SETS[0])
    assert precision_and_recall(generated + 1e5, real + 1e5) == precision_and_recall(generated, real)
    assert density_and_coverage(generated + 1e5, real + 1e5) == density_and_coverage(generated, real)


def test_dropped_modes_cost_recall_and_coverage_and_not_precision():
    """One mode of two: all generated images are realistic, and half of the real ones are covered."""
    left, right = features(100, 7), features(100, 8) + torch.tensor([50.0, 0, 0, 0])
    generated, real = features(100, 9), torch.cat([left, right])
    assert precision_and_recall(generated, real).precision > 0.8
    assert precision_and_recall(generated, real).recall == pytest.approx(0.45, abs=0.05)
    assert density_and_coverage(generated, real).coverage == pytest.approx(0.48, abs=0.04)


def test_equal_to_torch_fidelity():
    other = pytest.importorskip("torch_fidelity.metric_prc", reason="compares with torch-fidelity")
    for generated, real in SETS:
        pair = generated.double(), real.double()
        expected = other.calculate_precision_recall_full(*pair, neighborhood=3)
        assert precision_and_recall(*pair) == pytest.approx(expected, abs=1e-7)


def test_equal_to_prdc():
    other = pytest.importorskip("prdc", reason="compares with the authors' prdc")
    for generated, real in SETS:
        with contextlib.redirect_stdout(io.StringIO()):
            expected = other.compute_prdc(real.double().numpy(), generated.double().numpy(), nearest_k=5)
        density, coverage = density_and_coverage(generated, real)
        assert density == pytest.approx(expected["density"], rel=1e-12)
        assert coverage == pytest.approx(expected["coverage"], rel=1e-12)
        precision, recall = precision_and_recall(generated, real, k=5)
        assert (precision, recall) == pytest.approx((expected["precision"], expected["recall"]), rel=1e-12)


def test_too_few_images_and_broken_features_are_refused():
    x = features(6, 0)
    with pytest.raises(ValueError, match="the second set has 3 images, expected at least 4"):
        precision_and_recall(x, x[:3])
    with pytest.raises(ValueError, match="the first set has 5 images, expected at least 6"):
        density_and_coverage(x[:5], x)
    with pytest.raises(ValueError, match="k is 0, expected 1 or more"):
        density_and_coverage(x, x, k=0)
    broken = x.clone()
    broken[3] = float("inf")
    with pytest.raises(ValueError, match="the second features of 1 of 6 images hold NaN or infinity"):
        precision_and_recall(x, broken)
