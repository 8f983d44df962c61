"""Training of StarGAN v2 with any modulation: one flat loop, resumable to the bit."""

from __future__ import annotations

import copy
import functools
import math
from pathlib import Path

import torch

from configs.starganv2 import StarGANv2Run
from ganmod import distributed
from ganmod.data.seeding import granules_of_step
from ganmod.layers import half_precision
from ganmod.starganv2 import StarGANv2, save_starganv2
from training.run.ema import ema_decay, update_ema
from training.run.folder import BEST_FILE, MODEL_FILE
from training.run.lifecycle import (
    begin_run,
    end_run,
    open_run,
    report_run,
    save_run,
    start_process,
    step_batches,
)
from training.run.metric_hook import RunMetrics
from training.run.nonfinite import gradient_norm
from training.run.progress import RunProgress
from training.starganv2.build import (
    build_dataset,
    build_networks,
    build_optimizers,
    build_spec,
    check_batch,
    check_domains,
)
from training.starganv2.losses import diversity_weight
from training.starganv2.samples import SampleGrids, domain_sets, translations_by_index
from training.starganv2.step import FirstOrder, SampleMaker, discriminator_phase, generator_phase, part_of

GUIDANCE = {"latent": False, "reference": True}  # where a style comes from: name, from_reference
TERMS = ("D", "r1", "logits_real", "logits_fake", "adversarial", "style", "diversity", "cycle")
STATISTICS = tuple(f"{guidance}/{term}" for guidance in GUIDANCE for term in TERMS)


