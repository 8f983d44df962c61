"""StarGAN v2 on the inputs' faces from them to the files: model, figures, a sheet of translations."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from configs.schema import load_starganv2_config
from configs.starganv2 import StarGANv2Run
from ganmod.data.domain_images import DomainImages
from ganmod.io.images import make_grid
from ganmod.layers import half_precision
from ganmod.machine import bf16_instructions
from ganmod.starganv2 import StarGANv2, save_starganv2
from metrics.image_sets.features import measure_generator, measure_set
from released.faces import FaceStore
from released.gan_job import GanParts, choose_form, distances, run_gan
from released.inputs import FACES, read_inputs
from released.jobs import GanJob
from released.timed_loop import FlatGradients, JobOptions, Trained, captured, train_until
from training.ema import copy_buffers, ema_decay, update_ema
from training.starganv2.build import build_networks, build_optimizers, build_spec, check_batch
from training.starganv2.losses import diversity_weight
from training.starganv2.samples import SampleGrids, domain_sets, translations_by_index
from training.starganv2.step import (
    FirstOrder,
    Networks,
    SampleMaker,
    Samples,
    discriminator_phase,
    generator_phase,
)

BATCH = 64  # of the evaluation
TERMS = ("D", "r1", "adversarial", "style", "diversity", "cycle")
LOSSES = tuple(f"{guidance}/{term}" for guidance in ("latent", "reference") for term in TERMS)


def run_starganv2(
    job: GanJob, folder: Path, out: Path, options: JobOptions
) -> tuple[StarGANv2, dict[str, Any]]:
    """As `run_gan` -> averaged networks, figures.

    In bfloat16 on GPUs that have it, unless the options say otherwise. Raises ValueError as `run_job`.
    """
    inputs, device = read_inputs(folder), options.device
    is_fast = device.type == "cuda" and bf16_instructions(device)
    precision = {"runtime.precision": "bfloat16"} if is_fast else {}
    config = load_starganv2_config(job.preset, {**precision, **job.changes, **options.changes})
    check_batch(config.schedule.batch_size, 1, None)
    faces = FaceStore.read(folder, config.model.img_size, device)
    if len(faces.names) < 2:
        raise ValueError(f"{folder / FACES} holds one class, expected two or more folders of faces")
    dataset = DomainImages(folder / FACES, img_size=faces.size, seed=config.runtime.seed)
    layout = torch.channels_last if config.runtime.channels_last else torch.contiguous_format
    make = SampleMaker(config.runtime.seed, config.model.latent_dim, device, torch.float32, layout)
    parts = GanParts(
        config,
        inputs,
        faces,
        build=lambda: build_networks(build_spec(config.model, faces.names))._asdict(),
        stored=StarGANv2._fields,
        fit=lambda networks: fit_starganv2(config, Networks(**networks), faces, options),
        save=lambda path, averaged, facts: save_starganv2(path, averaged, training=facts, half=True),
        sheet=lambda averaged: draw_sheet(averaged, dataset, make),
        evaluate=lambda averaged, space: _evaluate(averaged, dataset, make, config, space),
    )
    return run_gan(job, folder, out, options, parts)


def fit_starganv2(
    config: StarGANv2Run,
    networks: Networks,
    faces: FaceStore,
    options: JobOptions,
) -> tuple[StarGANv2, Trained, dict[str, Any]]:
    """Train the networks, which lie on the faces' device -> (averaged ones, what it took, see below).

    A step is that of `training.train_starganv2`: D by latents, D by references, G with mapping network and
    style encoder by latents, G alone by references; all four with the same images; on CUDA, each of them is
    one CUDA graph where `options` say so and it can be captured. The last result: {"graph", "forms_ms"}, the
    latter as of `choose_form`.
    """
    device, batch, loss = faces.images.device, config.schedule.batch_size, config.loss
    half_dtype = torch.bfloat16 if config.runtime.precision == "bfloat16" else None
    first_order = FirstOrder.of(networks, compiled=False)
    averaged = StarGANv2(**{name: copy.deepcopy(net) for name, net in networks.averaged().items()})  # type: ignore[arg-type]
    for network in averaged:
        network.eval().requires_grad_(False)
    ema, parameters = (
        {f"{i}.{name}": p for i, network in enumerate(group) for name, p in network.named_parameters()}
        for group in (averaged, networks.averaged().values())
    )
    g_optimizer, d_optimizer = build_optimizers(networks, config.optimizer)
    # One optimizer for each network: in the references' phase G alone takes a step.
    betas, decay = (config.optimizer.beta1, config.optimizer.beta2), config.optimizer.weight_decay
    g_optimizers = [
        torch.optim.Adam(group["params"], lr=group["lr"], betas=betas, weight_decay=decay, fused=True)
        for group in g_optimizer.param_groups
    ]
    g_params, d_params = (
        [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
        for optimizers in (g_optimizers, [d_optimizer])
    )
    g_gradients, d_gradients = FlatGradients(g_params), FlatGradients(d_params)
    weight = torch.tensor(loss.diversity_weight, device=device)
    samples = _draw_samples(config, faces)

    def discriminator(from_reference: bool) -> Tensor:
        """Means of D and r1 [2]; the gradients are set."""
        networks.D.requires_grad_(True)
        d_gradients.flat.zero_()
        with half_precision(device, half_dtype):
            terms = discriminator_phase(networks, first_order, samples, from_reference=from_reference)
        (terms.D + loss.r1_gamma / 2 * terms.r1).mean().backward()
        return torch.stack([terms.D.detach().mean(), terms.r1.detach().mean()]).float()

    def generator(from_reference: bool) -> Tensor:
        """Means of the four terms [4]; the gradients are set."""
        networks.D.requires_grad_(False)
        networks.style_encoder.requires_grad_(not from_reference)
        g_gradients.flat.zero_()
        with half_precision(device, half_dtype):
            terms = generator_phase(networks, first_order, samples, from_reference=from_reference)
        total = terms.adversarial + loss.style_weight * terms.style + loss.cycle_weight * terms.cycle
        (total - weight * terms.diversity).mean().backward()
        return torch.stack([term.detach().mean() for term in terms]).float()

    phases: dict[tuple[str, bool], Callable[[], Tensor]] = {
        ("D", False): lambda: discriminator(False),
        ("D", True): lambda: discriminator(True),
        ("G", False): lambda: generator(False),
        ("G", True): lambda: generator(True),
    }
    on_gpu = device.type == "cuda"
    forms = choose_form([networks.G], phases["G", False], device) if on_gpu else {}
    if forms:
        options.log(f"AdaConv's forms, ms of a generator phase: {forms}")
    is_captured = False
    if on_gpu and options.graph:
        graphs = {key: captured(phase, options.log) for key, phase in phases.items()}
        is_captured = None not in graphs.values()
        phases = {key: graphs[key] or phase for key, phase in phases.items()}

    def step(nimg: int) -> tuple[Tensor, Tensor]:
        _copy_samples(samples, _draw_samples(config, faces))
        weight.fill_(diversity_weight(loss.diversity_weight, nimg, decay_kimg=loss.diversity_decay_kimg))
        found: dict[tuple[str, bool], Tensor] = {}
        ok = torch.ones([], device=device, dtype=torch.bool)
        for (network, from_reference), phase in phases.items():
            found[network, from_reference] = phase()
            ok = ok & (d_gradients if network == "D" else g_gradients).clip_(None)
            optimizers = [d_optimizer] if network == "D" else g_optimizers[: 1 if from_reference else None]
            for optimizer in optimizers:
                optimizer.step()
        half_life, rampup = config.schedule.ema_half_life_kimg, config.schedule.ema_rampup
        update_ema(ema, parameters, ema_decay(batch, nimg, half_life_kimg=half_life, rampup=rampup))
        for average, network_ in zip(averaged, networks.averaged().values(), strict=True):
            copy_buffers(average, network_)
        return torch.cat([found[n, r] for r in (False, True) for n in ("D", "G")]), ok

    limits: dict[str, Any] = {"deadline": options.deadline, "steps": options.steps, "log": options.log}
    trained = train_until(step, LOSSES, batch_size=batch, device=device, **limits)
    for p in (*g_params, *d_params):
        p.grad = None
    networks.style_encoder.requires_grad_(True)
    return averaged, trained, {"graph": is_captured, "forms_ms": forms}


@torch.no_grad()
def draw_sheet(averaged: StarGANv2, dataset: DomainImages, make: SampleMaker) -> np.ndarray:
    """Sources above; a row for each of six references, with it on the left, then for each of six latents."""
    grids = SampleGrids(dataset, make).render(averaged)
    return make_grid([*grids["references"], *([None, *row] for row in grids["latents"][1:])], gap=2)


def _draw_samples(config: StarGANv2Run, faces: FaceStore) -> Samples:
    """Images of random domains with two references of random target domains, two latents each."""
    num, device = config.schedule.batch_size, faces.images.device
    layout = torch.channels_last if config.runtime.channels_last else torch.contiguous_format
    domains, targets = faces.draw_classes(num), faces.draw_classes(num)
    images, first, second = (
        faces.draw_of(classes, crop_prob=config.data.crop_prob, mirror=config.data.mirror).contiguous(
            memory_format=layout
        )
        for classes in (domains, targets, targets)
    )
    z1, z2 = torch.randn(2, num, config.model.latent_dim, device=device)
    return Samples(images, domains, (first, second), (z1, z2), targets)


def _copy_samples(target: Samples, source: Samples) -> None:
    """In place: the phases, which may be CUDA graphs, read the same tensors in every step."""
    pairs = [
        (target.images, source.images),
        (target.domains, source.domains),
        (target.targets, source.targets),
        *zip(target.references, source.references, strict=True),
        *zip(target.latents, source.latents, strict=True),
    ]
    for old, new in pairs:
        old.copy_(new)


def _evaluate(
    averaged: StarGANv2, dataset: DomainImages, make: SampleMaker, config: StarGANv2Run, space: Any
) -> dict[str, Any]:
    """Distances of translations by latents into each domain to its images, and their mean.

    `config.metric.num_images` samples in all, as many for each domain.
    """
    begin = time.monotonic()
    num = max(config.metric.num_images // len(dataset.domains), 2)
    generate = translations_by_index(averaged, dataset, make)
    found = {}
    for name, real in domain_sets(dataset).items():
        fakes = measure_generator(generate[name], num, space, keep=True, batch_size=BATCH)
        reals = measure_set(real.load, real.num_images, space, keep=True, batch_size=BATCH)
        found[name] = distances(fakes, reals, space)
    mean = {
        metric: float(f"{sum(values[metric] for values in found.values()) / len(found):.5g}")
        for metric in next(iter(found.values()))
    }
    return {
        "distances": {"mean": mean, **found},
        "features": space.name,
        "fakes_per_domain": num,
        "seconds": round(time.monotonic() - begin, 1),
    }
