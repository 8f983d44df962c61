"""The parts of a StarGAN v2 run, from its configuration: data, networks, optimisers."""

from __future__ import annotations

import warnings

import torch
from torch import nn

from configs.starganv2 import DomainData, StarGANv2Model, StarGANv2Optimizer
from ganmod.data.domain_images import DomainImages
from ganmod.data.identity import files_identity
from ganmod.modulation.registry import check_options_used
from ganmod.starganv2 import (
    Discriminator,
    Generator,
    MappingNetwork,
    StarGANv2Spec,
    StyleEncoder,
)
from training.run.lifecycle import check_batch_size
from training.starganv2.step import Networks

SMALL_BATCH = 8  # below it users of the published code report collapse


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


def run_identity(dataset: DomainImages) -> dict[str, str]:
    """Hashes of the images that paths of a configuration lead to, by key."""
    return {"data.path": files_identity(dataset.files, repr(dataset.names).encode(errors="surrogateescape"))}


def build_spec(model: StarGANv2Model, domains: tuple[str, ...]) -> StarGANv2Spec:
    """The specification of the networks; ValueError for options of a modulation that is not used."""
    check_options_used(model.modulation, model.modulation_options)
    return StarGANv2Spec.from_options(model, domains=domains)


def mask_notes(model: StarGANv2Model) -> list[str]:
    """What a run with the high-pass filter must be told; empty without the filter."""
    if model.w_hpf == 0:
        return []
    return [
        f"model.w_hpf {model.w_hpf:g} without face masks: the filtered features pass everywhere, where the "
        "published recipe passes those of the face that a landmark network marks. Figures are not comparable "
        "with published ones; model.w_hpf=0 has ordinary skip connections"
    ]


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


def check_batch(batch_size: int, world_size: int, microbatch: int | None) -> None:
    """ValueError unless the batch divides over processes and microbatches; a warning for a small one."""
    check_batch_size(batch_size, world_size, microbatch or 1)
    if batch_size < SMALL_BATCH:
        warnings.warn(
            f"batch_size {batch_size} is below {SMALL_BATCH}, with which StarGAN v2 was published and under "
            "which its training is known to collapse: schedule.microbatch saves memory instead",
            stacklevel=2,
        )