def train(
    config: StarGANv2Run, run_dir: str | Path, *, resume: bool = True, progress: bool | None = None
) -> Path:
    """Train until total_kimg or the time budget, write the run folder, return the path of the final model.

    Running it again with the same folder continues from the newest checkpoint; `progress` False hides the
    bars. Raises StoppedBySignal after SIGTERM or SIGINT, NonFiniteError when the losses blow up.
    """
    # Process, data, networks. Every process builds the same initial weights from the seed.
    place = start_process(config)
    rank, num_processes, device, dtype, memory_format = place
    schedule, runtime, loss = config.schedule, config.runtime, config.loss
    check_batch(config, num_processes)
    dataset = build_dataset(config.data, config.model.img_size, runtime.seed)
    half_dtype = torch.bfloat16 if runtime.precision == "bfloat16" else None
    networks = build_networks(build_spec(config, dataset.domains))
    for network in networks:
        place.put(network)
    averaged = StarGANv2(**{name: copy.deepcopy(net) for name, net in networks.averaged().items()})  # type: ignore[arg-type]
    for network in averaged:
        network.eval().requires_grad_(False)
    trained_buffers, averaged_buffers = (
        [buffer for network in group for buffer in network.buffers()] for group in (networks[:3], averaged)
    )
    trained, ema = (
        {f"{i}.{name}": p for i, network in enumerate(group) for name, p in network.named_parameters()}
        for group in (networks[:3], averaged)
    )
    g_optimizer, d_optimizer = build_optimizers(networks, config.optimizer)
    g_params, d_params = (
        [p for group in optimizer.param_groups for p in group["params"]]
        for optimizer in (g_optimizer, d_optimizer)
    )
    batch = schedule.batch_size
    share = batch // num_processes
    micro = schedule.microbatch or share
    first_order = FirstOrder.of(networks, compiled=runtime.compile)
    make_samples = SampleMaker(runtime.seed, config.model.latent_dim, device, dtype, memory_format)

    # Run folder and resume; a missing feature network fails here, not hours later.
    run = open_run(config, run_dir, place, statistics=STATISTICS, resume=resume)
    if run.found is not None:
        check_domains(run.found["domains"], dataset.domains)
        for name, network in networks._asdict().items():
            network.load_state_dict(run.found[name])
        for name, network in averaged._asdict().items():
            network.load_state_dict(run.found[f"{name}_ema"])
        g_optimizer.load_state_dict(run.found["g_optimizer"])
        d_optimizer.load_state_dict(run.found["d_optimizer"])
    metrics = RunMetrics(run, domain_sets(dataset), batch_size=micro, shown=progress)
    begin_run(run, resume=resume)
    at = RunProgress(
        schedule, place.device, batch=batch, found=run.found, shown=progress if rank == 0 else False
    )
    loader = step_batches(dataset, run, at)
    grids = SampleGrids(dataset, make_samples)

    with at:
        while True:
            # Save a snapshot, a checkpoint; measure; done?
            at.look_for_the_end()
            save = functools.partial(
                save_starganv2,
                averaged=averaged,
                trained=networks._asdict(),
                training={"nimg": at.nimg, "seconds": at.seconds},
            )
            if rank == 0 and at.due(schedule.snapshot_kimg):
                for name, rows in grids.render(averaged).items():
                    run.folder.write_grid(name, rows, nimg=at.nimg)
                save(run.folder.path / MODEL_FILE)
            if at.checkpoint_due():
                own = {
                    "domains": list(dataset.domains),
                    **{name: network.state_dict() for name, network in networks._asdict().items()},
                    **{f"{name}_ema": net.state_dict() for name, net in averaged._asdict().items()},
                    "g_optimizer": g_optimizer.state_dict(),
                    "d_optimizer": d_optimizer.state_dict(),
                }
                save_run(run, at, own | metrics.state_dict())
            if metrics.due(at):  # after the checkpoint: a run that is killed meanwhile measures again
                translations = translations_by_index(averaged, dataset, make_samples)
                if metrics.measure(run, at, translations) and rank == 0:
                    save(run.folder.path / BEST_FILE)
            if at.ended:
                break

            # This step's images and latents; this process's share of them.
            at.begin_step()
            nimg = at.nimg
            positions = granules_of_step(nimg, batch, 1, rank, num_processes)
            samples = make_samples(next(loader), positions)
            parts = [part_of(samples, slice(i, i + micro)) for i in range(0, share, micro)]
            diversity = diversity_weight(loss.diversity_weight, nimg, decay_kimg=loss.diversity_decay_kimg)
            observed = run.means.empty()

            # Discriminator: translations by latents, then by references; R1 in every step.
            networks.D.requires_grad_(True)
            for guidance, from_reference in GUIDANCE.items():
                d_optimizer.zero_grad(set_to_none=True)
                total = torch.zeros([], device=device, dtype=torch.float64)
                for part in parts:
                    with half_precision(device, half_dtype):
                        terms = discriminator_phase(
                            networks, first_order, part, from_reference=from_reference
                        )
                    losses = terms[0] + loss.r1_gamma / 2 * terms[1]
                    (losses.sum() / share).backward()
                    total += losses.detach().sum().double()
                    observed.add_each(named(guidance, TERMS[:4]), terms)
                distributed.average_gradients(d_params)
                named_total, kind = {f"{guidance}/D": total}, f"discriminator, {guidance}"
                if run.guard.finite(gradient_norm(d_params), named_total, nimg, kind=kind):
                    d_optimizer.step()

            # Generator with mapping network and style encoder by latents, then alone by references.
            networks.D.requires_grad_(False)
            for guidance, from_reference in GUIDANCE.items():
                networks.style_encoder.requires_grad_(not from_reference)
                g_optimizer.zero_grad(set_to_none=True)
                total = torch.zeros([], device=device, dtype=torch.float64)
                for part in parts:
                    with half_precision(device, half_dtype):
                        g_terms = generator_phase(networks, first_order, part, from_reference=from_reference)
                    losses = g_terms.total(
                        style=loss.style_weight, diversity=diversity, cycle=loss.cycle_weight
                    )
                    (losses.sum() / share).backward()
                    total += losses.detach().sum().double()
                    observed.add_each(named(guidance, TERMS[4:]), g_terms)
                distributed.average_gradients(g_params)
                named_total, kind = {f"{guidance}/G": total}, f"generator, {guidance}"
                if run.guard.finite(gradient_norm(g_params), named_total, nimg, kind=kind):
                    g_optimizer.step()
            networks.style_encoder.requires_grad_(True)

            # Averages of the three networks that translate.
            decay = ema_decay(
                batch, nimg, half_life_kimg=schedule.ema_half_life_kimg, rampup=schedule.ema_rampup
            )
            update_ema(ema, trained, decay)
            for average, buffer in zip(averaged_buffers, trained_buffers, strict=True):
                average.copy_(buffer)
            run.means.add_all(observed)
            at.end_step()

            # Report.
            if at.due(schedule.log_kimg):
                stats = report_run(run, at, {"diversity_weight": diversity})
                at.show(G=stats.get("latent/adversarial", math.nan), D=stats.get("latent/D", math.nan))

    return end_run(run, at)


def named(guidance: str, terms: tuple[str, ...]) -> list[str]:
    """Their names among STATISTICS."""
    return [f"{guidance}/{term}" for term in terms]
