"""Training of StarGAN v2 with any modulation: one flat loop, resumable to the bit."""

from __future__ import annotations

import contextlib
import copy
import functools
import math
from pathlib import Path
from typing import Any

import torch

from configs.starganv2 import StarGANv2Run
from ganmod.data.seeding import groups_of_step
from ganmod.distributed import average_gradients
from ganmod.layers import half_precision
from ganmod.starganv2 import StarGANv2, save_starganv2
from training.ema import copy_buffers, ema_decay, update_ema
from training.run import lifecycle
from training.run.checkpoint import restoring
from training.run.folder import MODEL_FILE
from training.run.metric_hook import RunMetrics
from training.run.nonfinite import gradient_norm
from training.starganv2.build import (
    build_dataset,
    build_networks,
    build_optimizers,
    build_spec,
    check_batch,
    mask_notes,
    run_identity,
)
from training.starganv2.losses import diversity_weight
from training.starganv2.samples import SampleGrids, domain_sets, translations_by_index
from training.starganv2.step import (
    DiscriminatorLosses,
    FirstOrder,
    GeneratorLosses,
    SampleMaker,
    discriminator_phase,
    generator_phase,
    split_samples,
)

GUIDANCE = {"latent": False, "reference": True}  # where a style comes from: name, from_reference
D_TERMS, G_TERMS = DiscriminatorLosses._fields, GeneratorLosses._fields
STATISTICS = tuple(f"{guidance}/{term}" for guidance in GUIDANCE for term in D_TERMS + G_TERMS)


