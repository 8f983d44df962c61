"""Images of a trained generator: latents from seeds, style mixing, walks between latents."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

from ganmod.io.images import to_uint8
from ganmod.stylegan2.generator import Generator
from ganmod.stylegan2.synthesis import NoiseMode

Curve = Literal["linear", "spline"]

MAX_NUMBERS = 1_000_000  # in one text of ranges; more are probably a typing error
MAX_SEED = 2**32 - 1  # of numpy's RandomState
_PARALLEL = 1e-6  # sine of the angle below which two directions count as one


def parse_ranges(text: str, *, largest: int = MAX_SEED) -> list[int]:
    """Whole numbers from a text such as "0-3,7,10-12", in its order -> [0, 1, 2, 3, 7, 10, 11, 12].

    Raises ValueError for anything else, an end before its start, and numbers above `largest`.
    """
    numbers: list[int] = []
    for part in text.replace(" ", "").split(","):
        match = re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", part)
        if match is None:
            raise ValueError(f"{text!r} is no list of numbers: expected such as 5, 0-63 or 1,4,8-11")
        start, stop = int(match[1]), int(match[2] or match[1])
        if stop < start:
            raise ValueError(f"{part!r} ends before it starts: write {stop}-{start}")
        if stop > largest:
            raise ValueError(f"{part!r} goes beyond {largest}: expected numbers from 0 to {largest}")
        if len(numbers) + stop - start + 1 > MAX_NUMBERS:
            raise ValueError(f"{text!r} has more than {MAX_NUMBERS} numbers: use several calls")
        numbers += range(start, stop + 1)
    return numbers


def class_label(which: str | int | None, *, c_dim: int, class_names: Sequence[str] = ()) -> Tensor | None:
    """The label [1,c_dim] of a class, None for an unconditional model.

    Args:
        which: a name, else an index; for a model trained on vectors its c_dim numbers, "0.5,1,-2".

    Raises:
        ValueError: for an unknown class, a class of an unconditional model, and None for a conditional one.
    """
    if c_dim == 0:
        if which is not None:
            raise ValueError(f"got class {which!r}, but the model is unconditional: leave the class out")
        return None
    named = ", ".join(f"{i} {name}" for i, name in enumerate(class_names[:20]))
    more = ", ..." if len(class_names) > 20 else ""
    known = f"0 to {c_dim - 1}" + (f" ({named}{more})" if named else "")
    if which is None:
        raise ValueError(f"the model is conditional, but no class is given: choose one of {known}")
    if str(which) in class_names and not isinstance(which, int):
        index = list(class_names).index(str(which))
    elif re.fullmatch(r"[0-9]+", str(which)) and int(which) < c_dim:
        index = int(which)
    elif "," in str(which):
        return _vector_label(str(which), c_dim)
    else:
        raise ValueError(f"unknown class {which!r}: expected one of {known}")
    return torch.nn.functional.one_hot(torch.tensor([index]), c_dim).float()


def _vector_label(text: str, c_dim: int) -> Tensor:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != c_dim or not all(map(math.isfinite, values)):
        raise ValueError(f"label {text!r}: expected {c_dim} numbers with commas between them")
    return torch.tensor([values])


@torch.no_grad()
def map_latents(
    G: Generator,
    z: Tensor,
    c: Tensor | None = None,
    *,
    truncation_psi: float = 1.0,
    truncation_cutoff: int | None = None,
) -> Tensor:
    """z [N,z_dim], one label c [1,c_dim] for all, on any device -> ws [N,num_ws,w_dim] on the generator's."""
    device = next(G.parameters()).device
    labels = None if c is None else c.to(device).expand(len(z), -1)
    return G.mapping(z.to(device), labels, truncation_psi=truncation_psi, truncation_cutoff=truncation_cutoff)


def seed_noise(G: Generator, seeds: Sequence[int]) -> list[Tensor]:
    """Random noise [N,1,H,W] for every layer; a seed gives the same in any batch and on any device."""
    device = next(G.parameters()).device
    samples = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        samples.append(
            [torch.randn(1, 1, *shape, generator=generator) for shape in G.synthesis.noise_shapes()]
        )
    return [torch.cat(layer).to(device) for layer in zip(*samples, strict=True)]


@torch.no_grad()
def render(
    G: Generator,
    ws: Tensor,
    *,
    noise_mode: NoiseMode = "const",
    seeds: Sequence[int] | None = None,
    noise: Sequence[Tensor | None] | None = None,
) -> np.ndarray:
    """ws [N,num_ws,w_dim] -> uint8 [N,H,W,3]; grey models give three equal channels.

    Args:
        seeds: one per sample, for the noise of mode "random".
        noise: one tensor per layer, overrides noise_mode.

    Raises:
        ValueError: for a model whose images have neither one nor three channels.
    """
    if G.img_channels not in (1, 3):
        raise ValueError(f"the model's images have {G.img_channels} channels, expected 1 or 3")
    if noise is None and noise_mode == "random" and seeds is not None:
        noise = seed_noise(G, seeds)
    return _to_pixels(G.synthesis(ws.to(next(G.parameters()).device), noise_mode=noise_mode, noise=noise))


def _to_pixels(images: Tensor) -> np.ndarray:
    """[N,1 or 3,H,W], about [-1,1] -> uint8 [N,H,W,3]."""
    return to_uint8((images.float().cpu().expand(-1, 3, -1, -1) + 1) / 2)


