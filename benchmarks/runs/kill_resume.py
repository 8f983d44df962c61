"""Does a training that is killed at any moment end as one that was left alone, value by value?

Tiny runs of the three recipes, with a checkpoint after every step, are killed (SIGKILL) at random moments,
many in the middle of a write, and started again until they end. In a share of the lives a second process
tries the same folder. Then checkpoint, model, statistics and pictures are compared with those of a run that
nobody disturbed: every number but times and memory. Needs a POSIX system; no data, no GPU.

    python benchmarks/runs/kill_resume.py --kills 100 --out results/runs/kill_resume.json
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from tqdm import tqdm

import training.run.event_file  # noqa: F401  imported once, before the processes part
from configs.schema import AnyRun, load_starganv2_config, load_style_config, load_stylegan2_config
from ganmod.io.images import read_image, write_image
from ganmod.io.model_file import read_model_file
from ganmod.machine import describe_machine
from training import train_starganv2, train_style, train_stylegan2
from training.run.checkpoint import load_latest_checkpoint
from training.run.lock import RunLockedError

# Per recipe: its loop, the reader of its configurations, the batch, and what makes its networks tiny.
RECIPES: dict[str, tuple[Callable[..., Path], Callable[..., AnyRun], int, dict[str, Any]]] = {
    "style": (
        train_style.train,
        load_style_config,
        2,
        {"model.style_dim": 8, "data.crop": 32, "data.short_side": 64, "model.style_image_size": 64},
    ),
    "stylegan2": (
        train_stylegan2.train,
        load_stylegan2_config,
        4,
        {"model.z_dim": 8, "model.w_dim": 8, "model.channel_max": 8, "augmentation.p": 0.4},
    ),
    "starganv2": (
        train_starganv2.train,
        load_starganv2_config,
        4,
        {"model.img_size": 16, "model.channel_base": 64, "model.channel_max": 6, "model.hidden_dim": 8},
    ),
}
UNCOMPARED = ("seconds", "config", "changes", "seconds_per_kimg", "peak_memory_mb")
LOCKED, FAILED = 7, 9  # exit codes of the processes here
STEPS = 16
SHARE_IN_WRITES = 0.5  # of the kills wait for one
SLOW_DISK = 0.004  # seconds by which a flush or a rename is delayed, so that kills meet one


def write_images(folder: Path) -> Path:
    """Two classes of four images, 16 x 16 pixels."""
    rng = np.random.default_rng(0)
    for i in range(8):
        image = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        write_image(folder / ("cat" if i % 2 else "dog") / f"{i}.png", image)
    return folder


def train_tiny(recipe: str, images: Path, run_dir: Path, *, steps: int, **changes: Any) -> Path:
    """Train on the CPU; the path of the model.

    Every step has a log line, a checkpoint and events, every second one a snapshot. changes: of the
    configuration.
    """
    train, load, batch, tiny = RECIPES[recipe]
    settings: dict[str, Any] = {
        "schedule.batch_size": batch,
        "schedule.total_kimg": steps * batch / 1000,
        "schedule.log_kimg": batch / 1000,
        "schedule.checkpoint_kimg": batch / 1000,
        "schedule.snapshot_kimg": 2 * batch / 1000,
        "runtime.device": "cpu",
    }
    if recipe == "style":
        settings |= {"data.content": [str(images / "cat")], "data.style": [str(images / "dog")]}
    else:
        settings |= {"data.path": str(images)}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "batch_size 4 is below 8")
        return train(load(f"{recipe}-smoke", settings | tiny | changes), run_dir, show_progress=False)


def values_of(run_dir: Path) -> dict[str, Any]:
    """Everything that a run wrote, by name: arrays, tensors and plain values."""
    values: dict[str, Any] = {}
    state = load_latest_checkpoint(run_dir, report=print)
    model = read_model_file(run_dir / "model-latest.safetensors").tensors
    lines = [json.loads(line) for line in (run_dir / "stats.jsonl").read_text().splitlines()]
    for name, part in (("checkpoint", state), ("model", model), ("stats.jsonl", lines)):
        values |= dict(_leaves(part, name))
    for file in sorted(run_dir.glob("*.png")):
        values[file.name] = torch.from_numpy(read_image(file))
    return values


def compare_runs(whole: Path, parts: Path) -> tuple[int, list[str]]:
    """(numbers compared, names of the values that differ)."""
    first, second = values_of(whole), values_of(parts)
    different = sorted(first.keys() ^ second.keys())
    count = 0
    for name in first.keys() & second.keys():
        a, b = first[name], second[name]
        count += a.numel() if isinstance(a, torch.Tensor) else 1
        if isinstance(a, torch.Tensor):
            same = a.shape == b.shape and bool(((a == b) | (a.isnan() & b.isnan())).all())
        else:
            same = a == b or (a != a and b != b)
        if not same:
            different.append(name)
    return count, different


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            if key not in UNCOMPARED:
                yield from _leaves(item, f"{name}/{key}")
    else:
        yield name, value


@contextlib.contextmanager
def slow_disk() -> Iterator[None]:
    """Delay flushes and renames of this process."""

    def delayed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            time.sleep(SLOW_DISK)
            return function(*arguments)

        return call

    with (
        mock.patch.object(os, "fsync", delayed(os.fsync)),
        mock.patch.object(os, "replace", delayed(os.replace)),
    ):
        yield


def start(work: Callable[[], object], log: Path) -> int:
    """The process id of a copy of this one that does the work; its errors go to `log`."""
    pid = os.fork()
    if pid:
        return pid
    code = FAILED
    try:
        with log.open("a", buffering=1) as file, contextlib.redirect_stderr(file):
            try:
                work()
                code = 0
            except RunLockedError:
                code = LOCKED
            except BaseException:
                traceback.print_exc()
    finally:
        os._exit(code)


def has_ended(pid: int) -> bool:
    """Whether a child process has ended; it can still be waited for."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def wait_for_kill(pid: int, folder: Path, seconds: float, *, in_write: bool) -> None:
    """Return after some seconds, in_write: then at the next temporary file; or when the process has ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not has_ended(pid):
        time.sleep(0.002)
    while in_write and not half_written(folder) and not has_ended(pid):
        time.sleep(0.0002)


def half_written(folder: Path) -> bool:
    """Whether there is a temporary file."""
    return folder.is_dir() and any(name.endswith(".tmp") for name in os.listdir(folder))


def live_once(
    work: Callable[[], object], folder: Path, draw: random.Random, *, seconds: float, second_share: float
) -> Counter[str]:
    """Start a run, perhaps a second one, and kill them somewhere within `seconds`; what happened, counted."""
    log = folder.with_suffix(".log")
    events: Counter[str] = Counter()
    pids = [start(work, log)]
    if draw.random() < second_share:
        events["second runs"] += 1
        time.sleep(draw.uniform(0, 0.1))
        pids.append(start(work, log))
        while not any(map(has_ended, pids)):  # one of them is refused
            time.sleep(0.002)
        pids.sort(key=has_ended)
    in_write = draw.random() < SHARE_IN_WRITES
    wait_for_kill(pids[0], folder, draw.uniform(0, seconds), in_write=in_write)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    events["kills"] += codes.count(-signal.SIGKILL)
    events["refused"] += codes.count(LOCKED)
    events["ended"] += codes.count(0)
    events["failed"] += codes.count(FAILED)
    events["in the middle of a write"] += -signal.SIGKILL in codes and half_written(folder)
    return events


def check_recipe(
    recipe: str, folder: Path, draw: random.Random, *, kills: int, second_share: float, bar: tqdm
) -> dict[str, Any]:
    """Kill runs of a recipe so many times, and compare each that ends with an undisturbed one."""
    images = write_images(folder / "images")

    def run(name: str) -> None:
        with slow_disk():
            train_tiny(recipe, images, folder / name, steps=STEPS)

    def finish(name: str) -> None:
        pid = start(functools.partial(run, name), folder / f"{name}.log")
        if os.waitpid(pid, 0)[1]:
            sys.exit((folder / f"{name}.log").read_text())

    begin = time.monotonic()
    finish("whole")
    seconds = time.monotonic() - begin
    events: Counter[str] = Counter()
    compared, different, runs = 0, list[str](), 0
    while events["kills"] < kills:
        runs += 1
        name = f"run-{runs}"
        ended = False
        while events["kills"] < kills and not ended:
            lived = live_once(
                functools.partial(run, name),
                folder / name,
                draw,
                seconds=0.8 * seconds,
                second_share=second_share,
            )
            if lived["failed"]:
                sys.exit((folder / f"{name}.log").read_text())
            events += lived
            bar.update(lived["kills"])
            ended = lived["ended"] > 0
        finish(name)  # what is left, if anything
        count, names = compare_runs(folder / "whole", folder / name)
        compared += count
        different += [f"{name}: {value}" for value in names]
    return dict(events) | {"runs": runs, "values compared": compared, "values different": different}


def show(recipe: str, result: dict[str, Any]) -> None:
    """Print what was found, and the first names that differ."""
    in_writes, second = result.get("in the middle of a write", 0), result.get("second runs", 0)
    print(
        f"{recipe}: {result['kills']} kills, {in_writes} in the middle of a write; "
        f"{second} second processes, {result.get('refused', 0)} refused; "
        f"{result['runs']} runs, {result['values compared']:,} values compared, "
        f"{len(result['values different'])} different",
        flush=True,
    )
    for name in result["values different"][:20]:
        print(f"  {name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100, help="over the three recipes")
    parser.add_argument("--second-share", type=float, default=0.25, help="lives with a second process")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, help="JSON file of the figures")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # threads would not survive the parting of processes
    draw = random.Random(arguments.seed)
    results = {}
    with (
        tempfile.TemporaryDirectory(prefix="kill-resume-") as folder,
        tqdm(total=arguments.kills, unit="kill", disable=None) as bar,
    ):
        for number, recipe in enumerate(RECIPES):
            kills = (arguments.kills + number) // len(RECIPES)
            results[recipe] = check_recipe(
                recipe, Path(folder) / recipe, draw, kills=kills, second_share=arguments.second_share, bar=bar
            )
            show(recipe, results[recipe])
    if arguments.out is not None:
        record = {"machine": describe_machine(torch.device("cpu")), "steps": STEPS, "recipes": results}
        arguments.out.write_text(json.dumps(record, indent=1) + "\n")
    sys.exit(any(result["values different"] for result in results.values()))


if __name__ == "__main__":
    main()
