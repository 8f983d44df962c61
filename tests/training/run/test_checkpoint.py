"""If this fails, a killed run or a damaged file costs the training instead of one snapshot."""

import collections
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from training.run.checkpoint import CheckpointError, checkpoint_path, load_latest_checkpoint, save_checkpoint


class Pair(NamedTuple):
    a: int
    b: int


def state_at(nimg: int) -> dict[str, Any]:
    return {"weight": torch.arange(300.0) + nimg, "nimg": nimg}


def names(run_dir: Path) -> list[str]:
    return sorted(path.name for path in run_dir.iterdir())


def load(run_dir: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """The state that a resume would use, and what it reported."""
    reports: list[str] = []
    return load_latest_checkpoint(run_dir, report=reports.append), reports


def assert_loads(run_dir: Path, nimg: int, *, reports: int = 0) -> None:
    state, reported = load(run_dir)
    assert state is not None
    assert state["nimg"] == nimg
    assert torch.equal(state["weight"], state_at(nimg)["weight"])
    assert len(reported) == reports


def truncate(data: bytes) -> bytes:
    return data[: len(data) // 2]


def empty(data: bytes) -> bytes:
    return b""


def fill_with_zeros(data: bytes) -> bytes:
    return bytes(len(data))


def flip_bit(data: bytes) -> bytes:
    """One bit of one weight: torch.load alone would not notice."""
    at = data.index(state_at(200)["weight"].numpy().tobytes()) + 402
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def replace_content(data: bytes) -> bytes:
    file = io.BytesIO()
    torch.save({"weight": torch.ones(1)}, file)
    return file.getvalue()


DAMAGES = [truncate, empty, fill_with_zeros, flip_bit, replace_content]


def test_round_trip_of_every_plain_value(tmp_path: Path):
    state: dict[str, Any] = {
        "tensors": [torch.tensor([0.1, float("nan")]), torch.ones(2, dtype=torch.bfloat16), torch.tensor(3)],
        "rng": torch.get_rng_state(),
        "numbers": (1, 2**100, -0.5, float("inf"), True, None),
        "nested": {"text": "gr\u00fcn", 7: {"empty": [], "also": ()}},
    }
    assert save_checkpoint(tmp_path / "run", 1234, state) == tmp_path / "run" / "checkpoint-000001234.pt"
    loaded, reports = load(tmp_path / "run")
    assert loaded is not None
    assert reports == []
    for got, expected in zip(loaded["tensors"], state["tensors"], strict=True):
        assert got.dtype == expected.dtype
        assert torch.equal(got.view(torch.uint8), expected.view(torch.uint8)) if got.ndim else got == expected
    assert torch.equal(loaded["rng"], state["rng"])
    assert loaded["numbers"] == state["numbers"]
    assert type(loaded["numbers"]) is tuple
    assert type(loaded["numbers"][4]) is bool
    assert loaded["nested"] == state["nested"]


def test_resumed_optimizer_takes_the_same_steps_bitwise(tmp_path: Path):
    def fresh() -> tuple[nn.Sequential, torch.optim.Adam]:
        module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
        return module, torch.optim.Adam(module.parameters(), lr=0.1)

    def step(module: nn.Sequential, optimizer: torch.optim.Adam, index: int) -> None:
        batch = torch.randn(3, 4, generator=torch.Generator().manual_seed(index))
        optimizer.zero_grad()
        module(batch).square().sum().backward()
        optimizer.step()

    module, optimizer = fresh()
    for index in range(3):
        step(module, optimizer, index)
    save_checkpoint(tmp_path, 3, {"G": module.state_dict(), "G_opt": optimizer.state_dict()})
    resumed, resumed_optimizer = fresh()
    state, _ = load(tmp_path)
    assert state is not None
    resumed.load_state_dict(state["G"])
    resumed_optimizer.load_state_dict(state["G_opt"])
    for index in range(3, 6):
        step(module, optimizer, index)
        step(resumed, resumed_optimizer, index)
    for name, tensor in module.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor)


def test_parameters_views_and_ordered_dicts_are_stored_plain(tmp_path: Path):
    large = torch.zeros(1_000_000)
    channels_last = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    state = {
        "ordered": collections.OrderedDict(p=nn.Parameter(torch.ones(2))),
        "view": large[5:7],
        "last": channels_last,
    }
    path = save_checkpoint(tmp_path, 0, state)
    assert path.stat().st_size < 10_000  # and not the 4 MB behind the view
    loaded, _ = load(tmp_path)
    assert loaded is not None
    assert type(loaded["ordered"]) is dict
    assert type(loaded["ordered"]["p"]) is torch.Tensor
    assert loaded["view"].tolist() == [0, 0]
    assert loaded["last"].stride() == channels_last.stride()


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (np.float64(1.0), "numpy.float64"),
        (np.zeros(2), "numpy.ndarray"),
        (Path("x"), "pathlib"),
        ({1, 2}, "builtins.set"),
        (b"bytes", "builtins.bytes"),
        (torch.float32, "torch.dtype"),
        (collections.defaultdict(int), "collections.defaultdict"),
        (Pair(1, 2), "Pair"),
        (nn.ReLU(), "torch.nn.modules.activation.ReLU"),
        (torch.zeros(2, device="meta"), "meta or sparse"),
        (torch.eye(2).to_sparse(), "meta or sparse"),
    ],
)
def test_other_values_are_refused_naming_their_key(tmp_path: Path, value: object, named: str):
    with pytest.raises(CheckpointError) as error:
        save_checkpoint(tmp_path, 5, {"G": {"list": [0, (1, value)]}})
    assert str(error.value).startswith("state['G']['list'][1][1]: ")
    assert named in str(error.value)
    assert names(tmp_path) == []


