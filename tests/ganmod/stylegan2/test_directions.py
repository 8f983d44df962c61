"""If this fails, semantic directions are not those of the factorisation, or edits go another way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tiny_generator import tiny_generator
from torch import Tensor

from ganmod.data.seeding import seed_latents
from ganmod.stylegan2 import Generator
from ganmod.stylegan2.directions import edit_latents, find_directions
from ganmod.stylegan2.sampling import map_latents, render, walk_parameters, walk_w


def parameters(G: Generator, w: Tensor, layers: range) -> Tensor:
    """All that the convolutions of some layers receive."""
    predicted = [
        p
        for block, of_block in zip(
            G.synthesis.blocks, G.synthesis.predict(w[None, None].expand(1, G.num_ws, -1)), strict=True
        )
        for p in of_block[: len(block.layers)]
    ]
    return torch.cat([tensor.flatten() for i in layers for tensor in predicted[i]])


def reference(G: Generator, layers: range) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvectors [w_dim,w_dim], as rows, and eigenvalues, by central differences and numpy."""
    mean, h = G.mapping.w_avg, 1e-4
    columns = [
        (parameters(G, mean + h * e, layers) - parameters(G, mean - h * e, layers)) / (2 * h)
        for e in torch.eye(G.w_dim, dtype=mean.dtype)
    ]
    A = torch.stack(columns, dim=1).numpy()
    lengths = np.linalg.norm(A, axis=1, keepdims=True)
    A = A[lengths[:, 0] > 1e-9] / lengths[lengths > 1e-9][:, None]
    values, vectors = np.linalg.eigh(A.T @ A)
    return vectors.T[::-1], values[::-1]


@pytest.mark.parametrize(
    "values",
    [
        {"modulation": "weight_demod"},
        {"modulation": "adain"},
        {"modulation": "adaconv"},
        {"modulation": "adaconv", "modulation_options": {"rank": 3, "gate": True}},
        {"modulation": "adaconv", "style_lift": "shared", "descriptor_dim": 4},
        {"modulation": "adaconv", "style_lift": "per_layer", "descriptor_dim": 4},
    ],
    ids=lambda values: "-".join(map(str, values.values())),
)
def test_directions_are_the_eigenvectors_of_the_factorisation(values: dict[str, Any]) -> None:
    G = tiny_generator(**values).double()
    for layers in (None, range(1, 3)):
        found = find_directions(G, layers=layers, num=3)
        vectors, eigenvalues = reference(G, layers or range(len(G.synthesis.layers)))
        for i in range(3):
            assert abs(float(found.vectors[i].numpy() @ vectors[i])) == pytest.approx(1, abs=1e-5)
        np.testing.assert_allclose(found.changes.numpy(), eigenvalues[:3] / eigenvalues.sum(), rtol=1e-4)


def test_under_weight_demodulation_they_are_those_of_the_affine_weights() -> None:
    G = tiny_generator(modulation="weight_demod").double()
    weights = [layer.modulation.affine.weight for layer in G.synthesis.layers]
    rows = torch.cat(weights)
    rows = rows / rows.norm(dim=1, keepdim=True)
    strongest = torch.linalg.eigh(rows.T @ rows).eigenvectors[:, -1]
    found = find_directions(G, num=1).vectors[0]
    assert abs(float(found @ strongest)) == pytest.approx(1, abs=1e-9)


def test_edits_move_the_chosen_layers_by_standard_deviations() -> None:
    G = tiny_generator(modulation="adaconv").double()
    found = find_directions(G, num=2)
    ws = map_latents(G, seed_latents(range(1000), G.z_dim).double())
    along = (ws[:, 0] - G.mapping.w_avg) @ found.vectors[1]
    assert float(found.spreads[1]) == pytest.approx(float(along.square().mean().sqrt()))
    edited = edit_latents(ws[:4], found, 1, -2.0, layers=[0, 2])
    moved = edited - ws[:4]
    torch.testing.assert_close(moved[:, 2], (-2 * found.spreads[1] * found.vectors[1]).expand(4, -1))
    assert float(moved[:, [1, 3, 4, 5]].abs().max()) == 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num": 6}, "num is 6, expected 1 to 5"),
        ({"layers": [1, 6]}, "layer 6 is out of range: the model has 0 to 5"),
        ({"layers": [5]}, "are a ToRGB only"),
    ],
)
def test_what_the_model_does_not_have_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_directions(tiny_generator(), **values)


@pytest.mark.parametrize("modulation", ["weight_demod", "adaconv"])
def test_a_walk_through_parameters_meets_its_keys(modulation: str) -> None:
    G = tiny_generator(modulation=modulation, style_lift="none" if modulation == "weight_demod" else "shared")
    keys = map_latents(G, seed_latents(range(3), G.z_dim))
    images = np.stack(list(walk_parameters(G, keys, frames_per_step=4)))
    through_w = render(G, walk_w(keys, frames_per_step=4))
    assert len(images) == 12
    np.testing.assert_array_equal(images[::4], render(G, keys))
    difference = np.abs(images.astype(int) - through_w)
    assert difference.max() <= 1 if modulation == "weight_demod" else difference.max() > 1


def test_noise_of_a_walk_is_that_of_its_seed() -> None:
    G = tiny_generator()
    keys = map_latents(G, seed_latents(range(2), G.z_dim))
    images = list(walk_parameters(G, keys, frames_per_step=1, noise_mode="random", seed=7))
    np.testing.assert_array_equal(images[0], render(G, keys[:1], noise_mode="random", seeds=[7])[0])
