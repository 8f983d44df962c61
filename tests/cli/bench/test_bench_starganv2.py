"""If this fails, `ganmod bench starganv2` compares iterations that do not compute the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_starganv2 import build, draw
from torch import Tensor

from ganmod.cli.bench import starganv2 as bench_starganv2
from ganmod.cli.bench.starganv2 import StarGANv2Iteration, compare_iterations
from ganmod.starganv2 import Discriminator, Generator, MappingNetwork, StyleEncoder
from ganmod.starganv2.resampled_conv import conv_avg_pool, nearest_conv
from training.starganv2.step import FirstOrder, Networks, Samples, generator_phase

CPU = torch.device("cpu")
SETTINGS = {
    "model.img_size": 32,
    "model.channel_base": 192,
    "model.channel_max": 10,
    "model.latent_dim": 4,
    "model.hidden_dim": 7,
    "model.style_dim": 5,
    "schedule.batch_size": 4,
}


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("from_reference", [False, True], ids=["latent", "reference"])
@pytest.mark.parametrize(
    ("modulation", "changes"),
    [
        ("adain", {}),
        ("adaconv", {}),
        ("weight_demod", {}),
        ("adain", {"model.w_hpf": 0.5}),
        ("adaconv@16,weight_demod@32", {"model.modulation_options": {"adaconv": {"normalize": "demod"}}}),
    ],
)
def test_losses_and_gradients_are_those_of_the_obvious_form(
    modulation: str, changes: dict, from_reference: bool
):
    obvious, fast = (
        StarGANv2Iteration(
            modulation,
            form,
            preset="starganv2-afhq",
            settings=SETTINGS | changes,
            device=CPU,
            dtype=torch.float64,
        )
        for form in ("obvious", "float32")
    )
    phases = [(iteration.discriminator_losses, iteration.generator_losses) for iteration in (obvious, fast)]
    for own, expected in zip(phases[1], phases[0], strict=True):
        values = [form(from_reference=from_reference) for form in (own, expected)]
        for a, b in zip(*values, strict=True):
            assert b.abs().min() > 1e-9
            close(a, b)
        for iteration, terms in zip((fast, obvious), values, strict=True):
            iteration.total(terms).backward()
    for name, network in fast.networks._asdict().items():
        pairs = zip(network.named_parameters(), getattr(obvious.networks, name).parameters(), strict=True)
        for (key, a), b in pairs:
            assert (a.grad is None) == (b.grad is None), f"{name}.{key}"
            if a.grad is not None and b.grad is not None:
                close(a.grad, b.grad)
    trained = {name for name, net in fast.networks._asdict().items() if any_gradient(net)}
    assert trained == ({"G", "D"} if from_reference else {"G", "mapping", "style_encoder", "D"})


def any_gradient(network: torch.nn.Module) -> bool:
    return any(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize(("height", "width"), [(2, 2), (6, 4)])
def test_a_resampling_and_a_convolution_are_one_convolution(height: int, width: int):
    x, weight, bias = draw(2, 3, height, width), draw(5, 3, 3, 3, seed=1), draw(5, seed=2)
    pooled = torch.nn.functional.conv2d(x, weight, bias, padding=1)
    pooled = pooled.reshape(2, 5, height // 2, 2, width // 2, 2).mean(dim=(3, 5))
    close(conv_avg_pool(x, weight, bias), pooled)
    repeated = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    close(nearest_conv(x, weight), torch.nn.functional.conv2d(repeated, weight, padding=1))


def test_content_encoded_once_serves_several_styles():
    G = build(Generator, img_size=32, w_hpf=1.0)
    x, s = draw(2, 3, 32, 32), draw(6, 5, seed=1)
    close(G.stylize(G.content(x).repeat(3), s), G(x.repeat_interleave(3, dim=0), s))


def test_the_generator_phase_encodes_each_image_once(monkeypatch: pytest.MonkeyPatch):
    nets = Networks(*map(build, (Generator, MappingNetwork, StyleEncoder, Discriminator)))
    encoded: list[Tensor] = []
    real = Generator.content
    monkeypatch.setattr(Generator, "content", lambda G, img: (encoded.append(img), real(G, img))[1])
    images = [draw(2, 3, 32, 32, seed=i) for i in range(3)]
    domains = torch.tensor([0, 1])
    samples = Samples(images[0], domains, (images[1], images[2]), (draw(2, 4), draw(2, 4)), 1 - domains)
    generator_phase(nets, FirstOrder.of(nets, compiled=False), samples, from_reference=False)
    assert len(encoded) == 2  # the sources and their translations
    assert encoded[0] is images[0]


@pytest.fixture
def _no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the processes that measure memory, each of which imports torch."""
    monkeypatch.setattr(bench_starganv2, "_peak", lambda *_: 7.25)


def test_memory_is_measured_in_a_process_of_its_own():
    peak = bench_starganv2._peak("adain", "float32", "starganv2-afhq", SETTINGS, CPU)
    assert peak is None or 0.5 < peak < 500  # MiB


@pytest.mark.usefixtures("_no_processes")
def test_ratios_are_those_of_the_times_and_losses_agree():
    calls: list[None] = []
    rows = compare_iterations(
        ["adain"],
        forms=["float32"],
        settings=SETTINGS,
        repeats=2,
        device=CPU,
        progress=lambda: calls.append(None),
    )
    assert [row.form for row in rows] == ["obvious", "float32"]
    assert rows[1].ratio_min == pytest.approx(rows[0].min_ms / rows[1].min_ms)
    assert rows[1].ratio_median == pytest.approx(rows[0].median_ms / rows[1].median_ms)
    assert rows[0].deviation == 0
    assert rows[1].deviation < 1e-4
    assert len(calls) == 2 * 3


@pytest.mark.usefixtures("_no_processes")
def test_command_prints_each_form_and_writes_json(tmp_path: Path, ganmod_command: Callable):
    options = ["--size", 32, "--batch", 2, "--channels", 4, "--channel-max", 8, "--repeats", 1]
    ended = ganmod_command(
        "bench", "starganv2", *options, "--modulation", "adaconv", "--json", tmp_path / "b.json"
    )
    assert "32 px, batch 2, 4 to 8 channels" in ended.out
    assert "peak 7 MiB" in ended.out
    rows = json.loads((tmp_path / "b.json").read_text())["results"]
    assert [row["form"] for row in rows][:2] == ["obvious", "float32"]
    wrong = [row for row in rows if row["deviation"] > 0.01]
    assert ended.code == (1 if wrong else 0), ended.err
