"""What surrounds the steps of every loop: the process, the run folder, resuming, reports, the end."""

from __future__ import annotations

import contextlib
import importlib
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.utils.data import Dataset

from configs.problems import shortened
from configs.schema import AnyRun, to_yaml
from configs.sections import AnySchedule, Runtime
from ganmod import distributed
from ganmod.data.identity import file_identity
from ganmod.machine import peak_memory_mb
from training.cost import count_parameters, estimate_memory_mib
from training.loader import LoaderKilledError, StepSampler, iterate_steps, step_loader
from training.run.checkpoint import load_latest_checkpoint, restoring, save_checkpoint
from training.run.folder import MODEL_FILE, RunFolder
from training.run.nonfinite import NonFiniteGuard
from training.run.progress import RunProgress, StoppedBySignal
from training.run.running_means import RunningMeans
from training.run.same_run import find_changes

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
    identity: {key: hash of the content} of the data, which may lie elsewhere when the run is continued.
    changes: records {"nimg", "key", "before", "now"} of what was changed since the run began.
    start_over: an earlier run in the folder is put aside, and kept if keep_old.
    """

    config: AnyRun
    process: Process
    folder: RunFolder
    resumed_state: dict[str, Any] | None
    guard: NonFiniteGuard
    means: RunningMeans
    show: bool | None  # False hides progress bars; None shows them in a terminal
    identity: Mapping[str, str]
    changes: list[dict[str, Any]]
    start_over: bool
    keep_old: bool


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


@contextlib.contextmanager
def open_run(
    config: AnyRun,
    run_dir: str | Path,
    process: Process,
    *,
    statistics: Sequence[str],
    identity: Mapping[str, str],
    resume: bool,
    keep_old: bool,
    show: bool | None = None,
) -> Iterator[Run]:
    """The run in a folder, to be continued if it has a checkpoint; nothing of an earlier one is touched yet.

    A context: the folder is this process's until its end. Raises ValueError for a checkpoint of another run,
    CheckpointError where all are damaged, RunLockedError while another process runs in the folder.
    """
    folder = RunFolder(run_dir, active=process.rank == 0, tensorboard=config.runtime.tensorboard)
    with folder:
        state = load_latest_checkpoint(folder.path, report=folder.log) if resume else None
        yield _open(
            config,
            folder,
            process,
            statistics,
            identity,
            state,
            show=show,
            start_over=not resume,
            keep_old=keep_old,
        )


def _open(
    config: AnyRun,
    folder: RunFolder,
    process: Process,
    statistics: Sequence[str],
    identity: Mapping[str, str],
    state: dict[str, Any] | None,
    *,
    show: bool | None,
    start_over: bool,
    keep_old: bool,
) -> Run:
    guard = NonFiniteGuard(
        folder.log,
        limit=config.schedule.max_nonfinite_steps,
        run_dir=folder.path,
        precision=config.runtime.precision,
    )
    means = RunningMeans(statistics, process.device)
    changes: list[dict[str, Any]] = []
    if state is not None:
        with restoring(folder.path):
            nimg, seconds = state["nimg"], state["seconds"]
            if type(nimg) is not int or nimg < 0 or not 0 <= seconds < math.inf:
                raise TypeError(f"nimg is {shortened(nimg)} and seconds {shortened(seconds)}")
            saved_identity = state.get("identity", {})
            identity = {**identity, **_transfer_identity(config, process, state["config"], saved_identity)}
            found = find_changes(
                _with_defaults(type(config), state["config"]),
                config.model_dump(mode="json"),
                saved_identity=saved_identity,
                identity=identity,
            )
            changes = [*state.get("changes", ())]
            if not all(
                isinstance(change, dict) and {"nimg", "key", "before", "now"} <= change.keys()
                for change in changes
            ):
                raise TypeError(f"changes are {shortened(changes)}")
            changes += [
                {"nimg": nimg, "key": key, "before": old, "now": new} for key, (old, new) in found.items()
            ]
            guard.load_state_dict(state["nonfinite"])
            means.sums.copy_(state["sums"])
    else:
        identity = {**identity, **_transfer_identity(config, process)}
    show = show if process.rank == 0 else False
    return Run(config, process, folder, state, guard, means, show, identity, changes, start_over, keep_old)


def _with_defaults(kind: type[AnyRun], saved: Any) -> Any:
    """A checkpoint's configuration with the keys that an earlier version did not have."""
    try:
        return kind.model_validate(saved).model_dump(mode="json")
    except ValidationError:  # of another recipe, or of a key that is gone
        return saved


