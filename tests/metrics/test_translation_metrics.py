"""If this fails, figures of image translation are not the published measures, or depend on the batch size."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from counted_progress import CountedProgress
from PIL import Image
from small_images import picture
from tiny_starganv2 import tiny_spec
from torch import Tensor

from ganmod.io.images import write_image
from ganmod.process_shares import Processes
from ganmod.starganv2 import Generator, MappingNetwork, StarGANv2, StyleEncoder, save_starganv2
from metrics import translation_evaluation as starganv2_evaluation
from metrics.distances.frechet import GaussianStatistics, frechet_distance_of_statistics
from metrics.translation import measure_pair, output_latents, output_references
from metrics.translation_evaluation import evaluate_starganv2

COUNTS = {"cat": 5, "dog": 4, "wild": 3}
OUTPUTS = 3


class Colours:
    """Channel means and deviations: 6 features that a test can recompute."""

    name, dim, fingerprint = "colours", 6, "colours 1"
    device = torch.device("cpu")

    def __call__(self, images: Tensor) -> Tensor:
        x = images.double() / 255
        return torch.cat([x.mean(dim=(2, 3)), x.std(dim=(2, 3))], dim=1).float()


class Spread(torch.nn.Module):
    """In place of LPIPS: the mean absolute difference of two images."""

    network = "squeeze"

    def diversity(self, images: Tensor) -> Tensor:
        pairs = list(itertools.combinations(range(images.shape[1]), 2))
        return sum((images[:, a] - images[:, b]).abs().mean(dim=(1, 2, 3)) for a, b in pairs) / len(pairs)


@pytest.fixture(scope="module")
def model() -> StarGANv2:
    torch.manual_seed(0)
    spec = tiny_spec(img_size=16, domains=tuple(COUNTS))
    networks = StarGANv2(Generator(spec), MappingNetwork(spec), StyleEncoder(spec))
    for network in networks:
        network.eval().requires_grad_(False)
        for name, p in network.named_parameters():  # with their small initial values, styles hardly differ
            if "affine" in name or name.startswith("heads"):
                p.mul_(3)
    return networks


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faces")
    seed = itertools.count()
    for name, count in COUNTS.items():
        for i in range(count):
            write_image(folder / name / f"{i}.png", picture(next(seed), height=16, width=16))
    return folder


def pixels(data: Path, domain: str) -> Tensor:
    """uint8 [N,3,16,16]."""
    arrays = [np.array(Image.open(data / domain / f"{i}.png")) for i in range(COUNTS[domain])]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)


def gaussian(features: Tensor) -> GaussianStatistics:
    rows = features.double().numpy()
    return GaussianStatistics(rows.mean(axis=0), np.cov(rows, rowvar=False), len(rows))


def evaluate_one_by_one(model: StarGANv2, data: Path, mode: str, seed: int) -> dict[str, float]:
    """The protocol, one image and one output at a time."""
    domains = list(COUNTS)
    found: dict[str, float] = {}
    for s, t in itertools.permutations(range(3), 2):
        features, errors, spreads = [], [], []
        target = torch.tensor([t])
        references = pixels(data, domains[t])
        for i, source in enumerate(pixels(data, domains[s])):
            index = torch.tensor([i])
            z = output_latents(seed, (s, t), index, num_outputs=OUTPUTS, latent_dim=4)[0]
            which = output_references(
                seed, (s, t), index, num_outputs=OUTPUTS, num_references=len(references)
            )[0]
            images = []
            for j in range(OUTPUTS):
                code = model.mapping(z[j : j + 1], target)
                if mode == "reference":
                    code = model.style_encoder(references[which[j]][None] / 127.5 - 1, target)
                images.append(model.G(source[None] / 127.5 - 1, code))
                errors.append((model.style_encoder(images[-1], target) - code).abs().mean().item())
                saved = ((images[-1] + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
                features.append(Colours()(saved))
            pairs = itertools.combinations([(image + 1) / 2 for image in images], 2)
            spreads += [np.mean([(a - b).abs().mean().item() for a, b in pairs])]
        pair = f"{domains[s]}2{domains[t]}"
        real = gaussian(Colours()(references))
        found[f"{mode}/fd_colours/{pair}"] = frechet_distance_of_statistics(
            gaussian(torch.cat(features)), real
        )
        found[f"{mode}/style_error/{pair}"] = float(np.mean(errors))
        found[f"{mode}/lpips_squeeze/{pair}"] = float(np.mean(spreads))
    for name in ("fd_colours", "style_error", "lpips_squeeze"):
        values = [value for key, value in found.items() if key.startswith(f"{mode}/{name}/")]
        assert len(values) == 6
        found[f"{mode}/{name}"] = float(np.mean(values))
    return found


def evaluate(model: StarGANv2, data: Path, **options: Any) -> dict[str, float]:
    arguments = {"lpips": Spread(), "num_outputs": OUTPUTS, "seed": 3, **options}
    return evaluate_starganv2(model, data, Colours(), **arguments)


def test_measures_are_the_protocol_written_out(model: StarGANv2, data: Path):
    progress = CountedProgress()
    found = evaluate(model, data, progress=progress)
    expected = evaluate_one_by_one(model, data, "latent", 3) | evaluate_one_by_one(
        model, data, "reference", 3
    )
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-3, abs=1e-6), name
        assert value > 1e-4  # the tolerance means something
    num_images = 12 + 2 * 12 * 2 * OUTPUTS
    assert progress.counts == {"translations": (num_images, num_images)}


def test_batch_size_and_processes_change_nothing(model: StarGANv2, data: Path):
    expected = evaluate(model, data)
    sums: list[Tensor] = []
    barrier, lock = threading.Barrier(2, timeout=300), threading.Lock()

    def total(tensor: Tensor) -> Tensor:
        with lock:
            sums.append(tensor)
        barrier.wait()
        result = sums[0] + sums[1]
        barrier.wait()
        with lock:
            sums.clear()
        barrier.wait()
        return result

    found: dict[int, dict[str, float]] = {}

    def run(rank: int) -> None:
        found[rank] = evaluate(model, data, batch_size=2, processes=Processes(rank, 2, total))

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for rank in range(2):
        assert found[rank] == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_statistics_of_real_images_are_kept_between_calls(model: StarGANv2, data: Path, tmp_path: Path):
    """By domain, keyed by the content and size of its images; the progress is complete in both cases."""
    seen: list[int] = []

    class Counting(Colours):
        def __call__(self, images: Tensor) -> Tensor:
            seen.append(len(images))
            return super().__call__(images)

    def evaluate_and_count(folder: Path) -> tuple[dict[str, float], int]:
        seen.clear()
        progress = CountedProgress()
        values = evaluate_starganv2(
            model,
            folder,
            Counting(),
            num_outputs=OUTPUTS,
            modes=["latent"],
            progress=progress,
            cache_dir=tmp_path / "cache",
        )
        ((announced, done),) = progress.counts.values()
        assert announced == done
        return values, sum(seen)

    real, translated = sum(COUNTS.values()), 2 * sum(COUNTS.values()) * OUTPUTS
    first, count = evaluate_and_count(data)
    assert count == real + translated
    assert len(list((tmp_path / "cache").iterdir())) == len(COUNTS)
    second, count = evaluate_and_count(data)
    assert (second, count) == (first, translated)
    other = shutil.copytree(data, tmp_path / "other")
    write_image(sorted((other / "cat").iterdir())[0], picture(99, height=16, width=16))
    _, count = evaluate_and_count(other)
    assert count == COUNTS["cat"] + translated


def test_the_seed_decides_and_sources_can_be_fewer(model: StarGANv2, data: Path):
    once, again, other = (
        evaluate(model, data, num_sources=2, modes=["latent"], lpips=None, seed=seed) for seed in (0, 0, 1)
    )
    assert once == again
    assert once["latent/style_error"] != other["latent/style_error"]
    assert not [name for name in once if "lpips" in name or "reference" in name]


def test_real_images_may_be_others(model: StarGANv2, data: Path, tmp_path: Path):
    for i, name in enumerate(COUNTS):
        for j in range(2):
            write_image(tmp_path / name / f"{j}.png", picture(1000 + 10 * i + j, height=16, width=16))
    same, other = (evaluate(model, data, modes=["latent"], real_data=real) for real in (None, tmp_path))
    assert same["latent/style_error"] == other["latent/style_error"]
    assert same["latent/fd_colours"] != pytest.approx(other["latent/fd_colours"], rel=0.01)


def test_draws_belong_to_image_and_output():
    indices = torch.tensor([4, 0, 7])
    few, many = (output_latents(5, (0, 1), indices, num_outputs=n, latent_dim=6) for n in (2, 4))
    assert torch.equal(few, many[:, :2])
    assert torch.equal(many[1:2], output_latents(5, (0, 1), indices[1:2], num_outputs=4, latent_dim=6))
    assert not torch.equal(many, output_latents(5, (1, 0), indices, num_outputs=4, latent_dim=6))
    assert len(many.unique()) == many.numel()
    which = output_references(5, (0, 1), indices, num_outputs=4, num_references=9)
    assert all(len(set(row)) == 4 for row in which.tolist())
    wrapped = output_references(5, (0, 1), indices, num_outputs=7, num_references=3)
    assert all(sorted(row[:3]) == [0, 1, 2] and row[:3] == row[3:6] for row in wrapped.tolist())


def test_translations_with_nan_are_refused():
    with pytest.raises(ValueError, match="hold NaN"):
        measure_pair(
            lambda indices: torch.zeros(len(indices), 3, 8, 8),
            4,
            lambda indices: torch.zeros(len(indices), 2, 5),
            lambda images, codes: images[:, None].expand(-1, 2, -1, -1, -1) * float("nan"),
            lambda images: torch.zeros(len(images), 5),
            Colours(),
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modes": ["latents"]}, "unknown mode 'latents': expected some of latent, reference"),
        ({"num_outputs": 1}, "got 1 outputs of None sources by latent, reference: expected one or more"),
        ({"modes": []}, "by nothing"),
    ],
)
def test_mistakes_are_explained(model: StarGANv2, data: Path, options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        evaluate(model, data, **options)


def test_data_of_other_domains_are_refused(model: StarGANv2, tmp_path: Path):
    for name in ("cat", "dog"):
        write_image(tmp_path / name / "0.png", picture(0))
    with pytest.raises(ValueError, match=r"has the domains cat, dog, but the model .* cat, dog, wild: name"):
        evaluate(model, tmp_path)


SPACE = """
import torch

