"""If this fails, ADA's strength moves differently than published, leaves its bounds, or resumes inexactly."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from training.augment.ada_controller import AdaController


def logits(mean_sign: float, n: int = 20) -> torch.Tensor:
    """n logits whose signs have this mean."""
    positive = round(n * (mean_sign + 1) / 2)
    return torch.cat([torch.full((positive, 1), 3.0), torch.full((n - positive, 1), -0.1)])


def run(controller: AdaController, mean_sign: float, batches: int, n: int = 20) -> list[float]:
    history = []
    for _ in range(batches):
        controller.record(logits(mean_sign, n))
        controller.end_batch()
        history.append(controller.p)
    return history


def test_p_goes_from_0_to_1_in_ada_kimg():
    controller = AdaController(batch_size=64, p_max=1.0, ada_kimg=500)
    assert run(controller, 0.9, 8) == pytest.approx([0] * 3 + [64 * 4 / 500_000] * 4 + [2 * 64 * 4 / 500_000])
    batches = 500_000 // 64
    assert run(controller, 0.9, batches - 8)[-1] == pytest.approx(1, abs=64 * 4 / 500_000)


@pytest.mark.parametrize(("mean_sign", "direction"), [(0.9, 1), (0.6, 0), (0.5, -1), (-1, -1)])
def test_p_moves_by_the_sign_of_the_distance_to_the_target(mean_sign: float, direction: int):
    controller = AdaController(batch_size=20, p=0.3, ada_kimg=8)
    assert run(controller, mean_sign, 4)[-1] == pytest.approx(0.3 + direction * 0.01)
    assert controller.mean_sign == pytest.approx(mean_sign)


def test_p_stays_between_0_and_its_maximum():
    controller = AdaController(batch_size=20, ada_kimg=1, p_max=0.75)
    assert max(run(controller, 1, 400)) == 0.75
    assert run(controller, 0, 400)[-1] == 0


def test_a_fixed_p_stays_and_is_measured():
    controller = AdaController(batch_size=20, p=0.9, target=None, ada_kimg=1)
    assert set(run(controller, 1, 9)) == {0.9}
    assert controller.mean_sign == 1
    resumed = AdaController(batch_size=20, p=0.2, target=None)
    resumed.load_state_dict(controller.state_dict())
    assert resumed.p == 0.2


def test_zeros_have_no_sign_and_what_is_not_finite_is_not_counted():
    controller = AdaController(batch_size=4, interval=1)
    controller.record(torch.tensor([2.0, -1.0, 0.0, 5.0, float("nan"), float("inf")]))
    assert controller.state_dict()["sign_sum"] == 1
    assert controller.state_dict()["count"] == 4
    assert controller.end_batch()
    assert controller.mean_sign == 0.25
    controller.record(torch.tensor([float("nan")]))
    p = controller.p
    assert not controller.end_batch()
    assert controller.p == p


def test_parts_of_a_batch_count_as_the_batch():
    whole, parts = AdaController(batch_size=20), AdaController(batch_size=20)
    whole.record(logits(0.5))
    for part in logits(0.5).split(7):
        parts.record(part.bfloat16().requires_grad_())
    assert whole.state_dict() == pytest.approx(parts.state_dict(), nan_ok=True)


@pytest.mark.parametrize("stop", range(1, 9))
def test_resume_is_exact_between_adjustments_too(stop: int):
    def batch(step: int) -> torch.Tensor:
        return torch.randn(10, 1, generator=torch.Generator().manual_seed(step)) + 1.5

    straight = AdaController(batch_size=10, ada_kimg=1)
    for step in range(20):
        straight.record(batch(step))
        straight.end_batch()
    first, second = AdaController(batch_size=10, ada_kimg=1), AdaController(batch_size=10, ada_kimg=1)
    for step in range(stop):
        first.record(batch(step))
        first.end_batch()
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))  # plain values only
    for step in range(stop, 20):
        second.record(batch(step))
        second.end_batch()
    assert second.state_dict() == straight.state_dict()
    assert straight.p > 0


def _process(rank: int, rendezvous: str, results: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    controller = AdaController(batch_size=40, ada_kimg=1)
    history = []
    for step in range(10):
        if step == 6:  # in the middle of an interval
            state = controller.state_dict()
            controller = AdaController(batch_size=40, ada_kimg=1)
            controller.load_state_dict(state, rank=rank)
        controller.record(logits(1.0 if rank == 0 else 0.3))  # 0.65 together
        controller.end_batch()
        history.append([controller.p, controller.mean_sign])
    Path(results, str(rank)).write_text(json.dumps(history))
    dist.destroy_process_group()


def test_two_processes_agree_with_one(tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_process, args=(rank, str(tmp_path / "rendezvous"), str(tmp_path)))
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
    histories = [json.loads((tmp_path / str(rank)).read_text()) for rank in range(2)]
    assert json.dumps(histories[0]) == json.dumps(histories[1])
    single = AdaController(batch_size=40, ada_kimg=1)
    expected = run(single, 0.65, 10, n=40)
    assert [p for p, _ in histories[0]] == expected
    assert expected[-1] == 2 * 0.16
    assert histories[0][-1][1] == pytest.approx(0.65)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "must be above 0"),
        ({"interval": 0}, "must be above 0"),
        ({"ada_kimg": 0}, "must be above 0"),
        ({"p": 1.5}, "between 0 and 1"),
        ({"p": 0.9}, "p 0.9 is above p_max 0.8: lower p, or raise p_max"),
        ({"target": 60}, "give a value from -1 to 1"),
    ],
)
def test_settings_that_make_no_sense_are_named(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        AdaController(**{"batch_size": 4, **options})


def test_a_foreign_state_is_refused():
    with pytest.raises(ValueError, match=r"keys \['p'\], expected"):
        AdaController(batch_size=4).load_state_dict({"p": 0.1})
