"""Training of a style-transfer model: one flat loop; a resumed CPU run is bit-identical."""

from __future__ import annotations

import contextlib
import functools
import math
from pathlib import Path
from typing import Any

import torch

from configs.style import StyleRun
from ganmod import distributed
from training.ema import ema_decay, update_ema
from training.run import lifecycle
from training.run.checkpoint import restoring
from training.run.folder import MODEL_FILE
from training.run.metric_hook import RunMetrics
from training.run.nonfinite import gradient_norm
from training.style.build import (
    build_data,
    build_loss_network,
    build_model,
    build_optimizers,
    build_second_network,
    draw_origin,
    lr_factor,
    resolve,
    restore_state,
    run_identity,
)
from training.style.losses import WholeStyles, same_network, style_transfer_losses
from training.style.samples import (
    StyleBatch,
    averaged_weights,
    grid_inputs,
    style_images,
    stylized_by_index,
    stylized_grid,
)

STATISTICS = ("loss/total", "loss/content", "loss/style")


def train(
    config: StyleRun,
    run_dir: str | Path,
    *,
    resume: bool = True,
    keep_old: bool = True,
    show_progress: bool | None = None,
) -> Path:
    """Train until total_kimg or the time budget, write the run folder, return the path of the final model.

    Running it again with the same folder continues from the newest checkpoint. Raises StoppedBySignal after
    SIGTERM or SIGINT, NonFiniteError when losses or weights blow up, RunLockedError while another process
    runs in the folder, LoaderKilledError when one that loads images is killed, DiskFullError, CheckpointError
    or ModelFileError when a file cannot be written: the folder can be continued after each.

    Args:
        config: the run, from `configs.schema.load_style_config`.
        run_dir: its folder, which is created.
        resume: False starts over.
        keep_old: False deletes the earlier run when starting over, instead of moving it to DIR.old-N.
        show_progress: False hides the bars; None shows them in a terminal.
    """
    # Process, data, networks. Every process builds the same initial weights from the seed.
    config = resolve(config)
    schedule, runtime = config.schedule, config.runtime
    process = lifecycle.start_process(runtime, config.plugins)
    rank, world_size, device, dtype, memory_format = process
    batch_size = schedule.batch_size
    lifecycle.check_batch_size(batch_size, world_size, schedule.microbatch or 1)
    batch_per_process = batch_size // world_size
    microbatch = schedule.microbatch or batch_per_process
    data = build_data(config.data, runtime.seed, config.model)
    model = process.put(build_model(config))
    loss_network = process.put(build_loss_network(config.loss, model))
    second = build_second_network(config.loss)
    second = None if second is None else process.put(second)
    parameters = model.trainable()
    trained = list(parameters.values())
    ema = {name: p.detach().clone() for name, p in parameters.items()}
    optimizers = build_optimizers(model, config.optimizer)
    compute_losses = torch.compile(style_transfer_losses) if runtime.compile else style_transfer_losses
    parts = (model, loss_network, config.loss)
    shared = same_network(model.encoder, loss_network)  # each image is then encoded once for input and target
    options: dict[str, Any] = {"second": second, "shared": shared}
    known = data.style_ids is not None and config.data.whole_styles
    whole_styles = WholeStyles([n for n in (loss_network, second) if n is not None]) if known else None

    # Run folder and resume; a missing feature network fails here, not hours later.
    with lifecycle.open_run(
        config,
        run_dir,
        process,
        statistics=STATISTICS,
        identity=run_identity(data, model, loss_network),
        resume=resume,
        keep_old=keep_old,
        show=show_progress,
    ) as run:
        if run.resumed_state is not None:
            with restoring(run_dir):
                restore_state(run.resumed_state, model, ema, optimizers)
        real = {"": style_images(data, config.model.style_image_size)}
        metrics = RunMetrics(
            config.metric,
            run,
            real,
            snapshot_kimg=schedule.snapshot_kimg,
            seed=runtime.seed,
            batch_size=microbatch,
        )
        autocast = functools.partial(
            torch.autocast, device.type, torch.bfloat16, enabled=runtime.precision == "bfloat16"
        )
        sides = (config.data.crop, data.style.crop)
        blank = [torch.zeros(1, 3, side, side, device=device, dtype=dtype) for side in sides]
        first_id = None if data.style_ids is None else torch.zeros(1, dtype=torch.int64, device=device)

        def forward() -> object:
            with autocast():
                return style_transfer_losses(*parts, *blank, style_id=first_id, **options)

        networks = [network for network in (model, loss_network, second) if network is not None]
        lifecycle.describe_cost(run, {"model": trained}, networks, forward, images=1, microbatch=microbatch)
        progress = lifecycle.begin_run(run, schedule, batch_size=batch_size)
        loader = lifecycle.step_batches(data, run, progress, config.data.num_workers)
        grid = grid_inputs(data, device, dtype)

        with progress, contextlib.closing(loader):
            while True:
                # Snapshot, checkpoint and metrics where due; stop if done.
                stop = progress.should_stop()
                nimg, step = progress.nimg, progress.step
                record = {"nimg": nimg, "seconds": progress.seconds}
                snapshot, checkpoint = progress.due(schedule.snapshot_kimg), progress.checkpoint_due()
                if snapshot or checkpoint:
                    run.guard.check_weights([*trained, *ema.values()], nimg)
                if rank == 0 and snapshot:
                    with averaged_weights(model, ema), run.guard.finite_pictures(nimg):
                        run.folder.write_grid("stylized", stylized_grid(model, grid), nimg=nimg)
                        model.save(run.folder.path / MODEL_FILE, training=record)
                if checkpoint:
                    state = {
                        "model": {name: p.detach() for name, p in parameters.items()},
                        "calibration": model.calibration(),
                        "ema": ema,
                        **{name: optimizer.state_dict() for name, optimizer in optimizers.items()},
                    }
                    lifecycle.save_run(run, progress, state | metrics.state_dict())
                if metrics.due(progress):  # after the checkpoint: if killed here, the resumed run measures
                    with averaged_weights(model, ema):
                        samples = {"": stylized_by_index(model, data, device, dtype)}
                        save = functools.partial(model.save, training=record)
                        metrics.measure(run, progress, samples, save)
                if stop:
                    break

                # Gradients, accumulated over the microbatches of this process.
                progress.begin_step()
                if (batch := next(loader, None)) is None:
                    continue  # a loader process is gone: a checkpoint, then the error
                factor = lr_factor(nimg, schedule) / (1 + config.optimizer.lr_decay * step)
                for optimizer in optimizers.values():
                    for group in optimizer.param_groups:
                        group["lr"] = group["initial_lr"] * factor
                    optimizer.zero_grad(set_to_none=True)
                pairs = StyleBatch.of(batch, device, dtype, memory_format=memory_format, non_blocking=True)
                origin = draw_origin(runtime.seed, nimg)
                every = None if model.adds_styles else config.loss.autoencoder_every
                options["autoencoder"] = every is not None and step % every == every - 1
                losses = torch.zeros(3, dtype=torch.float64, device=device)
                for part in pairs.split(microbatch):
                    with autocast():
                        if whole_styles is not None and part.style_id is not None:
                            options["style_targets"] = whole_styles.features(part.style, part.style_id)
                        terms = compute_losses(*parts, *part[:2], style_id=part[2], origin=origin, **options)
                    weight = len(part.content) / batch_per_process
                    (terms.total * weight).backward()
                    losses += torch.stack([x.detach().double() for x in terms]) * weight

                # Optimizer step, skipped and counted where a loss or gradient is not finite; then EMA.
                distributed.average_gradients(trained)
                norm = gradient_norm(trained)
                named_losses = dict(zip(("total", "content", "style"), losses, strict=True))
                if run.guard.finite(norm, named_losses, nimg, kind="model"):
                    if config.optimizer.clip_grad_norm is not None:
                        torch.nn.utils.clip_grads_with_norm_(trained, config.optimizer.clip_grad_norm, norm)
                    for optimizer in optimizers.values():
                        optimizer.step()
                if not options["autoencoder"]:  # whose steps measure neither content nor style
                    observed = run.means.empty()
                    observed.add_each(STATISTICS, losses)
                    run.means.add_all(observed)
                decay = ema_decay(
                    batch_size, nimg, half_life_kimg=schedule.ema_half_life_kimg, rampup=schedule.ema_rampup
                )
                update_ema(ema, parameters, decay)
                progress.end_step()

                # Report.
                if progress.due(schedule.log_kimg):
                    stats = lifecycle.report_run(run, progress, {})
                    shown = {name: stats.get(f"loss/{name}", math.nan) for name in ("content", "style")}
                    progress.show(**shown)

        return lifecycle.end_run(run, progress)
