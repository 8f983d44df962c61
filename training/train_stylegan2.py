"""Training of StyleGAN2 with any modulation: one flat loop, resumable to the bit."""

from __future__ import annotations

import copy
import functools
import math
from pathlib import Path

import torch
from torch import Tensor, nn

from configs.schema import to_yaml
from configs.stylegan2 import StyleGAN2Run
from ganmod.stylegan2.model_io import save_stylegan2
from training import distributed
from training.ada_controller import AdaController
from training.checkpoint import load_latest_checkpoint, save_checkpoint
from training.data import StepSampler, step_loader
from training.ema import ema_decay, update_ema
from training.gan_samples import build_metric, fakes_by_index, generate_grid, grid_draws, real_grid
from training.granules import granules_of_step
from training.nonfinite import NonFiniteGuard
from training.run_folder import RunFolder, RunProgress, StoppedBySignal, StopRequest, check_same_run, every
from training.stylegan2_run import build_dataset, build_networks, resolve, transfer_weights
from training.stylegan2_step import (
    Augmenter,
    Draws,
    FirstOrder,
    discriminator_phase,
    generator_phase,
    path_length_phase,
    r1_phase,
)

MODEL_FILE, BEST_FILE = "model-latest.safetensors", "model-best.safetensors"
FREE_TO_CHANGE = ("data.cache_mb", "data.num_workers")
SECTIONS = ("data", "model", "loss", "augmentation", "optimizer")
ALSO_KEPT = ("freeze_d", "transfer")
STATISTICS = ("loss/G", "loss/D", "logits/real", "logits/fake", "loss/r1", "loss/path_length")


