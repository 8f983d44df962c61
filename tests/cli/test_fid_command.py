"""If this fails, `ganmod fid` prints another number than the functions give, or hides what it depends on."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_checks import assert_fails
from PIL import Image
from processes import run_by
from small_images import folder_of, picture, png, write_zip
from small_inception import write_inception
from tiny_generator import tiny_generator

from ganmod.data.seeding import seed_latents
from ganmod.io.images import read_image, write_image
from ganmod.stylegan2.sampling import seed_noise
from ganmod.stylegan2.stylegan2_file import save_stylegan2
from metrics.distances.feature_statistics import to_saved_uint8
from metrics.distances.frechet import GaussianStatistics, frechet_distance_of_statistics
from metrics.distances.kernel import kid
from metrics.distances.precision_recall import density_and_coverage, precision_and_recall
from metrics.features import inception
from metrics.features.pretrained import load_feature_space
from metrics.image_sets.sources import FileImages, GeneratorImages, read_labels

SPACE = """
import torch

def colours(images):
    x = images.float() / 255
    return torch.cat([x.mean(dim=(2, 3)), x.std(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1)

def broken(images):
    return colours(images) / 0

colours.fingerprint = "colours 1"
"""


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """a/ and b/ of 16 images, b.zip like b/, class folders c/, tiny models."""
    root = tmp_path_factory.mktemp("sets")
    folder_of(root / "a", [f"{i:02}.png" for i in range(16)])
    for i in range(16):
        write_image(root / "b" / f"{i:02}.png", picture(100 + i, height=8 + i % 3))
    write_zip(root / "b.zip", {path.name: path.read_bytes() for path in sorted((root / "b").iterdir())})
    folder_of(root / "c", [f"{'xy'[i % 2]}/{i:02}.png" for i in range(16)])
    save_stylegan2(root / "plain.safetensors", G_ema=tiny_generator())
    save_stylegan2(root / "classes.safetensors", G_ema=tiny_generator(c_dim=2), class_names=("x", "y"))
    (root / "own_colours.py").write_text(SPACE)
    return root


@pytest.fixture
def here(sets: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The sets as working folder, a cache of its own."""
    monkeypatch.chdir(sets)
    monkeypatch.syspath_prepend(sets)
    monkeypatch.setenv("GANMOD_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("GANMOD_INCEPTION", raising=False)
    return sets


def colours(images: list[np.ndarray]) -> torch.Tensor:
    """The features of SPACE from their definition, float64."""
    rows = []
    for image in images:
        x = torch.from_numpy(image).double().flatten(0, 1) / 255
        rows.append(torch.cat([x.mean(0), x.std(0), x.amax(0)]))
    return torch.stack(rows)


def folder_images(path: Path) -> list[np.ndarray]:
    return [read_image(file) for file in sorted(path.rglob("*.png"))]


def distance(first: torch.Tensor, second: torch.Tensor) -> float:
    statistics = [
        GaussianStatistics(x.numpy().mean(0), np.cov(x.numpy(), rowvar=False), len(x))
        for x in (first, second)
    ]
    return frechet_distance_of_statistics(*statistics)


def measured(ganmod_command: Any, *arguments: object) -> dict[str, Any]:
    ended = ganmod_command("fid", *arguments, "--features", "own_colours:colours", "--json")
    assert ended.code == 0, ended.err
    return json.loads(ended.out)


def test_all_metrics_of_two_folders_equal_the_functions(here: Path, ganmod_command):
    a, b = (colours(folder_images(here / name)) for name in "ab")
    found = measured(ganmod_command, "a", "b", "--metrics", "fid,kid,pr,dc", "--batch", 5)["metrics"]
    assert set(found) == {
        f"{name}_own_colours_colours"
        for name in ("fd", "kd", "kd_std", "precision", "recall", "density", "coverage")
    }
    values = {name.removesuffix("_own_colours_colours"): value for name, value in found.items()}
    assert values["fd"] == pytest.approx(distance(a, b), abs=1e-6)
    assert values["kd"] == pytest.approx(kid(a, b).mean, abs=1e-6)
    assert (values["precision"], values["recall"]) == pytest.approx(precision_and_recall(a, b))
    assert (values["density"], values["coverage"]) == pytest.approx(density_and_coverage(a, b))
    same = measured(ganmod_command, "a", "a")["metrics"]["fd_own_colours_colours"]
    assert abs(same) < 1e-6
    zipped = measured(ganmod_command, "a", "b.zip", "--metrics", "kid,fid")["metrics"]
    assert zipped["fd_own_colours_colours"] == pytest.approx(values["fd"], abs=1e-9)
    assert zipped["kd_own_colours_colours"] == pytest.approx(values["kd"], abs=1e-9)


def test_a_models_images_are_those_of_their_seeds_with_random_noise(here: Path, ganmod_command):
    report = measured(
        ganmod_command, "plain.safetensors", "b", "--num", 13, "--seed", 5, "--trunc", 0.6, "--batch", 4
    )
    G, seeds = tiny_generator(), list(range(5, 18))
    with torch.no_grad():
        images = G(seed_latents(seeds, G.z_dim), truncation_psi=0.6, noise=seed_noise(G, seeds))
    fakes = colours(list(to_saved_uint8(images).permute(0, 2, 3, 1).numpy()))
    expected = distance(fakes, colours(folder_images(here / "b")))
    assert report["metrics"]["fd_own_colours_colours"] == pytest.approx(expected, abs=1e-4)
    assert report["num_images"] == {"A": 13, "B": 16}
    conditions = report["images"]["A"]
    assert (conditions["seeds"], conditions["truncation_psi"]) == ("5-17", 0.6)
    assert conditions["noise"] == "random, of the seed"
    assert any("the first images of A and B are 24x16 and 12x8" in note for note in report["warnings"])


def test_a_run_folder_counts_by_its_latest_model(here: Path, tmp_path: Path, ganmod_command):
    """Its pictures are sheets of samples: as a folder of images they would be measured without a word."""
    folder_of(tmp_path / "run", ["reals.png", "fakes-000001.png"])
    (tmp_path / "run" / "config.yaml").touch()
    save_stylegan2(tmp_path / "run" / "model-latest.safetensors", G_ema=tiny_generator())
    found = [
        measured(ganmod_command, a, "b", "--num", 8)["metrics"]
        for a in ("plain.safetensors", tmp_path / "run")
    ]
    assert found[0] == found[1]


def test_labels_are_the_data_sets_or_one_class(here: Path, ganmod_command):
    labels = read_labels("c", c_dim=2)
    assert labels.tolist() == [[1, 0]] * 8 + [[0, 1]] * 8
    G = tiny_generator(c_dim=2)
    drawn = GeneratorImages(G, 12, labels=labels).load(torch.arange(12))
    one = [GeneratorImages(G, 12, labels=labels[[row]]).load(torch.arange(12)) for row in (0, 15)]
    as_first = [torch.equal(x, y) for x, y in zip(drawn, one[0], strict=True)]
    as_second = [torch.equal(x, y) for x, y in zip(drawn, one[1], strict=True)]
    assert [not same for same in as_first] == as_second
    assert 2 < sum(as_first) < 10
    model = ["classes.safetensors", "c", "--num", 12]
    assert measured(ganmod_command, *model)["images"]["A"]["labels"] == "drawn from 16"
    found = measured(ganmod_command, *model, "--class", "y")["metrics"]["fd_own_colours_colours"]
    fakes = colours([x.permute(1, 2, 0).numpy() for x in one[1]])
    assert found == pytest.approx(distance(fakes, colours(folder_images(here / "c"))), abs=1e-4)
    ended = ganmod_command("fid", "classes.safetensors", "a", "--features", "own_colours:colours")
    assert (ended.code, "choose one class with --class" in ended.err) == (1, True)


def test_num_draws_files_by_seed(here: Path, ganmod_command):
    names = [FileImages("a", num=6, seed=seed).names for seed in (0, 0, 1)]
    assert names[0] == names[1] != names[2]
    assert names[0] == sorted(names[0])
    report = measured(ganmod_command, "a", "b", "--num", 6)
    expected = distance(
        colours([read_image(here / "a" / name) for name in names[0]]), colours(folder_images(here / "b"))
    )
    assert report["metrics"]["fd_own_colours_colours"] == pytest.approx(expected, abs=1e-6)
    assert report["num_images"]["A"] == 6


def test_the_reference_is_kept_under_its_content(here: Path, tmp_path: Path, ganmod_command):
    first = measured(ganmod_command, "a", "b", "--metrics", "fid,kid")
    cache = tmp_path / "cache"
    kept = sorted(path.name for path in cache.iterdir())
    assert len(kept) == 2
    assert measured(ganmod_command, "a", "b.zip", "--metrics", "fid,kid")["metrics"] == first["metrics"]
    assert sorted(path.name for path in cache.iterdir()) == kept  # the same files, whatever holds them
    folder_of(tmp_path / "d", ["0.png", "1.png", "2.png"])
    measured(ganmod_command, "a", tmp_path / "d", "--no-reference-cache")
    assert sorted(path.name for path in cache.iterdir()) == kept


def test_fid_is_inceptions_and_the_table_states_what_it_depends_on(
    here: Path, tmp_path: Path, ganmod_command, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(inception, "PUBLISHED", write_inception(tmp_path, side=2))
    jpeg = tmp_path / "jpeg"
    jpeg.mkdir()
    for i in range(3):
        Image.fromarray(picture(i)).save(jpeg / f"{i}.jpg")
    (jpeg / "cut.png").write_bytes(png(picture(9))[:60])
    ended = ganmod_command("fid", "a", jpeg, "--metrics", "fid,kid", "--feature-weights", tmp_path)
    assert ended.code == 0, ended.err
    space = load_feature_space("inception", tmp_path)
    a, b = (
        torch.cat([space(torch.from_numpy(image).permute(2, 0, 1)[None]) for image in images]).double()
        for images in (folder_images(here / "a"), [read_image(jpeg / f"{i}.jpg") for i in range(3)])
    )
    lines = ended.out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["fid", "kid", "kid_std"]
    assert float(lines[0].split()[1]) == pytest.approx(distance(a, b), rel=1e-4)
    assert float(lines[1].split()[1]) == pytest.approx(kid(a.float(), b.float()).mean, rel=1e-3)
    for stated in (
        "A: 16 images; path a, num_files 16, num_lossy_files 0, first_size 12x8",
        "B: 3 images",
        f"features: {space.fingerprint}",
        "unbiased, 100 subsets of 3, seed 0",
        "note: 3 images for 32 features: the covariance is singular",
        "note: B: 3 of 4 files have a lossy format such as JPEG",
        "note: B: 1 unreadable images were left out",
    ):
        assert stated in ended.out
    assert "warning: skipped: cannot read image" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("one b", 1, "one has 1 image, but these metrics need at least 2"),
        ("a one --metrics pr", 1, "need at least 4"),
        ("a b --metrics kid,dc --num 5", 2, "--num 5: kid, dc need at least 6"),
        ("a empty", 1, "empty"),
        ("a missing", 2, "'missing' does not exist"),
        ("a b --metrics fid,kdi", 2, "unknown metric 'kdi', did you mean 'kid'?"),
        ("a b --features squeezenet", 2, "did you mean 'squeezenet1_1'"),
        ("a b", 1, "Inception weights not found: looked for"),
        ("a b --feature-weights nowhere.pt", 1, "95,607,719 bytes, SHA-256 f58cb9b6ec323ed63459aa4fb441fe75"),
        ("a b --feature-weights own_colours.py", 1, "it is another file or damaged"),
        ("a b --features own_colours:broken", 1, "hold NaN or infinity"),
        ("a b --trunc 0.5", 2, "--class and --trunc are for a model file"),
        ("a b --outputs 3", 2, "--outputs is for a StarGAN v2 model as A"),
        ("plain.safetensors b --class 1", 2, "the model is unconditional"),
        ("a b --device tpu9", 2, "--device tpu9"),
        ("a b --num 1", 2, "1 is not in the range"),
        ("a notes.txt", 1, "notes.txt is no zip"),
    ],
)
def test_what_cannot_be_measured_is_one_message_at_once(
    here: Path, arguments: str, code: int, message: str, ganmod_command
):
    folder_of(here / "one", ["0.png"])
    (here / "empty").mkdir(exist_ok=True)
    (here / "notes.txt").write_text("notes")
    start = time.monotonic()
    ended = ganmod_command("fid", *arguments.split())
    assert time.monotonic() - start < 2
    assert_fails(ended, code, message)
    assert not ended.out


def test_without_inception_the_same_command_with_another_space_is_offered(
    here: Path, monkeypatch: pytest.MonkeyPatch, ganmod_command
):
    monkeypatch.setenv("TORCH_HOME", str(here / "torch"))
    arguments = ["a", "b", "--features=inception", "--feature-weights", "no where.pt", "--num", "9"]
    ended = ganmod_command("fid", *arguments)
    offered = "ganmod fid a b --num 9 --features ganmod-slim"
    assert_fails(ended, 1, "Inception weights not found: looked for no where.pt", "At hand: ganmod-slim.")
    assert ended.err.splitlines()[-1].strip() == offered
    again = ganmod_command(*offered.split()[1:])
    assert (again.code, "fd_ganmod_slim" in again.out) == (0, True)

    network = here / "torch" / "hub" / "checkpoints" / "squeezenet1_1-b8a52dc0.pth"
    network.parent.mkdir(parents=True)
    network.write_bytes(b"")
    ended = ganmod_command("fid", *arguments)
    assert_fails(ended, 1, "At hand: squeezenet1_1, ganmod-slim.", "--num 9 --features squeezenet1_1")
    assert_fails(ganmod_command("fid", "a", "b", "--features", "squeezenet1_1"), 1, str(network))


def test_two_processes_give_the_numbers_of_one(here: Path, ganmod_command):
    """A is shared out; B comes from the cache, through the first of them."""
    arguments = ["a", "b", "--metrics", "fid,kid,pr,dc", "--batch", "3"]
    expected = measured(ganmod_command, *arguments)
    printed = run_by(
        2, "fid", *arguments, "--features", "own_colours:colours", "--json", "--device", "cpu", folder=here
    )
    found = json.loads(printed)
    assert found["metrics"] == pytest.approx(expected["metrics"], rel=1e-9, abs=1e-12)
    assert found["num_images"] == expected["num_images"]
