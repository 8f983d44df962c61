"""If this fails, `ganmod bench` compares unequal things, or reports another ratio than it measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from configs.style import StyleLoss
from ganmod import machine
from ganmod.cli.bench import command as bench
from ganmod.cli.bench import style as bench_style
from ganmod.cli.bench.style import Comparison, StyleIteration, obvious_losses, training_losses
from ganmod.cli.bench.timing import interleaved_ms

WIDTHS = (4, 8, 8, 16)
CPU = torch.device("cpu")
SIZES = {"widths": WIDTHS, "style_dim": 16, "batch": 2, "size": 64, "device": CPU}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_the_obvious_form_has_the_losses_of_the_training_loop() -> None:
    model = bench_style.random_model(WIDTHS, style_dim=16, size=64)
    network = bench_style.random_features(WIDTHS)
    config = StyleLoss(content_weight=2.0, style_weight=3.0)
    content, style = bench_style.sample_batch(2, 64)
    obvious = obvious_losses(model, network, config, content, style)
    fast = training_losses(model, network, config, content, style)
    for a, b in zip(obvious, fast, strict=True):
        assert b.item() == pytest.approx(a.item(), rel=1e-4)
    assert obvious.total.item() == pytest.approx(2 * obvious.content.item() + 3 * obvious.style.item())


def test_both_forms_make_the_same_steps() -> None:
    """Losses after a few Adam steps agree only if gradients do."""
    obvious = StyleIteration(obvious_losses, **SIZES)
    fast = StyleIteration(training_losses, **SIZES, channels_last=True)
    before, after = obvious(), None
    fast()
    for _ in range(3):
        after = obvious(), fast()
    assert after is not None
    torch.testing.assert_close(after[1], after[0], rtol=1e-3, atol=0)
    assert ((after[0] - before).abs() > 1e-2 * before).any()  # the steps did something


def test_every_form_starts_from_the_same_weights_and_images() -> None:
    first, second = (StyleIteration(obvious_losses, **SIZES) for _ in range(2))
    state = second.model.state_dict()
    for name, tensor in first.model.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    assert torch.equal(first.style, second.style)


def test_an_iteration_is_compared_in_every_precision() -> None:
    calls: list[None] = []
    rows = bench_style.compare_iteration(
        **SIZES,  # type: ignore[arg-type]
        repeats=2,
        dtypes=[torch.float32, torch.bfloat16],
        progress=lambda: calls.append(None),
    )
    assert [row.b for row in rows] == ["float32", "bfloat16"]
    assert rows[0].deviation < 1e-4
    assert rows[0].a_min_ms == rows[1].a_min_ms  # one measurement of the obvious form serves both
    assert len(calls) == 3 * 3


def test_the_sum_over_scales_is_the_sum_of_the_rows() -> None:
    *rows, total = bench_style.compare_op(widths=WIDTHS, size=64, repeats=2, device=CPU)
    assert [row.case.split(", ")[1:3] for row in rows] == [
        ["16 channels", "8 px"],
        ["8 channels", "16 px"],
        ["8 channels", "32 px"],
        ["4 channels", "64 px"],
    ]
    assert all(row.deviation < 1e-4 for row in rows)
    assert total.a_min_ms == pytest.approx(sum(row.a_min_ms for row in rows))
    assert total.b_median_ms == pytest.approx(sum(row.b_median_ms for row in rows))
    assert total.ratio_min == pytest.approx(total.a_min_ms / total.b_min_ms)


def test_cached_parameters_give_the_same_picture() -> None:
    model = bench_style.random_model(WIDTHS, style_dim=16, size=64)
    (row,) = bench_style.compare_stylize(model, "tiny", size=64, repeats=1, device=CPU)
    assert row.deviation < 1e-6
    assert min(row.a_min_ms, row.b_min_ms) > 0


def test_forms_run_in_turn_and_are_all_timed() -> None:
    order: list[str] = []
    times = interleaved_ms(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3, CPU, lambda: None
    )
    assert order == ["a", "b"] * 3
    assert {name: len(ms) for name, ms in times.items()} == {"a": 3, "b": 3}


def test_deviation_is_relative_to_the_largest_expected_value() -> None:
    expected = [torch.tensor([4.0, -8.0]), torch.tensor([1.0, 0.0])]
    got = [torch.tensor([4.0, -8.0]), torch.tensor([1.0, 0.25])]
    assert bench_style.largest_deviation(got, expected) == pytest.approx(0.25)
    assert bench_style.largest_deviation(got[:1], expected[:1]) == 0


def tiny_run(monkeypatch: pytest.MonkeyPatch, *arguments: str):
    monkeypatch.setitem(bench_style.WIDTHS, "slim", WIDTHS)
    monkeypatch.setitem(bench.STYLE_DIMS, "slim", 16)
    monkeypatch.setattr(machine, "bf16_instructions", lambda device: [])
    sizes = ["--width", "slim", "--size", "64", "--batch", "1", "--repeats", "2", "--threads", "1"]
    return CliRunner().invoke(bench.bench, ["style", *sizes, *arguments])


def test_the_command_prints_and_writes_ratios(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "new" / "bench.json"
    done = tiny_run(monkeypatch, "--no-compile", "--json", str(file))
    assert done.exit_code == 0, done.output
    report = json.loads(file.read_text())
    assert report["machine"]["torch"] == torch.__version__
    assert "1 threads used" in report["machine"]["cpu"]
    assert {row["part"] for row in report["results"]} == {"iteration", "op", "stylize"}
    for row in report["results"]:
        assert row["ratio_min"] == pytest.approx(row["a_min_ms"] / row["b_min_ms"])
        assert row["ratio_median"] == pytest.approx(row["a_median_ms"] / row["b_median_ms"])
        assert row["a_min_ms"] <= row["a_median_ms"]
        assert row["case"] in done.output
        assert f"{row['ratio_min']:.2f}x / {row['ratio_median']:.2f}x" in done.output
    assert "bfloat16: left out" in done.output
    assert torch.__version__ in done.output


def test_one_part_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    done = tiny_run(monkeypatch, "--part", "stylize")
    assert done.exit_code == 0, done.output
    assert "cached" in done.output
    assert "iteration" not in done.output


def test_losses_apart_end_with_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Comparison("iteration", "bfloat16", "obvious", "bfloat16", 2.0, 3.0, 1.0, 1.5, deviation=0.02)
    monkeypatch.setattr(bench_style, "compare_iteration", lambda **options: [row])
    done = tiny_run(monkeypatch, "--part", "iteration")
    assert done.exit_code == 1
    assert "losses 2.00% apart" in done.output
    assert "2.00x / 2.00x" in done.output


def test_a_size_that_does_not_fit_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    done = CliRunner().invoke(bench.bench, ["style", "--size", "100"])
    assert done.exit_code == 2
    assert "try 64" in done.output


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("flags : fpu avx2 avx512_bf16 amx_bf16", ["amx_bf16", "avx512_bf16"]),
        ("Features : fp asimd bf16", ["bf16"]),
        ("flags : fpu avx2 avx512f\nother : avx512_bf16", []),
    ],
)
def test_bf16_instructions_are_read_from_the_processors_flags(
    monkeypatch: pytest.MonkeyPatch, text: str, expected: list[str]
) -> None:
    monkeypatch.setattr(machine, "_cpuinfo", lambda: text.splitlines())
    monkeypatch.setattr(machine, "_sysctl", lambda key: "")
    assert machine.bf16_instructions(CPU) == expected


@pytest.mark.slow
def test_the_compiled_op_is_the_same_op() -> None:
    rows = bench_style.compare_op(widths=WIDTHS, size=64, repeats=1, device=CPU, compiled=True)
    assert all(row.case.startswith("compiled") for row in rows)
    assert all(row.deviation < 1e-4 for row in rows)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_op_on_a_gpu() -> None:
    rows = bench_style.compare_op(widths=WIDTHS, size=64, repeats=2, device=torch.device("cuda"))
    assert all(row.deviation < 1e-3 for row in rows)
