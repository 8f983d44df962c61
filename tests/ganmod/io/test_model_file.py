"""If this fails, models cannot be saved, loaded or told from damaged and foreign files."""

import errno
import json
import os
import pickle
import stat
import struct
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from ganmod.io.atomic_write import atomic_write
from ganmod.io.model_file import (
    ModelFileError,
    load_state,
    read_model_file,
    read_model_header,
    save_model_file,
)

CONFIG = {
    "kernel_size": 3,
    "alpha": 0.5,
    "layers": ["relu1_1", None],
    "nested": {"on": True},
    "text": "gr\u00fcn",
}


def example_tensors() -> dict[str, Tensor]:
    return {
        "G.weight": torch.linspace(-2, 2, 24).reshape(2, 3, 4).transpose(0, 2),
        "G.steps": torch.tensor(7),
        "G.empty": torch.zeros(0, 3),
        "G.brain": torch.tensor([1.0, 0.25], dtype=torch.bfloat16),
        "G.double": torch.tensor([1 / 3], dtype=torch.float64),
        "G.mask": torch.tensor([True, False]),
    }


def rewrite_header(path: Path, change: dict[str, str | None]) -> None:
    """Set metadata entries of a model file; None removes one."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    for key, value in change.items():
        if value is None:
            del header["__metadata__"][key]
        else:
            header["__metadata__"][key] = value
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_model_file(path, example_tensors(), kind="style-transfer", config=CONFIG)
    return path


def test_round_trip_keeps_every_value_dtype_and_the_configuration(model_file: Path):
    loaded = read_model_file(model_file, expect_kind="style-transfer")
    assert loaded.kind == "style-transfer"
    assert loaded.config == CONFIG
    expected = example_tensors()
    assert list(loaded.tensors) == sorted(expected)
    for name, tensor in expected.items():
        assert loaded.tensors[name].dtype == tensor.dtype
        assert torch.equal(loaded.tensors[name], tensor)


def test_file_is_plain_safetensors_with_documented_metadata(model_file: Path):
    with safetensors.safe_open(model_file, framework="pt") as file:
        metadata = file.metadata()
        assert torch.equal(file.get_tensor("G.weight"), example_tensors()["G.weight"])
    assert metadata == {"ganmod_format": "1", "kind": "style-transfer", "config": json.dumps(CONFIG)}
    (length,) = struct.unpack("<Q", model_file.read_bytes()[:8])
    assert length % 8 == 0


def test_same_content_gives_the_same_bytes(model_file: Path, tmp_path: Path):
    # The order of safetensors' own metadata changes from save to save.
    for _ in range(5):
        save_model_file(tmp_path / "again", example_tensors(), kind="style-transfer", config=CONFIG)
        assert (tmp_path / "again").read_bytes() == model_file.read_bytes()


def test_half_stores_float16_and_reads_float32(tmp_path: Path):
    path = tmp_path / "half.safetensors"
    values = torch.tensor([1 / 3, -65504.0, float("inf"), float("nan")])
    save_model_file(path, {"x": values, "n": torch.tensor([70000])}, kind="k", config={}, half=True)
    with safetensors.safe_open(path, framework="pt") as file:
        assert file.get_tensor("x").dtype == torch.float16
    tensors = read_model_file(path).tensors
    assert tensors["x"].dtype == torch.float32
    assert torch.equal(tensors["x"][:3], torch.tensor([0.333251953125, -65504.0, float("inf")]))
    assert tensors["x"][3].isnan()
    assert tensors["n"].tolist() == [70000]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_half_refuses_a_value_that_would_become_infinite(tmp_path: Path, dtype: torch.dtype):
    path = tmp_path / "half.safetensors"
    with pytest.raises(ModelFileError, match=r"G\.w holds 131072, float16 ends at 65504"):
        save_model_file(
            path, {"G.w": torch.tensor([1.0, -131072.0], dtype=dtype)}, kind="k", config={}, half=True
        )
    assert list(tmp_path.iterdir()) == []


def test_tied_and_view_tensors_are_stored_by_value(tmp_path: Path):
    shared = torch.arange(6.0)
    save_model_file(tmp_path / "m", {"a": shared, "b": shared, "c": shared[::2]}, kind="k", config={})
    tensors = read_model_file(tmp_path / "m").tensors
    assert tensors["a"].tolist() == tensors["b"].tolist() == [0, 1, 2, 3, 4, 5]
    assert tensors["c"].tolist() == [0, 2, 4]
    assert tensors["a"].data_ptr() != tensors["b"].data_ptr()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"path": Path("x")}, "not plain JSON"),
        ({"x": float("nan")}, "not plain JSON"),
        ({"x": {1: "a"}}, "only text as keys"),
    ],
)
def test_configuration_that_json_would_change_is_refused(tmp_path: Path, config: dict, message: str):
    with pytest.raises(ModelFileError, match=message):
        save_model_file(tmp_path / "m", {}, kind="k", config=config)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("a", 3.0, "a is of type float"),
        ("a", torch.zeros(2, device="meta"), "a is a meta or sparse"),
        ("__metadata__", torch.zeros(2), "rename"),
    ],
)
def test_only_dense_tensors_are_saved(tmp_path: Path, name: str, value: object, message: str):
    with pytest.raises(ModelFileError, match=message):
        save_model_file(tmp_path / "m", {name: value}, kind="k", config={})  # type: ignore[dict-item]


def test_empty_kind_is_refused(tmp_path: Path):
    with pytest.raises(ModelFileError, match="kind of a model file is empty"):
        save_model_file(tmp_path / "m", {}, kind="", config={})


def test_missing_file_and_folder(tmp_path: Path):
    with pytest.raises(ModelFileError, match=r"nothing\.safetensors: no such file"):
        read_model_file(tmp_path / "nothing.safetensors")
    with pytest.raises(ModelFileError, match="could not be read"):
        read_model_file(tmp_path)


def test_file_cut_short_anywhere_is_refused(model_file: Path):
    data = model_file.read_bytes()
    for size in range(len(data)):
        model_file.write_bytes(data[:size])
        with pytest.raises(ModelFileError, match="is empty" if size == 0 else "cut short"):
            read_model_file(model_file)


def test_flipped_header_bytes_never_raise_anything_else(model_file: Path):
    data = model_file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    refused = 0
    for index in range(8 + length):
        model_file.write_bytes(data[:index] + bytes([data[index] ^ 0x15]) + data[index + 1 :])
        try:
            read_model_file(model_file)
        except ModelFileError:
            refused += 1
    assert refused > length // 2  # the rest are letters within names and configuration values


def test_bytes_after_the_tensors_are_refused(model_file: Path):
    model_file.write_bytes(model_file.read_bytes() + b"more")
    with pytest.raises(ModelFileError, match="is damaged"):
        read_model_file(model_file)


@pytest.mark.parametrize(
    "content", [b"\x89PNG\r\n\x1a\n and an image", b"version https://git-lfs.github.com/spec"]
)
def test_other_files_are_refused(tmp_path: Path, content: bytes):
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(ModelFileError, match="is not a safetensors file"):
        read_model_file(tmp_path / "m")


class Touch:
    """Creates a file when unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("form", ["zip", "legacy", "raw", "raw-2"])
