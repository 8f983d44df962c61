"""Training of StyleGAN2 with any modulation: one flat loop, resumable to the bit."""

from __future__ import annotations

import contextlib
import copy
import functools
import math
from pathlib import Path
from typing import Any

import torch

from configs.stylegan2 import StyleGAN2Run
from ganmod.data.seeding import groups_of_step
from ganmod.distributed import average, average_gradients
from ganmod.stylegan2.stylegan2_file import save_stylegan2
from training.ema import copy_buffers, ema_decay, update_ema
from training.run import lifecycle
from training.run.checkpoint import restoring
from training.run.folder import MODEL_FILE
from training.run.metric_hook import RunMetrics
from training.run.nonfinite import gradient_norm
from training.stylegan2.build import (
    build_ada,
    build_dataset,
    build_networks,
    build_optimizers,
    resolve,
    run_identity,
    trained_parameters,
    transfer_weights,
)
from training.stylegan2.objective import OBJECTIVES
from training.stylegan2.samples import fakes_by_index, generate_grid, grid_draws, real_grid, real_images
from training.stylegan2.step import (
    Augmenter,
    Draws,
    FirstOrder,
    discriminator_phase,
    generator_phase,
    path_length_phase,
    r1_phase,
    split_step,
)

STATISTICS = ("loss/G", "loss/D", "logits/real", "logits/fake", "loss/r1", "loss/r2", "loss/path_length")


