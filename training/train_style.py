"""Training of a style-transfer model: one flat loop, resumable to the bit."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from configs.style import StyleRun
from ganmod import distributed
from style_transfer import StyleTransferModel
from training.run.ema import ema_decay, update_ema
from training.run.folder import BEST_FILE, MODEL_FILE
from training.run.lifecycle import (
    begin_run,
    check_share,
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
from training.style.build import (
    build_data,
    build_loss_network,
    build_model,
    build_optimizers,
    build_second_network,
    draw_origin,
    lr_factor,
    resolve,
    same_network,
    style_transfer_losses,
)
from training.style.samples import (
    averaged_weights,
    grid_inputs,
    style_images,
    stylized_by_index,
    stylized_grid,
)

STATISTICS = ("loss/total", "loss/content", "loss/style")


def train(
    config: StyleRun, run_dir: str | Path, *, resume: bool = True, progress: bool | None = None
) -> Path:
    """Train until total_kimg or the time budget, write the run folder, return the path of the final model.

    Running it again with the same folder continues from the newest checkpoint; `progress` False hides the
    bars. Raises StoppedBySignal after SIGTERM or SIGINT, NonFiniteError when the losses blow up.
    """
    # Process, data, networks. Every process builds the same initial weights from the seed.
    config = resolve(config)
    place = start_process(config)
    rank, num_processes, device, dtype, memory_format = place
    schedule, runtime = config.schedule, config.runtime
    batch = schedule.batch_size
    check_share(batch, num_processes, schedule.microbatch or 1)
    data = build_data(config.data, runtime.seed)
    model = place.put(build_model(config.model, transfer=config.transfer))
    loss_network = place.put(build_loss_network(config.loss, model))
    second = build_second_network(config.loss)
    second = None if second is None else place.put(second)
    parameters = model.trainable()
    ema = {name: p.detach().clone() for name, p in parameters.items()}
    optimizers = build_optimizers(model, config.optimizer)
    share = batch // num_processes
    micro = schedule.microbatch or share
    losses_of = torch.compile(style_transfer_losses) if runtime.compile else style_transfer_losses
    shared = same_network(model.encoder, loss_network)  # then an image need be encoded only once

    # Run folder and resume; a missing feature network fails here, not hours later.
    run = open_run(config, run_dir, place, statistics=STATISTICS, resume=resume)
    if run.found is not None:
        _restore(run.found, model, ema, optimizers)
    real = {"": style_images(data, config.model.style_image_size)}
    metrics = RunMetrics(run, real, batch_size=micro, shown=progress)
    begin_run(run, resume=resume)
    at = RunProgress(
        schedule, place.device, batch=batch, found=run.found, shown=progress if rank == 0 else False
    )
    loader = step_batches(data, run, at)
    grid = grid_inputs(data, device, dtype)

    with at:
        while True:
            # Save a snapshot, a checkpoint; measure; done?
            at.look_for_the_end()
            record = {"nimg": at.nimg, "seconds": at.seconds}
            if rank == 0 and at.due(schedule.snapshot_kimg):
                with averaged_weights(model, ema):
                    run.folder.write_grid("stylized", stylized_grid(model, *grid), nimg=at.nimg)
                    model.save(run.folder.path / MODEL_FILE, training=record)
            if at.checkpoint_due():
                own = {
                    "model": {name: p.detach() for name, p in parameters.items()},
                    "calibration": model.calibration(),
                    "ema": ema,
                    **{name: optimizer.state_dict() for name, optimizer in optimizers.items()},
                }
                save_run(run, at, own | metrics.state_dict())
            if metrics.due(at):  # after the checkpoint: a run that is killed meanwhile measures again
                with averaged_weights(model, ema):
                    best = metrics.measure(run, at, {"": stylized_by_index(model, data, device, dtype)})
                    if best and rank == 0:
                        model.save(run.folder.path / BEST_FILE, training=record)
            if at.ended:
                break

            # Gradients, accumulated over this process's share of the batch.
            at.begin_step()
            factor = lr_factor(at.nimg, schedule) / (1 + config.optimizer.lr_decay * at.step)
            for optimizer in optimizers.values():
                for group in optimizer.param_groups:
                    group["lr"] = group["initial_lr"] * factor
                optimizer.zero_grad(set_to_none=True)
            content, style = (
                x.to(device, memory_format=memory_format, non_blocking=True).to(dtype) / 255
                for x in next(loader)
            )
            origin = draw_origin(runtime.seed, at.nimg)
            losses = torch.zeros(3, dtype=torch.float64, device=device)
            for c, s in zip(content.split(micro), style.split(micro), strict=True):
                with torch.autocast(device.type, torch.bfloat16, enabled=runtime.precision == "bfloat16"):
                    terms = losses_of(
                        model, loss_network, config.loss, c, s, second=second, shared=shared, origin=origin
                    )
                (terms.total * (len(c) / share)).backward()
                losses += torch.stack([x.detach().double() for x in terms]) * (len(c) / share)

            # Optimizer and EMA; a step with non-finite losses or gradients is counted and left out.
            trained = list(parameters.values())
            distributed.average_gradients(trained)
            norm = gradient_norm(trained)
            named = dict(zip(("total", "content", "style"), losses, strict=True))
            if run.guard.finite(norm, named, at.nimg, kind="model"):
                if config.optimizer.clip_grad_norm is not None:
                    torch.nn.utils.clip_grads_with_norm_(trained, config.optimizer.clip_grad_norm, norm)
                for optimizer in optimizers.values():
                    optimizer.step()
            observed = run.means.empty()
            observed.add_each(STATISTICS, losses)
            run.means.add_all(observed)
            decay = ema_decay(
                batch, at.nimg, half_life_kimg=schedule.ema_half_life_kimg, rampup=schedule.ema_rampup
            )
            update_ema(ema, parameters, decay)
            at.end_step()

            # Report.
            if at.due(schedule.log_kimg):
                stats = report_run(run, at, {})
                at.show(content=stats.get("loss/content", math.nan), style=stats.get("loss/style", math.nan))

    return end_run(run, at)


def _restore(
    state: dict[str, Any],
    model: StyleTransferModel,
    ema: dict[str, Tensor],
    optimizers: dict[str, torch.optim.Optimizer],
) -> None:
    with torch.no_grad():
        for name, parameter in model.trainable().items():
            parameter.copy_(state["model"][name])
            ema[name].copy_(state["ema"][name])
        for name, buffer in model.calibration().items():
            buffer.copy_(state["calibration"][name])
    for name, optimizer in optimizers.items():
        optimizer.load_state_dict(state[name])
