"""What surrounds the steps of every loop: the process, the run folder, resuming, reports, the end."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from pydantic import BaseModel
from torch import nn
from torch.utils.data import Dataset

from configs.schema import AnyRun, to_yaml
from configs.sections import AnySchedule, Runtime
from ganmod import distributed
from ganmod.machine import peak_memory_mb
from training.loader import StepSampler, step_loader
from training.run.checkpoint import load_latest_checkpoint, save_checkpoint
from training.run.cost import count_parameters, estimate_memory_mib
from training.run.folder import MODEL_FILE, RunFolder
from training.run.nonfinite import NonFiniteGuard
from training.run.progress import RunProgress, StoppedBySignal
from training.run.running_means import RunningMeans

MAY_CHANGE = ("schedule", "metric", "runtime", "plugins")  # between the parts of one run
MAY_CHANGE_WITHIN = ("data.cache_mb", "data.num_workers", "model.encoder_weights", "loss.network_weights")
MUST_STAY = (("schedule", "batch_size"), ("runtime", "seed"))

Module = TypeVar("Module", bound=nn.Module)


class Process(NamedTuple):
    """This process among all, and where and how its tensors are stored."""

    rank: int
    world_size: int
    device: torch.device
    dtype: torch.dtype
    memory_format: torch.memory_format

    def put(self, network: Module) -> Module:
        """The network, moved to the device in this dtype and memory format."""
        return network.to(self.device, self.dtype).to(memory_format=self.memory_format)


class Run(NamedTuple):
    """An open run: its folder, the state of its newest checkpoint, and what is counted from step to step.

    config: as it is written to the folder and to checkpoints; the parts of a loop are given their sections.
    """

    config: AnyRun
    process: Process
    folder: RunFolder
    resumed_state: dict[str, Any] | None
    guard: NonFiniteGuard
    means: RunningMeans
    show: bool | None  # False hides progress bars; None shows them in a terminal


def start_process(runtime: Runtime, plugins: Sequence[str]) -> Process:
    """Join the other processes, import plug-ins, seed torch: after this all build equal networks."""
    rank, world_size, device = distributed.start(runtime.device)
    for plugin in plugins:
        importlib.import_module(plugin)
    torch.manual_seed(runtime.seed)
    dtype = torch.float64 if runtime.precision == "float64" else torch.float32
    memory_format = torch.channels_last if runtime.channels_last else torch.contiguous_format
    return Process(rank, world_size, device, dtype, memory_format)


def check_batch_size(batch_size: int, world_size: int, microbatch: int, *, hint: str = "") -> None:
    """Check that a batch divides over processes and forward passes; ValueError, with the next that does.

    hint: why a pass has this size, for the message.
    """
    multiple = world_size * microbatch
    if batch_size % multiple:
        raise ValueError(
            f"batch_size {batch_size} is not a multiple of {world_size} processes x {microbatch} per "
            f"pass{hint}: try {-(-batch_size // multiple) * multiple}"
        )


def open_run(
    config: AnyRun,
    run_dir: str | Path,
    process: Process,
    *,
    statistics: Sequence[str],
    resume: bool,
    show: bool | None = None,
) -> Run:
    """The run in a folder, to be continued if it has a checkpoint; nothing of an earlier one is touched yet.

    Raises ValueError for a checkpoint of another run, CheckpointError where all are damaged.
    """
    folder = RunFolder(run_dir, active=process.rank == 0, tensorboard=config.runtime.tensorboard)
    resumed_state = load_latest_checkpoint(run_dir, report=folder.log) if resume else None
    guard = NonFiniteGuard(folder.log, limit=config.schedule.max_nonfinite_steps)
    means = RunningMeans(statistics, process.device)
    if resumed_state is not None:
        check_same_run(resumed_state["config"], config)
        guard.load_state_dict(resumed_state["nonfinite"])
        means.sums.copy_(resumed_state["sums"])
    show = show if process.rank == 0 else False
    return Run(config, process, folder, resumed_state, guard, means, show)


def check_same_run(saved: Mapping[str, Any], config: BaseModel) -> None:
    """ValueError, which names the key, if a checkpoint's configuration differs in what a run must keep."""

    def kept(run: Mapping[str, Any]) -> dict[str, Any]:
        values = {"recipe": run["recipe"]}  # the first that is named
        values |= {f"{section}.{key}": run[section][key] for section, key in MUST_STAY}
        for name, section in run.items():
            if name not in MAY_CHANGE:
                values |= (
                    {f"{name}.{key}": value for key, value in section.items()}
                    if isinstance(section, Mapping)
                    else {name: section}
                )
        return {key: _plain_paths(v, key) for key, v in values.items() if key not in MAY_CHANGE_WITHIN}

    before, now = kept(saved), kept(config.model_dump(mode="json"))
    for key, value in now.items():
        if before.get(key) != value:
            raise ValueError(
                f"the run folder holds a run with {key} = {before.get(key)!r}, this command says {value!r}: "
                "use another --out, or --no-resume to begin again"
            )