def test_pickles_are_refused_and_not_run(tmp_path: Path, form: str):
    path, trace = tmp_path / "model.pth", tmp_path / "trace"
    if form in ("zip", "legacy"):
        torch.save({"x": Touch(trace)}, path, _use_new_zipfile_serialization=form == "zip")
    else:
        path.write_bytes(pickle.dumps({"x": Touch(trace)}, protocol=2 if form == "raw-2" else None))
    with pytest.raises(ModelFileError, match=r"(zip archive|pickle).*nothing in it was run.*`ganmod import`"):
        read_model_file(path)
    assert not trace.exists()


def test_header_that_begins_like_a_pickle_is_read(tmp_path: Path):
    # A header of 640 bytes has the length bytes 0x80 0x02, with which pickles of protocol 2 begin.
    def save(padding: int) -> int:
        save_model_file(tmp_path / "m", {"x": torch.ones(1)}, kind="k", config={"pad": "p" * padding})
        return int.from_bytes((tmp_path / "m").read_bytes()[:8], "little")

    assert save(640 - save(0)) == 640
    assert (tmp_path / "m").read_bytes()[:2] == b"\x80\x02"
    assert read_model_file(tmp_path / "m").tensors["x"].tolist() == [1.0]


def test_foreign_safetensors_file_is_refused(tmp_path: Path):
    safetensors.torch.save_file({"x": torch.ones(2)}, tmp_path / "m")
    with pytest.raises(ModelFileError, match="without ganmod's metadata"):
        read_model_file(tmp_path / "m")


