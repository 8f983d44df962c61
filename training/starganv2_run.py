"""The parts of a StarGAN v2 run, from its configuration: data, networks, optimisers, the sample grids."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from configs.starganv2 import DomainData, StarGANv2Optimizer, StarGANv2Run
from ganmod.images import to_uint8
from ganmod.starganv2 import (
    Discriminator,
    Generator,
    MappingNetwork,
    StarGANv2,
    StarGANv2Spec,
    StyleEncoder,
)
from training.domain_images import DomainImages
from training.starganv2_step import Networks, SampleMaker

SMALL_BATCH = 8  # below it users of the published code report collapse
GRID_SOURCES = 6
GRID_STYLES = 6


def build_dataset(data: DomainData, img_size: int, seed: int) -> DomainImages:
    """The stream of training images of all domains."""
    if not data.path:
        raise ValueError(
            "no training images: give --data PATH, a folder or a zip with one sub-folder per domain"
        )
    return DomainImages(
        data.path,
        img_size=img_size,
        seed=seed,
        crop_prob=data.crop_prob,
        mirror=data.mirror,
        cache_mb=data.cache_mb,
    )


def build_spec(config: StarGANv2Run, domains: tuple[str, ...]) -> StarGANv2Spec:
    """The specification of the networks; plug-ins are imported first."""
    for plugin in config.plugins:
        importlib.import_module(plugin)
    return StarGANv2Spec(domains=domains, **config.model.model_dump())


def build_networks(spec: StarGANv2Spec) -> Networks:
    """The untrained networks."""
    return Networks(Generator(spec), MappingNetwork(spec), StyleEncoder(spec), Discriminator(spec))


def build_optimizers(
    networks: Networks, config: StarGANv2Optimizer
) -> tuple[torch.optim.Adam, torch.optim.Adam]:
    """Adam of G, mapping network (which has a learning rate of its own) and style encoder; Adam of D.

    A network without gradients is left alone, so that one optimiser serves both generator phases.
    """
    betas = (config.beta1, config.beta2)
    groups = [
        {
            "params": trained_parameters(network),
            "lr": config.mapping_lr if name == "mapping" else config.lr,
        }
        for name, network in networks.averaged().items()
    ]
    decay = config.weight_decay
    return (
        torch.optim.Adam(groups, betas=betas, weight_decay=decay, fused=True),
        torch.optim.Adam(networks.D.parameters(), lr=config.lr, betas=betas, weight_decay=decay, fused=True),
    )


def trained_parameters(network: nn.Module) -> list[nn.Parameter]:
    """Those that take a gradient: not the shortcuts that a generator with the high-pass filter leaves out."""
    return [p for p in network.parameters() if p.requires_grad]


def check_batch(config: StarGANv2Run, num_processes: int) -> None:
    """ValueError unless the batch divides over processes and passes; a warning for a small one."""
    batch, micro = config.schedule.batch_size, config.schedule.microbatch or 1
    share = num_processes * micro
    if batch % share:
        raise ValueError(
            f"batch_size {batch} is not a multiple of {num_processes} processes x {micro} per pass: "
            f"try {(batch // share + 1) * share}"
        )
    if batch < SMALL_BATCH:
        warnings.warn(
            f"batch_size {batch} is below {SMALL_BATCH}, with which StarGAN v2 was published and under which "
            "its training is known to collapse: schedule.microbatch saves memory instead",
            stacklevel=2,
        )


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


def _array(image: Tensor) -> Any:
    """uint8 [3,S,S] -> uint8 [S,S,3]."""
    return image.permute(1, 2, 0).numpy()
