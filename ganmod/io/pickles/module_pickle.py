"""Pickles of networks, as StyleGAN2-ADA and StyleGAN3 write them, read as plain records.

Such a pickle holds the source text of its classes, which the original loader executes. Nothing is executed
here: the pickle's instructions are checked first, then an unpickler that knows only the names below builds
values of the classes below. A network becomes its class's name and its attributes; its source is ignored.
"""

from __future__ import annotations

import functools
import io
import math
import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from ganmod.io.model_file import ModelFileError, first_names
from ganmod.io.pickles.restricted_unpickle import (
    TensorBudget,
    UnsafePickleError,
    copy_nested,
    open_pickle,
    refused_globals,
)

# Any package may carry the two modules: neither is imported.
_PERSISTENT = r"([\w.]+\.)?torch_utils\.persistence\._reconstruct_persistent_obj"
_EASY_DICT = r"([\w.]+\.)?dnnlib\.util\.EasyDict"
_STANDARD_MODULE = r"torch\.nn\.modules\.\w+\.[A-Z]\w*"
_TORCH_DTYPE = r"torch\.(bool|u?int\d+|b?float\d+|half|double|long)"
_STORAGES = re.compile(r"torch\.(cuda\.|storage\.)?[A-Z]\w*Storage")
_NUMPY_DTYPE = re.compile(r"[<>|=]?[biuf]\d{1,2}")  # numbers and truth values; never objects
_ZIP_START = b"PK\x03\x04"
_TORCH_SAVE_START = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)  # torch.save's former format


@dataclass(frozen=True)
class ModuleRecord:
    """An object of a class that was not loaded: the class's name and the object's attributes."""

    class_name: str
    state: dict[str, Any]


def read_module_pickle(path: str | Path) -> Any:
    """Read a pickle of networks (network-snapshot-*.pkl) without executing any code in it.

    Returns what the file holds: tensors (on the CPU) in nested dict, list, tuple and set, with plain values,
    and a ModuleRecord for every network and layer. EasyDict and OrderedDict come back as dict, Parameter as
    tensor, NumPy's numbers as numbers and its arrays as tensors, torch.Size as tuple, torch.dtype and
    torch.device as text.

    Raises:
        UnsafePickleError: names the classes and functions that the file asks for beyond these.
        ModelFileError: the file is missing, damaged, TensorFlow's or not a pickle.
    """
    path = Path(path)
    with open_pickle(path, expected="a pickle of networks", remedy="fetch it again") as file:
        _check_start(file.read(len(_TORCH_SAVE_START)), path)
        file.seek(0)
        refused = refused_globals(file, path, allowed=_ALLOWED)
        if refused:
            raise _refusal(refused, path)
        file.seek(0)
        content = _Unpickler(file, path).load()
        convert = functools.partial(_to_plain, budget=TensorBudget(path))
        return copy_nested(content, convert, path=path, too_deep="it holds no networks")


def _check_start(start: bytes, path: Path) -> None:
    """Raise ModelFileError for a file that does not begin as a pickle of networks does."""
    if not start:
        raise ModelFileError(f"{path}: is empty; fetch it again")
    if start[: len(_ZIP_START)] == _ZIP_START or start == _TORCH_SAVE_START:
        raise ModelFileError(
            f"{path}: is a file of torch.save, not a pickle of networks; rosinality's checkpoints are read "
            "by `ganmod import stylegan2-rosinality`"
        )
    if start[0] != 0x80 or not 2 <= start[1] <= pickle.HIGHEST_PROTOCOL:
        raise ModelFileError(
            f"{path}: is not a pickle; give a network-snapshot-*.pkl of StyleGAN2-ADA or StyleGAN3"
        )


def _refusal(names: list[str], path: Path) -> ValueError:
    if any(name.startswith("dnnlib.tflib.") for name in names):
        return ModelFileError(
            f"{path}: holds TensorFlow networks; nothing was run. Convert it with legacy.py of the "
            "stylegan2-ada-pytorch repository (--source, --dest) and import the file that it writes"
        )
    return UnsafePickleError(
        f"{path}: asks for {first_names(names)}, which no pickle of StyleGAN2 networks needs and which can "
        "run foreign code; nothing was run. Fetch the file from its publisher again"
    )


class _Sealed:
    """Base of the values that the unpickler builds: a pickle can set no attribute on them."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError(f"a state for {type(self).__name__.strip('_')}, which takes none")


class _Builder(_Sealed):
    """A callable for a name in the pickle; calls a function of this module."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)


class _Storage(_Sealed):
    __slots__ = ("values",)

    def __init__(self, values: Tensor) -> None:
        self.values = values  # [L]


class _TensorView(_Sealed):
    """A tensor whose offset, size and stride are not checked yet."""

    __slots__ = ("layout", "storage")

    def __init__(self, storage: Any, offset: Any, size: Any, stride: Any, *_ignored: Any) -> None:
        self.storage, self.layout = storage, (offset, size, stride)

    def to_tensor(self) -> Tensor:
        offset, size, stride = self.layout
        flat = self.storage.values
        # A view that repeats values could have any size.
        if math.prod(size) > len(flat) or min((offset, *size, *stride), default=0) < 0:
            raise ValueError(f"a tensor of shape {list(size)} over {len(flat)} values")
        return flat.as_strided(size, stride, offset).clone()


class _Object(_Sealed):
    """An object of a class that is not loaded."""

    __slots__ = ("class_name", "state")
    class_name: str
    state: Any


