"""The parts of a StyleGAN2 run, from its configuration: data, specifications, and what follows the size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from configs.stylegan2 import (
    Augmentation,
    GanData,
    ObjectiveName,
    ResolvedLoss,
    ResolvedModel,
    ResolvedOptimizer,
    ResolvedStyleGAN2,
    StyleGAN2Loss,
    StyleGAN2Run,
)
from ganmod.data.identity import files_identity
from ganmod.data.image_dataset import ImageDataset
from ganmod.io.model_file import read_model_file
from ganmod.machine import bf16_instructions
from ganmod.modulation.registry import check_options_used
from ganmod.stylegan2 import Discriminator, DiscriminatorSpec, Generator, GeneratorSpec
from ganmod.stylegan2.projected_discriminator import ProjectedDiscriminator, ProjectedDiscriminatorSpec
from ganmod.stylegan2.spec import HalfDtype
from ganmod.stylegan2.stylegan2_file import KIND
from training.augment.ada_controller import AdaController
from training.augment.ada_draw import augment_pipe
from training.augment.diffaugment import parse_policy
from training.run.lifecycle import check_batch_size
from training.stylegan2.automatic import automatic_batch, automatic_half_life_kimg, automatic_r1_gamma
from training.stylegan2.objective import OBJECTIVES

AnyDiscriminator = Discriminator | ProjectedDiscriminator


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


def run_identity(dataset: ImageDataset) -> dict[str, str]:
    """Hashes of the images that paths of a configuration lead to, by key."""
    labels = b"" if dataset.labels is None else dataset.labels.values.tobytes()
    return {"data.path": files_identity(dataset.files, labels)}


def resolve(
    config: StyleGAN2Run, img_size: tuple[int, int], world_size: int, device: torch.device
) -> ResolvedStyleGAN2:
    """Fill in every None that follows from the image size, as stylegan2-ada's `auto` does, and the precision.

    Raises ValueError for a batch that does not divide into processes, passes and groups of the minibatch
    deviation, with one that does.

    Args:
        config: the run as configured.
        img_size: height and width in pixels.
        world_size: number of processes.
        device: which decides what precision "auto" is.
    """
    check_augmentation(config.augmentation)
    model, loss, optimizer, schedule = config.model, config.loss, config.optimizer, config.schedule
    resolution, n = max(img_size), world_size
    batch_size = schedule.batch_size or automatic_batch(resolution, n)
    group_size = model.mbstd_group_size or max(min(batch_size // n, 4), 1)
    projected = model.discriminator == "projected"
    lr = 0.002 if resolution >= 1024 or projected else 0.0025
    augmentation, ema_rampup = config.augmentation, schedule.ema_rampup
    if config.transfer is not None:  # as the published code does, unless the configuration says otherwise
        if "ada_kimg" not in augmentation.model_fields_set:
            augmentation = augmentation.model_copy(update={"ada_kimg": 100.0})
        if "ema_rampup" not in schedule.model_fields_set:
            ema_rampup = None
    microbatch = schedule.microbatch or group_size
    if microbatch % group_size:
        raise ValueError(
            f"schedule.microbatch {microbatch} is not a multiple of model.mbstd_group_size {group_size}: try "
            f"{-(-microbatch // group_size) * group_size}, or a group size of {microbatch}"
        )
    check_batch_size(batch_size, n, microbatch, hint=f" (groups of {group_size} for the minibatch deviation)")
    filled_in = {
        "model": asdict(model)
        | {
            "mbstd_group_size": group_size,
            "channel_base": model.channel_base or (32768 if resolution >= 512 else 16384),
        },
        "loss": loss.model_dump()
        | resolve_loss(loss, config.objective, resolution=resolution, batch_size=batch_size),
        "augmentation": augmentation.model_dump(),
        "optimizer": optimizer.model_dump() | {"g_lr": optimizer.g_lr or lr, "d_lr": optimizer.d_lr or lr},
        "schedule": schedule.model_dump()
        | {
            "batch_size": batch_size,
            "ema_half_life_kimg": schedule.ema_half_life_kimg or automatic_half_life_kimg(batch_size),
            "ema_rampup": ema_rampup,
        },
        "runtime": config.runtime.model_dump()
        | {"precision": resolve_precision(config.runtime.precision, device)},
    }
    return ResolvedStyleGAN2.model_validate(config.model_dump() | filled_in)


def resolve_loss(
    loss: StyleGAN2Loss, objective: ObjectiveName, *, resolution: int, batch_size: int
) -> dict[str, float | str]:
    """What an objective fills in of its section: the weights of its regularisation.

    The weight of R1 under r3 follows the published ones, .05 at 32 pixels, 2 at 64 and 150 at 256 (Huang et
    al. 2024), by the fourth power of the resolution. ValueError for a regulariser that it does not have.
    """
    if OBJECTIVES[objective].is_lazy:
        default = automatic_r1_gamma(resolution, batch_size)
        return {"objective": objective, "r1_gamma": default if loss.r1_gamma is None else loss.r1_gamma}
    absent = ["pl_weight"] if objective == "r3" else ["pl_weight", "r1_gamma"]
    for name in absent:
        if name in loss.model_fields_set and getattr(loss, name):
            raise ValueError(
                f"loss.{name} is {getattr(loss, name):g}, but the objective {objective} is without it: "
                "leave it out, or take --objective nonsaturating"
            )
    default = 0.05 * (resolution / 32) ** 4 if objective == "r3" else 0.0
    mixing = loss.style_mixing_prob if "style_mixing_prob" in loss.model_fields_set else 0.0
    return {
        "objective": objective,
        "r1_gamma": default if loss.r1_gamma is None else loss.r1_gamma,
        "pl_weight": 0.0,
        "style_mixing_prob": mixing,
    }


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
    model: ResolvedModel, img_size: tuple[int, int], c_dim: int, *, precision: str, freeze_d: int = 0
) -> tuple[Generator, AnyDiscriminator]:
    """Untrained G and D.

    Raises ValueError where all layers of D would be frozen, and for options of a modulation that is not used.

    Args:
        model: the resolved section.
        img_size: height and width in pixels.
        c_dim: length of a label, 0 for none.
        precision: of the finest `model.num_half_res` resolutions.
        freeze_d: layers of D, from the image on, that are not trained.
    """
    check_options_used(model.modulation, model.modulation_options)
    half = precision in ("float16", "bfloat16")
    half_dtype: HalfDtype = "float16" if precision == "float16" else "bfloat16"
    num_half_res = model.num_half_res if half else 0
    g_spec = GeneratorSpec.from_options(
        model,
        architecture=model.generator,
        channel_max=model.g_channel_max or model.channel_max,
        img_resolution=img_size,
        c_dim=c_dim,
        num_half_res=num_half_res,
        half_dtype=half_dtype,
    )
    G = Generator(g_spec)
    D = build_discriminator(
        model, img_resolution=img_size, c_dim=c_dim, num_half_res=num_half_res, half_dtype=half_dtype
    )
    if isinstance(D, ProjectedDiscriminator):
        if freeze_d:
            raise ValueError(
                f"freeze_d is {freeze_d}, but the first layers of a projected discriminator are never "
                "trained: leave it out"
            )
        return G, D
    if freeze_d >= len(D.layers()):
        raise ValueError(
            f"freeze_d is {freeze_d}, but D has {len(D.layers())} layers, of which one at least must "
            f"be trained: give 0 to {len(D.layers()) - 1}"
        )
    for layer in D.layers()[:freeze_d]:
        layer.requires_grad_(False)
    return G, D


def build_discriminator(
    model: ResolvedModel,
    *,
    img_resolution: tuple[int, int],
    c_dim: int,
    num_half_res: int,
    half_dtype: HalfDtype,
) -> AnyDiscriminator:
    """The untrained discriminator of a resolved section."""
    if model.discriminator == "projected":
        return ProjectedDiscriminator(
            ProjectedDiscriminatorSpec.from_options(
                model,
                img_resolution=img_resolution,
                c_dim=c_dim,
                half_dtype=half_dtype if num_half_res else None,
            )
        )
    return Discriminator(
        DiscriminatorSpec.from_options(
            model,
            architecture=model.discriminator,
            img_resolution=img_resolution,
            c_dim=c_dim,
            num_half_res=num_half_res,
            half_dtype=half_dtype,
        )
    )


def build_optimizers(
    G: Generator, D: AnyDiscriminator, optimizer: ResolvedOptimizer, loss: ResolvedLoss
) -> tuple[torch.optim.Adam, torch.optim.Adam]:
    """Adam of G and of D over the parameters that require gradients, corrected for lazy regularisation.

    A regulariser that has a step of its own every `interval` steps scales learning rate and betas
    (StyleGAN2, appendix B). A projected discriminator's spectral norms follow each step of D's.
    """

    def lazy_adam(network: nn.Module, lr: float, interval: int) -> torch.optim.Adam:
        ratio = interval / (interval + 1) if OBJECTIVES[loss.objective].is_lazy else 1.0
        return torch.optim.Adam(
            trained_parameters(network),
            lr=lr * ratio,
            betas=(optimizer.beta1**ratio, optimizer.beta2**ratio),
            eps=1e-8,
            fused=True,
        )

    g_optimizer = lazy_adam(G, optimizer.g_lr, loss.pl_interval)
    d_optimizer = lazy_adam(D, optimizer.d_lr, loss.r1_interval)
    if isinstance(D, ProjectedDiscriminator):
        d_optimizer.register_step_post_hook(lambda *_: D.update_norms())
    return g_optimizer, d_optimizer


def trained_parameters(network: nn.Module) -> list[nn.Parameter]:
    """Those that require a gradient."""
    return [p for p in network.parameters() if p.requires_grad]


def build_ada(config: Augmentation, *, batch_size: int, device: torch.device) -> AdaController:
    """The controller of the augmentation's strength, which stays at `p` unless the kind is "ada"."""
    adaptive = config.kind == "ada"
    return AdaController(
        batch_size=batch_size,
        p=config.p,
        p_max=config.ada_p_max if adaptive else 1.0,
        target=config.ada_target if adaptive else None,
        interval=config.ada_interval,
        ada_kimg=config.ada_kimg,
        device=device,
    )


