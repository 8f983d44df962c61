"""If this fails, a distance logged in training is not the one of its name, or measuring changes training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from colour_space import NAME, colour_space
from small_inception import write_inception
from torch import Tensor

from configs.sections import TrainingMetric, parse_metric
from metrics.distances.frechet import GaussianStatistics, frechet_distance_of_statistics
from metrics.distances.kernel import kid
from metrics.features import inception
from metrics.image_sets.features import SetFeatures, measure_generator, measure_set
from training.run.metric_hook import wanted_metrics
from training.run.training_metric import MetricHook


def generate(indices: Tensor) -> Tensor:
    """uint8 [N,3,4,4], each decided by its index alone."""
    seeds = (torch.Generator().manual_seed(i) for i in indices.tolist())
    return torch.stack([torch.randint(256, (3, 4, 4), generator=seed) for seed in seeds]).to(torch.uint8)


def generate_with_noise(indices: Tensor) -> Tensor:
    """Draws from torch's global state, as a generator with random noise does."""
    return (generate(indices) // 2 + torch.randint(100, (len(indices), 3, 4, 4))).to(torch.uint8)


def real_set(first: int, count: int) -> SetFeatures:
    return measure_set(lambda indices: list(generate(indices + first)), count, colour_space(), keep=True)


def test_the_hook_measures_the_distance_and_leaves_the_random_state_alone():
    real = real_set(100, 40)
    hook = MetricHook(colour_space(), {"": real}, 30, batch_size=8)
    torch.manual_seed(5)
    expected_next = torch.rand(3)
    torch.manual_seed(5)
    seen: list[int] = []
    found = hook({"": generate}, done=seen.append)
    assert torch.equal(torch.rand(3), expected_next)
    assert seen == [8, 8, 8, 6]
    fake = measure_generator(generate, 30, colour_space())
    expected = frechet_distance_of_statistics(fake.gaussian, real.gaussian)
    assert found == {"fd_test_colours": pytest.approx(expected, abs=1e-12)}
    assert hook({"": generate_with_noise}) == hook({"": generate_with_noise})  # whatever is drawn in between
    assert hook.conditions == {
        "metric": "fd_test_colours",
        "space": "colours 1",
        "num_real": 40,
        "num_generated": 30,
        "seed": 0,
    }
    assert "30 images: the Frechet distance is biased" in hook.cautions[0]
    two = SetFeatures(GaussianStatistics(np.zeros(2), np.eye(2), 10), None)
    with pytest.raises(ValueError, match="hold 2 features, but test:colours has 6"):
        MetricHook(colour_space(), {"": two}, 30)
    with pytest.raises(ValueError, match="got num_images 1 and batch_size 64"):
        MetricHook(colour_space(), {"": real}, 1)


def test_several_sets_give_their_mean_and_each_one():
    real = {"cat": real_set(100, 40), "dog": real_set(200, 25)}
    hook = MetricHook(colour_space(), real, 12, measures=("kid", "fid"))
    found = hook({"cat": generate, "dog": lambda indices: generate(indices + 50)})
    expected = {}
    for name, first in (("cat", 0), ("dog", 50)):
        fake = measure_set(lambda i, first=first: list(generate(i + first)), 12, colour_space(), keep=True)
        assert fake.features is not None
        assert real[name].features is not None
        expected[f"fd_test_colours/{name}"] = frechet_distance_of_statistics(
            fake.gaussian, real[name].gaussian
        )
        expected[f"kd_test_colours/{name}"] = kid(fake.features, real[name].features).mean
    for metric in ("fd_test_colours", "kd_test_colours"):
        expected[metric] = (expected[f"{metric}/cat"] + expected[f"{metric}/dog"]) / 2
    assert {key: found[key] for key in expected} == pytest.approx(expected, abs=1e-12)
    assert hook.name == "kd_test_colours"
    conditions = hook.conditions
    assert (conditions["sets"], conditions["num_real"], conditions["num_generated"]) == ("cat, dog", 65, 24)
    with pytest.raises(ValueError, match=r"got generators of \['cat'\], expected of \['cat', 'dog'\]"):
        hook({"cat": generate})


@pytest.mark.parametrize(
    ("name", "expected"),
    [("fid10k", ("fid", 10_000)), ("fd2.5k", ("fd", 2500)), ("kid", ("kid", 700)), ("kd0.008k", ("kd", 8))],
)
def test_a_name_is_a_metric_and_thousands_of_samples(name: str, expected: tuple[str, int]):
    assert parse_metric(name, 700) == expected


@pytest.mark.parametrize("name", ["fid10", "10k", "FID10k", "pr5k", "fid-1k", "fid10kk", ""])
def test_another_name_is_refused(name: str):
    with pytest.raises(ValueError, match=f"unknown metric '{name}': expected one of fid, kid, fd, kd"):
        parse_metric(name, 700)


def test_named_metrics_are_measured_at_each_snapshot_by_default():
    assert TrainingMetric().every == 0
    assert TrainingMetric(names=("fid10k",)).every == 1
    assert TrainingMetric(names=("fid10k",), every=0).every == 0
    assert TrainingMetric(every=3).names == ("fd",)
    with pytest.raises(ValueError, match="fid stands there more than once"):
        TrainingMetric(names=("fid10k", "fid50k"))
    with pytest.raises(ValueError, match=r"'fd0\.001k' asks for 1 samples, expected at least 2"):
        TrainingMetric(names=("fd0.001k",))


def test_names_choose_spaces_numbers_and_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def spaces(*names: str, **others: Any) -> list[tuple[str, int, tuple[str, ...]]]:
        config = TrainingMetric(names=names, **{"features": NAME, **others})
        found = wanted_metrics(config, torch.device("cpu"))
        return [(one.space.name, one.num_images, one.measures) for one in found]

    monkeypatch.setattr(inception, "PUBLISHED", write_inception(tmp_path, side=2))
    assert spaces("fd5k", "kd5k") == [(NAME, 5000, ("fid", "kid"))]
    assert spaces("kd2k", "fd5k") == [(NAME, 2000, ("kid",)), (NAME, 5000, ("fid",))]
    assert spaces("fd5k", every=0) == []
    # Weights are Inception's if nothing else needs them; otherwise its file is located as usual.
    weights = str(tmp_path)
    assert spaces("fid10k", "kid10k", feature_weights=weights) == [("inception", 10_000, ("fid", "kid"))]
    monkeypatch.setenv("GANMOD_INCEPTION", weights)
    with pytest.raises(ValueError, match="loads its own weights"):
        spaces("fid10k", "fd5k", feature_weights=weights)
    assert spaces("fid10k", "fd5k") == [("inception", 10_000, ("fid",)), (NAME, 5000, ("fid",))]
    with pytest.raises(ValueError, match="in the features of inception two of them are the same"):
        spaces("fid10k", "fd5k", features="inception")
    monkeypatch.delenv("GANMOD_INCEPTION")
    with pytest.raises(ValueError, match="Inception weights not found"):
        spaces("fid10k")
