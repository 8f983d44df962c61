"""If this fails, reading a pickle of networks may run code hidden in it, or read its values wrongly."""

from __future__ import annotations

import collections
import contextlib
import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import foreign_stylegan2 as foreign
import numpy as np
import pytest
import torch
from torch import nn

from ganmod.io.model_file import ModelFileError, save_model_file
from ganmod.io.pickles.module_pickle import ModuleRecord, read_module_pickle
from ganmod.io.pickles.restricted_unpickle import UnsafePickleError

PROTOCOLS = [2, 3, 4, 5]


@pytest.fixture(autouse=True)
def _official(monkeypatch: pytest.MonkeyPatch) -> None:
    foreign.install_official_modules(monkeypatch)


class Call:
    """Calls `function` with `arguments` when unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


def write(path: Path, content: object, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


# Code.


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("place", ["beside", "in a network", "as an argument"])
def test_a_hostile_call_is_refused_by_name_and_not_run(tmp_path: Path, place: str, protocol: int):
    trace = tmp_path / "trace"
    call: Any = Call(os.system, f"touch {trace}")
    if place == "in a network":
        call = foreign.Persistent(foreign.Layer("Generator", attributes={"hook": call}), "")
    elif place == "as an argument":
        call = Call(torch._utils._rebuild_parameter, call, False, collections.OrderedDict())
    path = write(tmp_path / "n.pkl", {"G_ema": call}, protocol)
    with pytest.raises(UnsafePickleError, match=r"asks for posix\.system, which .* nothing was run") as error:
        read_module_pickle(path)
    assert str(path) in str(error.value)
    assert not trace.exists()
    # Elsewhere the same file does run its command, so the refusal is what kept it from running.
    try:
        pickle.loads(path.read_bytes())
    except Exception:
        assert place == "as an argument"
    assert trace.exists()


@pytest.mark.parametrize("function", [eval, exec, getattr, __import__, open, pickle.loads, torch.load])
def test_functions_that_lead_to_code_are_refused(tmp_path: Path, function: Any):
    path = write(tmp_path / "n.pkl", {"G": Call(function, "1")})
    with pytest.raises(UnsafePickleError, match=rf"asks for [\w.]*{function.__name__}"):
        read_module_pickle(path)


@pytest.mark.parametrize("form", ["legacy", "zip", "plain"])
def test_code_within_a_tensors_bytes_is_refused_and_not_run(tmp_path: Path, form: str):
    trace = tmp_path / "trace"
    call = Call(os.system, f"touch {trace}")
    inner = io.BytesIO()
    if form == "plain":
        inner.write(pickle.dumps(call))
    else:
        torch.save(call, inner, _use_new_zipfile_serialization=form == "zip")
    path = write(tmp_path / "n.pkl", {"G": Call(torch.storage._load_from_bytes, inner.getvalue())})
    with pytest.raises(UnsafePickleError, match=r"asks for posix\.system"):
        read_module_pickle(path)
    assert not trace.exists()


def test_a_tensor_in_place_of_a_storage_is_refused(tmp_path: Path):
    inner = io.BytesIO()
    torch.save(torch.ones(2), inner)
    path = write(tmp_path / "n.pkl", {"G": Call(torch.storage._load_from_bytes, inner.getvalue())})
    with pytest.raises(UnsafePickleError, match=r"asks for .*_rebuild_tensor_v2"):
        read_module_pickle(path)


def test_the_source_in_the_pickle_is_not_executed(tmp_path: Path):
    trace = tmp_path / "trace"
    source = f"open({str(trace)!r}, 'w')"
    path = tmp_path / "n.pkl"
    path.write_bytes(foreign.ada_pickle({"G_ema": foreign.Layer("Generator")}, source=source))
    record = read_module_pickle(path)["G_ema"]
    assert record.class_name == "Generator"
    assert "source" not in str(record)
    assert not trace.exists()
    pickle.loads(path.read_bytes())  # the official loader executes it
    assert trace.exists()


@pytest.mark.parametrize(
    "payload",
    [
        # A memo entry and a dropped value between the texts hide the names from the listing.
        b"\x80\x04\x8c\x05posix\x8c\x06system\x8c\x01a0\x93\x8c\x04true\x85R.",
        b"\x80\x02cposix\nsystem\n(S'true'\ntR.",
        b"\x80\x02(S'true'\niposix\nsystem\n.",
        b"\x80\x02(cposix\nsystem\nS'true'\no.",
        b"\x80\x02\x82\x01.",  # a function by number
        b"\x80\x02X\x01\x00\x00\x00aQ.",  # a value from outside the file
        b"\x80\x04r\xff\xff\xff\xff.",  # a memo entry far away
    ],
)
def test_hand_made_pickles_are_refused(tmp_path: Path, payload: bytes):
    (tmp_path / "n.pkl").write_bytes(payload)
    with pytest.raises((UnsafePickleError, ModelFileError)):
        read_module_pickle(tmp_path / "n.pkl")


@pytest.mark.parametrize(
    "name",
    [
        b"torch._utils\n_rebuild_tensor_v2",
        b"numpy\ndtype",
        b"torch.storage\n_load_from_bytes",
        b"collections\nOrderedDict",
        b"torch.nn.modules.linear\nLinear",
    ],
)
@pytest.mark.parametrize("state", [b"}S'__call__'\nI1\ns", b"(N}S'__defaults__'\n(I1\ntst"])
def test_a_pickle_cannot_change_what_reads_it(tmp_path: Path, name: bytes, state: bytes):
    (tmp_path / "n.pkl").write_bytes(b"\x80\x02c" + name + b"\n" + state + b"b0N.")
    with pytest.raises(ModelFileError):
        read_module_pickle(tmp_path / "n.pkl")
    values = {"x": torch.ones(2), "y": np.float64(1)}
    assert read_module_pickle(write(tmp_path / "good.pkl", values))["y"] == 1


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_damage_ends_in_a_clear_error(tmp_path: Path):
    data = foreign.ada_pickle({"G_ema": foreign.linear(2, 3)})
    path = tmp_path / "n.pkl"
    for size in range(0, len(data), 41):
        path.write_bytes(data[:size])
        with pytest.raises(ModelFileError):
            read_module_pickle(path)
    rng = np.random.default_rng(0)
    for _ in range(300):
        changed = bytearray(data)
        for place in rng.integers(2, len(data), 3):
            changed[place] = rng.integers(256)
        path.write_bytes(changed)
        with contextlib.suppress(UnsafePickleError, ModelFileError):  # and nothing else
            read_module_pickle(path)


# Values.


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_networks_become_records_with_their_tensors(tmp_path: Path, protocol: int):
    layer = foreign.conv(2, 3, 3, "lrelu", clamp=256)
    network = foreign.Layer("Generator", children={"conv": layer}, attributes={"img_resolution": 16})
    path = tmp_path / "n.pkl"
    path.write_bytes(foreign.ada_pickle({"G_ema": network, "D": None}, protocol=protocol))
    content = read_module_pickle(path)
    assert content["D"] is None
    assert content["training_set_kwargs"] == {"path": "images.zip", "resolution": 16}
    record = content["G_ema"]
    assert isinstance(record, ModuleRecord)
    assert (record.class_name, record.state["img_resolution"]) == ("Generator", 16)
    conv = record.state["_modules"]["conv"]
    assert conv.class_name == "Conv2dLayer"
    assert conv.state["act_gain"] == 2**0.5
    assert type(conv.state["act_gain"]) is float
    for group, tensors in (("_parameters", layer.parameters), ("_buffers", layer.buffers)):
        assert list(conv.state[group]) == list(tensors)
        for name, tensor in tensors.items():
            assert type(conv.state[group][name]) is torch.Tensor
            assert torch.equal(conv.state[group][name], tensor)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_values_come_back(tmp_path: Path, protocol: int):
    easy = foreign.sys.modules["dnnlib.util"].EasyDict(a=1, b=[2.5, None])
    shared = torch.arange(6.0)
    content = {
        "easy": easy,
        "ordered": collections.OrderedDict(x=(1, {2}), y=b"\xff\x00"),
        "transposed": shared.view(2, 3).t(),
        "row": shared[3:5],
        "parameter": nn.Parameter(torch.ones(2, dtype=torch.float16)),
        "count": torch.tensor(7),
        "numbers": [np.float32(0.5), np.int64(-3), np.bool_(True)],
        "arrays": [np.arange(6.0).reshape(2, 3), np.asfortranarray(np.eye(2, 3)), np.arange(3, dtype=">i4")],
        "size": torch.Size([2, 3]),
        "dtype": torch.float16,
        "device": torch.device("cuda:1"),
    }
    found = read_module_pickle(write(tmp_path / "n.pkl", content, protocol if protocol < 5 else 4))
    assert (found["easy"], type(found["easy"])) == ({"a": 1, "b": [2.5, None]}, dict)
    assert found["ordered"] == {"x": (1, {2}), "y": b"\xff\x00"}
    assert torch.equal(found["transposed"], torch.tensor([[0.0, 3], [1, 4], [2, 5]]))
    assert torch.equal(found["row"], torch.tensor([3.0, 4]))
    assert found["parameter"].dtype == torch.float16
    assert not found["parameter"].requires_grad
    assert found["count"].item() == 7
    assert found["numbers"] == [0.5, -3, True]
    for array, expected in zip(found["arrays"], content["arrays"], strict=True):
        assert np.array_equal(array.numpy(), expected)
    assert found["size"] == (2, 3)
    assert (found["dtype"], found["device"]) == ("torch.float16", "cuda:1")


def test_layers_of_torch_become_records(tmp_path: Path):
    found = read_module_pickle(write(tmp_path / "n.pkl", nn.Sequential(nn.Linear(2, 3), nn.ReLU())))
    assert found.class_name == "Sequential"
    linear, relu = found.state["_modules"].values()
    assert (linear.class_name, relu.class_name) == ("Linear", "ReLU")
    assert linear.state["_parameters"]["weight"].shape == (3, 2)
    assert linear.state["in_features"] == 2


def test_arrays_of_objects_are_refused(tmp_path: Path):
    with pytest.raises(ModelFileError, match="NumPy type 'O8'"):
        read_module_pickle(write(tmp_path / "n.pkl", {"x": np.array([{}, []], dtype=object)}))


def storage_of(num: int) -> Any:
    inner = io.BytesIO()
    torch.save(torch.arange(float(num)).storage(), inner, _use_new_zipfile_serialization=False)
    return Call(torch.storage._load_from_bytes, inner.getvalue())


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
@pytest.mark.parametrize(
    ("offset", "size", "stride", "fits"),
    [
        (2, (2, 2), (1, 2), True),
        (3, (2, 2), (2, 1), False),  # past the end
        (-1, (2,), (1,), False),
        (0, (10**9,), (0,), False),  # one value, many times
        (0, (-1,), (1,), False),
        (0, (2, 2), (1,), False),
        ("0", (2,), (1,), False),
    ],
)
def test_tensors_stay_within_their_values(
    tmp_path: Path, offset: Any, size: tuple[int, ...], stride: tuple[int, ...], fits: bool
):
    call = Call(torch._utils._rebuild_tensor_v2, storage_of(6), offset, size, stride, False, {})
    path = write(tmp_path / "n.pkl", {"x": call})
    if fits:
        assert torch.equal(read_module_pickle(path)["x"], torch.tensor([[2.0, 4], [3, 5]]))
    else:
        with pytest.raises(ModelFileError, match="damaged"):
            read_module_pickle(path)


def test_values_shared_or_nested_without_end(tmp_path: Path):
    nested: list[Any] = [1.0]
    for _ in range(15):
        nested = [nested, nested]
    found = read_module_pickle(write(tmp_path / "n.pkl", nested))
    assert found[0] is found[1]
    for _ in range(45):  # 2^60 leaves when every reference is followed, as by whoever prints the value
        nested = [nested, nested]
    with pytest.raises(ModelFileError, match="shared ones counted each time"):
        read_module_pickle(write(tmp_path / "n.pkl", nested))
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ModelFileError, match="or in itself"):
        read_module_pickle(write(tmp_path / "n.pkl", loop))


# Other files.


def test_a_tensorflow_pickle_says_how_to_convert_it(tmp_path: Path):
    networks = tuple(foreign.sys.modules["dnnlib.tflib.network"].Network() for _ in range(3))
    with pytest.raises(ModelFileError, match=r"TensorFlow networks; nothing was run\. Convert .*legacy\.py"):
        read_module_pickle(write(tmp_path / "n.pkl", networks))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_of_torch_save_is_sent_to_the_other_importer(tmp_path: Path, zipped: bool):
    torch.save({"g_ema": {}}, tmp_path / "c.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelFileError, match=r"c\.pt: is a file of torch\.save.*stylegan2-rosinality"):
        read_module_pickle(tmp_path / "c.pt")


def test_missing_and_foreign_files(tmp_path: Path, ganmod_command):
    with pytest.raises(ModelFileError, match="no such file"):
        read_module_pickle(tmp_path / "nothing.pkl")
    with pytest.raises(ModelFileError, match="could not be read"):
        read_module_pickle(tmp_path)
    (tmp_path / "empty.pkl").write_bytes(b"")
    with pytest.raises(ModelFileError, match="is empty"):
        read_module_pickle(tmp_path / "empty.pkl")
    (tmp_path / "page.pkl").write_text("<html>not found</html>")
    with pytest.raises(ModelFileError, match=r"is not a pickle; give a network-snapshot-\*\.pkl"):
        read_module_pickle(tmp_path / "page.pkl")
    save_model_file(tmp_path / "m.pkl", {"x": torch.ones(1)}, kind="stylegan2", config={})
    with pytest.raises(ModelFileError, match="is not a pickle"):
        read_module_pickle(tmp_path / "m.pkl")
    with zipfile.ZipFile(tmp_path / "a.pkl", "w") as archive:
        archive.writestr("a.txt", "hello")
    with pytest.raises(ModelFileError, match="not a pickle of networks"):
        read_module_pickle(tmp_path / "a.pkl")
    ended = ganmod_command("import", "stylegan2-ada", tmp_path / "page.pkl", "-o", tmp_path / "o.safetensors")
    assert (ended.code, "is not a pickle" in ended.err) == (1, True)
    ended = ganmod_command("import", "stylegan2-ada", tmp_path / "no.pkl", "-o", tmp_path / "o.safetensors")
    assert (ended.code, "does not exist" in ended.err) == (2, True)


def test_a_list_of_numbers_holds_no_generator(tmp_path: Path, ganmod_command):
    path = write(tmp_path / "n.pkl", [1, 2, 3])
    ended = ganmod_command("import", "stylegan2-ada", path, "-o", tmp_path / "o.safetensors")
    assert ended.code == 1
    assert "holds no averaged generator G_ema, only list" in ended.err
