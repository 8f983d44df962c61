"""Training checkpoints: tensors and plain values, written whole, checked when read, the last two kept."""

import contextlib
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganmod.errors import GanmodError
from ganmod.io.atomic_write import DiskFullError, atomic_write
from ganmod.io.pickles.restricted_unpickle import read_tensors_pickle

FORMAT_VERSION = 1
KEEP = 2

_NAME = re.compile(r"checkpoint-(\d{9,})\.pt")
_MAX_DEPTH = 64


class CheckpointError(GanmodError, RuntimeError):
    """A checkpoint cannot be written or read; the message names the file, the reason and the way out."""


class _DamagedError(Exception):
    """A file is no sound checkpoint; the message is the reason."""


def checkpoint_path(run_dir: str | Path, nimg: int) -> Path:
    """The file of the checkpoint that was written after `nimg` images."""
    return Path(run_dir) / f"checkpoint-{nimg:09d}.pt"


def save_checkpoint(run_dir: str | Path, nimg: int, state: dict[str, Any]) -> Path:
    """Write `state` as run_dir/checkpoint-{nimg:09d}.pt in one step, keep the last two, return the path.

    state: nested dictionaries, lists and tuples of tensors (any device, stored from the CPU), int, float,
    str, bool and None; keys are str or int. An OrderedDict comes back as a dict, a Parameter as a tensor.
    Raises CheckpointError for any other value (naming its key path), when the disk refuses the file, or when
    the folder holds a sound later checkpoint, which a resume would wrongly prefer; all others are then kept.
    """
    run_dir = Path(run_dir)
    if nimg < 0:
        raise CheckpointError(f"nimg is {nimg}, expected the number of images seen so far, 0 or more")
    path = checkpoint_path(run_dir, nimg)
    content = {"format": FORMAT_VERSION, "nimg": nimg, "state": _plain(state, "state", 0)}
    damaged_later = _damaged_later(run_dir, nimg)
    try:
        atomic_write(path, lambda temporary: _write(temporary, content), size=_num_bytes(content))
    except (OSError, RuntimeError) as error:
        # torch hides a failed write behind an error about file positions; the system's is its context.
        hidden = error.__context__ if isinstance(error.__context__, OSError) else error
        reason = error.reason if isinstance(error, DiskFullError) else hidden
        raise CheckpointError(
            f"{path}: could not be written ({reason}); earlier checkpoints are kept. "
            "Make room on the disk and resume the run"
        ) from error
    _tidy(run_dir, damaged_later)
    return path


def load_latest_checkpoint(
    run_dir: str | Path, *, map_location: str | torch.device = "cpu", report: Callable[[str], None]
) -> dict[str, Any] | None:
    """Return the state of the newest sound checkpoint, or None when there is none at all.

    map_location: device for all tensors; keep "cpu" where states of random generators are among them.
    report: receives one line for each damaged checkpoint that is passed over.
    Raises CheckpointError when there are checkpoints and all are damaged, or when one is of a newer format.
    """
    checkpoints = _checkpoints(Path(run_dir))
    for _, path in checkpoints:
        try:
            content = _read(path)
        except _DamagedError as error:
            report(f"{path}: is damaged ({error}); trying the checkpoint before it")
            continue
        return _moved(content["state"], torch.device(map_location))
    if checkpoints:
        raise CheckpointError(
            f"{run_dir}: all {len(checkpoints)} checkpoints are damaged; restore one from a backup, or start "
            "again in another run folder"
        )
    return None


def newest_checkpoint(run_dir: Path) -> Path | None:
    """The file of the newest checkpoint, sound or not; None without any."""
    return next((path for _, path in _checkpoints(run_dir)), None)


@contextlib.contextmanager
def restoring(run_dir: str | Path) -> Iterator[None]:
    """Raise what a sound checkpoint with a foreign state causes in the block as a CheckpointError."""
    try:
        yield
    except CheckpointError:
        raise
    except (LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError) as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise CheckpointError(
            f"{run_dir}: its checkpoint holds the state of another run or program ({type(error).__name__}: "
            f"{reason}): use another --out, or --no-resume to begin again"
        ) from error


def _checkpoints(run_dir: Path) -> list[tuple[int, Path]]:
    """(nimg, path) of every checkpoint, newest first."""
    if not run_dir.is_dir():
        return []
    matches = ((_NAME.fullmatch(path.name), path) for path in run_dir.iterdir())
    return sorted(((int(match[1]), path) for match, path in matches if match), reverse=True)


