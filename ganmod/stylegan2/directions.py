"""Directions in w that change most of what the layers receive: closed-form factorisation (SeFa)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ganmod.data.seeding import seed_latents
from ganmod.stylegan2.generator import Generator
from ganmod.stylegan2.sampling import map_latents
from ganmod.stylegan2.synthesis import SynthesisLayer

NUM_SAMPLES = 1000  # latents from which the spread along a direction is measured
_CHUNK = 64  # tangents at a time


class Directions(NamedTuple):
    """Orthogonal directions in w, strongest first.

    Attributes:
        vectors: unit vectors [K,w_dim].
        changes: how much the parameters change along each, as a share of all w_dim directions' sum [K].
        spreads: standard deviation of w along each [K], the unit of `edit_latents`.
    """

    vectors: Tensor
    changes: Tensor
    spreads: Tensor


def check_layers(G: Generator, layers: Sequence[int] | None) -> list[int]:
    """Layers of ws, all without a choice; ValueError for one that the generator does not have."""
    if layers is None:
        return list(range(G.num_ws))
    for layer in layers:
        if not 0 <= layer < G.num_ws:
            raise ValueError(f"layer {layer} is out of range: the model has 0 to {G.num_ws - 1}")
    return sorted(set(layers))


@torch.no_grad()
def find_directions(G: Generator, *, layers: Sequence[int] | None = None, num: int = 5) -> Directions:
    """The directions that change most of the modulations' parameters (Shen & Zhou 2021, Eq. 6).

    They are the first eigenvectors of A^T A, where a row of A is the gradient of one parameter with respect
    to w, of unit length. Under weight demodulation and AdaIN the parameters are affine in w, and A is their
    weights, as published; under AdaConv the parameters are the predicted kernels and biases, and under any
    modulation that is not affine, A is their Jacobian at the mean w.

    Args:
        layers: positions in ws of the layers that are looked at; None for all. ToRGB layers are left out.
        num: of directions, at most w_dim.

    Raises:
        ValueError: for a layer or a number that the model does not have.
    """
    chosen = check_layers(G, layers)
    if not 1 <= num <= G.w_dim:
        raise ValueError(f"num is {num}, expected 1 to {G.w_dim}, the length of w")
    synthesis = G.synthesis
    modulated = [layer for i, layer in enumerate(synthesis.layers) if i in chosen]
    if not modulated:
        raise ValueError(f"layers {chosen} are a ToRGB only, which has no directions: choose from 0")
    mean = G.mapping.w_avg
    gram = sum(_gram(layer, synthesis.lift, mean) for layer in modulated)
    values, vectors = torch.linalg.eigh(gram)  # ascending
    order = torch.arange(G.w_dim - 1, G.w_dim - 1 - num, -1, device=values.device)
    found = vectors.T[order]
    found = found * torch.where(found.sum(dim=1, keepdim=True) < 0, -1.0, 1.0)  # one of the two signs, always
    ws = map_latents(G, seed_latents(range(NUM_SAMPLES), G.z_dim), _any_label(G))[:, 0]
    spreads = ((ws.double() - mean.double()) @ found.T).square().mean(dim=0).sqrt()
    return Directions(found.to(mean), (values[order] / values.sum()).to(mean), spreads.to(mean))


def _gram(layer: SynthesisLayer, lift: nn.Module | None, w: Tensor) -> Tensor:
    """A^T A of one layer at w [w_dim]: float64 [w_dim,w_dim]."""

    def parameters(w: Tensor) -> Tensor:
        style = w[None] if lift is None else lift(w[None])
        return torch.cat([tensor.flatten() for tensor in layer.predict(style)])

    def change_along(tangent: Tensor) -> Tensor:
        return torch.func.jvp(parameters, (w,), (tangent,))[1]

    # Forward mode: w has fewer numbers than the parameters.
    basis = torch.eye(len(w), device=w.device, dtype=w.dtype)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated")  # torch's own call of it
        gradients = torch.func.vmap(change_along, chunk_size=_CHUNK)(basis).double()  # [w_dim,P]
    lengths = gradients.norm(dim=0)
    gradients = gradients / torch.where(lengths > 0, lengths, 1.0)
    return gradients @ gradients.T


def edit_latents(
    ws: Tensor, directions: Directions, index: int, strength: float, *, layers: Sequence[int]
) -> Tensor:
    """ws [N,num_ws,w_dim] moved along a direction, in `layers` only.

    strength: how far, in standard deviations of w along the direction.
    """
    step = directions.vectors[index] * (strength * directions.spreads[index])
    moved = ws.clone()
    moved[:, list(layers)] += step
    return moved


def _any_label(G: Generator) -> Tensor | None:
    """The mean of all classes, for a conditional model."""
    return torch.full((1, G.c_dim), 1 / G.c_dim) if G.c_dim else None
