"""Foreign PyTorch checkpoints, read as tensors and plain containers without running anything in them.

Two checks, each of which alone stops foreign code. First the pickle's instructions are listed, not run, and
every class or function that it names must be in the list below. Then torch's restricted unpickler builds the
values. The first check names everything it refuses, and holds even where a program has extended torch's list.
"""

import argparse
import contextlib
import functools
import io
import math
import pickle
import re
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from configs.limits import PICKLE_STEPS, UNPACKED_RATIO
from ganmod.io.model_file import ModelFileError, first_names, open_for_reading
from ganmod.io.pickles.pickle_listing import MAX_DEPTH, list_globals

_ALLOWED = re.compile(
    r"""collections\.(OrderedDict|Counter)
    |(builtins|__builtin__)\.(set|bytearray|complex)
    |argparse\.Namespace                                          # a command line; attributes, no code
    |_codecs\.encode                                              # how pickle protocol 2 writes bytes
    |torch\.(Size|device|Tensor)
    |torch\.nn\.parameter\.Parameter
    |torch\._utils\._rebuild_(tensor|tensor_v2|tensor_v3|parameter|parameter_with_state)
    |torch\.(cuda\.|storage\.)?([A-Z]\w*Storage)
    |torch\.(bool|u?int\d+|b?float\d+\w*|half|double|long|complex\d+)  # dtypes
    """,
    re.VERBOSE,
)
_LEGACY_PICKLES = 5  # magic number, version, machine, the object, the storage keys; raw tensors follow
_ZIP_START = b"PK\x03\x04"
_SPARE_BYTES = 1 << 20  # of small files
_PLAIN = (type(None), bool, int, float, str, bytes)


class UnsafePickleError(ValueError):
    """A pickle asks for more than tensors and plain containers; the message names what; nothing was run."""


def read_tensors_pickle(path: str | Path) -> Any:
    """Read a file that torch.save wrote (.pth, .pt, .ckpt; zip or legacy) without executing any code in it.

    Returns what the file holds: tensors (on the CPU) in nested dict, list, tuple and set, with plain values.
    OrderedDict, Counter and argparse.Namespace come back as dict, Parameter as tensor, torch.Size as tuple,
    torch.dtype and torch.device as text.

    Raises:
        UnsafePickleError: names the classes and functions that the file asks for.
        ModelFileError: the file is missing, damaged or not a file of torch.save.
    """
    path = Path(path)
    with open_pickle(path, expected="a file of torch.save", remedy="fetch or save it again") as file:
        refused = refused_globals(file, path, allowed=_ALLOWED)
        if refused:
            raise _unsafe(path, f"asks for {first_names(refused)}")
        file.seek(0)
        try:
            with torch.serialization.safe_globals([argparse.Namespace]):
                content = torch.load(file, map_location="cpu", weights_only=True, mmap=False)
        except pickle.UnpicklingError as error:
            raise _refused_by_torch(error, path) from error
        convert = functools.partial(_to_plain, path=path, budget=TensorBudget(path))
        return copy_nested(content, convert, path=path, too_deep="it is no checkpoint")


@contextlib.contextmanager
def open_pickle(path: Path, *, expected: str, remedy: str) -> Iterator[BinaryIO]:
    """Open a pickle; an error in the block becomes a ModelFileError that names the file.

    UnsafePickleError and ModelFileError pass unchanged.

    Args:
        path: the pickle.
        expected: what the file should be, for the message.
        remedy: what the user can do, for the message.
    """
    try:
        with open_for_reading(path) as file:
            yield file
    except (UnsafePickleError, ModelFileError):
        raise
    except Exception as error:  # a damaged archive or pickle can raise anything
        reason = str(error).strip().split("\n", 1)[0] or type(error).__name__
        raise ModelFileError(f"{path}: is damaged or not {expected} ({reason}); {remedy}") from error


def refused_globals(file: BinaryIO, path: Path, *, allowed: re.Pattern[str]) -> list[str]:
    """Classes and functions, as module.name, of the first pickle that names any outside of `allowed`.

    The pickle's instructions are listed, none is run. A file may hold several pickles, one after another as
    torch.save's former format has them, or as members of a zip archive.
    """
    names: dict[str, None] = {}  # a set that keeps the order
    for stream, count in _pickle_streams(file, path):
        for _ in range(count):
            if not stream.read(1):  # fewer pickles than torch.save writes: torch.load will say so
                break
            stream.seek(-1, io.SEEK_CUR)
            names.update(dict.fromkeys(list_globals(stream)))
            refused = [name for name in names if not allowed.fullmatch(name)]
            if refused:
                return refused
    return []