class _StandardModule(_Object):
    """A layer of torch.nn; subclasses carry the layer's name."""

    __slots__ = ()

    def __new__(cls) -> _StandardModule:
        self = super().__new__(cls)
        self.class_name, self.state = cls.__name__, {}
        return self

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Dtype(_Sealed):
    """numpy.dtype: a code such as f8, then a state whose second entry is the byte order."""

    __slots__ = ("dtype",)

    def __init__(self, code: Any, *_ignored: Any) -> None:
        if not isinstance(code, str) or not _NUMPY_DTYPE.fullmatch(code):
            raise ValueError(f"a NumPy type {code!r}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array(_Sealed):
    """numpy.ndarray: empty at first, then a state (version, shape, dtype, Fortran order, bytes)."""

    __slots__ = ("state",)
    state: Any

    def __init__(self, *_ignored: Any) -> None:
        self.state = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def to_tensor(self) -> Tensor:
        _, shape, dtype, is_fortran, data = self.state
        array = np.frombuffer(data, dtype.dtype).reshape(shape, order="F" if is_fortran else "C")
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C"))


def _make_object(meta: Any) -> _Object:
    """An `_Object` from meta: type, version, module_src (ignored), class_name, state."""
    if not isinstance(meta, dict) or meta.get("type") != "class":
        raise ValueError("a network without a class")
    record = _Object()
    record.class_name, record.state = meta["class_name"], meta["state"]
    return record


def _read_scalar(dtype: Any, data: Any) -> Any:
    return np.frombuffer(data, dtype.dtype, count=1)[0].item()


def _encode_latin1(text: Any, encoding: Any) -> bytes:
    if encoding != "latin1":
        raise ValueError(f"bytes written in {encoding!r}")
    return text.encode("latin1")


def _device_name(*parts: Any) -> str:
    return ":".join(map(str, parts))


_NUMPY_MODULE = r"numpy\._?core\.multiarray\."
_FUNCTIONS: dict[str, Callable[..., Any]] = {  # pattern: what is called instead
    _PERSISTENT: _make_object,
    r"torch\._utils\._rebuild_tensor(_v2)?": _TensorView,
    r"torch\._utils\._rebuild_parameter(_with_state)?": lambda data, *_ignored: data,
    _NUMPY_MODULE + "scalar": _read_scalar,
    _NUMPY_MODULE + "_reconstruct": _Array,
    r"numpy\.dtype": _Dtype,
    r"numpy\.ndarray": lambda: None,  # only named, as an argument of _reconstruct
    r"_codecs\.encode": _encode_latin1,  # how pickle protocol 2 writes bytes
    r"torch\.Size": tuple,
    r"torch\.device": _device_name,
}
# Built-in types, which a pickle cannot change.
_TYPES: dict[str, type] = {
    _EASY_DICT: dict,
    r"collections\.OrderedDict": dict,
    r"(builtins|__builtin__)\.set": set,
}
_LOAD_FROM_BYTES = r"torch\.storage\._load_from_bytes"
_ALLOWED = re.compile("|".join([*_FUNCTIONS, *_TYPES, _LOAD_FROM_BYTES, _STANDARD_MODULE, _TORCH_DTYPE]))


class _Unpickler(pickle.Unpickler):
    """Knows the names above only; every other name raises."""

    def __init__(self, file: Any, path: Path) -> None:
        super().__init__(file)
        self._path = path

    def find_class(self, module: str, name: str, /) -> Any:
        full = f"{module}.{name}"
        for pattern, kind in _TYPES.items():
            if re.fullmatch(pattern, full):
                return kind
        for pattern, function in _FUNCTIONS.items():
            if re.fullmatch(pattern, full):
                return _Builder(function)
        if re.fullmatch(_LOAD_FROM_BYTES, full):
            return _Builder(self._load_storage)
        if re.fullmatch(_STANDARD_MODULE, full):
            return type(name, (_StandardModule,), {"__slots__": ()})
        if re.fullmatch(_TORCH_DTYPE, full):
            return full
        raise _refusal([full], self._path)

    def persistent_load(self, pid: Any) -> NoReturn:
        raise pickle.UnpicklingError("it refers to values outside the file")

    def _load_storage(self, data: Any) -> _Storage:
        """Read the values of a tensor, which the pickle holds as a file of torch.save with one storage."""
        refused = refused_globals(io.BytesIO(data), self._path, allowed=_STORAGES)
        if refused:
            raise _refusal(refused, self._path)
        storage = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        if not isinstance(storage, torch.storage.TypedStorage):
            raise ValueError(f"a {type(storage).__name__} in place of a tensor's values")
        return _Storage(torch.empty(0, dtype=storage.dtype).set_(storage))


def _to_plain(value: Any, copy: Callable[[Any], Any], *, budget: TensorBudget) -> Any:
    """A value of `_Unpickler` as a plain one, for `copy_nested`."""
    if isinstance(value, _TensorView | _Array):
        tensor = value.to_tensor()
        budget.take(tensor.shape, tensor.element_size())
        return tensor
    if isinstance(value, _Object):
        state = copy(value.state)
        if not isinstance(value.class_name, str) or not isinstance(state, dict):
            raise ValueError("a network without a name or attributes")
        return ModuleRecord(value.class_name, state)
    if isinstance(value, _Dtype):
        return str(value.dtype)
    raise ValueError(f"a {type(value).__name__.strip('_')} among the values")
