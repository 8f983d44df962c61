"""If this fails, statistics of features depend on batches, processes or chance, or caches are wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from colour_space import colour_features, colour_space
from torch import Tensor

from ganmod.io.images import to_uint8
from ganmod.io.user_cache import user_cache_dir
from ganmod.process_shares import Processes, current_processes
from metrics.distances.feature_statistics import FeatureStatistics, to_saved_uint8
from metrics.distances.frechet import GaussianStatistics
from metrics.image_sets.cache import STATISTICS, cache_path, load_or_measure
from metrics.image_sets.features import SetFeatures, measure_generator, reference_set
from training.run.training_metric import MetricHook

DIM, NUM = 5, 37


def features(offset: float = 0) -> Tensor:
    x = torch.randn(NUM, DIM, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return x * torch.arange(1, DIM + 1) + offset


def accumulate(x: Tensor, *, batch_size: int) -> FeatureStatistics:
    statistics = FeatureStatistics(x.shape[1])
    for batch in x.split(batch_size):
        statistics.update(batch)
    return statistics


def image(index: int) -> Tensor:
    """uint8 [3,4,4], a function of its index."""
    return torch.randint(256, (3, 4, 4), generator=torch.Generator().manual_seed(index)).to(torch.uint8)


def generate(indices: Tensor) -> Tensor:
    return torch.stack([image(i) for i in indices.tolist()])


def generate_with_noise(indices: Tensor) -> Tensor:
    """Draws from torch's global state, as a generator with random noise does."""
    return (generate(indices) // 2 + torch.randint(100, (len(indices), 3, 4, 4))).to(torch.uint8)


def assert_equal(found: GaussianStatistics, expected: GaussianStatistics, tolerance: float = 1e-12) -> None:
    assert found.count == expected.count
    np.testing.assert_allclose(found.mean, expected.mean, rtol=0, atol=tolerance)
    np.testing.assert_allclose(found.covariance, expected.covariance, rtol=0, atol=tolerance)


@pytest.mark.parametrize("batch_size", [1, 7, 36, NUM])
def test_any_cut_into_batches_gives_numpys_mean_and_unbiased_covariance(batch_size: int):
    x = features()
    expected = GaussianStatistics(x.numpy().mean(0), np.cov(x.numpy(), rowvar=False), NUM)
    assert_equal(accumulate(x, batch_size=batch_size).finish(), expected, 1e-13 * 100)


def test_a_large_common_offset_costs_no_digits():
    """With sums of squares, 1e6 would leave 4 digits of the covariance."""
    near, far = (accumulate(features(offset), batch_size=3).finish() for offset in (0, 1e6))
    np.testing.assert_allclose(far.covariance, near.covariance, rtol=0, atol=1e-7)


def test_merging_equals_one_pass_in_either_order():
    x = features()
    expected = accumulate(x, batch_size=NUM).finish()
    for cut in (0, 1, 20, NUM):
        merged = accumulate(x[:cut], batch_size=4)
        merged.merge(accumulate(x[cut:], batch_size=5))
        assert_equal(merged.finish(), expected)
    with pytest.raises(ValueError, match="of 4 features into 5"):
        merged.merge(FeatureStatistics(4))


def test_bad_features_are_refused_and_leave_no_trace():
    statistics = accumulate(features(), batch_size=10)
    before = statistics.finish()
    bad = torch.zeros(4, DIM)
    bad[1, 2], bad[3, 0] = float("nan"), float("inf")
    with pytest.raises(ValueError, match="2 of 4 images hold NaN or infinity"):
        statistics.update(bad)
    with pytest.raises(ValueError, match=r"torch.float32 \[4, 6\], expected float \[N, 5\]"):
        statistics.update(torch.zeros(4, 6))
    assert_equal(statistics.finish(), before, 0)
    with pytest.raises(ValueError, match="statistics of 1 images"):
        accumulate(features()[:1], batch_size=1).finish()


@pytest.mark.parametrize("num_images", [1, 9, 10, 23])
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_image_goes_to_one_process_in_batches_of_one_process(num_images: int, count: int):
    expected = [indices.tolist() for indices in Processes().batches(num_images, 5)]
    shares = [list(Processes(rank, count, Tensor.clone).batches(num_images, 5)) for rank in range(count)]
    assert sorted(indices.tolist() for share in shares for indices in share) == expected
    assert [i for batch in expected for i in batch] == list(range(num_images))


def test_noise_from_the_global_state_is_that_of_the_seed_whatever_the_processes():
    """Noise is seeded per batch, and batches are the same. Sums over processes are simulated."""
    space = colour_space()
    single = measure_generator(generate_with_noise, 50, space, keep=True, batch_size=8)
    shares = []
    for rank in range(2):
        summed: list[Tensor] = []

        def total(tensor: Tensor, summed: list[Tensor] = summed) -> Tensor:
            summed.append(tensor)
            return tensor

        processes = Processes(rank, 2, total)
        measure_generator(generate_with_noise, 50, space, keep=True, batch_size=8, processes=processes)
        shares.append(summed[-2])  # features, in the rows of their images
    assert single.features is not None
    assert torch.equal(shares[0] + shares[1], single.features)
    other_seed = measure_generator(generate_with_noise, 50, space, batch_size=8, seed=1)
    assert np.abs(other_seed.gaussian.mean - single.gaussian.mean).max() > 1e-4


def test_generated_images_are_checked():
    space = colour_space()
    with pytest.raises(ValueError, match=r"generated images 0 to 7: got torch\.float32"):
        measure_generator(lambda indices: generate(indices).float(), 10, space, batch_size=8)
    with pytest.raises(ValueError, match="load returned 7 images for 8 indices"):
        measure_generator(lambda indices: generate(indices)[1:], 10, space, batch_size=8)
    with pytest.raises(ValueError, match="num_images 1 and batch_size 64, expected 2 and 1"):
        measure_generator(generate, 1, space)


def test_to_saved_uint8_gives_what_a_saved_file_holds():
    x = torch.cat([torch.linspace(-1.1, 1.1, 3 * 64), torch.arange(0, 256).repeat(3) / 127.5 - 1])
    x = x.view(1, 3, -1, 8)
    assert np.array_equal(to_saved_uint8(x).movedim(1, -1).numpy(), to_uint8(x / 2 + 0.5))
    assert to_saved_uint8(torch.arange(256) / 127.5 - 1).tolist() == list(range(256))
    with pytest.raises(ValueError, match="NaN"):
        to_saved_uint8(torch.full((1, 3, 2, 2), float("nan")))
    with pytest.raises(ValueError, match=r"uint8 \[1\], expected float"):
        to_saved_uint8(torch.zeros(1, dtype=torch.uint8))


def test_statistics_are_measured_once_per_images_and_space(tmp_path: Path):
    calls: list[int] = []

    def compute() -> GaussianStatistics:
        calls.append(1)
        return accumulate(features()[:, [0] * 6], batch_size=9).finish()

    def load(content: str, fingerprint: str | None = "colours 1") -> GaussianStatistics:
        space = colour_space(fingerprint=fingerprint)
        return load_or_measure(STATISTICS, compute, space, content_hash=content, cache_dir=tmp_path / "cache")

    first = load("a")
    assert_equal(load("a"), first, 0)
    assert len(calls) == 1
    load("b")
    load("a", "colours 2")
    assert len(calls) == 3
    assert len(list((tmp_path / "cache").iterdir())) == 3
    load("a", None)
    assert (len(calls), len(list((tmp_path / "cache").iterdir()))) == (4, 3)
    with pytest.raises(ValueError, match="content_hash is empty"):
        load("")


@pytest.mark.parametrize("damage", ["short", "text", "pickle", "other"])
def test_a_damaged_cache_file_is_reported_and_replaced(tmp_path: Path, damage: str):
    space = colour_space()
    expected = accumulate(torch.rand(20, 6), batch_size=9).finish()
    path = cache_path(space, "a", tmp_path)
    load_or_measure(STATISTICS, lambda: expected, space, content_hash="a", cache_dir=tmp_path)
    data = path.read_bytes()
    if damage == "short":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "text":
        path.write_text("statistics")
    elif damage == "pickle":
        np.savez(path, mean=np.array([{"an": "object"}], dtype=object), key="", covariance=0, count=2)
    else:
        load_or_measure(STATISTICS, lambda: expected, space, content_hash="b", cache_dir=tmp_path)
        cache_path(space, "b", tmp_path).replace(path)
    with pytest.warns(UserWarning, match=f"{path.name} cannot be used .*measuring them again"):
        found = load_or_measure(STATISTICS, lambda: expected, space, content_hash="a", cache_dir=tmp_path)
    assert found is expected
    assert path.read_bytes() == data


def test_statistics_that_cannot_be_kept_are_measured_all_the_same(tmp_path: Path):
    (tmp_path / "file").write_text("not a folder")
    expected = accumulate(torch.rand(20, 6), batch_size=9).finish()
    with pytest.warns(UserWarning, match="statistics were not kept in"):
        found = load_or_measure(
            STATISTICS, lambda: expected, colour_space(), content_hash="a", cache_dir=tmp_path / "file"
        )
    assert found is expected


def test_the_cache_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GANMOD_CACHE", str(tmp_path))
    assert user_cache_dir() == tmp_path
    monkeypatch.delenv("GANMOD_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache_dir() == tmp_path / "ganmod"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert user_cache_dir() == Path.home() / ".cache" / "ganmod"


def measure_as_one_of_two(rank: int, folder: str) -> None:
    """The work of each of two real processes, which write results to files."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    processes = current_processes()
    space = colour_space()
    calls: list[int] = []

    def compute() -> GaussianStatistics:
        calls.append(1)
        return measure_generator(generate, 30, space, batch_size=4, processes=processes).gaussian

    def measure() -> SetFeatures:
        calls.append(1)
        return measure_generator(generate, 30, space, keep=True, batch_size=4, processes=processes)

    where = {"cache_dir": f"{folder}/cache", "processes": processes}
    real = [load_or_measure(STATISTICS, compute, space, content_hash="a", **where) for _ in range(2)]
    sets = [reference_set(measure, space, content_hash="b", keep=True, **where) for _ in range(2)]
    hook = MetricHook(space, {"": SetFeatures(real[1], None)}, 50, batch_size=8, processes=processes)
    torch.save(
        {
            "metric": hook({"": generate_with_noise}),
            "calls": len(calls),
            "same": bool(np.array_equal(real[0].covariance, real[1].covariance)),
            "features": [found.features for found in sets],
        },
        f"{folder}/result-{rank}.pt",
    )
    dist.destroy_process_group()


def test_two_processes_agree_with_one(tmp_path: Path):
    torch.multiprocessing.spawn(measure_as_one_of_two, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"result-{rank}.pt", weights_only=True) for rank in range(2))
    space = colour_space()
    real = measure_generator(generate, 30, space, batch_size=4)
    expected = MetricHook(space, {"": real}, 50, batch_size=8)({"": generate_with_noise})["fd_test_colours"]
    assert first["metric"] == second["metric"] == {"fd_test_colours": pytest.approx(expected, abs=1e-8)}
    assert first["calls"] == second["calls"] == 2  # one measured, one read, with features and without
    assert first["same"]
    assert second["same"]
    assert len(list((tmp_path / "cache").iterdir())) == 3
    for found in (*first["features"], *second["features"]):
        torch.testing.assert_close(found, colour_features(generate(torch.arange(30))), rtol=0, atol=1e-6)


def test_processes_need_a_sum_and_a_rank_that_exists():
    with pytest.raises(ValueError, match="rank is 2 of 2 processes, expected 0 to 1"):
        Processes(2, 2, lambda tensor: tensor)
    with pytest.raises(ValueError, match="2 processes need `total`"):
        Processes(0, 2)
    assert current_processes() == Processes()
