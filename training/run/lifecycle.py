"""What stands around the steps of every loop: the process, the run folder and its resumption, the end."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from pydantic import BaseModel
from torch import nn
from torch.utils.data import Dataset

from configs.schema import AnyRun, to_yaml
from ganmod import distributed
from ganmod.machine import peak_memory_mb
from training.loader import StepSampler, step_loader
from training.run.checkpoint import load_latest_checkpoint, save_checkpoint
from training.run.folder import MODEL_FILE, RunFolder
from training.run.nonfinite import NonFiniteGuard
from training.run.progress import RunProgress, StoppedBySignal
from training.run.running_means import RunningMeans

MAY_CHANGE = ("schedule", "metric", "runtime", "plugins")  # between the parts of one run
MAY_CHANGE_WITHIN = ("data.cache_mb", "data.num_workers", "model.encoder_weights", "loss.network_weights")
MUST_STAY = (("schedule", "batch_size"), ("runtime", "seed"))

Module = TypeVar("Module", bound=nn.Module)


class Place(NamedTuple):
    """This process among all, and where and how its tensors lie."""

    rank: int
    num_processes: int
    device: torch.device
    dtype: torch.dtype
    memory_format: torch.memory_format

    def put(self, network: Module) -> Module:
        """The network, moved here."""
        return network.to(self.device, self.dtype).to(memory_format=self.memory_format)


class Run(NamedTuple):
    """An open run: its folder, the state of its newest checkpoint, and what is counted from step to step."""

    config: AnyRun
    place: Place
    folder: RunFolder
    found: dict[str, Any] | None
    guard: NonFiniteGuard
    means: RunningMeans


def start_process(config: AnyRun) -> Place:
    """Join the other processes, import plug-ins, seed torch: after this all build equal networks."""
    runtime = config.runtime
    rank, num_processes, device = distributed.start(runtime.device)
    for plugin in config.plugins:
        importlib.import_module(plugin)
    torch.manual_seed(runtime.seed)
    dtype = torch.float64 if runtime.precision == "float64" else torch.float32
    memory_format = torch.channels_last if runtime.channels_last else torch.contiguous_format
    return Place(rank, num_processes, device, dtype, memory_format)


def check_share(batch: int, num_processes: int, per_pass: int, *, hint: str = "") -> None:
    """ValueError, with the next batch that fits, unless it divides over processes and passes."""
    share = num_processes * per_pass
    if batch % share:
        raise ValueError(
            f"batch_size {batch} is not a multiple of {num_processes} processes x {per_pass} per pass{hint}: "
            f"try {-(-batch // share) * share}"
        )


def open_run(
    config: AnyRun, run_dir: str | Path, place: Place, *, statistics: Sequence[str], resume: bool
) -> Run:
    """The run in a folder, to be continued if it has a checkpoint. Nothing of an earlier one is touched yet.

    Raises ValueError for a checkpoint of another run, CheckpointError where all are damaged.
    """
    runtime, limit = config.runtime, config.schedule.max_nonfinite_steps
    folder = RunFolder(run_dir, active=place.rank == 0, tensorboard=runtime.tensorboard)
    found = load_latest_checkpoint(run_dir, report=folder.log) if resume else None
    guard = NonFiniteGuard(folder.log, limit=limit)
    means = RunningMeans(statistics, place.device)
    if found is not None:
        check_same_run(found["config"], config)
        guard.load_state_dict(found["nonfinite"])
        means.sums.copy_(found["sums"])
    return Run(config, place, folder, found, guard, means)


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
                "use another --out, or --no-resume to begin anew"
            )


def _plain_paths(value: Any, key: str) -> Any:
    """Paths as they are compared: DIR/ and ./DIR are DIR."""
    if isinstance(value, list):
        return [_plain_paths(item, key) for item in value]
    is_path = isinstance(value, str) and value and (key.startswith("data.") or key == "transfer")
    return os.path.normpath(value) if is_path else value


def begin_run(run: Run, *, resume: bool) -> None:
    """Make the folder this run's: called when nothing of its beginning can fail any more."""
    nimg = 0
    if run.found is not None:
        nimg = run.found["nimg"]
        run.folder.log(f"resumed at {nimg} images")
        before, now = run.found["config"]["runtime"]["precision"], run.config.runtime.precision
        if before != now:
            run.folder.log(f"precision was {before} and is {now} from here on")
    if not resume:
        run.folder.clear()
    run.folder.discard_stats_after(nimg)
    run.folder.save_config(to_yaml(run.config))


def step_batches(dataset: Dataset, run: Run, at: RunProgress) -> Iterator[Any]:
    """This process's share of each step's items, from where the run is."""
    place = run.place
    sampler = StepSampler(batch=at.batch, nimg=at.nimg, rank=place.rank, num_processes=place.num_processes)
    return iter(step_loader(dataset, sampler, num_workers=run.config.data.num_workers))


def save_run(run: Run, at: RunProgress, own: Mapping[str, Any]) -> None:
    """Write a checkpoint: what all recipes have, and a recipe's own state. All processes call this."""
    sums = run.means.over_processes()
    if run.folder.active:
        shared = {
            "nimg": at.nimg,
            "seconds": at.seconds,
            "config": run.config.model_dump(mode="json"),
            "sums": sums,
            "nonfinite": run.guard.state_dict(),
        }
        save_checkpoint(run.folder.path, at.nimg, shared | dict(own))


def report_run(run: Run, at: RunProgress, own: Mapping[str, float]) -> dict[str, float]:
    """Write the means since the last report and a recipe's own values, and return both. All processes call
    this; times and memory are those of the first.
    """
    stats = run.means.report() | dict(own)
    stats |= {
        "seconds": at.seconds,
        "seconds_per_kimg": at.seconds / at.nimg * 1000,
        "peak_memory_mb": peak_memory_mb(run.place.device),
        "nonfinite_steps": float(run.guard.total),
    }
    run.folder.write_stats(at.nimg, stats)
    return stats


def end_run(run: Run, at: RunProgress) -> Path:
    """Close everything and return the final model file; StoppedBySignal if the run was interrupted."""
    what = "stopped" if at.interrupted else "done"
    run.folder.log(f"{what} at {at.nimg} images after {at.seconds:.0f} s")
    run.folder.close()
    distributed.stop()
    if at.interrupted:
        raise StoppedBySignal(
            f"checkpoint written at {at.nimg} images: run the same command again to continue"
        )
    return run.folder.path / MODEL_FILE