def train(
    config: StarGANv2Run,
    run_dir: str | Path,
    *,
    resume: bool = True,
    keep_old: bool = True,
    show_progress: bool | None = None,
) -> Path:
    """As `train_style.train`: train, write the run folder, return the path of the final model."""
    # Process, data, networks. Every process builds the same initial weights from the seed.
    schedule, runtime, loss = config.schedule, config.runtime, config.loss
    process = lifecycle.start_process(runtime, config.plugins)
    rank, world_size, device, dtype, memory_format = process
    check_batch(schedule.batch_size, world_size, schedule.microbatch)
    batch_size = schedule.batch_size
    batch_per_process = batch_size // world_size
    microbatch = schedule.microbatch or batch_per_process
    dataset = build_dataset(config.data, config.model.img_size, runtime.seed)
    half_dtype = torch.bfloat16 if runtime.precision == "bfloat16" else None
    networks = build_networks(build_spec(config.model, dataset.domains))
    for network in networks:
        process.put(network)
    averaged = StarGANv2(**{name: copy.deepcopy(net) for name, net in networks.averaged().items()})  # type: ignore[arg-type]
    for network in averaged:
        network.eval().requires_grad_(False)
    translating = networks.averaged().values()
    trained, ema = (
        {f"{i}.{name}": p for i, network in enumerate(group) for name, p in network.named_parameters()}
        for group in (translating, averaged)
    )
    g_optimizer, d_optimizer = build_optimizers(networks, config.optimizer)
    g_params, d_params = (
        [p for group in optimizer.param_groups for p in group["params"]]
        for optimizer in (g_optimizer, d_optimizer)
    )
    first_order = FirstOrder.of(networks, compiled=runtime.compile)
    make_samples = SampleMaker(runtime.seed, config.model.latent_dim, device, dtype, memory_format)

    # Run folder and resume; a missing feature network fails here, not hours later.
    with lifecycle.open_run(
        config,
        run_dir,
        process,
        statistics=STATISTICS,
        identity=run_identity(dataset),
        resume=resume,
        keep_old=keep_old,
        show=show_progress,
    ) as run:
        saved = networks._asdict() | {f"{name}_ema": network for name, network in averaged._asdict().items()}
        optimizers = {"g_optimizer": g_optimizer, "d_optimizer": d_optimizer}
        stateful: dict[str, Any] = saved | optimizers
        if run.resumed_state is not None:
            with restoring(run_dir):
                lifecycle.restore_parts(saved, optimizers, run.resumed_state)
        for note in mask_notes(config.model):
            run.folder.log(note)
        real = domain_sets(dataset)
        metrics = RunMetrics(
            config.metric,
            run,
            real,
            snapshot_kimg=schedule.snapshot_kimg,
            seed=runtime.seed,
            batch_size=microbatch,
        )
        plain = FirstOrder.of(networks, compiled=False)
        blank = make_samples.blank(config.model.img_size)

        def forward() -> object:
            with half_precision(device, half_dtype):
                return generator_phase(networks, plain, blank, from_reference=False)

        parts = {name: list(network.parameters()) for name, network in networks._asdict().items()}
        lifecycle.describe_cost(run, parts, saved.values(), forward, images=1, microbatch=microbatch)
        progress = lifecycle.begin_run(run, schedule, batch_size=batch_size)
        loader = lifecycle.step_batches(dataset, run, progress, config.data.num_workers)
        grids = SampleGrids(dataset, make_samples)

        with progress, contextlib.closing(loader):
            while True:
                # Save a snapshot, a checkpoint; measure; done?
                stop = progress.should_stop()
                nimg = progress.nimg
                record = {"nimg": nimg, "seconds": progress.seconds}
                save = functools.partial(
                    save_starganv2, averaged=averaged, trained=networks._asdict(), training=record
                )
                snapshot, checkpoint = progress.due(schedule.snapshot_kimg), progress.checkpoint_due()
                if snapshot or checkpoint:
                    run.guard.check_weights(
                        [p for network in saved.values() for p in network.parameters()], nimg
                    )
                if rank == 0 and snapshot:
                    with run.guard.finite_pictures(nimg):
                        for name, rows in grids.render(averaged).items():
                            run.folder.write_grid(name, rows, nimg=nimg)
                    save(run.folder.path / MODEL_FILE)
                if checkpoint:
                    state = {name: part.state_dict() for name, part in stateful.items()}
                    lifecycle.save_run(run, progress, state | metrics.state_dict())
                # After the checkpoint: a run that is killed meanwhile measures again.
                if metrics.due(progress):
                    translations = translations_by_index(averaged, dataset, make_samples)
                    metrics.measure(run, progress, translations, save)
                if stop:
                    break

                # This step's images and latents of this process, by microbatch.
                progress.begin_step()
                if (batch := next(loader, None)) is None:
                    continue  # a loader process is gone: a checkpoint, then the error
                positions = groups_of_step(nimg, batch_size, 1, rank, world_size)
                microbatches = split_samples(make_samples(batch, positions), microbatch)
                diversity = diversity_weight(
                    loss.diversity_weight, nimg, decay_kimg=loss.diversity_decay_kimg
                )
                observed = run.means.empty()

                # Discriminator: translations by latents, then by references; R1 in every step.
                networks.D.requires_grad_(True)
                for guidance, from_reference in GUIDANCE.items():
                    d_optimizer.zero_grad(set_to_none=True)
                    total = torch.zeros([], device=device, dtype=torch.float64)
                    for samples in microbatches:
                        with half_precision(device, half_dtype):
                            d_terms = discriminator_phase(
                                networks, first_order, samples, from_reference=from_reference
                            )
                        losses = d_terms.D + loss.r1_gamma / 2 * d_terms.r1
                        (losses.sum() / batch_per_process).backward()
                        total += losses.detach().sum().double()
                        observed.add_each(name_terms(guidance, d_terms), d_terms)
                    average_gradients(d_params)
                    totals, kind = {f"{guidance}/D": total}, f"discriminator, {guidance}"
                    if run.guard.finite(gradient_norm(d_params), totals, nimg, kind=kind):
                        d_optimizer.step()

                # Generator with mapping network and style encoder by latents, then alone by references.
                networks.D.requires_grad_(False)
                for guidance, from_reference in GUIDANCE.items():
                    networks.style_encoder.requires_grad_(not from_reference)
                    g_optimizer.zero_grad(set_to_none=True)
                    total = torch.zeros([], device=device, dtype=torch.float64)
                    for samples in microbatches:
                        with half_precision(device, half_dtype):
                            terms = generator_phase(
                                networks, first_order, samples, from_reference=from_reference
                            )
                        losses = terms.total(
                            style=loss.style_weight, diversity=diversity, cycle=loss.cycle_weight
                        )
                        (losses.sum() / batch_per_process).backward()
                        total += losses.detach().sum().double()
                        observed.add_each(name_terms(guidance, terms), terms)
                    average_gradients(g_params)
                    totals, kind = {f"{guidance}/G": total}, f"generator, {guidance}"
                    if run.guard.finite(gradient_norm(g_params), totals, nimg, kind=kind):
                        g_optimizer.step()
                networks.style_encoder.requires_grad_(True)

                # Averages of the three networks that translate.
                half_life, rampup = schedule.ema_half_life_kimg, schedule.ema_rampup
                decay = ema_decay(batch_size, nimg, half_life_kimg=half_life, rampup=rampup)
                update_ema(ema, trained, decay)
                for average, trained_network in zip(averaged, translating, strict=True):
                    copy_buffers(average, trained_network)
                run.means.add_all(observed)
                progress.end_step()

                # Report.
                if progress.due(schedule.log_kimg):
                    stats = lifecycle.report_run(run, progress, {"diversity_weight": diversity})
                    progress.show(
                        G=stats.get("latent/adversarial", math.nan), D=stats.get("latent/D", math.nan)
                    )

        return lifecycle.end_run(run, progress)


def name_terms(guidance: str, terms: DiscriminatorLosses | GeneratorLosses) -> list[str]:
    """The names of some terms among STATISTICS."""
    return [f"{guidance}/{term}" for term in terms._fields]
