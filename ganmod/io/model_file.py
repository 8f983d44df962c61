"""Model files: tensors and their configuration in one .safetensors file; loading runs no code."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ganmod.io.atomic_write import DiskFullError, atomic_write_bytes
from ganmod.io.regular_file import open_regular

_FORMAT_VERSION = 1

# A safetensors file is: header length (8 bytes, little-endian), JSON header, tensor bytes.
_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000  # the limit of safetensors itself
_HALVED = (torch.float32, torch.float64, torch.bfloat16)
_ALIGNMENT = 8  # of the tensor bytes in the file
_MAX_LISTED = 5


class ModelFileError(ValueError):
    """A model file cannot be written or read; the message names the file, the reason and the way out."""


@dataclass(frozen=True)
class ModelFile:
    """What a model file holds: its kind, its configuration (JSON values) and its tensors by name."""

    kind: str
    config: dict[str, Any]
    tensors: dict[str, Tensor]

    @property
    def licence(self) -> str:
        """Of the weights, as the file states it."""
        return str(self.config.get("licence", "not stated in the model file"))

    def training_value(self, name: str) -> float | None:
        """A number that training recorded in the file, such as nimg; None without one."""
        recorded = self.config.get("training")
        value = recorded.get(name) if isinstance(recorded, dict) else None
        return value if type(value) in (int, float) else None


def save_model_file(
    path: str | Path,
    tensors: Mapping[str, Tensor],
    *,
    kind: str,
    config: Mapping[str, Any],
    half: bool = False,
) -> None:
    """Write tensors and their configuration to `path` in one step (see `atomic_write`).

    The same content gives the same bytes.

    Args:
        path: the model file; its former content is kept when an error is raised.
        tensors: of any shape, on any device; tensors that share memory are stored separately.
        kind: what the file is, such as "style-transfer".
        config: values that JSON can hold; tuples come back as lists.
        half: store float32, float64 and bfloat16 tensors as float16.

    Raises:
        ModelFileError: a finite value is too large for float16, the configuration is not JSON, a value is
            not a tensor, or the file cannot be written.
    """
    path = Path(path)
    if not kind:
        raise ModelFileError(
            f"{path}: the kind of a model file is empty, expected a name such as 'style-transfer'"
        )
    metadata = {"ganmod_format": str(_FORMAT_VERSION), "kind": kind, "config": _config_json(config, path)}
    stored = {name: _prepare_tensor(name, tensor, half, path) for name, tensor in tensors.items()}
    try:
        # Through memory, so that a full disk is an OSError with its reason and not an error of the format.
        data = _fix_metadata_order(safetensors.torch.save(stored, metadata), metadata)
        atomic_write_bytes(path, data)
    except (OSError, SafetensorError, KeyError) as error:
        reason = error.reason if isinstance(error, DiskFullError) else error
        raise ModelFileError(f"{path}: could not be written ({reason}); nothing was changed there") from error


def read_model_file(path: str | Path, *, expect_kind: str | None = None) -> ModelFile:
    """Read a model file; float16 tensors come back as float32, all tensors on the CPU, sorted by name.

    A pickle is refused by its first bytes and never run.

    Args:
        path: the model file.
        expect_kind: the only kind to accept; None accepts every kind.

    Raises:
        ModelFileError: the file is missing, cut short, damaged, not a safetensors file, not written by
            ganmod, of a newer format or of another kind.
    """
    path = Path(path)
    with open_for_reading(path) as file:
        start = file.read(_LENGTH_BYTES + 1)
        _check_start(start, path)
        data = start + file.read()
    kind, config = _read_metadata(_read_header(data, path, size=len(data)), path)
    if expect_kind is not None and kind != expect_kind:
        raise ModelFileError(
            f"{path}: is a model file of kind {kind!r}, expected {expect_kind!r}; give a file of that kind"
        )
    try:
        tensors = safetensors.torch.load(data)
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise ModelFileError(f"{path}: is damaged ({error}); fetch or save it again") from error
    widened = {
        name: tensor.float() if tensor.dtype == torch.float16 else tensor
        for name, tensor in sorted(tensors.items())
    }
    return ModelFile(kind, config, widened)


def read_model_header(path: str | Path) -> ModelFile:
    """Kind and configuration of a model file, without tensors, which are not read.

    Raises ModelFileError as `read_model_file`.
    """
    path = Path(path)
    with open_for_reading(path) as file:
        start = file.read(_LENGTH_BYTES + 1)
        _check_start(start, path)
        data = start + file.read(_header_length(start) - 1)
        header = _read_header(data, path, size=os.fstat(file.fileno()).st_size)
    return ModelFile(*_read_metadata(header, path), {})


@contextlib.contextmanager
def open_for_reading(path: Path) -> Iterator[BinaryIO]:
    """Open a binary file; an OSError, in the block too, becomes a ModelFileError that names the file."""
    try:
        with open_regular(path) as file:
            yield file
    except FileNotFoundError as error:
        raise ModelFileError(f"{path}: no such file; check the path") from error
    except OSError as error:
        raise ModelFileError(f"{path}: could not be read ({error.strerror or error})") from error


def load_state(module: nn.Module, tensors: Mapping[str, Tensor], *, source: str | Path) -> None:
    """Copy `tensors` into `module`, which must have exactly these names and shapes.

    Values are converted to the module's dtype and device.

    Args:
        module: unchanged when an error is raised.
        tensors: by name, as in a state_dict.
        source: where the tensors come from, for messages.

    Raises:
        ModelFileError: lists the missing and unknown tensors and those that do not fit.
    """
    expected = module.state_dict()
    missing = [name for name in expected if name not in tensors]
    foreign = [name for name in tensors if name not in expected]
    unfitting = []
    for name, target in expected.items():
        if name not in tensors:
            continue
        tensor = tensors[name]
        if tensor.shape != target.shape:
            unfitting.append(f"{name} (got {_shape(tensor)}, expected {_shape(target)})")
        elif tensor.is_floating_point() != target.is_floating_point():
            unfitting.append(f"{name} (got {tensor.dtype}, expected {target.dtype})")
    problems = [
        f"{title}: {first_names(names)}"
        for title, names in (
            ("missing", missing),
            ("not known to the model", foreign),
            ("do not fit", unfitting),
        )
        if names
    ]
    if problems:
        raise ModelFileError(
            f"{source}: its tensors do not match {type(module).__name__}; "
            + "; ".join(problems)
            + ". Build the model from the configuration of the same file"
        )
    module.load_state_dict(dict(tensors), strict=True)


def _config_json(config: Mapping[str, Any], path: Path) -> str:
    try:
        text = json.dumps(dict(config), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{path}: the configuration is not plain JSON ({error})") from error
    # json.dumps silently turns number keys into text, which would come back as another configuration.
    if json.loads(text) != _with_lists(dict(config)):
        raise ModelFileError(
            f"{path}: the configuration changes in JSON; use only text as keys of dictionaries"
        )
    return text


def _with_lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_lists(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_lists(item) for item in value]
    return value


def _prepare_tensor(name: str, tensor: Tensor, half: bool, path: Path) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise ModelFileError(f"{path}: {name} is of type {type(tensor).__name__}, expected a tensor")
    if name == "__metadata__":
        raise ModelFileError(f"{path}: a tensor cannot be named __metadata__; rename it")
    if tensor.is_meta or tensor.layout != torch.strided:
        raise ModelFileError(
            f"{path}: {name} is a meta or sparse tensor; give a dense tensor that holds its values"
        )
    stored = tensor.detach()
    if half and stored.dtype in _HALVED:
        stored = stored.to(torch.float16)
        if bool((stored.isinf() & tensor.detach().isfinite()).any()):
            largest = tensor.detach().abs()[tensor.detach().isfinite()].max().item()
            raise ModelFileError(
                f"{path}: {name} holds {largest:g}, float16 ends at {torch.finfo(torch.float16).max:g}; "
                "save without half"
            )
    # A separate copy: safetensors refuses tensors that share memory, such as tied weights.
    return stored.to("cpu", copy=True).contiguous()


def _fix_metadata_order(data: bytes, metadata: Mapping[str, str]) -> bytes:
    """The same file with its metadata in a fixed order; safetensors writes them in any order."""
    end = _LENGTH_BYTES + _header_length(data)
    header = json.loads(data[_LENGTH_BYTES:end])
    header["__metadata__"] = dict(metadata)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text + data[end:]


def _read_header(data: bytes, path: Path, *, size: int) -> dict[str, Any]:
    """The JSON header, after a check that the file, of `size` bytes, has the size that its header states."""
    length = _header_length(data)
    cut_short = ModelFileError(f"{path}: is cut short ({size} bytes); fetch or save it again")
    if length > len(data) - _LENGTH_BYTES:
        raise cut_short
    try:
        header = json.loads(data[_LENGTH_BYTES : _LENGTH_BYTES + length])
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        expected_size = _LENGTH_BYTES + length + max(ends, default=0)
        too_short = size < expected_size
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise ModelFileError(f"{path}: its header is damaged ({error}); fetch or save it again") from error
    if too_short:
        raise cut_short
    return header


def _header_length(data: bytes) -> int:
    return int.from_bytes(data[:_LENGTH_BYTES], "little")


def _check_start(start: bytes, path: Path) -> None:
    """Raise for a file whose first bytes (length and first character of the header) are not safetensors."""
    if not start:
        raise ModelFileError(f"{path}: is empty; fetch or save it again")
    # Not by the first two bytes alone: a header of 640 bytes begins like a pickle (0x80 0x02).
    if start[_LENGTH_BYTES:] == b"{" and _header_length(start) <= _MAX_HEADER_BYTES:
        return
    is_zip = start.startswith(b"PK\x03\x04")
    is_pickle = len(start) > 1 and start[0] == 0x80 and start[1] <= 5
    if is_zip or is_pickle:
        actual = "zip archive, as torch.save writes," if is_zip else "pickle"
        raise ModelFileError(
            f"{path}: is a {actual} and not a model file; nothing in it was run. "
            "Turn it into a model file with `ganmod import`"
        )
    if len(start) <= _LENGTH_BYTES:
        raise ModelFileError(f"{path}: is cut short ({len(start)} bytes); fetch or save it again")
    raise ModelFileError(
        f"{path}: is not a safetensors file; give a model file that ganmod wrote, or turn a PyTorch "
        "checkpoint into one with `ganmod import`"
    )


def _read_metadata(header: Mapping[str, Any], path: Path) -> tuple[str, dict[str, Any]]:
    """The kind and the configuration."""
    metadata = header.get("__metadata__")
    if not isinstance(metadata, dict) or "ganmod_format" not in metadata:
        raise ModelFileError(
            f"{path}: is a safetensors file without ganmod's metadata; give a model file that ganmod wrote"
        )
    version = metadata["ganmod_format"]
    if not isinstance(version, str) or not version.isdecimal():
        raise ModelFileError(
            f"{path}: its format is {version!r}, expected a whole number; fetch or save it again"
        )
    if int(version) > _FORMAT_VERSION:
        raise ModelFileError(
            f"{path}: has format {version}, this ganmod reads up to {_FORMAT_VERSION}; install a newer ganmod"
        )
    kind, text = metadata.get("kind"), metadata.get("config")
    try:
        config = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        config = None
    if not isinstance(kind, str) or not kind or not isinstance(config, dict):
        raise ModelFileError(f"{path}: its kind or configuration is damaged; fetch or save it again")
    return kind, config


def _shape(tensor: Tensor) -> list[int]:
    return list(tensor.shape)


def first_names(names: Sequence[str]) -> str:
    """A list for a message, cut after a few names."""
    more = len(names) - _MAX_LISTED
    return ", ".join(names[:_MAX_LISTED]) + (f" and {more} more" if more > 0 else "")
