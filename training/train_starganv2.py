"""Training of StarGAN v2 with any modulation: one flat loop, resumable to the bit."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor

from configs.schema import to_yaml
from configs.starganv2 import StarGANv2Run
from ganmod.layers import half_precision
from ganmod.starganv2 import StarGANv2, save_starganv2
from training import distributed
from training.checkpoint import load_latest_checkpoint, save_checkpoint
from training.data import StepSampler, step_loader
from training.ema import ema_decay, update_ema
from training.granules import granules_of_step
from training.nonfinite import NonFiniteGuard
from training.run_folder import RunFolder, RunProgress, StoppedBySignal, StopRequest, check_same_run, every
from training.starganv2_losses import diversity_weight
from training.starganv2_run import (
    SampleGrids,
    build_dataset,
    build_networks,
    build_optimizers,
    build_spec,
    check_batch,
)
from training.starganv2_step import FirstOrder, SampleMaker, discriminator_phase, generator_phase, part_of

MODEL_FILE = "model-latest.safetensors"
FREE_TO_CHANGE = ("data.cache_mb", "data.num_workers")
SECTIONS = ("data", "model", "loss", "optimizer")
GUIDANCE = {"latent": False, "reference": True}  # where a style comes from: name, from_reference
TERMS = ("D", "r1", "logits_real", "logits_fake", "adversarial", "style", "diversity", "cycle")
STATISTICS = [f"{guidance}/{term}" for guidance in GUIDANCE for term in TERMS]


def train(
    config: StarGANv2Run, run_dir: str | Path, *, resume: bool = True, progress: bool | None = None
) -> Path:
    """Train until total_kimg or the time budget, write the run folder, return the path of the final model.

    Running it again with the same folder continues from the newest checkpoint; `progress` False hides the
    bar. Raises StoppedBySignal after SIGTERM or SIGINT, NonFiniteError when the losses blow up.
    """
    # Process, data, networks. Every process builds the same initial weights from the seed.
    schedule, runtime, loss = config.schedule, config.runtime, config.loss
    rank, num_processes, device = distributed.start(runtime.device)
    check_batch(config, num_processes)
    dataset = build_dataset(config.data, config.model.img_size, runtime.seed)
    dtype = torch.float64 if runtime.precision == "float64" else torch.float32
    half_dtype = torch.bfloat16 if runtime.precision == "bfloat16" else None
    memory_format = torch.channels_last if runtime.channels_last else torch.contiguous_format
    torch.manual_seed(runtime.seed)
    networks = build_networks(build_spec(config, dataset.domains))
    for network in networks:
        network.to(device, dtype).to(memory_format=memory_format)
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

    # Run folder and resume.
    run = RunFolder(run_dir, active=rank == 0, tensorboard=runtime.tensorboard)
    state = load_latest_checkpoint(run_dir, report=run.log) if resume else None
    nimg, seconds = 0, 0.0
    guard = NonFiniteGuard(run.log, limit=schedule.max_nonfinite_steps)
    sums = torch.zeros(len(STATISTICS), 2, dtype=torch.float64, device=device)  # value, count
    if state is not None:
        check_same_run(state["config"], config, sections=SECTIONS, free_to_change=FREE_TO_CHANGE)
        if tuple(state["domains"]) != dataset.domains:
            raise ValueError(
                f"the run folder holds a run on the domains {', '.join(state['domains'])}, but the data have "
                f"{', '.join(dataset.domains)}: use another --out, or --no-resume to begin anew"
            )
        for name, network in networks._asdict().items():
            network.load_state_dict(state[name])
        for name, network in averaged._asdict().items():
            network.load_state_dict(state[f"{name}_ema"])
        g_optimizer.load_state_dict(state["g_optimizer"])
        d_optimizer.load_state_dict(state["d_optimizer"])
        sums.copy_(state["sums"])
        guard.load_state_dict(state["nonfinite"])
        nimg, seconds = state["nimg"], state["seconds"]
        run.log(f"resumed at {nimg} images")
    if not resume:
        run.clear()
    run.discard_stats_after(nimg)
    run.save_config(to_yaml(config))
    loader = iter(
        step_loader(
            dataset,
            StepSampler(batch=batch, nimg=nimg, rank=rank, num_processes=num_processes),
            num_workers=config.data.num_workers,
        )
    )
    grids = SampleGrids(dataset, make_samples)
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
            if rank == 0 and nimg > 0 and (done or every(schedule.snapshot_kimg, batch, step)):
                for name, rows in grids.render(averaged).items():
                    run.write_grid(f"{name}-{nimg // 1000:06d}", rows, nimg=nimg)
                save_starganv2(
                    Path(run_dir) / MODEL_FILE,
                    averaged,
                    trained=networks._asdict(),
                    training={"nimg": nimg, "seconds": seconds},
                )
            due = nimg > 0 and every(schedule.checkpoint_kimg, batch, step)
            if done or stopping or due:
                mean_sums = distributed.average(sums.clone())  # over all processes, which all call this
                if rank == 0:
                    save_checkpoint(
                        run_dir,
                        nimg,
                        {
                            "nimg": nimg,
                            "seconds": seconds,
                            "config": config.model_dump(mode="json"),
                            "domains": list(dataset.domains),
                            **{name: network.state_dict() for name, network in networks._asdict().items()},
                            **{f"{name}_ema": net.state_dict() for name, net in averaged._asdict().items()},
                            "g_optimizer": g_optimizer.state_dict(),
                            "d_optimizer": d_optimizer.state_dict(),
                            "sums": mean_sums,
                            "nonfinite": guard.state_dict(),
                        },
                    )
            if done or stopping:
                break

            # This step's images and latents; this process's share of them.
            begin = run_progress.clock()
            positions = granules_of_step(nimg, batch, 1, rank, num_processes)
            samples = make_samples(next(loader), positions)
            parts = [part_of(samples, slice(i, i + micro)) for i in range(0, share, micro)]
            diversity = diversity_weight(loss.diversity_weight, nimg, decay_kimg=loss.diversity_decay_kimg)
            observed = torch.zeros_like(sums)

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
                    observe(observed, guidance, TERMS[:4], terms)
                kind = f"discriminator, {guidance}"
                guard.step(d_optimizer, d_params, {f"{guidance}/D": total}, nimg, kind=kind)

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
                    observe(observed, guidance, TERMS[4:], g_terms)
                kind = f"generator, {guidance}"
                guard.step(g_optimizer, g_params, {f"{guidance}/G": total}, nimg, kind=kind)
            networks.style_encoder.requires_grad_(True)

            # Averages of the three networks that translate.
            decay = ema_decay(
                batch, nimg, half_life_kimg=schedule.ema_half_life_kimg, rampup=schedule.ema_rampup
            )
            update_ema(ema, trained, decay)
            nimg += batch
            for own, buffer in zip(averaged_buffers, trained_buffers, strict=True):
                own.copy_(buffer)
            sums += observed
            seconds += run_progress.clock() - begin

            # Report.
            run_progress.update(nimg, seconds)
            if every(schedule.log_kimg, batch, nimg // batch) or nimg >= run_progress.total_nimg:
                stats = report(sums, guard, diversity, seconds, nimg)
                run.write_stats(nimg, stats)
                run_progress.bar.set_postfix(
                    G=f"{stats['latent/adversarial']:.2f}", D=f"{stats['latent/D']:.2f}"
                )
                sums.zero_()

    run_progress.bar.close()
    run.log(f"{'stopped' if stopping and not done else 'done'} at {nimg} images after {seconds:.0f} s")
    run.close()
    distributed.stop()
    if stopping and not done:
        raise StoppedBySignal(f"checkpoint written at {nimg} images: run the same command again to continue")
    return Path(run_dir) / MODEL_FILE


def observe(sums: Tensor, guidance: str, terms: tuple[str, ...], values: tuple[Tensor, ...]) -> None:
    """Add values of some statistics: their sum and their number."""
    for term, value in zip(terms, values, strict=True):
        row = STATISTICS.index(f"{guidance}/{term}")
        sums[row, 0] += value.detach().double().sum()
        sums[row, 1] += value.numel()


def report(
    sums: Tensor, guard: NonFiniteGuard, diversity: float, seconds: float, nimg: int
) -> dict[str, float]:
    """Means since the last report, over all processes; the weight of the diversity loss in the last step."""
    values = distributed.average(sums.clone()).tolist()
    stats = {name: value / max(count, 1) for name, (value, count) in zip(STATISTICS, values, strict=True)}
    return stats | {
        "diversity_weight": diversity,
        "seconds": seconds,
        "seconds_per_kimg": seconds / nimg * 1000,
        "nonfinite_steps": float(guard.total),
    }