def _damaged_later(run_dir: Path, nimg: int) -> list[Path]:
    """Checkpoints beyond `nimg` that a resume passed over because of damage; raises for a sound one."""
    damaged = []
    for later, path in _checkpoints(run_dir):
        if later <= nimg:
            break
        try:
            _read(path)
        except _DamagedError:
            damaged.append(path)
        else:
            raise CheckpointError(
                f"{path}: is later than the checkpoint to write, at {nimg} images; resume from it, or use "
                "another run folder"
            )
    return damaged


def _tidy(run_dir: Path, damaged: list[Path]) -> None:
    """Keep the last two sound checkpoints; a file that cannot be removed is no reason to stop the run."""
    with contextlib.suppress(OSError):
        for path in damaged:  # out of the way: they count neither as the latest nor among the last two
            path.replace(path.with_name(path.name + ".damaged"))
        for _, path in _checkpoints(run_dir)[KEEP:]:
            path.unlink()


def _write(path: Path, content: dict[str, Any]) -> None:
    # Checksums are torch's default; reading relies on them, so a process that turned them off gets them here.
    former = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(True)
    try:
        with path.open("wb") as file:
            torch.save(content, file)
    finally:
        torch.serialization.set_crc32_options(former)


def _read(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint after checking that it is whole."""
    try:
        with path.open("rb") as file:
            # torch.load does not verify the checksums that torch.save writes: flipped bits would go unseen.
            with zipfile.ZipFile(file) as archive:
                wrong = archive.testzip()
            if wrong is not None:
                raise _DamagedError(f"wrong checksum of {wrong}")
        content = read_tensors_pickle(path)
    except _DamagedError:
        raise
    except Exception as error:  # a damaged archive or pickle fails in every way there is
        reason = str(error).strip().split("\n", 1)[0] or type(error).__name__
        raise _DamagedError(reason) from error
    if not isinstance(content, dict) or not isinstance(content.get("format"), int):
        raise _DamagedError("it is not a checkpoint of a training run")
    if content["format"] > FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: has format {content['format']}, expected at most {FORMAT_VERSION}; resume with the "
            "newer version that wrote it"
        )
    if not isinstance(content.get("state"), dict):
        raise _DamagedError("it holds no state")
    return content


def _plain(value: Any, where: str, depth: int) -> Any:
    """Copy of the containers, with tensors detached and on the CPU; raises for anything that is not plain."""
    if depth > _MAX_DEPTH:
        raise CheckpointError(f"{where}: nested more than {_MAX_DEPTH} deep; store flat values")
    # Exact types: a numpy float is a subclass of float and could not be read back without running its code.
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    if kind in (Tensor, torch.nn.Parameter):
        return _stored_tensor(value, where)
    if kind in (list, tuple):
        return kind(_plain(item, f"{where}[{index}]", depth + 1) for index, item in enumerate(value))
    if kind in (dict, OrderedDict):
        for key in value:
            if type(key) not in (str, int):
                raise CheckpointError(
                    f"{where}: has the key {key!r} of type {type(key).__name__}, expected str or int"
                )
        return {key: _plain(item, f"{where}[{key!r}]", depth + 1) for key, item in value.items()}
    raise CheckpointError(
        f"{where}: is of type {kind.__module__}.{kind.__qualname__}; a checkpoint holds tensors, int, float, "
        "str, bool, None, list, tuple and dict only"
    )


def _num_bytes(value: Any) -> int:
    """About as many as plain values take in a checkpoint."""
    if isinstance(value, Tensor):
        return value.nbytes + 256
    if isinstance(value, dict | list | tuple):
        return sum(map(_num_bytes, value.values() if isinstance(value, dict) else value))
    return 16


def _stored_tensor(tensor: Tensor, where: str) -> Tensor:
    if tensor.is_meta or tensor.layout != torch.strided:
        raise CheckpointError(
            f"{where}: is a meta or sparse tensor; give a dense tensor that holds its values"
        )
    stored = tensor.detach().cpu()
    # torch.save stores the whole memory behind a view: a slice of a large tensor would cost its full size.
    if stored.untyped_storage().nbytes() != stored.numel() * stored.element_size():
        stored = stored.clone()
    return stored


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: _moved(item, device) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_moved(item, device) for item in value)
    return value