def colours(images):
    x = images.float() / 255
    return torch.cat([x.mean(dim=(2, 3)), x.std(dim=(2, 3))], dim=1)
"""


@pytest.fixture
def folder(tmp_path: Path, model: StarGANv2, data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    save_starganv2(tmp_path / "m.safetensors", model)
    (tmp_path / "translated_colours.py").write_text(SPACE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_the_command_prints_what_the_function_returns(
    folder: Path, model: StarGANv2, data: Path, ganmod_command: Callable
):
    arguments = ["fid", folder / "m.safetensors", data, "--features", "translated_colours:colours"]
    arguments += ["--outputs", OUTPUTS, "--seed", 3, "--num", 3, "--device", "cpu"]
    ended = ganmod_command(*arguments, "--json")
    assert ended.code == 0, ended.err
    report = json.loads(ended.out)
    expected = evaluate(model, data, lpips=None, num_sources=3)
    measures = {
        name.replace("translated_colours_colours", "colours"): v for name, v in report["metrics"].items()
    }
    assert measures == pytest.approx(expected, rel=1e-4)
    assert report["settings"]["protocol"] == "ganmod's own"
    assert any(", per pair of domains: " in note for note in report["warnings"])
    ended = ganmod_command(*arguments)
    assert "translations: 3 of each source, seed 3; means over domain pairs" in ended.out
    assert "note: LPIPS diversity needs --lpips-weights" in ended.out
    assert re.search(r"note: .* \d images.* the Frechet distance", ended.out)
    assert "use kid" not in ended.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--starganv2-protocol"], "give --training-images DIR"),
        (["--starganv2-protocol", "--training-images", ".", "--features", "vgg19"], "leave one out"),
        (["--metrics", "kid"], "not for a StarGAN v2 model"),
    ],
)
def test_wrong_use_is_explained(
    folder: Path, data: Path, ganmod_command: Callable, options: list[str], message: str
):
    ended = ganmod_command("fid", folder / "m.safetensors", data, "--device", "cpu", *options)
    assert ended.code == 2, ended.err
    assert message in ended.err
    ended = ganmod_command("fid", data / "cat", data / "dog", "--starganv2-protocol")
    assert ended.code == 2
    assert "are for a StarGAN v2 model as A" in ended.err


def test_the_published_protocol_names_the_files_that_it_needs(
    folder: Path, data: Path, ganmod_command: Callable
):
    arguments = ["--starganv2-protocol", "--training-images", data, "--feature-weights", folder / "none.pth"]
    ended = ganmod_command("fid", folder / "m.safetensors", data, "--device", "cpu", *arguments)
    assert ended.code == 1
    assert "inception_v3_google-0cc3c7bd.pth" in ended.err
    assert starganv2_evaluation.NUM_OUTPUTS == 10