def test_other_kind_is_refused_naming_both(model_file: Path):
    with pytest.raises(ModelFileError, match=r"kind 'style-transfer', expected 'feature-network'"):
        read_model_file(model_file, expect_kind="feature-network")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ganmod_format": "2"}, "has format 2, this ganmod reads up to 1; install a newer"),
        ({"ganmod_format": "one"}, "format is 'one'"),
        ({"kind": None}, "kind or configuration is damaged"),
        ({"config": "[1]"}, "kind or configuration is damaged"),
        ({"config": "{"}, "kind or configuration is damaged"),
    ],
)
def test_unusable_metadata_is_refused(model_file: Path, change: dict[str, str | None], message: str):
    rewrite_header(model_file, change)
    with pytest.raises(ModelFileError, match=message):
        read_model_file(model_file)


def test_failed_write_keeps_the_former_file(model_file: Path, monkeypatch: pytest.MonkeyPatch):
    before = model_file.read_bytes()

    def full_disk(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(ModelFileError, match=r"No space left on device.*nothing was changed"):
        save_model_file(model_file, {"x": torch.ones(4)}, kind="k", config={})
    assert model_file.read_bytes() == before
    assert list(model_file.parent.iterdir()) == [model_file]


def test_atomic_write_removes_its_temporary_file_on_interrupt(tmp_path: Path):
    def interrupted(temporary: Path) -> None:
        assert temporary.parent == tmp_path  # a rename across disks would not be one step
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        atomic_write(tmp_path / "file", interrupted)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no folder to flush")
def test_atomic_write_flushes_file_then_renames_then_flushes_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    events = []
    fsync, replace = os.fsync, os.replace

    def recorded_fsync(descriptor: int) -> None:
        events.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def recorded_replace(source: Path, target: Path) -> None:
        events.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    atomic_write(tmp_path / "new" / "file", lambda temporary: temporary.touch())
    assert (tmp_path / "new" / "file").exists()
    assert events == ["file", "rename", "folder"]


def test_load_state_copies_values_in_the_dtype_of_the_module():
    source, target = nn.BatchNorm1d(3), nn.BatchNorm1d(3).double()
    nn.init.normal_(source.weight)
    source.state_dict()["num_batches_tracked"].fill_(5)
    load_state(target, source.state_dict(), source="file")
    assert target.weight.dtype == torch.float64
    assert torch.equal(target.weight, source.weight.double())
    assert target.state_dict()["num_batches_tracked"].item() == 5


def test_load_state_lists_every_mismatch_and_changes_nothing():
    module = nn.Sequential(*(nn.Linear(2, 2) for _ in range(4)))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    given = {"0.weight": torch.zeros(3, 2), "0.bias": torch.zeros(2), "1.bias": torch.zeros(2).long()}
    given["extra"] = torch.zeros(1)
    with pytest.raises(ModelFileError) as error:
        load_state(module, given, source="model.safetensors")
    message = str(error.value)
    assert message.startswith("model.safetensors: its tensors do not match Sequential; ")
    # 1.weight, 2.weight, 2.bias, 3.weight, 3.bias are missing: exactly as many as are listed.
    assert "missing: 1.weight, 2.weight, 2.bias, 3.weight, 3.bias; " in message
    assert "not known to the model: extra; " in message
    assert "0.weight (got [3, 2], expected [2, 2])" in message
    assert "1.bias (got torch.int64, expected torch.float32)" in message
    assert all(torch.equal(module.state_dict()[name], tensor) for name, tensor in before.items())


def test_load_state_lists_at_most_five_names():
    module = nn.Linear(1, 1)
    foreign = {f"x{index}": torch.zeros(1) for index in range(8)}
    with pytest.raises(ModelFileError, match=r"model: x0, x1, x2, x3, x4 and 3 more\. Build"):
        load_state(module, {**module.state_dict(), **foreign}, source="file")


def test_the_licence_is_read_without_the_tensors(
    tmp_path: Path, model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("safetensors.torch.load")
    assert read_model_header(model_file).licence == "not stated in the model file"
    path = tmp_path / "free.safetensors"
    save_model_file(path, {"x": torch.zeros(1000)}, kind="k", config={"licence": "CC0"})
    assert read_model_header(path).licence == "CC0"
    for size in (path.stat().st_size - 1, 40, 8):
        os.truncate(path, size)
        with pytest.raises(ModelFileError, match="is cut short"):
            read_model_header(path)