class Transfer(NamedTuple):
    """By network: tensors that the file did not give, and tensors of the file that were not used."""

    missing: dict[str, list[str]]
    unused: dict[str, list[str]]

    def summary(self) -> str:
        """The numbers of tensors, for the log."""
        parts = []
        lists = {"start untrained": self.missing, "of the file are not used": self.unused}
        for title, by_network in lists.items():
            counts = ", ".join(f"{network} {len(names)}" for network, names in by_network.items() if names)
            parts.append(f"tensors that {title}: {counts or 'none'}")
        return "; ".join(parts)


@torch.no_grad()
def transfer_weights(path: str | Path, networks: Mapping[str, nn.Module]) -> Transfer:
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
        source = {k.removeprefix(prefix): v for k, v in file.tensors.items() if k.startswith(prefix)}
        target = network.state_dict(keep_vars=True)
        fitting = {k for k, v in source.items() if k in target and target[k].shape == v.shape}
        for key in fitting:
            if not source[key].is_floating_point():
                raise ValueError(f"{path}: {prefix}{key} is {source[key].dtype}, expected real numbers")
        mapping = {k for k in source.keys() | target.keys() if k.startswith("mapping.")}
        if not mapping <= fitting:
            fitting -= mapping
        for key in fitting:
            target[key].copy_(source[key])
        taken += len(fitting)
        result.missing[name] = sorted(target.keys() - fitting)
        result.unused[name] = sorted(source.keys() - fitting)
    if not taken:
        raise ValueError(f"{path}: no tensor has a name and shape of this model; check the resolution")
    return result