def render_in_batches(
    G: Generator, ws: Tensor, *, batch_size: int, noise_mode: NoiseMode = "const", seeds: Sequence[int]
) -> Iterator[np.ndarray]:
    """`render` for any number of ws, as single images uint8 [H,W,3]."""
    for start in range(0, len(ws), batch_size):
        part = slice(start, start + batch_size)
        yield from render(G, ws[part], noise_mode=noise_mode, seeds=seeds[part])


def mix_layers(coarse: Tensor, fine: Tensor, layers: Sequence[int]) -> Tensor:
    """Mix every coarse [R,num_ws,w_dim] with every fine [C,num_ws,w_dim] -> [R,C,num_ws,w_dim].

    The result is fine at `layers` and coarse elsewhere (Karras et al. 2019, section 3.1). Raises ValueError
    for a layer that the model does not have.
    """
    num_ws = coarse.shape[1]
    beyond = [layer for layer in layers if not 0 <= layer < num_ws]
    if beyond:
        raise ValueError(f"layer {beyond[0]} is out of range: the model has layers 0 to {num_ws - 1}")
    mixed = coarse[:, None].repeat(1, len(fine), 1, 1)
    mixed[:, :, list(layers)] = fine[None, :, list(layers)]
    return mixed


def slerp(start: Tensor, end: Tensor, t: float) -> Tensor:
    """Spherical interpolation between start and end [D], t in 0..1 -> [D] of norm sqrt(D) (Shoemake 1985).

    A Gaussian latent has about this norm, and the mapping network reads only its direction.
    """
    a, b = start.double() / start.double().norm(), end.double() / end.double().norm()
    angle = torch.acos((a * b).sum().clamp(-1, 1))
    if angle.sin() < _PARALLEL:
        between = a if t < 0.5 else b  # equal, or opposite: there is no single shortest great circle
    else:
        between = (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / angle.sin()
    return (between * math.sqrt(len(start))).to(start.dtype)


def walk_z(keys: Tensor, *, frames_per_step: int) -> Tensor:
    """A closed walk through latents, keys [K,z_dim], by `slerp` -> [K * frames_per_step, z_dim].

    Frame i * frames_per_step is key i; the last step returns to the first key.
    """
    _check_walk(keys, frames_per_step)
    return torch.stack(
        [
            slerp(key, following, step / frames_per_step)
            for key, following in zip(keys, keys.roll(-1, dims=0), strict=True)
            for step in range(frames_per_step)
        ]
    )


def walk_w(keys: Tensor, *, frames_per_step: int, curve: Curve = "linear") -> Tensor:
    """A closed walk through ws, keys [K,num_ws,w_dim] -> [K * frames_per_step, num_ws, w_dim], as `walk_z`.

    curve: "spline" is a periodic cubic spline, whose speed is continuous at the keys.
    """
    _check_walk(keys, frames_per_step)
    times = np.arange(len(keys) * frames_per_step) / frames_per_step
    closed = torch.cat([keys, keys[:1]]).double().cpu().numpy()
    if curve == "spline":
        frames = CubicSpline(np.arange(len(closed)), closed, bc_type="periodic")(times)
    else:
        index = times.astype(int)
        t = (times - index)[:, None, None]
        frames = (1 - t) * closed[index] + t * closed[index + 1]
    return torch.from_numpy(frames).to(keys)


@torch.no_grad()
def walk_parameters(
    G: Generator,
    keys: Tensor,
    *,
    frames_per_step: int,
    noise_mode: NoiseMode = "const",
    seed: int = 0,
) -> Iterator[np.ndarray]:
    """Images of a closed walk through what the modulations predict, such as AdaConv's kernels.

    Between two keys, the parameters of all layers (scales, kernels, biases) are interpolated linearly, where
    `walk_w` interpolates the w from which they are predicted. Both are the same where parameters are affine
    in w, as those of weight demodulation and AdaIN without a style lift.

    Args:
        keys: [K,num_ws,w_dim].
        seed: of the noise of all frames, for mode "random".
    """
    _check_walk(keys, frames_per_step)
    noise = seed_noise(G, [seed]) if noise_mode == "random" else G.synthesis.make_noise(1, noise_mode)
    predicted = [G.synthesis.predict(key[None].to(next(G.parameters()).device)) for key in keys]
    for start, end in zip(predicted, [*predicted[1:], predicted[0]], strict=True):
        for step in range(frames_per_step):
            between = [
                [_interpolate(a, b, step / frames_per_step) for a, b in zip(*blocks, strict=True)]
                for blocks in zip(start, end, strict=True)
            ]
            yield _to_pixels(G.synthesis.render(between, noise))[0]


def _interpolate(start: Any, end: Any, weight: float) -> Any:
    """Of two NamedTuples of tensors."""
    return type(start)(*(torch.lerp(a, b, weight) for a, b in zip(start, end, strict=True)))


def _check_walk(keys: Tensor, frames_per_step: int) -> None:
    if len(keys) < 2:
        raise ValueError(f"got {len(keys)} latent, expected two or more to walk between")
    if frames_per_step < 1:
        raise ValueError(f"frames_per_step is {frames_per_step}, expected 1 or more")
