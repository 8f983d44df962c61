"""Training of a style-transfer model: one flat loop, resumable to the bit."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from configs.schema import to_yaml
from configs.style import StyleRun
from ganmod.images import to_uint8
from style_transfer import StyleTransferModel, prepare_style
from training import distributed
from training.checkpoint import load_latest_checkpoint, save_checkpoint
from training.data import Pairs, StepSampler, step_loader
from training.ema import ema_decay, update_ema
from training.nonfinite import NonFiniteGuard
from training.run_folder import RunFolder, RunProgress, StoppedBySignal, StopRequest, check_same_run, every
from training.style_run import (
    build_data,
    build_loss_network,
    build_model,
    check_batch,
    same_network,
    style_transfer_losses,
)

MODEL_FILE = "model-latest.safetensors"
GRID_IMAGES = 6
SECTIONS = ("model", "loss", "data", "optimizer")
FREE_TO_CHANGE = ("data.cache_mb", "data.num_workers", "model.encoder_weights", "loss.network_weights")


def train(
    config: StyleRun, run_dir: str | Path, *, resume: bool = True, progress: bool | None = None
) -> Path:
    """Train until total_kimg or the time budget, write the run folder, return the path of the final model
    file.

    Running it again with the same folder continues from the newest checkpoint; `progress` False hides the
    bar. Raises StoppedBySignal after SIGTERM or SIGINT, NonFiniteError when the losses blow up.
    """
    # Process, data, networks. Every process builds the same initial weights from the seed.
    schedule, runtime = config.schedule, config.runtime
    rank, num_processes, device = distributed.start(runtime.device)
    check_batch(config, num_processes)
    for plugin in config.plugins:
        importlib.import_module(plugin)
    torch.manual_seed(runtime.seed)
    data = build_data(config.data, runtime.seed)
    dtype = torch.float64 if runtime.precision == "float64" else torch.float32
    memory_format = torch.channels_last if runtime.channels_last else torch.contiguous_format
    loss_network = build_loss_network(config.loss).to(device, dtype).to(memory_format=memory_format)
    model = build_model(config.model).to(device, dtype).to(memory_format=memory_format)
    parameters = model.trainable()
    ema = {name: p.detach().clone() for name, p in parameters.items()}
    optimizer = torch.optim.Adam(
        parameters.values(),
        lr=config.optimizer.lr,
        betas=(config.optimizer.beta1, config.optimizer.beta2),
        fused=True,
    )
    share = schedule.batch_size // num_processes
    micro = schedule.microbatch or share
    losses_of = torch.compile(style_transfer_losses) if runtime.compile else style_transfer_losses
    shared = same_network(model.encoder, loss_network)  # then an image need be encoded only once

    # Run folder and resume.
    run = RunFolder(run_dir, active=rank == 0, tensorboard=runtime.tensorboard)
    state = load_latest_checkpoint(run_dir, report=run.log) if resume else None
    nimg, seconds = 0, 0.0
    guard = NonFiniteGuard(run.log, limit=schedule.max_nonfinite_steps)
    sums = torch.zeros(4, dtype=torch.float64, device=device)  # since the last report: three losses, steps
    if state is not None:
        check_same_run(state["config"], config, sections=SECTIONS, free_to_change=FREE_TO_CHANGE)
        _restore(state, model, ema, optimizer)
        nimg, seconds = state["nimg"], state["seconds"]
        guard.load_state_dict(state["nonfinite"])
        sums.copy_(state["sums"])
        run.log(f"resumed at {nimg} images")
    if not resume:
        run.clear()
    run.discard_stats_after(nimg)
    run.save_config(to_yaml(config))
    loader = iter(
        step_loader(
            data,
            StepSampler(batch=schedule.batch_size, nimg=nimg, rank=rank, num_processes=num_processes),
            num_workers=config.data.num_workers,
        )
    )
    grid_inputs = _grid_inputs(data, device, dtype)
    run_progress = RunProgress(
        schedule,
        batch=schedule.batch_size,
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
            step_index = nimg // schedule.batch_size
            begun = nimg > 0
            if (
                rank == 0
                and begun
                and (done or every(schedule.snapshot_kimg, schedule.batch_size, step_index))
            ):
                with averaged_weights(model, ema):
                    run.write_grid(f"stylized-{nimg // 1000:06d}", _grid(model, *grid_inputs), nimg=nimg)
                    model.save(Path(run_dir) / MODEL_FILE, training={"nimg": nimg, "seconds": seconds})
            due = begun and every(schedule.checkpoint_kimg, schedule.batch_size, step_index)
            if rank == 0 and (done or stopping or due):
                save_checkpoint(
                    run_dir,
                    nimg,
                    {
                        "nimg": nimg,
                        "seconds": seconds,
                        "nonfinite": guard.state_dict(),
                        "config": config.model_dump(mode="json"),
                        "model": {name: p.detach() for name, p in parameters.items()},
                        "feature_rms": model.feature_rms,
                        "ema": ema,
                        "optimizer": optimizer.state_dict(),
                        "sums": sums,
                    },
                )
            if done or stopping:
                break

            # Gradients, accumulated over this process's share of the batch.
            begin = run_progress.clock()
            lr = config.optimizer.lr / (1 + config.optimizer.lr_decay * step_index)
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.zero_grad(set_to_none=True)
            content, style = (
                x.to(device, memory_format=memory_format, non_blocking=True).to(dtype) / 255
                for x in next(loader)
            )
            step_losses = torch.zeros(3, dtype=torch.float64, device=device)
            for c, s in zip(content.split(micro), style.split(micro), strict=True):
                with torch.autocast(device.type, torch.bfloat16, enabled=runtime.precision == "bfloat16"):
                    losses = losses_of(model, loss_network, config.loss, c, s, shared=shared)
                (losses.total * (len(c) / share)).backward()
                step_losses += torch.stack([x.detach().double() for x in losses]) * (len(c) / share)
            distributed.average_gradients(list(parameters.values()))
            step_losses = distributed.average(step_losses)

            # Optimizer and EMA; a step with non-finite losses or gradients is counted and left out.
            norm = torch.nn.utils.get_total_norm([p.grad for p in parameters.values() if p.grad is not None])
            terms = dict(zip(("total", "content", "style"), step_losses, strict=True))
            if guard.check(norm, terms, nimg, kind="model"):
                if config.optimizer.clip_grad_norm is not None:
                    torch.nn.utils.clip_grads_with_norm_(
                        parameters.values(), config.optimizer.clip_grad_norm, norm
                    )
                optimizer.step()
                sums += torch.cat([step_losses, step_losses.new_ones(1)])
            decay = ema_decay(
                schedule.batch_size,
                nimg,
                half_life_kimg=schedule.ema_half_life_kimg,
                rampup=schedule.ema_rampup,
            )
            update_ema(ema, parameters, decay)
            nimg += schedule.batch_size
            seconds += run_progress.clock() - begin

            # Report.
            run_progress.update(nimg, seconds)
            if (
                every(schedule.log_kimg, schedule.batch_size, nimg // schedule.batch_size)
                or nimg >= run_progress.total_nimg
            ):
                total, content_value, style_value, steps = sums.tolist()
                sums.zero_()
                stats = {
                    "loss/total": total / max(steps, 1),
                    "loss/content": content_value / max(steps, 1),
                    "loss/style": style_value / max(steps, 1),
                    "seconds": seconds,
                    "nonfinite_steps": float(guard.total),
                }
                run.write_stats(nimg, stats)
                run_progress.bar.set_postfix(
                    content=f"{stats['loss/content']:.3f}", style=f"{stats['loss/style']:.3f}"
                )

    run_progress.bar.close()
    run.log(f"{'stopped' if stopping and not done else 'done'} at {nimg} images after {seconds:.0f} s")
    run.close()
    distributed.stop()
    if stopping and not done:
        raise StoppedBySignal(f"checkpoint written at {nimg} images: run the same command again to continue")
    return Path(run_dir) / MODEL_FILE


def _restore(
    state: dict[str, Any], model: StyleTransferModel, ema: dict[str, Tensor], optimizer: torch.optim.Optimizer
) -> None:
    with torch.no_grad():
        for name, parameter in model.trainable().items():
            parameter.copy_(state["model"][name])
            ema[name].copy_(state["ema"][name])
        model.feature_rms.copy_(state["feature_rms"])
    optimizer.load_state_dict(state["optimizer"])


def _grid_inputs(data: Pairs, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The same few crops in every snapshot, from far beyond the positions that training reaches."""
    pairs = [data[10**9 + i] for i in range(GRID_IMAGES)]
    content, style = (torch.stack(list(x)).to(device, dtype) / 255 for x in zip(*pairs, strict=True))
    return content, style


@torch.no_grad()
def _grid(model: StyleTransferModel, content: Tensor, style: Tensor) -> list[list[Any]]:
    """Rows of uint8 images: contents, styles, stylized."""
    stylized = model(content, prepare_style(style, model.spec.style_image_size)).clamp(0, 1)
    return [list(to_uint8(images.float().cpu())) for images in (content, style, stylized)]


@contextlib.contextmanager
def averaged_weights(model: StyleTransferModel, ema: dict[str, Tensor]) -> Iterator[None]:
    """The model with its averaged weights, put back to the trained ones at the end."""
    trained = {name: p.detach().clone() for name, p in model.trainable().items()}
    _copy_into(model, ema)
    try:
        yield
    finally:
        _copy_into(model, trained)


@torch.no_grad()
def _copy_into(model: StyleTransferModel, values: dict[str, Tensor]) -> None:
    for name, parameter in model.trainable().items():
        parameter.copy_(values[name])