def _plain_paths(value: Any, key: str) -> Any:
    """Paths as they are compared: DIR/ and ./DIR are DIR."""
    if isinstance(value, list):
        return [_plain_paths(item, key) for item in value]
    is_path = isinstance(value, str) and value and (key.startswith("data.") or key == "transfer")
    return os.path.normpath(value) if is_path else value


def begin_run(run: Run, schedule: AnySchedule, *, batch_size: int, resume: bool) -> RunProgress:
    """Make the folder this run's, when nothing of its beginning can fail any more; return how far it is."""
    nimg = 0
    if run.resumed_state is not None:
        nimg = run.resumed_state["nimg"]
        run.folder.log(f"resumed at {nimg} images")
        before, now = run.resumed_state["config"]["runtime"]["precision"], run.config.runtime.precision
        if before != now:
            run.folder.log(f"precision was {before} and is {now} from here on")
    if not resume:
        run.folder.clear()
    run.folder.discard_stats_after(nimg)
    run.folder.save_config(to_yaml(run.config))
    return RunProgress(
        schedule,
        run.process.device,
        batch_size=batch_size,
        resumed_state=run.resumed_state,
        show=run.show,
        log=run.folder.log,
    )


def describe_cost(
    run: Run,
    networks: Mapping[str, nn.Module],
    forward: Callable[[], object],
    *,
    images: int,
    microbatch: int,
) -> None:
    """Log the parameters and about how much memory the run will take, see `estimate_memory_mib`."""
    if run.folder.active:
        device = run.process.device
        needed = estimate_memory_mib(
            networks.values(), forward, images=images, microbatch=microbatch, device=device
        )
        trained = {name: network for name, network in networks.items() if not name.endswith("_ema")}
        run.folder.log(
            f"parameters: {count_parameters(trained)}; memory: about {needed:,.0f} MiB "
            f"({microbatch} images in a pass, on {device})"
        )


def step_batches(dataset: Dataset, run: Run, progress: RunProgress, num_workers: int) -> Iterator[Any]:
    """This process's items of each step's batch, from where the run is."""
    sampler = StepSampler(
        batch_size=progress.batch_size,
        nimg=progress.nimg,
        rank=run.process.rank,
        world_size=run.process.world_size,
    )
    return iter(step_loader(dataset, sampler, num_workers=num_workers))


def save_run(run: Run, progress: RunProgress, recipe_state: Mapping[str, Any]) -> None:
    """Write a checkpoint: what all recipes have, and a recipe's own state. All processes call this."""
    sums = run.means.over_processes()
    if run.folder.active:
        shared = {
            "nimg": progress.nimg,
            "seconds": progress.seconds,
            "config": run.config.model_dump(mode="json"),
            "sums": sums,
            "nonfinite": run.guard.state_dict(),
        }
        save_checkpoint(run.folder.path, progress.nimg, shared | dict(recipe_state))


def report_run(run: Run, progress: RunProgress, recipe_stats: Mapping[str, float]) -> dict[str, float]:
    """Write the means since the last report and a recipe's own values, and return both.

    All processes call this; times and memory are those of the first.
    """
    stats = run.means.report() | dict(recipe_stats)
    stats |= {
        "seconds": progress.seconds,
        "seconds_per_kimg": progress.seconds / progress.nimg * 1000,
        "peak_memory_mb": peak_memory_mb(run.process.device),
        "nonfinite_steps": float(run.guard.total),
    }
    run.folder.write_stats(progress.nimg, stats)
    return stats


def end_run(run: Run, progress: RunProgress) -> Path:
    """Close everything and return the final model file; StoppedBySignal if the run was interrupted."""
    outcome = "stopped" if progress.interrupted else "done"
    run.folder.log(f"{outcome} at {progress.nimg} images after {progress.seconds:.0f} s")
    run.folder.close()
    distributed.stop()
    if progress.interrupted:
        raise StoppedBySignal(
            f"checkpoint written at {progress.nimg} images: run the same command again to continue"
        )
    return run.folder.path / MODEL_FILE
