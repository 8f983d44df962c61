"""The parts of a StyleGAN2 run, from its configuration: data, specifications, and what follows the size."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from configs.stylegan2 import Augmentation, GanData, StyleGAN2Run
from ganmod.data.image_dataset import ImageDataset
from ganmod.io.model_file import read_model_file
from ganmod.machine import bf16_instructions
from ganmod.stylegan2 import Discriminator, DiscriminatorSpec, Generator, GeneratorSpec
from ganmod.stylegan2.model_io import KIND
from training.augment.ada_draw import augment_pipe
from training.augment.diffaugment import parse_policy
from training.run.lifecycle import check_share


def build_dataset(data: GanData, seed: int) -> ImageDataset:
    """The stream of training images with their labels."""
    if not data.path:
        raise ValueError("no training images: give --data PATH, a folder or a zip from `ganmod data pack`")
    return ImageDataset(
        data.path,
        resolution=data.resolution,
        labels="required" if data.conditional else "none",
        seed=seed,
        mirror=data.mirror,
        cache_mb=data.cache_mb,
    )


def resolve(
    config: StyleGAN2Run, img_size: tuple[int, int], num_processes: int, device: torch.device
) -> StyleGAN2Run:
    """The configuration with every None filled in from the image size, as stylegan2-ada's `auto` does, and
    the precision from the device.

    Raises ValueError for a batch that does not divide into processes, passes and granules (the groups of the
    minibatch deviation), with one that does.
    """
    check_augmentation(config.augmentation)
    resolution = max(img_size)
    n = num_processes
    batch = config.schedule.batch_size or max(min(n * min(4096 // resolution, 32), 64), n)
    granule = config.model.mbstd_group_size or max(min(batch // n, 4), 1)
    lr = 0.002 if resolution >= 1024 else 0.0025
    gamma = config.loss.r1_gamma
    updates: dict[str, dict[str, Any]] = {
        "model": {
            "mbstd_group_size": granule,
            "channel_base": config.model.channel_base or (32768 if resolution >= 512 else 16384),
        },
        "loss": {"r1_gamma": 0.0002 * resolution**2 / batch if gamma is None else gamma},
        "optimizer": {"g_lr": config.optimizer.g_lr or lr, "d_lr": config.optimizer.d_lr or lr},
        "schedule": {
            "batch_size": batch,
            "ema_half_life_kimg": config.schedule.ema_half_life_kimg or batch * 10 / 32,
        },
        "runtime": {"precision": resolve_precision(config.runtime.precision, device)},
    }
    if config.transfer is not None:  # as the published code does, unless the configuration says otherwise
        if "ada_kimg" not in config.augmentation.model_fields_set:
            updates["augmentation"] = {"ada_kimg": 100.0}
        if "ema_rampup" not in config.schedule.model_fields_set:
            updates["schedule"]["ema_rampup"] = None
    resolved = config.model_copy(
        update={name: getattr(config, name).model_copy(update=values) for name, values in updates.items()}
    )
    micro = config.schedule.microbatch or granule
    if micro % granule:
        raise ValueError(
            f"schedule.microbatch {micro} is not a multiple of model.mbstd_group_size {granule}: try "
            f"{-(-micro // granule) * granule}, or a group size of {micro}"
        )
    check_share(batch, n, micro, hint=f" (groups of {granule} for the minibatch deviation)")
    return resolved


def check_augmentation(config: Augmentation) -> None:
    """ValueError for an unknown pipe or policy, and for a fixed strength of zero."""
    if config.kind in ("ada", "fixed"):
        augment_pipe(config.pipe)
    if config.kind == "diffaugment":
        parse_policy(config.diffaugment_policy)
    if config.kind == "fixed" and config.p == 0:
        raise ValueError(
            "augmentation.kind is fixed and augmentation.p is 0, which augments nothing: give a strength, "
            "such as --set augmentation.p=0.2"
        )


def resolve_precision(precision: str, device: torch.device) -> str:
    """What "auto" stands for on this device; any other as it is."""
    if precision != "auto":
        return precision
    if bf16_instructions(device):
        return "bfloat16"
    return "float16" if device.type == "cuda" else "float32"


def build_networks(
    config: StyleGAN2Run, img_size: tuple[int, int], c_dim: int
) -> tuple[Generator, Discriminator]:
    """Untrained G and D of a resolved configuration."""
    model, precision = config.model, config.runtime.precision
    half = precision in ("float16", "bfloat16")
    common = {
        "img_resolution": img_size,
        "c_dim": c_dim,
        "start_size": model.start_size,
        "channel_base": model.channel_base,
        "channel_max": model.channel_max,
        "conv_clamp": model.conv_clamp,
        "num_half_res": model.num_half_res if half else 0,
        "half_dtype": precision if half else "bfloat16",
    }
    g_spec = GeneratorSpec(
        **common | {"channel_max": model.g_channel_max or model.channel_max},  # type: ignore[arg-type]
        architecture=model.generator,
        z_dim=model.z_dim,
        w_dim=model.w_dim,
        mapping_layers=model.mapping_layers,
        modulation=model.modulation,
        modulation_options=model.modulation_options,
        style_lift=model.style_lift,
        descriptor_dim=model.descriptor_dim,
        descriptor_size=model.descriptor_size,
        modulate_after_upsampling=model.modulate_after_upsampling,
    )
    d_spec = DiscriminatorSpec(
        **common,  # type: ignore[arg-type]
        architecture=model.discriminator,
        mbstd_group_size=model.mbstd_group_size or 4,
    )
    G, D = Generator(g_spec), Discriminator(d_spec)
    if config.freeze_d >= len(D.layers()):
        raise ValueError(
            f"freeze_d is {config.freeze_d}, but D has {len(D.layers())} layers, of which one at least must "
            f"be trained: give 0 to {len(D.layers()) - 1}"
        )
    return G, D


class Transfer(NamedTuple):
    """By network: names that the file did not give, and names of the file that had no place."""

    anew: dict[str, list[str]]
    unused: dict[str, list[str]]

    def summary(self) -> str:
        """The numbers of tensors, for the log."""
        parts = []
        for what, names in (("start anew", self.anew), ("of the file are not used", self.unused)):
            counts = ", ".join(f"{network} {len(found)}" for network, found in names.items() if found)
            parts.append(f"tensors that {what}: {counts or 'none'}")
        return "; ".join(parts)


@torch.no_grad()
def transfer_weights(path: str | Path, networks: dict[str, nn.Module]) -> Transfer:
    """Copy what fits from a StyleGAN2 model file into {"G": ..., "D": ..., "G_ema": ...}.

    Tensors of the same name and shape are taken, so that a model with another modulation gives its static
    weights; a mapping network only as a whole, since half of one maps to nothing known. Raises ValueError
    when nothing fits.
    """
    file = read_model_file(Path(path), expect_kind=KIND)
    result = Transfer({}, {})
    taken = 0
    for name, network in networks.items():
        prefix = f"{name}."
        if name != "D" and not any(key.startswith(prefix) for key in file.tensors):
            prefix = "G_ema."
        given = {k.removeprefix(prefix): v for k, v in file.tensors.items() if k.startswith(prefix)}
        own = network.state_dict(keep_vars=True)
        fitting = {k for k, v in given.items() if k in own and own[k].shape == v.shape}
        mapping = {k for k in given.keys() | own.keys() if k.startswith("mapping.")}
        if not mapping <= fitting:
            fitting -= mapping
        for key in fitting:
            own[key].copy_(given[key])
        taken += len(fitting)
        result.anew[name] = sorted(own.keys() - fitting)
        result.unused[name] = sorted(given.keys() - fitting)
    if not taken:
        raise ValueError(f"{path}: no tensor has a name and shape of this model; check the resolution")
    return result
