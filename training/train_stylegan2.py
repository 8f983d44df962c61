"""Training of StyleGAN2 with any modulation: one flat loop, resumable to the bit."""

from __future__ import annotations

import copy
import functools
import math
from pathlib import Path

import torch
from torch import nn

from configs.stylegan2 import StyleGAN2Run
from ganmod import distributed
from ganmod.data.seeding import granules_of_step
from ganmod.stylegan2.model_io import save_stylegan2
from training.augment.ada_controller import AdaController
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
from training.stylegan2.build import build_dataset, build_networks, resolve, transfer_weights
from training.stylegan2.samples import fakes_by_index, generate_grid, grid_draws, real_grid, real_images
from training.stylegan2.step import (
    Augmenter,
    Draws,
    FirstOrder,
    discriminator_phase,
    generator_phase,
    path_length_phase,
    r1_phase,
)

STATISTICS = ("loss/G", "loss/D", "logits/real", "logits/fake", "loss/r1", "loss/path_length")


def train(
    config: StyleGAN2Run, run_dir: str | Path, *, resume: bool = True, progress: bool | None = None
) -> Path:
    """Train until total_kimg or the time budget, write the run folder, return the path of the final model.

    Running it again with the same folder continues from the newest checkpoint; `progress` False hides the
    bars. Raises StoppedBySignal after SIGTERM or SIGINT, NonFiniteError when the losses blow up.
    """
    # Process, data, networks. Every process builds the same initial weights from the seed.
    place = start_process(config)
    rank, num_processes, device, dtype, memory_format = place
    dataset = build_dataset(config.data, config.runtime.seed)
    img_size = dataset.image_shape[1], dataset.image_shape[2]
    config = resolve(config, img_size, num_processes, device)
    schedule, runtime, loss = config.schedule, config.runtime, config.loss
    batch, granule = schedule.batch_size, config.model.mbstd_group_size
    gamma, half_life = loss.r1_gamma, schedule.ema_half_life_kimg
    assert batch is not None  # `resolve` has filled in all of these
    assert granule is not None
    assert gamma is not None
    assert half_life is not None
    G, D = build_networks(config, img_size, dataset.c_dim)
    for network in (G, D):
        place.put(network)
    G_ema = copy.deepcopy(G).eval().requires_grad_(False)
    ema = {name: p.detach() for name, p in G_ema.named_parameters()}
    for layer in D.layers()[: config.freeze_d]:
        layer.requires_grad_(False)
    labels = torch.stack([dataset.label(i) for i in range(dataset.num_images)]) if dataset.c_dim else None
    g_params, d_params = ([p for p in network.parameters() if p.requires_grad] for network in (G, D))
    g_optimizer = lazy_adam(g_params, config.optimizer.g_lr, config, interval=loss.pl_interval)
    d_optimizer = lazy_adam(d_params, config.optimizer.d_lr, config, interval=loss.r1_interval)
    ada = AdaController(
        batch_size=batch,
        p=config.augmentation.p,
        p_max=config.augmentation.ada_p_max if config.augmentation.kind == "ada" else 1.0,
        target=config.augmentation.ada_target if config.augmentation.kind == "ada" else None,
        interval=config.augmentation.ada_interval,
        ada_kimg=config.augmentation.ada_kimg,
        device=device,
    )
    pl_mean = torch.zeros([], device=device, dtype=dtype)
    share = batch // num_processes
    micro = schedule.microbatch or share
    first_order = FirstOrder.of(G, D, compiled=runtime.compile)  # R1 and path length need the plain ones

    # Run folder and resume; a missing feature network fails here, not hours later.
    run = open_run(config, run_dir, place, statistics=STATISTICS, resume=resume)
    if run.found is not None:
        for name, network in (("G", G), ("D", D), ("G_ema", G_ema)):
            network.load_state_dict(run.found[name])
        g_optimizer.load_state_dict(run.found["g_optimizer"])
        d_optimizer.load_state_dict(run.found["d_optimizer"])
        ada.load_state_dict(run.found["ada"], rank=rank)
        pl_mean.copy_(run.found["pl_mean"])
    elif config.transfer is not None:
        found = transfer_weights(config.transfer, {"G": G, "G_ema": G_ema, "D": D})
        run.folder.log(f"transfer from {config.transfer}: {found.summary()}")
    metrics = RunMetrics(run, {"": real_images(dataset)}, batch_size=micro, shown=progress)
    begin_run(run, resume=resume)
    at = RunProgress(
        schedule, place.device, batch=batch, found=run.found, shown=progress if rank == 0 else False
    )
    loader = step_batches(dataset, run, at)
    grid = grid_draws(config, labels, device, dtype)
    if run.found is None:
        run.folder.write_picture("reals", real_grid(dataset), nimg=0)

    with at:
        while True:
            # Save a snapshot, a checkpoint; measure; done?
            at.look_for_the_end()
            save = functools.partial(
                save_stylegan2,
                G_ema=G_ema,
                G=G,
                D=D,
                class_names=dataset.label_names,
                training={"nimg": at.nimg, "seconds": at.seconds},
            )
            if rank == 0 and at.due(schedule.snapshot_kimg):
                run.folder.write_grid("fakes", generate_grid(G_ema, grid), nimg=at.nimg)
                save(run.folder.path / MODEL_FILE)
            if at.checkpoint_due():
                own = {
                    "G": G.state_dict(),
                    "D": D.state_dict(),
                    "G_ema": G_ema.state_dict(),
                    "g_optimizer": g_optimizer.state_dict(),
                    "d_optimizer": d_optimizer.state_dict(),
                    "ada": ada.state_dict(),  # over all processes, which all call this
                    "pl_mean": pl_mean,
                }
                save_run(run, at, own | metrics.state_dict())
            if metrics.due(at):  # after the checkpoint: a run that is killed meanwhile measures again
                fakes = fakes_by_index(G_ema, labels, runtime.seed, device, dtype)
                if metrics.measure(run, at, {"": fakes}) and rank == 0:
                    save(run.folder.path / BEST_FILE)
            if at.ended:
                break

            # This step's images and random numbers; this process's granules of samples.
            at.begin_step()
            step, nimg = at.step, at.nimg
            images, labels_real = (x.to(device, non_blocking=True) for x in next(loader))
            images = images.to(dtype).div(127.5).sub(1).contiguous(memory_format=memory_format)
            labels_real = labels_real.to(dtype) if dataset.c_dim else None
            draws = Draws(runtime.seed, step, granule, device, dtype, labels)
            augmenter = Augmenter(config.augmentation, ada.p)
            granules = granules_of_step(nimg, batch, granule, rank, num_processes)
            parts = [
                (granules[i // granule : (i + micro) // granule], slice(i, i + micro))
                for i in range(0, share, micro)
            ]
            observed = run.means.empty()

            # Generator: adversarial loss, every pl_interval steps the path length.
            D.requires_grad_(False)
            g_optimizer.zero_grad(set_to_none=True)
            w_sum = torch.zeros(G.w_dim, device=device, dtype=dtype)
            for part, _ in parts:
                losses, ws = generator_phase(G, first_order, loss, draws, augmenter, part)
                (losses.sum() / share).backward()
                w_sum += ws.sum(dim=0)
                observed.add("loss/G", losses)
            w_mean = distributed.average(w_sum / share)
            distributed.average_gradients(g_params)
            total = {"loss/G": observed.total("loss/G")}
            if run.guard.finite(gradient_norm(g_params), total, nimg, kind="generator"):
                g_optimizer.step()
                G.mapping.update_w_avg(w_mean[None])
            if loss.pl_weight > 0 and step % loss.pl_interval == 0:
                g_optimizer.zero_grad(set_to_none=True)
                length_sum = torch.zeros(2, device=device, dtype=dtype)
                weight = loss.pl_weight * loss.pl_interval * num_processes / ((batch + 1) // 2)
                for part, rows in parts:
                    first = rank * share + rows.start
                    penalties, lengths = path_length_phase(G, loss, draws, part, first, pl_mean)
                    if len(penalties):
                        (penalties.sum() * weight).backward()
                        length_sum += torch.stack([lengths.sum(), lengths.new_tensor(len(lengths))])
                        observed.add("loss/path_length", penalties)
                length_sum = distributed.average(length_sum)
                distributed.average_gradients(g_params)
                total = {"loss/path_length": observed.total("loss/path_length")}
                if run.guard.finite(gradient_norm(g_params), total, nimg, kind="path length"):
                    g_optimizer.step()
                    pl_mean.lerp_(length_sum[0] / length_sum[1], loss.pl_decay)

            # Discriminator: adversarial loss, every r1_interval steps R1.
            D.requires_grad_(True)
            for layer in D.layers()[: config.freeze_d]:
                layer.requires_grad_(False)
            d_optimizer.zero_grad(set_to_none=True)
            for part, rows in parts:
                reals = images[rows], None if labels_real is None else labels_real[rows]
                losses, real, fake = discriminator_phase(G, first_order, loss, draws, augmenter, part, *reals)
                (losses.sum() / share).backward()
                ada.record(real)
                observed.add("loss/D", losses)
                observed.add("logits/real", real)
                observed.add("logits/fake", fake)
            distributed.average_gradients(d_params)
            total = {"loss/D": observed.total("loss/D")}
            if run.guard.finite(gradient_norm(d_params), total, nimg, kind="discriminator"):
                d_optimizer.step()
            if gamma > 0 and step % loss.r1_interval == 0:
                d_optimizer.zero_grad(set_to_none=True)
                for part, rows in parts:
                    reals = images[rows], None if labels_real is None else labels_real[rows]
                    penalties = r1_phase(D, draws, augmenter, part, *reals)
                    (penalties.sum() * (gamma / 2 * loss.r1_interval / share)).backward()
                    observed.add("loss/r1", penalties)
                distributed.average_gradients(d_params)
                total = {"loss/r1": observed.total("loss/r1")}
                if run.guard.finite(gradient_norm(d_params), total, nimg, kind="R1"):
                    d_optimizer.step()

            # Average of the generator, augmentation strength.
            decay = ema_decay(batch, nimg, half_life_kimg=half_life, rampup=schedule.ema_rampup)
            update_ema(ema, dict(G.named_parameters()), decay)
            for average, buffer in zip(G_ema.buffers(), G.buffers(), strict=True):
                average.copy_(buffer)
            ada.end_batch()
            run.means.add_all(observed)
            at.end_step()

            # Report.
            if at.due(schedule.log_kimg):
                values = {"ada/p": ada.p, "ada/mean_sign": ada.mean_sign, "path_length/mean": pl_mean.item()}
                stats = report_run(run, at, values)
                at.show(G=stats.get("loss/G", math.nan), D=stats.get("loss/D", math.nan), p=ada.p)

    return end_run(run, at)


def lazy_adam(
    parameters: list[nn.Parameter], lr: float | None, config: StyleGAN2Run, *, interval: int
) -> torch.optim.Adam:
    """Adam, corrected for a regulariser with a step of its own every `interval` (StyleGAN2, appendix B)."""
    assert lr is not None
    ratio = interval / (interval + 1)
    betas = config.optimizer.beta1**ratio, config.optimizer.beta2**ratio
    return torch.optim.Adam(parameters, lr=lr * ratio, betas=betas, eps=1e-8, fused=True)
