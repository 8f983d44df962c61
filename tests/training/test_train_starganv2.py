"""If this fails, a resumed, split or distributed StarGAN v2 run is not the run the user started."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from processes import run_by
from run_checks import assert_same, check_measuring, final_state, short_schedule

import ganmod
from configs.schema import StarGANv2Run, load_starganv2_config, to_yaml
from ganmod.data.domain_images import DomainImages
from ganmod.io.model_file import ModelFileError
from ganmod.starganv2 import StarGANv2
from ganmod.starganv2 import load_starganv2 as load_model
from training import train_starganv2
from training.ema import ema_decay
from training.loader import StepSampler, step_loader
from training.run.nonfinite import NonFiniteError
from training.starganv2.build import build_dataset, build_networks, build_spec, check_batch, mask_notes
from training.starganv2.samples import domain_sets, translations_by_index
from training.starganv2.step import SampleMaker
from training.train_starganv2 import train

ROOT = Path(__file__).parents[2]
BATCH = 4
CPU = torch.device("cpu")

pytestmark = pytest.mark.filterwarnings("ignore:batch_size 4 is below 8")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five cats and three dogs of mixed sizes."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for name, count in (("cat", 5), ("dog", 3)):
        (folder / name).mkdir()
        for i in range(count):
            pixels = rng.integers(0, 256, (20 + i, 18, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


def tiny(images: Path, steps: int, **changes: object) -> StarGANv2Run:
    """Everything on: crops, flips, all losses, a diversity weight that reaches 0 after 30 steps."""
    return load_starganv2_config(
        "starganv2-smoke",
        {
            "data.path": str(images),
            "model.img_size": 16,
            "model.channel_base": 64,
            "model.channel_max": 6,
            "model.hidden_dim": 8,
            "model.style_dim": 4,
            "loss.diversity_weight": 2.0,
            "loss.diversity_decay_kimg": 30 * BATCH / 1000,
            **short_schedule(steps, BATCH),
            **changes,
        },
    )


@pytest.mark.parametrize(
    ("modulation", "steps", "first", "changes"),
    [
        ("adain", 37, 17, {}),
        ("adaconv", 5, 2, {"runtime.precision": "bfloat16"}),
        ("weight_demod", 5, 2, {"model.w_hpf": 1.0, "model.img_size": 32}),
    ],
    ids=["adain", "adaconv-bfloat16", "weight_demod-high-pass"],
)
def test_37_steps_equal_17_and_20_bitwise(
    tmp_path: Path, images: Path, modulation: str, steps: int, first: int, changes: dict
) -> None:
    changes = {"model.modulation": modulation, **changes}
    train(tiny(images, steps, **changes), tmp_path / "whole", show_progress=False)
    train(tiny(images, first, **changes), tmp_path / "parts", show_progress=False)
    train(tiny(images, steps, **changes), tmp_path / "parts", show_progress=False)
    assert_same(*(final_state(tmp_path / name) for name in ("whole", "parts")))
    lines = {}
    for name in ("whole", "parts"):
        read = (tmp_path / name / "stats.jsonl").read_text().splitlines()
        lines[name] = [json.loads(line) for line in read]
        for line in lines[name]:
            del line["seconds"], line["seconds_per_kimg"], line["peak_memory_mb"]
    assert lines["whole"] == lines["parts"]
    assert [line["nimg"] for line in lines["whole"]] == [BATCH * (i + 1) for i in range(steps)]
    weights = [line["diversity_weight"] for line in lines["whole"]]
    assert weights == pytest.approx([2.0 * max(1 - i / 30, 0) for i in range(steps)])


def test_metrics_change_nothing_and_the_best_model_is_kept(tmp_path: Path, images: Path) -> None:
    def run(folder: Path, changes: dict) -> None:
        train(tiny(images, 5, **changes), folder, show_progress=False)

    for line in check_measuring(run, tmp_path, step=BATCH, metrics=("fd", "kd")):
        for name in ("fd_colour_space_colour_features", "kd_colour_space_colour_features"):
            assert line[name] == pytest.approx((line[f"{name}/cat"] + line[f"{name}/dog"]) / 2)
        conditions = line["conditions"]
        assert (conditions["num_real"], conditions["num_generated"]) == (8, 12)
        assert conditions["sets"] == "cat, dog"


def test_what_is_measured_is_the_other_domains_translated(images: Path) -> None:
    config = tiny(images, 1)
    dataset = build_dataset(config.data, 16, 0)
    networks = build_networks(build_spec(config.model, dataset.domains))
    averaged = StarGANv2(networks.G, networks.mapping, networks.style_encoder)
    make = SampleMaker(0, 8, CPU, torch.float32, torch.contiguous_format)
    fakes = translations_by_index(averaged, dataset, make)
    real = domain_sets(dataset)
    assert list(fakes) == list(real) == ["cat", "dog"]
    assert [real[name].num_images for name in real] == [5, 3]
    assert torch.equal(torch.stack(list(real["dog"].load(torch.tensor([2, 0])))), stack(dataset, 1, [2, 0]))
    assert real["cat"].content_hash() != real["dog"].content_hash()
    with torch.no_grad():
        found = fakes["cat"](
            torch.tensor([4, 1])
        )  # the dogs have three images: 4 is 1 again, in another style
        source = stack(dataset, 1, [1, 1]) / 127.5 - 1
        z = make.latents("metric", [4, 1])
        expected = averaged.G(source, averaged.mapping(z, torch.tensor([0, 0])))
    assert not torch.equal(z[0], z[1])
    torch.testing.assert_close(found / 127.5 - 1, expected.clamp(-1, 1), rtol=0, atol=1.01 / 255)


def stack(dataset: DomainImages, domain: int, indices: list[int]) -> torch.Tensor:
    return torch.stack([dataset.image(domain, i) for i in indices])


def test_two_steps_are_the_published_ones(tmp_path: Path, images: Path) -> None:
    """Against the published procedure written out: four optimisers, losses as means, one weight average."""
    steps = 2
    config = tiny(images, steps, **{"runtime.precision": "float64", "runtime.channels_last": False})
    train(config, tmp_path, show_progress=False)
    trained = final_state(tmp_path)

    dataset = build_dataset(config.data, 16, 0)
    torch.manual_seed(0)
    nets = build_networks(build_spec(config.model, dataset.domains))
    G, M, E, D = (net.double() for net in nets)
    averages = [copy.deepcopy(net) for net in (G, M, E)]
    rates = {G: 1e-4, M: 1e-6, E: 1e-4, D: 1e-4}
    optimizers = {
        net: torch.optim.Adam(net.parameters(), lr=lr, betas=(0.0, 0.99), weight_decay=1e-4)
        for net, lr in rates.items()
    }
    make = SampleMaker(0, 8, CPU, torch.float64, torch.contiguous_format)
    loader = iter(step_loader(dataset, StepSampler(batch_size=BATCH, nimg=0)))

    def take_step(loss: torch.Tensor, *networks: torch.nn.Module) -> None:
        for optimizer in optimizers.values():
            optimizer.zero_grad()
        loss.backward()
        for net in networks:
            optimizers[net].step()

    for step in range(steps):
        x = make(next(loader), range(step * BATCH, (step + 1) * BATCH))
        real, y_org, y = x.images, x.domains, x.targets
        codes = [
            [lambda i=i: M(x.latents[i], y) for i in range(2)],  # noqa: B023
            [lambda i=i: E(x.references[i], y) for i in range(2)],  # noqa: B023
        ]
        for first, _ in codes:
            real.requires_grad_()
            out = D(real, y_org)
            (slope,) = torch.autograd.grad(out.sum(), real, create_graph=True)
            r1 = 0.5 * slope.square().sum() / BATCH
            fake = G(real, first()).detach()
            take_step(F.softplus(-out).mean() + F.softplus(D(fake, y)).mean() + r1, D)
        real = real.detach()
        for networks, (first, second) in zip(((G, M, E), (G,)), codes, strict=True):
            s = first()
            fake = G(real, s)
            loss = F.softplus(-D(fake, y)).mean() + (E(fake, y) - s).abs().mean()
            loss = loss - 2.0 * (1 - step / 30) * (fake - G(real, second()).detach()).abs().mean()
            loss = loss + (G(fake, E(real, y_org)) - real).abs().mean()
            take_step(loss, *networks)
        decay = ema_decay(BATCH, 1, half_life_kimg=5.5424, rampup=None)
        for average, net in zip(averages, (G, M, E), strict=True):
            for own, value in zip(average.parameters(), net.parameters(), strict=True):
                own.data.lerp_(value.data, 1 - decay)

    for name, net in [
        *nets._asdict().items(),
        *zip(("G_ema", "mapping_ema", "style_encoder_ema"), averages, strict=True),
    ]:
        for key, value in net.state_dict().items():
            torch.testing.assert_close(trained[name][key], value, rtol=1e-8, atol=1e-10, msg=f"{name}.{key}")


def test_the_average_has_the_published_decay() -> None:
    schedule = load_starganv2_config("starganv2-afhq", {}).schedule
    half_life = schedule.ema_half_life_kimg
    assert ema_decay(8, 8, half_life_kimg=half_life, rampup=schedule.ema_rampup) == pytest.approx(
        0.999, abs=1e-7
    )


def assert_close(a: dict, b: dict) -> None:
    for network in ("G", "mapping", "style_encoder", "D", "G_ema", "style_encoder_ema"):
        for name, value in a[network].items():
            torch.testing.assert_close(b[network][name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_accumulated_gradients_equal_the_whole_batch(tmp_path: Path, images: Path) -> None:
    changes = {"runtime.precision": "float64"}
    train(tiny(images, 2, **changes), tmp_path / "whole", show_progress=False)
    train(tiny(images, 2, **changes, **{"schedule.microbatch": 1}), tmp_path / "parts", show_progress=False)
    assert_close(final_state(tmp_path / "whole"), final_state(tmp_path / "parts"))


def test_two_processes_equal_one(tmp_path: Path, images: Path) -> None:
    config = tiny(images, 2, **{"runtime.precision": "float64"})
    train(config, tmp_path / "one", show_progress=False)
    (tmp_path / "run.yaml").write_text(to_yaml(config))
    run_by(2, "train", "starganv2", "--config", tmp_path / "run.yaml", "--out", tmp_path / "two")
    assert_close(final_state(tmp_path / "one"), final_state(tmp_path / "two"))


def test_the_model_file_translates(tmp_path: Path, images: Path) -> None:
    path = train(tiny(images, 2, **{"model.modulation": "adaconv@16"}), tmp_path, show_progress=False)
    model, state = load_model(path), final_state(tmp_path)
    assert model.spec.domains == ("cat", "dog")
    for name, network in model._asdict().items():
        assert not network.training
        for key, value in network.state_dict().items():
            assert torch.equal(value, state[f"{name}_ema"][key])
    x, domains = torch.rand(2, 3, 16, 16) * 2 - 1, torch.tensor([0, 1])
    for style in (model.style_encoder(x, domains), model.mapping(torch.randn(2, 8), domains)):
        assert model.G(x, style).shape == (2, 3, 16, 16)
    for name in ("references", "latents"):
        assert (tmp_path / f"{name}-000000008.png").stat().st_size > 1000
    with pytest.raises(ModelFileError, match=r"kind 'starganv2', not 'stylegan2'; load it with ganmod"):
        ganmod.load(path)


def test_a_non_finite_loss_is_left_out_and_then_stops_the_run(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = train_starganv2.generator_phase

    def poison(*args: object, from_reference: bool) -> object:
        terms = real(*args, from_reference=from_reference)  # type: ignore[arg-type]
        return terms._replace(cycle=terms.cycle * float("nan")) if from_reference else terms

    monkeypatch.setattr(train_starganv2, "generator_phase", poison)
    with pytest.raises(NonFiniteError, match="loss reference/G for 3 steps in a row"):
        train(tiny(images, 9, **{"schedule.max_nonfinite_steps": 3}), tmp_path, show_progress=False)
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert sum("step left out" in line for line in lines) == 3


def test_another_run_is_not_continued(tmp_path: Path, images: Path) -> None:
    run = tmp_path / "run"
    train(tiny(images, 1), run, show_progress=False)
    with pytest.raises(ValueError, match=r"loss.diversity_decay_kimg = 0.12, this command says 1"):
        train(tiny(images, 2, **{"loss.diversity_decay_kimg": 1.0}), run, show_progress=False)
    (tmp_path / "here").symlink_to(images)
    config = tiny(tmp_path / "here", 1)
    train(config, tmp_path / "moved", show_progress=False)
    for name, new in (("cat", "cat"), ("dog", "wolf")):
        (tmp_path / "data" / new).mkdir(parents=True)
        (tmp_path / "data" / new / "0.png").write_bytes((images / name / "0.png").read_bytes())
    (tmp_path / "here").unlink()
    (tmp_path / "here").symlink_to(tmp_path / "data")
    with pytest.raises(ValueError, match=r"on other data: data\.path was .* contents differ"):
        train(config, tmp_path / "moved", show_progress=False)


def test_batches(images: Path) -> None:
    with pytest.raises(ValueError, match="batch_size 4 is not a multiple of 3 processes x 1 per pass: try 6"):
        check_batch(BATCH, 3, None)
    with pytest.warns(UserWarning, match="batch_size 4 is below 8"):
        check_batch(BATCH, 1, None)


def test_dry_run_prints_the_configuration_and_parameter_counts(images: Path, ganmod_command) -> None:
    options = ["--config", "starganv2-smoke", "--data", images, "--modulation", "adaconv", "--size", 16]
    ended = ganmod_command("train", "starganv2", *options, "--dry-run")
    assert ended.code == 0, ended.err
    assert "modulation: adaconv" in ended.out
    assert "# images: cat 5, dog 3" in ended.out
    lines = [line for line in ended.out.splitlines() if "parameters of" in line]
    assert [line.split()[3] for line in lines] == ["G:", "mapping:", "style_encoder:", "D:"]
    assert "face masks" not in ended.out
    ended = ganmod_command("train", "starganv2", *options, "--set", "model.w_hpf=1", "--dry-run")
    assert "# model.w_hpf 1 without face masks: " in ended.out
    ended = ganmod_command("train", "starganv2", "--config", "starganv2-smoke", "--dry-run")
    assert ended.code == 2
    assert "Missing option '--data'" in ended.err
    ended = ganmod_command("train", "starganv2", *options[:4], "--size", 24, "--dry-run")
    assert ended.code == 1
    assert "img_size is 24, expected a power of two from 16: try 16 or 32" in ended.err
    ended = ganmod_command("train", "starganv2", *options, "--set", "schedule.microbatch=3", "--dry-run")
    assert ended.code == 1
    assert "x 3 per pass: try 9" in ended.err


def test_a_run_with_the_high_pass_filter_logs_that_it_has_no_masks(images: Path, tmp_path: Path) -> None:
    note = "model.w_hpf 1 without face masks"
    preset = load_starganv2_config("starganv2-celebahq", {}).model
    assert [text.split(":")[0] for text in mask_notes(preset)] == [note]
    train(tiny(images, 1, **{"model.w_hpf": 1}), tmp_path / "filtered", show_progress=False)
    assert note in (tmp_path / "filtered/log.txt").read_text()
    train(tiny(images, 1), tmp_path / "plain", show_progress=False)
    assert "face masks" not in (tmp_path / "plain/log.txt").read_text()
