"""If this fails, importing a foreign checkpoint may run code hidden in it, or lose its tensors."""

import collections
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ganmod.io.model_file import ModelFileError
from ganmod.io.pickles.restricted_unpickle import UnsafePickleError, read_tensors_pickle

FORMS = ["zip", "legacy"]


class Call:
    """Calls `function` with `arguments` when unpickled."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def save(content: object, path: Path, form: str) -> Path:
    if form in FORMS:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    else:
        path.write_bytes(pickle.dumps(content, protocol=int(form.removeprefix("raw-"))))
    return path


@pytest.mark.parametrize("form", [*FORMS, *(f"raw-{protocol}" for protocol in range(6))])
def test_malicious_pickle_is_refused_and_not_run(tmp_path: Path, form: str):
    trace = tmp_path / "trace"
    content = {"weight": Call(os.system, f"touch {trace}"), "bias": 1}
    path = save(content, tmp_path / "model.pth", form)
    with pytest.raises(
        UnsafePickleError, match=r"asks for posix\.system, which can run .*nothing was run"
    ) as error:
        read_tensors_pickle(path)
    assert not trace.exists()
    assert str(path) in str(error.value)
    # The same file does run its command where it is trusted, so the refusal is what kept it from running.
    if form in FORMS:
        torch.load(path, weights_only=False)
    else:
        pickle.loads(path.read_bytes())
    assert trace.exists()


@pytest.mark.parametrize("form", FORMS)
def test_refused_even_where_the_program_allows_the_function(tmp_path: Path, form: str):
    trace = tmp_path / "trace"
    path = save({"weight": Call(Path.touch, trace)}, tmp_path / "model.pth", form)
    with (
        torch.serialization.safe_globals([Path.touch, type(trace), getattr]),
        pytest.raises(UnsafePickleError, match=r"asks for .*pathlib"),
    ):
        read_tensors_pickle(path)
    assert not trace.exists()


def test_code_in_a_second_pickle_of_the_archive_is_refused(tmp_path: Path):
    path = save({"weight": torch.ones(1)}, tmp_path / "model.pth", "zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("model/other.pkl", pickle.dumps(Call(eval, "1"), protocol=2))
    with pytest.raises(UnsafePickleError, match=r"asks for (__builtin__|builtins)\.eval"):
        read_tensors_pickle(path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol 4")
@pytest.mark.parametrize(
    "payload",
    [
        # A memo entry and a dropped value between the texts hide the names from the listing of protocol 4.
        b"\x80\x04\x8c\x05posix\x8c\x06system\x8c\x01a0\x93\x8c\x04true\x85R.",
        b"\x80\x04\x8c\x0bcollections\x8c\x0bOrderedDict\x93.",
        b"cposix\nsystem\n(S'true'\ntR.",
        b"(S'true'\niposix\nsystem\n.",
        b"\x80\x02\x82\x01.",
    ],
)
def test_hand_made_pickles_are_refused(tmp_path: Path, payload: bytes):
    (tmp_path / "model.pkl").write_bytes(payload)
    with pytest.raises((UnsafePickleError, ModelFileError)):
        read_tensors_pickle(tmp_path / "model.pkl")


@pytest.mark.parametrize("form", FORMS)
def test_state_dict_loads(tmp_path: Path, form: str):
    module = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))
    loaded = read_tensors_pickle(save(module.state_dict(), tmp_path / "model.pth", form))
    assert type(loaded) is dict
    assert list(loaded) == list(module.state_dict())
    for name, tensor in module.state_dict().items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)


@pytest.mark.parametrize("form", FORMS)
def test_training_checkpoint_loads_as_plain_containers(tmp_path: Path, form: str):
    parameter = nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
    adam = torch.optim.Adam([parameter])
    parameter.grad = torch.ones_like(parameter)
    adam.step()
    content = {
        "params": parameter,
        "optimizer": adam.state_dict(),
        "milestones": collections.Counter([30, 30, 60]),
        "size": torch.Size([2, 3]),
        "dtype": torch.float16,
        "device": torch.device("cuda:1"),
        "misc": [1, 2.5, None, True, "text", b"bytes", (1,), {7}, 2**80, 1j],
    }
    loaded = read_tensors_pickle(save(content, tmp_path / "model.pth", form))
    assert type(loaded["params"]) is torch.Tensor
    assert not loaded["params"].requires_grad
    assert torch.equal(loaded["params"], parameter)
    state = adam.state_dict()["state"][0]
    assert torch.equal(loaded["optimizer"]["state"][0]["exp_avg_sq"], state["exp_avg_sq"])
    assert loaded["optimizer"]["param_groups"][0]["betas"] == (0.9, 0.999)
    assert loaded["milestones"] == {30: 2, 60: 1}
    assert type(loaded["milestones"]) is dict
    assert (loaded["size"], type(loaded["size"])) == ((2, 3), tuple)
    assert (loaded["dtype"], loaded["device"]) == ("torch.float16", "cuda:1")
    assert loaded["misc"] == content["misc"]


@pytest.mark.parametrize("dtype", [torch.uint16, torch.float8_e4m3fn, torch.complex64, torch.bool])
def test_rare_dtypes_load(tmp_path: Path, dtype: torch.dtype):
    tensor = torch.tensor([0, 1, 1]).to(dtype)
    loaded = read_tensors_pickle(save({"x": tensor}, tmp_path / "model.pth", "zip"))
    assert loaded["x"].dtype == dtype
    assert torch.equal(loaded["x"].to(torch.complex64), tensor.to(torch.complex64))


@pytest.mark.parametrize("form", FORMS)
def test_whole_module_is_refused_naming_its_class(tmp_path: Path, form: str):
    path = save(nn.Linear(2, 2), tmp_path / "model.pth", form)
    with pytest.raises(
        UnsafePickleError, match=r"asks for torch\.nn\.modules\.linear\.Linear.*state_dict\(\)"
    ):
        read_tensors_pickle(path)


def test_module_among_tensors_is_refused_naming_at_most_five(tmp_path: Path):
    module = nn.Sequential(nn.ReLU(), nn.Tanh(), nn.GELU(), nn.SiLU(), nn.ELU(), nn.CELU())
    path = save({"state": {"x": torch.ones(1)}, "model": module}, tmp_path / "model.pth", "zip")
    with pytest.raises(
        UnsafePickleError, match=r"asks for torch\.nn\.modules\.container\.Sequential, .* and \d more,"
    ):
        read_tensors_pickle(path)


def test_numpy_values_are_refused_by_name(tmp_path: Path):
    path = save({"best": np.float64(1.5)}, tmp_path / "model.pth", "zip")
    with pytest.raises(UnsafePickleError, match=r"asks for numpy\._?core\.multiarray\.scalar"):
        read_tensors_pickle(path)


@pytest.mark.filterwarnings("ignore")
def test_torchscript_is_refused(tmp_path: Path):
    torch.jit.save(torch.jit.script(nn.ReLU()), str(tmp_path / "model.pt"))
    with pytest.raises(UnsafePickleError, match="TorchScript"):
        read_tensors_pickle(tmp_path / "model.pt")


def test_shared_containers_do_not_multiply(tmp_path: Path):
    nested: list = [1.0]
    for _ in range(15):
        nested = [nested, nested]
    loaded = read_tensors_pickle(save(nested, tmp_path / "model.pth", "zip"))
    assert loaded[0] is loaded[1]
    for _ in range(45):  # 2^60 leaves when every reference is followed, as by whoever prints the value
        nested = [nested, nested]
    with pytest.raises(ModelFileError, match=r"shared ones counted each time; .* GANMOD_MAX_PICKLE_STEPS"):
        read_tensors_pickle(save(nested, tmp_path / "model.pth", "zip"))


def test_container_within_itself_is_refused(tmp_path: Path):
    loop: list = []
    loop.append(loop)
    with pytest.raises(ModelFileError, match="or in itself"):
        read_tensors_pickle(save(loop, tmp_path / "model.pth", "zip"))


def test_meta_tensor_is_refused(tmp_path: Path):
    path = save({"x": torch.zeros(2, device="meta")}, tmp_path / "model.pth", "zip")
    with pytest.raises((UnsafePickleError, ModelFileError)):
        read_tensors_pickle(path)


@pytest.mark.parametrize("form", FORMS)
def test_file_cut_short_is_a_clear_error(tmp_path: Path, form: str):
    path = save({"weight": torch.arange(64.0)}, tmp_path / "model.pth", form)
    data = path.read_bytes()
    for size in [*range(0, len(data), 7), len(data) - 1]:
        path.write_bytes(data[:size])
        with pytest.raises(ModelFileError):
            read_tensors_pickle(path)


def test_missing_and_foreign_files(tmp_path: Path):
    with pytest.raises(ModelFileError, match="no such file"):
        read_tensors_pickle(tmp_path / "nothing.pth")
    with pytest.raises(ModelFileError, match="could not be read"):
        read_tensors_pickle(tmp_path)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ModelFileError, match=r"not one of torch\.save"):
        read_tensors_pickle(tmp_path / "a.zip")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps({"x": 1}, protocol=2))
    with pytest.raises(ModelFileError, match=r"not a file of torch\.save"):
        read_tensors_pickle(tmp_path / "plain.pkl")


def test_an_archive_that_unpacks_to_much_more_is_refused(tmp_path: Path):
    path = save({"weight": torch.ones(1)}, tmp_path / "model.pth", "zip")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/other.pkl", bytes(30 << 20))
    with pytest.raises(ModelFileError, match=r"unpacks to 314\d+ bytes, more than 20 times its size"):
        read_tensors_pickle(path)


def test_views_that_repeat_a_value_are_refused_where_they_are_larger_than_the_file(tmp_path: Path):
    path = save({"weight": torch.ones(1).expand(1 << 40)}, tmp_path / "model.pth", "zip")
    with pytest.raises(ModelFileError, match="its tensors have over 20 times the file's bytes"):
        read_tensors_pickle(path)
    few = read_tensors_pickle(save({"weight": torch.ones(1).expand(9)}, path, "zip"))
    assert torch.equal(few["weight"], torch.ones(9))