def _transfer_identity(
    config: AnyRun,
    process: Process,
    saved: Mapping[str, Any] | None = None,
    saved_identity: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """{"transfer": hash of the file that the run begins with}; of a resumed one only if its path is new.

    The weights that are trained are not taken from it again, so that it may have changed meanwhile.
    """
    path = getattr(config, "transfer", None)
    if saved is not None and saved.get("transfer") == path:
        return {key: value for key, value in (saved_identity or {}).items() if key == "transfer"}
    found = file_identity(path) if saved is not None or process.rank == 0 else None
    return {} if found is None else {"transfer": found}


def restore_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Set an optimizer to a checkpoint's state, but keep the learning rates that it was built with."""
    kept: list[dict[str, Any]] = [
        {key: group[key] for key in ("lr", "initial_lr") if key in group} for group in optimizer.param_groups
    ]
    optimizer.load_state_dict(state)
    for group, rates in zip(optimizer.param_groups, kept, strict=True):
        group.update(rates)


def restore_parts(
    networks: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
    state: Mapping[str, Any],
) -> None:
    """Set networks and optimizers to a checkpoint's state, by name."""
    for name, network in networks.items():
        network.load_state_dict(state[name])
    for name, optimizer in optimizers.items():
        restore_optimizer(optimizer, state[name])


def begin_run(run: Run, schedule: AnySchedule, *, batch_size: int) -> RunProgress:
    """Make the folder this run's, when nothing of its beginning can fail any more; return how far it is."""
    nimg = 0
    if run.resumed_state is not None:
        nimg = run.resumed_state["nimg"]
        run.folder.log(f"resumed at {nimg} images")
        for change in run.changes:
            if change["nimg"] == nimg:
                run.folder.log(
                    f"from here on {change['key']} is {change['now']!r}, before {change['before']!r}"
                )
    if run.start_over:
        run.folder.set_aside(keep=run.keep_old)
    run.folder.begin(nimg)
    run.folder.save_config(to_yaml(run.config))
    run.folder.save_changes(run.changes)
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
    trained: Mapping[str, Sequence[Tensor]],
    networks: Iterable[nn.Module],
    forward: Callable[[], object],
    *,
    images: int,
    microbatch: int,
) -> None:
    """Log the trained parameters and about how much memory the run takes, see `estimate_memory_mib`.

    trained: the parameters by network.
    """
    if run.folder.active:
        device = run.process.device
        needed = estimate_memory_mib(
            [p for parameters in trained.values() for p in parameters],
            networks,
            forward,
            images=images,
            microbatch=microbatch,
            device=device,
            has_averages=run.resumed_state is not None,
        )
        run.folder.log(
            f"trained parameters: {count_parameters(trained)}; memory: about {needed:,.0f} MiB "
            f"({microbatch} images in a pass, on {device})"
        )


def step_batches(dataset: Dataset, run: Run, progress: RunProgress, num_workers: int) -> Generator[Any]:
    """This process's items of each step's batch, from where the run is.

    It ends where a loader process is killed: the run then stops with a checkpoint, and `end_run` raises
    LoaderKilledError. Among several processes it is raised at once, as the others do not know of it.
    """
    sampler = StepSampler(
        batch_size=progress.batch_size,
        nimg=progress.nimg,
        rank=run.process.rank,
        world_size=run.process.world_size,
    )
    try:
        yield from iterate_steps(step_loader(dataset, sampler, num_workers=num_workers))
    except LoaderKilledError as error:
        if run.process.world_size > 1:
            raise
        progress.fail(error)


def save_run(run: Run, progress: RunProgress, recipe_state: Mapping[str, Any]) -> None:
    """Write a checkpoint: what all recipes have, and a recipe's own state. All processes call this."""
    sums = run.means.over_processes()
    if run.folder.active:
        shared = {
            "nimg": progress.nimg,
            "seconds": progress.seconds,
            "config": run.config.model_dump(mode="json"),
            "identity": dict(run.identity),
            "changes": run.changes,
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
    """Log the end, leave the other processes, and return the final model file.

    Raises what stopped the run, or StoppedBySignal if it was interrupted.
    """
    outcome = "stopped" if progress.interrupted else "done"
    run.folder.log(f"{outcome} at {progress.nimg} images after {progress.seconds:.0f} s")
    distributed.stop()
    if progress.failure is not None:
        raise progress.failure
    if progress.interrupted:
        raise StoppedBySignal(
            f"checkpoint written at {progress.nimg} images: run the same command again to continue"
        )
    return run.folder.path / MODEL_FILE
