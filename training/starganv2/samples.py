"""What a StarGAN v2 run shows and measures: sample grids, translations by index, the domains' real images."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ganmod.data.domain_images import DomainImages
from ganmod.io.images import to_uint8
from ganmod.starganv2 import Generator, StarGANv2
from metrics.distances.feature_statistics import to_saved_uint8
from training.run.training_metric import Generate, RealImages
from training.starganv2.step import SampleMaker

GRID_SOURCES = 6
GRID_STYLES = 6


class SampleGrids:
    """The same sources, references and latents in every snapshot: images of all domains in turn."""

    def __init__(self, dataset: DomainImages, make: SampleMaker) -> None:
        count = len(dataset.domains)
        self.domains = torch.arange(GRID_SOURCES, device=make.device) % count
        self.targets = torch.arange(GRID_STYLES, device=make.device) % count
        self.sources = [dataset.image(i % count, i // count) for i in range(GRID_SOURCES)]
        # From the end of a domain, so that a source is no reference of its own where there are enough.
        self.references = [dataset.image(i % count, -1 - i // count) for i in range(GRID_STYLES)]
        self.images, self.reference_images = (
            torch.stack(images).to(make.device, make.dtype) / 127.5 - 1
            for images in (self.sources, self.references)
        )
        self.z = make.latents("grid", range(GRID_STYLES))

    @torch.no_grad()
    def render(self, averaged: StarGANv2) -> dict[str, list[list[Any]]]:
        """Rows of uint8 images by name: sources above; then a row for each reference, or each latent."""
        header = [_array(x) for x in self.sources]
        by_reference = averaged.style_encoder(self.reference_images, self.targets)
        rows = {"references": [[None, *header]], "latents": [header]}
        for style, reference in zip(by_reference, self.references, strict=True):
            rows["references"].append([_array(reference), *self._row(averaged.G, style)])
        for style in averaged.mapping(self.z, self.targets):
            rows["latents"].append(self._row(averaged.G, style))
        return rows

    def _row(self, G: Generator, style: Tensor) -> list[Any]:
        images = G(self.images, style.expand(len(self.images), -1))
        return list(to_uint8((images.float().cpu() + 1) / 2))


def domain_sets(dataset: DomainImages) -> dict[str, RealImages]:
    """Every domain's real images by its name: whole, resized, not flipped."""

    def load(domain: int, indices: Tensor) -> Sequence[Tensor]:
        return [dataset.image(domain, i) for i in indices.tolist()]

    def content_hash(name: str) -> str:
        return f"{dataset.files.fingerprint()} domain {name}, {dataset.img_size} px bilinear"

    return {
        name: RealImages(
            functools.partial(load, number), dataset.counts[name], functools.partial(content_hash, name)
        )
        for number, name in enumerate(dataset.domains)
    }


def translations_by_index(
    averaged: StarGANv2, dataset: DomainImages, make: SampleMaker
) -> dict[str, Generate]:
    """By target domain: indices [N] -> uint8 [N,3,S,S], translations in styles from latents.

    The sources are images of the other domains in turn. Image i depends on (seed, i) alone.
    """

    def generate(target: int, indices: Tensor) -> Tensor:
        numbers = indices.tolist()
        others = [domain for domain in range(len(dataset.domains)) if domain != target]
        sources = [dataset.image(others[i % len(others)], i // len(others)) for i in numbers]
        images = torch.stack(sources).to(make.device, make.dtype) / 127.5 - 1
        z = make.latents("metric", numbers)
        targets = torch.full((len(numbers),), target, device=make.device)
        return to_saved_uint8(averaged.G(images, averaged.mapping(z, targets)))

    return {name: functools.partial(generate, number) for number, name in enumerate(dataset.domains)}


def _array(image: Tensor) -> Any:
    """uint8 [3,S,S] -> uint8 [S,S,3]."""
    return image.permute(1, 2, 0).numpy()