def test_other_keys_and_endless_nesting_are_refused(tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"state\['best'\]: has the key 1\.5 of type float"):
        save_checkpoint(tmp_path, 5, {"best": {1.5: "x"}})
    loop: list = []
    loop.append(loop)
    with pytest.raises(CheckpointError, match="nested more than"):
        save_checkpoint(tmp_path, 5, {"loop": loop})
    with pytest.raises(CheckpointError, match="nimg is -1"):
        save_checkpoint(tmp_path, -1, {})
    assert names(tmp_path) == []


def test_nothing_to_load(tmp_path: Path):
    (tmp_path / "checkpoint-notes.pt").write_bytes(b"not ours")
    assert load(tmp_path) == (None, [])
    assert load(tmp_path / "missing") == (None, [])


def test_last_two_are_kept_and_foreign_files_stay(tmp_path: Path):
    (tmp_path / "log.txt").write_text("log")
    for nimg in (100, 200, 2_000_000_000, 10_000_000_000):  # the last has more digits than the name pads to
        save_checkpoint(tmp_path, nimg, state_at(nimg))
    assert names(tmp_path) == ["checkpoint-10000000000.pt", "checkpoint-2000000000.pt", "log.txt"]
    assert_loads(tmp_path, 10_000_000_000)


def test_same_nimg_is_written_again(tmp_path: Path):
    save_checkpoint(tmp_path, 100, {"x": 1})
    save_checkpoint(tmp_path, 100, {"x": 2})
    assert load(tmp_path)[0] == {"x": 2}
    assert names(tmp_path) == ["checkpoint-000000100.pt"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_newest_is_reported_and_the_one_before_used(tmp_path: Path, damage: Callable[[bytes], bytes]):
    for nimg in (100, 200):
        save_checkpoint(tmp_path, nimg, state_at(nimg))
    newest = checkpoint_path(tmp_path, 200)
    newest.write_bytes(damage(newest.read_bytes()))
    state, reports = load(tmp_path)
    assert state is not None
    assert state["nimg"] == 100
    assert len(reports) == 1
    assert reports[0].startswith(f"{newest}: is damaged (")

    # The resumed run goes on: the damaged file neither hides new checkpoints nor counts as one.
    save_checkpoint(tmp_path, 150, state_at(150))
    assert names(tmp_path) == [
        "checkpoint-000000100.pt",
        "checkpoint-000000150.pt",
        "checkpoint-000000200.pt.damaged",
    ]
    assert_loads(tmp_path, 150)


@pytest.mark.parametrize("damage", DAMAGES)
def test_all_damaged_is_an_error(tmp_path: Path, damage: Callable[[bytes], bytes]):
    for nimg in (200, 300):
        save_checkpoint(tmp_path, nimg, state_at(200))
        path = checkpoint_path(tmp_path, nimg)
        path.write_bytes(damage(path.read_bytes()))
    reports: list[str] = []
    with pytest.raises(CheckpointError, match="all 2 checkpoints are damaged"):
        load_latest_checkpoint(tmp_path, report=reports.append)
    assert len(reports) == 2


def test_any_flipped_byte_is_harmless_or_detected(tmp_path: Path):
    expected: dict[str, Any] = {"x": torch.arange(4.0), "n": 5}
    path = save_checkpoint(tmp_path, 100, expected)
    data = path.read_bytes()
    found = 0
    for index in range(len(data)):
        path.write_bytes(data[:index] + bytes([data[index] ^ 0x41]) + data[index + 1 :])
        try:
            state, _ = load(tmp_path)
        except CheckpointError:
            found += 1
            continue
        assert state is not None
        assert torch.equal(state["x"], expected["x"])
        assert state["n"] == 5
    assert found > 400


def test_checksums_are_written_where_the_program_turned_them_off(tmp_path: Path):
    torch.serialization.set_crc32_options(False)
    try:
        save_checkpoint(tmp_path, 100, state_at(100))
        assert torch.serialization.get_crc32_options() is False
    finally:
        torch.serialization.set_crc32_options(True)
    assert_loads(tmp_path, 100)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path):
    class Touch:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'trace'}",)

    save_checkpoint(tmp_path, 100, state_at(100))
    torch.save({"format": 1, "nimg": 200, "state": {"x": Touch()}}, checkpoint_path(tmp_path, 200))
    assert_loads(tmp_path, 100, reports=1)
    assert not (tmp_path / "trace").exists()


def test_newer_format_is_no_damage(tmp_path: Path):
    save_checkpoint(tmp_path, 100, state_at(100))
    torch.save({"format": 2, "nimg": 200, "state": {}}, checkpoint_path(tmp_path, 200))
    with pytest.raises(
        CheckpointError, match="has format 2, expected at most 1; resume with the newer version"
    ):
        load(tmp_path)


def test_sound_later_checkpoint_is_not_shadowed(tmp_path: Path):
    save_checkpoint(tmp_path, 200, state_at(200))
    with pytest.raises(
        CheckpointError, match=r"000000200\.pt: is later than .* at 100 images; resume from it"
    ):
        save_checkpoint(tmp_path, 100, state_at(100))
    assert names(tmp_path) == ["checkpoint-000000200.pt"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_device_tensors_are_stored_from_the_cpu_and_load_where_asked(tmp_path: Path):
    save_checkpoint(tmp_path, 100, {"x": torch.arange(3.0, device="cuda")})
    on_cpu = load_latest_checkpoint(tmp_path, report=print)
    on_gpu = load_latest_checkpoint(tmp_path, map_location="cuda", report=print)
    assert on_cpu is not None
    assert on_gpu is not None
    assert (on_cpu["x"].device.type, on_gpu["x"].device.type) == ("cpu", "cuda")
    assert on_gpu["x"].tolist() == on_cpu["x"].tolist() == [0, 1, 2]