def _pickle_streams(file: BinaryIO, path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """Each stream of pickles in the file, with the largest number of pickles in it."""
    start = file.read(len(_ZIP_START))
    file.seek(0)
    if not start:
        raise ModelFileError(f"{path}: is empty; fetch or save it again")
    if start != _ZIP_START:
        yield file, _LEGACY_PICKLES
        return
    with zipfile.ZipFile(file) as archive:
        members = archive.namelist()
        if any(name.endswith("/constants.pkl") for name in members):
            raise _unsafe(path, "is a TorchScript archive, a program and not only tensors")
        if not any(name.endswith("/data.pkl") for name in members):
            raise ModelFileError(
                f"{path}: is a zip archive, but not one of torch.save; give the .pth or .pt file"
            )
        size = file.seek(0, io.SEEK_END)
        unpacked = sum(member.file_size for member in archive.infolist())
        ratio = UNPACKED_RATIO.value()
        if unpacked > ratio * size + _SPARE_BYTES:
            raise ModelFileError(
                f"{path}: unpacks to {unpacked} bytes, more than {ratio} times its size; torch.save "
                f"does not pack. Fetch or save it again; {UNPACKED_RATIO.how_to_raise}"
            )
        for name in members:
            if name.endswith(".pkl"):
                yield io.BytesIO(archive.read(name)), 1


def _refused_by_torch(error: pickle.UnpicklingError, path: Path) -> ValueError:
    """torch's refusal as an error that names the file."""
    text = str(error)
    # "GLOBAL os.system was not an allowed global", "unsupported GLOBAL os.system whose module os is blocked"
    name = re.search(r"GLOBAL (\S+)", text)
    if name is not None:
        return _unsafe(path, f"asks for {name[1]}")
    if "Unsupported operand" in text:
        return ModelFileError(
            f"{path}: has a form of pickle that cannot be read safely; save it again with torch.save, "
            "without a pickle_protocol"
        )
    return _unsafe(path, "asks for more than tensors and plain containers")


def _unsafe(path: Path, what: str) -> UnsafePickleError:
    return UnsafePickleError(
        f"{path}: {what}, which can run foreign code; nothing was run. Where you trust the file, load it "
        "with its own code, torch.save the state_dict() and give that file"
    )


def copy_nested(
    value: Any, convert: Callable[[Any, Callable[[Any], Any]], Any], *, path: Path, too_deep: str
) -> Any:
    """Copy nested containers as plain dict, list, tuple and set; shared ones stay shared.

    Args:
        value: the outermost container.
        convert: copies values of other types; its second argument is the function for values within them.
        path: the file, for messages.
        too_deep: what the message says of a file with deep or endless nesting.
    """
    copies: dict[int, tuple[Any, int]] = {}
    held = 0  # values so far; a shared container's count every time, as for code that walks over them

    most = PICKLE_STEPS.value()

    def copy(item: Any, depth: int) -> Any:
        nonlocal held
        if depth > MAX_DEPTH:
            raise ModelFileError(f"{path}: nests more than {MAX_DEPTH} deep, or in itself; {too_deep}")
        held += 1
        if held > most:
            raise ModelFileError(
                f"{path}: holds more than {most} values, shared ones counted each time; "
                + PICKLE_STEPS.how_to_raise
            )
        if type(item) in _PLAIN:
            return item
        if id(item) in copies:
            copied, size = copies[id(item)]
            held += size
            return copied
        before = held

        def copy_inner(inner: Any) -> Any:
            return copy(inner, depth + 1)

        result: Any
        if type(item) in (dict, OrderedDict, Counter):
            result = {copy_inner(key): copy_inner(entry) for key, entry in item.items()}
        elif type(item) in (list, tuple, set):
            result = type(item)(map(copy_inner, item))
        else:
            result = convert(item, copy_inner)
        copies[id(item)] = result, held - before
        return result

    return copy(value, 0)


class TensorBudget:
    """Bounds the bytes of all tensors of a file by its size: a pickle can view the same bytes many times."""

    def __init__(self, path: Path) -> None:
        self._path, self._left = path, UNPACKED_RATIO.value() * path.stat().st_size + _SPARE_BYTES

    def take(self, shape: Sequence[int], item_bytes: int) -> None:
        """Raise ModelFileError if a tensor of this shape is more than what is left."""
        self._left -= math.prod(shape) * item_bytes
        if self._left < 0:
            raise ModelFileError(
                f"{self._path}: its tensors have over {UNPACKED_RATIO.value()} times the file's bytes. Save "
                f"them as contiguous ones; {UNPACKED_RATIO.how_to_raise}"
            )


def _to_plain(value: Any, copy: Callable[[Any], Any], *, path: Path, budget: TensorBudget) -> Any:
    """A value of torch's unpickler as a plain one, for `copy_nested`."""
    if isinstance(value, Tensor):
        if type(value) not in (Tensor, torch.nn.Parameter) or value.is_meta or value.is_quantized:
            raise ModelFileError(
                f"{path}: holds a tensor that is no plain one; save plain tensors with values"
            )
        budget.take(value.shape, value.element_size())
        return value.detach()
    if isinstance(value, torch.dtype | torch.device):
        return str(value)
    if type(value) in (complex, bytearray):
        return value
    if type(value) is torch.Size:
        return tuple(value)
    if type(value) is argparse.Namespace:
        return {copy(key): copy(item) for key, item in vars(value).items()}
    kind = type(value)
    raise _unsafe(path, f"holds a {kind.__module__}.{kind.__qualname__}")
