"""Files of latents: ws, and noise images if there are any, in .npz or .safetensors."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from configs.limits import FILE_MB, MB
from configs.visible_text import visible
from ganmod.io.atomic_write import atomic_write
from ganmod.io.regular_file import read_regular
from ganmod.stylegan2.generator import Generator

WS_NAMES = ("w", "ws")  # "w" is what the published code reads and writes


class Latents(NamedTuple):
    """ws [N,num_ws,w_dim], and one noise image [H,W] for every layer or None."""

    ws: Tensor
    noise: list[Tensor] | None


def save_latents(path: str | Path, ws: Tensor, *, noise: Sequence[Tensor] | None = None) -> None:
    """Write ws and noise images to a .npz or .safetensors file.

    In a .npz, ws is named w, as stylegan2-ada's `generate.py --projected-w` expects.

    Args:
        ws: [N,num_ws,w_dim].
        noise: images [H,W], one per layer.

    Raises:
        ValueError: for another suffix.
    """
    path = Path(path)
    tensors = {WS_NAMES[0]: ws} | {f"noise_{i}": image for i, image in enumerate(noise or ())}
    tensors = {name: tensor.detach().float().cpu().contiguous() for name, tensor in tensors.items()}
    if path.suffix == ".npz":
        buffer = io.BytesIO()
        np.savez(buffer, **{name: tensor.numpy() for name, tensor in tensors.items()})  # type: ignore[arg-type]
        data = buffer.getvalue()
    elif path.suffix == ".safetensors":
        data = safetensors.torch.save(tensors)
    else:
        raise ValueError(f"cannot write latents to {path}: expected the suffix .npz or .safetensors")

    def write(temporary: Path) -> None:
        temporary.write_bytes(data)

    atomic_write(path, write)


def load_latents(path: str | Path, G: Generator) -> Latents:
    """Load latents for this generator, to its device. Nothing in the file is executed.

    Raises ValueError for a file that is damaged or of another kind, and for shapes that are not the model's.
    """
    path = Path(path)
    arrays = _read(path)
    array = next((arrays[name] for name in WS_NAMES if name in arrays), None)
    if array is None:
        held = ", ".join(sorted(arrays)) or "nothing"
        raise ValueError(f"{path} holds {held}, expected an array named {' or '.join(WS_NAMES)}")
    ws = array[None] if array.ndim == 2 else array
    if ws.ndim != 3 or list(ws.shape[1:]) != [G.num_ws, G.w_dim] or not ws.is_floating_point():
        raise ValueError(
            f"{path}: its ws are {ws.dtype} {list(ws.shape)}, expected floats [N, {G.num_ws}, {G.w_dim}] for "
            "this model: use the model that they were made with"
        )
    if not len(ws) or not bool(ws.isfinite().all()):
        problem = "infinity or NaN" if len(ws) else "no latent"
        raise ValueError(f"{path} holds {problem}, expected at least one of finite numbers: make it again")
    device = next(G.parameters()).device
    names = [f"noise_{i}" for i in range(len(G.synthesis.layers))]
    noise = None
    if any(name in arrays for name in names):
        shapes = dict(zip(names, G.synthesis.noise_shapes(), strict=True))
        unfit = [n for n in names if n not in arrays or tuple(arrays[n].shape) != shapes[n]]
        if unfit:
            raise ValueError(f"{path}: {unfit[0]} is missing or has not the shape {list(shapes[unfit[0]])}")
        noise = [arrays[name].float().to(device) for name in names]
    return Latents(ws.float().to(device), noise)


def _read(path: Path) -> Mapping[str, Tensor]:
    if path.suffix not in (".npz", ".safetensors"):
        raise ValueError(f"cannot read latents from {path}: expected the suffix .npz or .safetensors")
    data = read_regular(path, FILE_MB)
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load(data)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in archive.infolist():
                FILE_MB.check(_array_bytes(archive, member) / MB, visible(member.filename))
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return {name: torch.from_numpy(file[name]) for name in file.files}
    except (
        MemoryError,  # of an array whose stated shape no memory holds
        SafetensorError,
        ValueError,
        TypeError,
        KeyError,
        OSError,
        EOFError,
        AttributeError,
        zipfile.BadZipFile,
    ) as error:
        raise ValueError(f"{path}: is damaged or holds no latents ({error}); make it again") from error


def _array_bytes(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    """The size of a member or of the array that its header states, whichever is larger."""
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, _, dtype = read_header(file)
    return max(member.file_size, math.prod(shape) * dtype.itemsize)