def train(
    config: StyleGAN2Run,
    run_dir: str | Path,
    *,
    resume: bool = True,
    keep_old: bool = True,
    show_progress: bool | None = None,
) -> Path:
    """As `train_style.train`: train, write the run folder, return the path of the final model."""
    # Process, data, networks. Every process builds the same initial weights from the seed.
    process = lifecycle.start_process(config.runtime, config.plugins)
    rank, world_size, device, dtype, memory_format = process
    dataset = build_dataset(config.data, config.runtime.seed)
    img_size = dataset.image_shape[1], dataset.image_shape[2]
    resolved = resolve(config, img_size, world_size, device)
    schedule, runtime, loss = resolved.schedule, resolved.runtime, resolved.loss
    half_life, is_lazy = schedule.ema_half_life_kimg, OBJECTIVES[loss.objective].is_lazy
    batch_size, group_size = schedule.batch_size, resolved.model.mbstd_group_size
    batch_per_process = batch_size // world_size
    microbatch = schedule.microbatch or batch_per_process
    precision, freeze_d = runtime.precision, config.freeze_d
    G, D = build_networks(resolved.model, img_size, dataset.c_dim, precision=precision, freeze_d=freeze_d)
    G, D = process.put(G), process.put(D)
    G_ema = copy.deepcopy(G).eval().requires_grad_(False)
    ema = {name: p.detach() for name, p in G_ema.named_parameters()}
    g_params, d_params = trained_parameters(G), trained_parameters(D)
    labels = torch.stack([dataset.label(i) for i in range(dataset.num_images)]) if dataset.c_dim else None
    g_optimizer, d_optimizer = build_optimizers(G, D, resolved.optimizer, loss)
    ada = build_ada(resolved.augmentation, batch_size=batch_size, device=device)
    pl_mean = torch.zeros([], device=device, dtype=dtype)
    first_order = FirstOrder.of(G, D, compiled=runtime.compile)  # R1 and path length need the plain ones

    # Run folder and resume; a missing feature network fails here, not hours later.
    with lifecycle.open_run(
        resolved,
        run_dir,
        process,
        statistics=STATISTICS,
        identity=run_identity(dataset),
        resume=resume,
        keep_old=keep_old,
        show=show_progress,
    ) as run:
        networks = {"G": G, "D": D, "G_ema": G_ema}
        optimizers = {"g_optimizer": g_optimizer, "d_optimizer": d_optimizer}
        stateful: dict[str, Any] = networks | optimizers
        if run.resumed_state is not None:
            with restoring(run_dir):
                lifecycle.restore_parts(networks, optimizers, run.resumed_state)
                ada.load_state_dict(run.resumed_state["ada"], rank=rank)
                pl_mean.copy_(run.resumed_state["pl_mean"])
        elif config.transfer is not None:
            transfer = transfer_weights(config.transfer, networks)
            run.folder.log(f"transfer from {config.transfer}: {transfer.summary()}")
        reals, snapshot_kimg = {"": real_images(dataset)}, schedule.snapshot_kimg
        metrics = RunMetrics(
            config.metric, run, reals, snapshot_kimg=snapshot_kimg, seed=runtime.seed, batch_size=microbatch
        )
        draws = Draws(runtime.seed, 0, group_size, device, dtype, labels)
        plain = FirstOrder.of(G, D, compiled=False)
        augmenter = Augmenter(resolved.augmentation, ada.p)
        blank = torch.zeros(group_size, *dataset.image_shape, device=device, dtype=dtype)
        their_labels = None if labels is None else labels[:1].expand(group_size, -1).to(device, dtype)
        forward = functools.partial(
            generator_phase, G, plain, loss, draws, augmenter, [0], blank, their_labels
        )
        cost = {"images": group_size, "microbatch": microbatch}
        lifecycle.describe_cost(run, {"G": g_params, "D": d_params}, networks.values(), forward, **cost)
        progress = lifecycle.begin_run(run, schedule, batch_size=batch_size)
        loader = lifecycle.step_batches(dataset, run, progress, config.data.num_workers)
        grid = grid_draws(G.z_dim, labels, runtime.seed, device, dtype)
        if run.resumed_state is None:
            run.folder.write_picture("reals", real_grid(dataset), nimg=0)

        with progress, contextlib.closing(loader):
            while True:
                # Save a snapshot, a checkpoint; measure; done?
                stop = progress.should_stop()
                nimg, step = progress.nimg, progress.step
                record = {"nimg": nimg, "seconds": progress.seconds}
                save = functools.partial(
                    save_stylegan2, G_ema=G_ema, G=G, D=D, class_names=dataset.label_names, training=record
                )
                snapshot, checkpoint = progress.due(snapshot_kimg), progress.checkpoint_due()
                if snapshot or checkpoint:
                    run.guard.check_weights([p for net in networks.values() for p in net.parameters()], nimg)
                if rank == 0 and snapshot:
                    with run.guard.finite_pictures(nimg):
                        run.folder.write_grid("fakes", generate_grid(G_ema, grid), nimg=nimg)
                    save(run.folder.path / MODEL_FILE)
                if checkpoint:
                    state = {name: part.state_dict() for name, part in stateful.items()}
                    state |= {"ada": ada.state_dict(), "pl_mean": pl_mean}  # ADA's over all processes
                    lifecycle.save_run(run, progress, state | metrics.state_dict())
                # After the checkpoint: a run that is killed meanwhile measures again.
                if metrics.due(progress):
                    fakes = fakes_by_index(G_ema, labels, runtime.seed, device, dtype)
                    metrics.measure(run, progress, {"": fakes}, save)
                if stop:
                    break

                # This step's images and random numbers; this process's groups of samples, by microbatch.
                progress.begin_step()
                if (batch := next(loader, None)) is None:
                    continue  # a loader process is gone: a checkpoint, then the error
                images, labels_real = (x.to(device, non_blocking=True) for x in batch)
                images = images.to(dtype).div(127.5).sub(1).contiguous(memory_format=memory_format)
                labels_real = labels_real.to(dtype) if dataset.c_dim else None
                draws = Draws(runtime.seed, step, group_size, device, dtype, labels)
                augmenter = Augmenter(resolved.augmentation, ada.p)
                groups = groups_of_step(nimg, batch_size, group_size, rank, world_size)
                microbatches = split_step(nimg, groups, group_size, microbatch, images, labels_real)
                observed = run.means.empty()

                # Generator: adversarial loss, every pl_interval steps the path length.
                D.requires_grad_(False)
                g_optimizer.zero_grad(set_to_none=True)
                w_sum = torch.zeros(G.w_dim, device=device, dtype=dtype)
                for part in microbatches:
                    losses, ws = generator_phase(G, first_order, loss, draws, augmenter, *part.reals)
                    (losses.sum() / batch_per_process).backward()
                    w_sum += ws.sum(dim=0)
                    observed.add("loss/G", losses)
                average_gradients(g_params)
                if run.guard.finite(
                    gradient_norm(g_params), observed.totals("loss/G"), nimg, kind="generator"
                ):
                    g_optimizer.step()
                    G.mapping.update_w_avg(average(w_sum / batch_per_process)[None])
                if loss.pl_weight > 0 and step % loss.pl_interval == 0:
                    g_optimizer.zero_grad(set_to_none=True)
                    length_sum = torch.zeros(2, device=device, dtype=dtype)
                    weight = loss.pl_weight * loss.pl_interval * world_size / ((batch_size + 1) // 2)
                    for part in microbatches:
                        penalties, lengths = path_length_phase(
                            G, loss, draws, part.groups, part.first, pl_mean
                        )
                        if len(penalties):
                            (penalties.sum() * weight).backward()
                            length_sum += torch.stack([lengths.sum(), lengths.new_tensor(len(lengths))])
                            observed.add("loss/path_length", penalties)
                    length_sum = average(length_sum)
                    average_gradients(g_params)
                    totals = observed.totals("loss/path_length")
                    if run.guard.finite(gradient_norm(g_params), totals, nimg, kind="path length"):
                        g_optimizer.step()
                        pl_mean.lerp_(length_sum[0] / length_sum[1], loss.pl_decay)

                # Discriminator: adversarial loss, under "r3" with R1 and R2; else every r1_interval steps R1.
                for parameter in d_params:  # not those of frozen layers
                    parameter.requires_grad_(True)
                d_optimizer.zero_grad(set_to_none=True)
                for part in microbatches:
                    terms = discriminator_phase(G, D, first_order, loss, draws, augmenter, *part.reals)
                    (terms.total(loss.r1_gamma) / batch_per_process).backward()
                    ada.record(terms.confidence)
                    observed.add_each(("loss/D", "logits/real", "logits/fake"), terms[:3])
                    if terms.penalties is not None:
                        observed.add_each(("loss/r1", "loss/r2"), terms.penalties)
                average_gradients(d_params)
                totals = observed.totals("loss/D")
                if run.guard.finite(gradient_norm(d_params), totals, nimg, kind="discriminator"):
                    d_optimizer.step()
                if is_lazy and loss.r1_gamma > 0 and step % loss.r1_interval == 0:
                    d_optimizer.zero_grad(set_to_none=True)
                    weight = loss.r1_gamma / 2 * loss.r1_interval / batch_per_process
                    for part in microbatches:
                        penalties = r1_phase(D, draws, augmenter, *part.reals)
                        (penalties.sum() * weight).backward()
                        observed.add("loss/r1", penalties)
                    average_gradients(d_params)
                    if run.guard.finite(gradient_norm(d_params), observed.totals("loss/r1"), nimg, kind="R1"):
                        d_optimizer.step()

                # EMA of the generator, augmentation strength.
                decay = ema_decay(batch_size, nimg, half_life_kimg=half_life, rampup=schedule.ema_rampup)
                update_ema(ema, dict(G.named_parameters()), decay)
                copy_buffers(G_ema, G)
                ada.end_batch()
                run.means.add_all(observed)
                progress.end_step()

                # Report.
                if progress.due(schedule.log_kimg):
                    values = {
                        "ada/p": ada.p,
                        "ada/mean_sign": ada.mean_sign,
                        "path_length/mean": pl_mean.item(),
                    }
                    stats = lifecycle.report_run(run, progress, values)
                    progress.show(G=stats.get("loss/G", math.nan), D=stats.get("loss/D", math.nan), p=ada.p)

        return lifecycle.end_run(run, progress)
