"""Translation of photos with a trained StarGAN v2: style codes from references or seeds, images, walks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ganmod.data.seeding import seed_latents
from ganmod.io.images import resize, to_tensor, to_uint8
from ganmod.starganv2.starganv2_file import StarGANv2


def prepare_images(images: Sequence[np.ndarray], img_size: int) -> Tensor:
    """uint8 [H,W,3] of any sizes -> [N,3,S,S] in [-1,1], resized to a square as in training."""
    resized = [resize(image, (img_size, img_size), resample="bilinear") for image in images]
    return torch.stack([to_tensor(image) for image in resized]) * 2 - 1


@torch.no_grad()
def reference_codes(model: StarGANv2, images: Sequence[np.ndarray], domains: Sequence[str]) -> Tensor:
    """Style codes [N,style_dim] of reference images uint8 [H,W,3], each with the name of its domain.

    Raises ValueError for an unknown domain.
    """
    device = next(model.style_encoder.parameters()).device
    numbers = torch.tensor([model.spec.domain_index(name) for name in domains], device=device)
    return model.style_encoder(prepare_images(images, model.spec.img_size).to(device), numbers)


@torch.no_grad()
def seed_codes(model: StarGANv2, seeds: Sequence[int], domain: str) -> Tensor:
    """Style codes [N,style_dim] of a domain, one per seed: the same on every machine.

    Raises ValueError for an unknown domain.
    """
    device = next(model.mapping.parameters()).device
    z = seed_latents(seeds, model.spec.latent_dim).to(device)
    numbers = torch.full((len(z),), model.spec.domain_index(domain), device=device)
    return model.mapping(z, numbers)


def walk_codes(codes: Tensor, *, frames_per_step: int) -> Tensor:
    """Interpolate linearly between codes [K,style_dim] -> [(K - 1) * frames_per_step + 1,style_dim].

    Raises ValueError for fewer than two codes.
    """
    if len(codes) < 2:
        raise ValueError(f"got {len(codes)} style code, expected two or more to walk between")
    weights = torch.arange(frames_per_step, device=codes.device, dtype=codes.dtype) / frames_per_step
    steps = [first.lerp(second, weights[:, None]) for first, second in itertools.pairwise(codes)]
    return torch.cat([*steps, codes[-1:]])


@torch.no_grad()
def translate(
    model: StarGANv2, sources: Sequence[np.ndarray], code: Tensor, *, batch_size: int = 8
) -> Iterator[np.ndarray]:
    """Translate sources uint8 [H,W,3] to the style of one code [style_dim]; yields uint8 [S,S,3]."""
    device = next(model.G.parameters()).device
    for start in range(0, len(sources), batch_size):
        images = prepare_images(sources[start : start + batch_size], model.spec.img_size).to(device)
        translated = model.G(images, code.expand(len(images), -1))
        yield from to_uint8((translated + 1) / 2)