def train(
    config: StyleGAN2Run, run_dir: str | Path, *, resume: bool = True, progress: bool | None = None
) -> Path:
    """Train until total_kimg or the time budget, write the run folder, return the path of the final model.

    Running it again with the same folder continues from the newest checkpoint; `progress` False hides the
    bar. Raises StoppedBySignal after SIGTERM or SIGINT, NonFiniteError when the losses blow up.
    """
    # Process, data, networks. Every process builds the same initial weights from the seed.
    rank, num_processes, device = distributed.start(config.runtime.device)
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
    dtype = torch.float64 if runtime.precision == "float64" else torch.float32
    memory_format = torch.channels_last if runtime.channels_last else torch.contiguous_format
    torch.manual_seed(runtime.seed)
    G, D = build_networks(config, img_size, dataset.c_dim)
    for network in (G, D):
        network.to(device, dtype).to(memory_format=memory_format)
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

    # Run folder and resume.
    run = RunFolder(run_dir, active=rank == 0, tensorboard=runtime.tensorboard)
    state = load_latest_checkpoint(run_dir, report=run.log) if resume else None
    nimg, seconds = 0, 0.0
    guard = NonFiniteGuard(run.log, limit=schedule.max_nonfinite_steps)
    sums = torch.zeros(len(STATISTICS), 2, dtype=torch.float64, device=device)  # value, count
    if state is not None:
        check_same_run(
            state["config"], config, sections=SECTIONS, also=ALSO_KEPT, free_to_change=FREE_TO_CHANGE
        )
        for name, network in (("G", G), ("D", D), ("G_ema", G_ema)):
            network.load_state_dict(state[name])
        g_optimizer.load_state_dict(state["g_optimizer"])
        d_optimizer.load_state_dict(state["d_optimizer"])
        ada.load_state_dict(state["ada"], rank=rank)
        pl_mean.copy_(state["pl_mean"])
        sums.copy_(state["sums"])
        guard.load_state_dict(state["nonfinite"])
        nimg, seconds = state["nimg"], state["seconds"]
        run.log(f"resumed at {nimg} images")
        if (before := state["config"]["runtime"]["precision"]) != runtime.precision:
            run.log(f"precision was {before} and is {runtime.precision} from here on")
    elif config.transfer is not None:
        found = transfer_weights(config.transfer, {"G": G, "G_ema": G_ema, "D": D})
        for what, by_network in (("start anew", found.anew), ("of the file are not used", found.unused)):
            counts = ", ".join(f"{name} {len(names)}" for name, names in by_network.items() if names)
            run.log(f"transfer from {config.transfer}: tensors that {what}: {counts or 'none'}")
    hook = build_metric(config, dataset, device)  # a missing feature network fails here, not hours later
    conditions = None if hook is None else hook.conditions
    best = math.inf if state is None or state["best_of"] != conditions else state["best"]
    if not resume:
        run.clear()  # only now that nothing of the new run's beginning can fail any more
    run.discard_stats_after(nimg)
    run.save_config(to_yaml(config))
    loader = iter(
        step_loader(
            dataset,
            StepSampler(batch=batch, nimg=nimg, rank=rank, num_processes=num_processes),
            num_workers=config.data.num_workers,
        )
    )
    grid = grid_draws(config, labels, device, dtype)
    if state is None:
        run.write_grid("reals", real_grid(dataset), nimg=0)
    run_progress = RunProgress(
        schedule,
        batch=batch,
        nimg=nimg,
        seconds=seconds,
        shown=progress if rank == 0 else False,
    )

    with StopRequest() as stop_request:
        while True:
            # Save a snapshot, a checkpoint; done?
            done = nimg >= run_progress.total_nimg or distributed.agree(
                seconds >= run_progress.budget, device
            )
            stopping = distributed.agree(bool(stop_request), device)
            step = nimg // batch
            begun = nimg > 0
            save = functools.partial(
                save_stylegan2,
                G_ema=G_ema,
                G=G,
                D=D,
                class_names=dataset.label_names,
                training={"nimg": nimg, "seconds": seconds},
            )
            if rank == 0 and begun and (done or every(schedule.snapshot_kimg, batch, step)):
                run.write_grid(f"fakes-{nimg // 1000:06d}", generate_grid(G_ema, grid), nimg=nimg)
                save(Path(run_dir) / MODEL_FILE)
            if done or stopping or (begun and every(schedule.checkpoint_kimg, batch, step)):
                ada_state = ada.state_dict()  # over all processes, which all call these two
                mean_sums = distributed.average(sums.clone())
                if rank == 0:
                    save_checkpoint(
                        run_dir,
                        nimg,
                        {
                            "nimg": nimg,
                            "seconds": seconds,
                            "config": config.model_dump(mode="json"),
                            "G": G.state_dict(),
                            "D": D.state_dict(),
                            "G_ema": G_ema.state_dict(),
                            "g_optimizer": g_optimizer.state_dict(),
                            "d_optimizer": d_optimizer.state_dict(),
                            "ada": ada_state,
                            "pl_mean": pl_mean,
                            "sums": mean_sums,
                            "nonfinite": guard.state_dict(),
                            "best": best,
                            "best_of": conditions,
                        },
                    )
            measured = done or every(schedule.snapshot_kimg * max(config.metric.every, 1), batch, step)
            if hook is not None and begun and measured and not (stopping and not done):
                # After the checkpoint: a run that is killed meanwhile measures again.
                measures = hook(fakes_by_index(G_ema, labels, runtime.seed, device, dtype))
                run.write_metrics(nimg, measures | {"seconds": seconds}, hook.conditions)
                if measures[hook.name] < best:
                    best = measures[hook.name]
                    if rank == 0:
                        save(Path(run_dir) / BEST_FILE)
            if done or stopping:
                break

            # This step's images and random numbers; this process's granules of samples.
            begin = run_progress.clock()
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
            observed = torch.zeros_like(sums)

            # Generator: adversarial loss, every pl_interval steps the path length.
            D.requires_grad_(False)
            g_optimizer.zero_grad(set_to_none=True)
            w_sum = torch.zeros(G.w_dim, device=device, dtype=dtype)
            for part, _ in parts:
                losses, ws = generator_phase(G, first_order, loss, draws, augmenter, part)
                (losses.sum() / share).backward()
                w_sum += ws.sum(dim=0)
                observe(observed, "loss/G", losses)
            w_mean = distributed.average(w_sum / share)
            if guard.step(g_optimizer, g_params, {"loss/G": observed[0, 0]}, nimg, kind="generator"):
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
                        observe(observed, "loss/path_length", penalties)
                total = distributed.average(length_sum)
                penalty = {"loss/path_length": observed[5, 0]}
                if guard.step(g_optimizer, g_params, penalty, nimg, kind="path length"):
                    pl_mean.lerp_(total[0] / total[1], loss.pl_decay)

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
                observe(observed, "loss/D", losses)
                observe(observed, "logits/real", real)
                observe(observed, "logits/fake", fake)
            guard.step(d_optimizer, d_params, {"loss/D": observed[1, 0]}, nimg, kind="discriminator")
            if gamma > 0 and step % loss.r1_interval == 0:
                d_optimizer.zero_grad(set_to_none=True)
                for part, rows in parts:
                    reals = images[rows], None if labels_real is None else labels_real[rows]
                    penalties = r1_phase(D, draws, augmenter, part, *reals)
                    (penalties.sum() * (gamma / 2 * loss.r1_interval / share)).backward()
                    observe(observed, "loss/r1", penalties)
                guard.step(d_optimizer, d_params, {"loss/r1": observed[4, 0]}, nimg, kind="R1")

            # Average of the generator, augmentation strength.
            decay = ema_decay(batch, nimg, half_life_kimg=half_life, rampup=schedule.ema_rampup)
            update_ema(ema, dict(G.named_parameters()), decay)
            nimg += batch
            for own, trained in zip(G_ema.buffers(), G.buffers(), strict=True):
                own.copy_(trained)
            ada.end_batch()
            sums += observed
            seconds += run_progress.clock() - begin

            # Report.
            run_progress.update(nimg, seconds)
            if every(schedule.log_kimg, batch, nimg // batch) or nimg >= run_progress.total_nimg:
                stats = report(sums, guard, ada, pl_mean, seconds, nimg)
                run.write_stats(nimg, stats)
                run_progress.bar.set_postfix(
                    G=f"{stats['loss/G']:.2f}", D=f"{stats['loss/D']:.2f}", p=f"{ada.p:.2f}"
                )
                sums.zero_()

    run_progress.bar.close()
    run.log(f"{'stopped' if stopping and not done else 'done'} at {nimg} images after {seconds:.0f} s")
    run.close()
    distributed.stop()
    if stopping and not done:
        raise StoppedBySignal(f"checkpoint written at {nimg} images: run the same command again to continue")
    return Path(run_dir) / MODEL_FILE


def lazy_adam(
    parameters: list[nn.Parameter], lr: float | None, config: StyleGAN2Run, *, interval: int
) -> torch.optim.Adam:
    """Adam, corrected for a regulariser with a step of its own every `interval` (StyleGAN2, appendix B)."""
    assert lr is not None
    ratio = interval / (interval + 1)
    betas = config.optimizer.beta1**ratio, config.optimizer.beta2**ratio
    return torch.optim.Adam(parameters, lr=lr * ratio, betas=betas, eps=1e-8, fused=True)


def observe(sums: Tensor, name: str, values: Tensor) -> None:
    """Add values of one statistic: their sum and their number."""
    row = STATISTICS.index(name)
    sums[row, 0] += values.detach().double().sum()
    sums[row, 1] += values.numel()


def report(
    sums: Tensor, guard: NonFiniteGuard, ada: AdaController, pl_mean: Tensor, seconds: float, nimg: int
) -> dict[str, float]:
    """Means since the last report, over all processes."""
    values = distributed.average(sums.clone()).tolist()
    stats = {name: v / max(n, 1e-9) for name, (v, n) in zip(STATISTICS, values, strict=True) if n}
    return stats | {
        "ada/p": ada.p,
        "ada/mean_sign": ada.mean_sign,
        "path_length/mean": pl_mean.item(),
        "seconds": seconds,
        "seconds_per_kimg": seconds / nimg * 1000,
        "nonfinite_steps": float(guard.total),
    }
