"""If this fails, a metric depends on batches, processes or caches, or has a wrong name."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from colour_space import colour_features, colour_space
from torch import Tensor

from ganmod.process_shares import Processes
from metrics.distances.frechet import frechet_distance_of_statistics
from metrics.distances.kernel import kid
from metrics.distances.precision_recall import density_and_coverage, precision_and_recall
from metrics.features.base import CallableSpace
from metrics.image_sets.distances import cautions, measure_distances, parse_metrics, settings
from metrics.image_sets.features import SetFeatures, extract_features, measure_set, reference_set


def image(index: int) -> Tensor:
    """uint8 [3,H,W], one of three sizes."""
    generator = torch.Generator().manual_seed(index)
    height, width = ((4, 4), (6, 4), (9, 5))[index % 3]
    return torch.randint(256, (3, height, width), generator=generator).to(torch.uint8)


def load(indices: Tensor) -> list[Tensor | None]:
    """Every seventh image cannot be read."""
    return [None if i % 7 == 3 else image(i) for i in indices.tolist()]


NUM = 40
READ = [i for i in range(NUM) if i % 7 != 3]
EXPECTED = torch.cat([colour_features(image(i)[None]) for i in READ])


@pytest.mark.parametrize("batch_size", [1, 6, 100])
def test_sizes_are_mixed_and_unreadable_images_left_out(batch_size: int):
    seen: list[int] = []
    found = measure_set(load, NUM, colour_space(), keep=True, batch_size=batch_size, done=seen.append)
    assert found.features is not None
    torch.testing.assert_close(found.features, EXPECTED)
    x = EXPECTED.double().numpy()
    assert (found.count, sum(seen)) == (len(READ), NUM)
    np.testing.assert_allclose(found.gaussian.mean, x.mean(0), atol=1e-7)
    np.testing.assert_allclose(found.gaussian.covariance, np.cov(x, rowvar=False), atol=1e-7)
    assert measure_set(load, NUM, colour_space()).features is None


def test_features_come_in_the_order_of_the_images_from_any_number_of_processes():
    """Every process adds its rows to zeros; the sums over processes are simulated."""
    space = colour_space()
    shares: list[list[Tensor]] = []
    for rank in range(3):
        summed: list[Tensor] = []

        def total(tensor: Tensor, summed: list[Tensor] = summed) -> Tensor:
            summed.append(tensor)
            return tensor

        measure_set(load, NUM, space, keep=True, batch_size=4, processes=Processes(rank, 3, total))
        shares.append(summed[-2:])
    combined = sum(share[0] for share in shares)
    present = sum(share[1] for share in shares)
    torch.testing.assert_close(combined[present > 0], EXPECTED)
    assert present.tolist() == [float(i in READ) for i in range(NUM)]


@pytest.mark.parametrize("wrong", [torch.rand(3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.uint8)])
def test_floats_and_grey_images_are_refused(wrong: Tensor):
    start = time.monotonic()
    with pytest.raises(ValueError, match=r"expected uint8 \[N,3,H,W\] in 0\.\.255"):
        measure_set(lambda indices: [wrong] * len(indices), 8, colour_space())
    assert time.monotonic() - start < 2


def test_one_image_broken_features_and_wrong_counts_are_refused():
    with pytest.raises(ValueError, match="statistics of 1 images, expected at least 2"):
        measure_set(load, 1, colour_space())
    broken = CallableSpace("test:broken", lambda x: colour_features(x) / 0, device="cpu")
    with pytest.raises(ValueError, match="8 of 8 images hold NaN or infinity"):
        measure_set(lambda indices: [image(0)] * len(indices), 8, broken)
    with pytest.raises(ValueError, match="load returned 1 images for 8 indices"):
        measure_set(lambda indices: [image(0)], 8, colour_space())


def test_a_reference_is_measured_once_and_read_afterwards(tmp_path: Path):
    calls: list[bool] = []

    def reference(keep: bool, content: str = "a") -> SetFeatures:
        def measure() -> SetFeatures:
            calls.append(keep)
            return measure_set(load, NUM, colour_space(), keep=keep)

        return reference_set(measure, colour_space(), content_hash=content, cache_dir=tmp_path, keep=keep)

    first = reference(keep=False)
    assert reference(keep=False).gaussian.count == len(READ)
    assert calls == [False]
    both = reference(keep=True)
    assert calls == [False, True]
    again = reference(keep=True)
    assert calls == [False, True]
    assert again.features is not None
    assert torch.equal(again.features, EXPECTED)
    assert np.array_equal(both.gaussian.covariance, first.gaussian.covariance)
    reference(keep=True, content="b")  # features and statistics, from one pass
    assert calls == [False, True, True]
    statistics = [path for path in tmp_path.iterdir() if "features" not in path.name]
    assert len(statistics) == 2
    for path in statistics:
        path.unlink()
    np.testing.assert_allclose(
        reference(keep=True).gaussian.covariance, first.gaussian.covariance, rtol=0, atol=1e-12
    )
    assert len(calls) == 3  # from the features
    for path in tmp_path.glob("*features*"):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.warns(UserWarning, match="cannot be used .*measuring them again"):
        assert torch.equal(reference(keep=True).features, EXPECTED)


def sets() -> tuple[SetFeatures, SetFeatures]:
    def batch(indices: Tensor, start: int) -> Sequence[Tensor]:
        return [image(start + i) for i in indices.tolist()]

    first, second = (
        measure_set(lambda i, start=start: batch(i, start), 30, colour_space(), keep=True)
        for start in (0, 100)
    )
    return first, second


def test_each_metric_is_the_function_of_its_name():
    generated, real = sets()
    assert generated.features is not None
    assert real.features is not None
    found = measure_distances(generated, real, ("fid", "kid", "pr", "dc"), colour_space(), seed=2)
    pair = generated.features, real.features
    mean, std = kid(*pair, seed=2)
    precision, recall = precision_and_recall(*pair)
    density, coverage = density_and_coverage(*pair)
    assert found == {
        "fd_test_colours": frechet_distance_of_statistics(generated.gaussian, real.gaussian),
        "kd_test_colours": mean,
        "kd_std_test_colours": std,
        "precision_test_colours": precision,
        "recall_test_colours": recall,
        "density_test_colours": density,
        "coverage_test_colours": coverage,
    }
    named = measure_distances(generated, real, ("fid", "kid", "pr"), colour_space("inception"))
    assert list(named) == ["fid", "kid", "kid_std", "precision", "recall"]
    with pytest.raises(ValueError, match="were not kept, but kid needs them"):
        measure_distances(replace(generated, features=None), real, ("kid",), colour_space())


def test_metrics_are_named_and_slips_answered_with_the_nearest():
    assert parse_metrics(" FID,pr, fid") == ("fid", "pr")
    for text, message in (("kdi", "did you mean 'kid'"), ("fid,xyz", "unknown metric 'xyz'"), (",", "no me")):
        with pytest.raises(ValueError, match=message) as error:
            parse_metrics(text)
        assert "fid, kid, pr, dc" in str(error.value)


def test_small_numbers_of_images_are_said():
    assert "2,048 images for 2,048 features" in cautions(("fid",), 2048, 50_000, 2048)[0]
    assert "4,999 images: the Frechet distance is biased" in cautions(("fid",), 50_000, 4999, 2048)[0]
    assert not cautions(("fid",), 5000, 5000, 2048)
    assert not cautions(("kid",), 10, 10, 2048)
    assert "or use kid" in cautions(("fid",), 10, 10, 2048)[0]
    assert "kid" not in cautions(("fid",), 10, 10, 2048, kid=False)[0]
    assert "100 subsets of 30, seed 4" in settings(("kid",), 30, 400, seed=4)["kid"]
    assert "both sets whole" in settings(("kid",), 30, 30, seed=4)["kid"]


def test_features_of_one_size_and_of_many_agree():
    images = [image(i) for i in range(9)]
    alone = torch.cat([colour_features(one[None]) for one in images])
    torch.testing.assert_close(extract_features(images, colour_space()), alone)
