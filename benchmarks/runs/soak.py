"""Does a training on two processes keep its memory, for hours, while it is killed every few minutes?

A small StyleGAN2 (ADA, loader processes, checkpoints, snapshots) is trained by torchrun on the CPU. At random
moments all processes are killed (SIGKILL) and started again; the last life is ended by SIGTERM. The resident
memory of both trainers is read every few seconds. Needs Linux; no data, no GPU.

    python benchmarks/runs/soak.py --minutes 120 --out results/runs/soak.json
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from kill_resume import write_images

from ganmod.machine import describe_machine

PROCESSES = 2
EVERY = 3.0  # seconds between two readings
WARM_UP = 90.0  # seconds of a life, in which the allocator's arenas fill
WINDOW = 10  # readings whose median counts, at the begin and at the end of a life
SETTINGS = {
    "schedule.total_kimg": 1e6,
    "schedule.checkpoint_minutes": 0.5,
    "schedule.log_kimg": 0.8,
    "schedule.snapshot_kimg": 4,
    "data.num_workers": 1,
    "augmentation.ada_interval": 4,
}


def start(images: Path, run_dir: Path, log: Path) -> subprocess.Popen:
    """Begin or continue the run."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(PROCESSES),
    ]
    command += ["-m", "ganmod", "train", "stylegan2", "--config", "stylegan2-smoke", "--data", str(images)]
    command += ["--device", "cpu", "--batch", "8", "--out", str(run_dir)]
    for key, value in SETTINGS.items():
        command += ["--set", f"{key}={value}"]
    with log.open("a") as output:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            command, stderr=output, stdout=output, start_new_session=True, env=environment
        )


def trainers(launcher: int) -> dict[int, float]:
    """{process: resident MiB} of torchrun's children, in the order of their process ids."""
    found = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        except OSError:  # it has ended
            continue
        if int(fields["PPid"]) == launcher and "VmRSS" in fields:
            found[int(fields["Pid"])] = int(fields["VmRSS"].split()[0]) / 1024
    return dict(sorted(found.items()))


def newest(run_dir: Path, name: str) -> int:
    """Images at the newest file of the name, 0 before the first."""
    counts = (int(re.findall(r"\d+", file.name)[0]) for file in run_dir.glob(f"{name}-*"))
    return max(counts, default=0)


def send(process: subprocess.Popen, number: int) -> None:
    """Signal the launcher and the trainers, which it starts in groups of their own."""
    for pid in (*trainers(process.pid), process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, number)


def live(images: Path, run_dir: Path, log: Path, *, seconds: float, gently: bool) -> dict[str, Any]:
    """One life: its memory in MiB by process, from its first checkpoint and snapshot on, and at its end.

    ``growth`` is None for a life that was too short for two windows after these and WARM_UP.
    """
    before = newest(run_dir, "checkpoint"), newest(run_dir, "fakes")
    process = start(images, run_dir, log)
    begin = time.monotonic()
    readings: list[tuple[float, ...]] = []
    try:
        while time.monotonic() - begin < seconds:
            time.sleep(EVERY)
            if process.poll() is not None:
                raise RuntimeError(f"the training ended with {process.returncode}: {log.read_text()[-3000:]}")
            resident = tuple(trainers(process.pid).values())
            written = newest(run_dir, "checkpoint"), newest(run_dir, "fakes")
            warm = all(now > then for now, then in zip(written, before, strict=True))
            if warm and time.monotonic() - begin > WARM_UP and len(resident) == PROCESSES:
                readings.append(resident)
        send(process, signal.SIGTERM if gently else signal.SIGKILL)
        process.wait()
    finally:
        if process.poll() is None:
            send(process, signal.SIGKILL)
    life: dict[str, Any] = {"seconds": seconds, "nimg": newest(run_dir, "checkpoint"), "growth": None}
    if len(readings) >= 2 * WINDOW:
        ends = (readings[:WINDOW], readings[-WINDOW:])
        first, last = ([statistics.median(values) for values in zip(*end, strict=True)] for end in ends)
        growth = max(after / before - 1 for before, after in zip(first, last, strict=True))
        life |= {"first_mib": first, "last_mib": last, "growth": growth}
    return life


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument(
        "--life", type=float, nargs=2, default=(2, 10), metavar=("FROM", "TO"), help="minutes"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, help="JSON file of the figures")
    args = parser.parse_args()
    draw = random.Random(args.seed)
    begin = time.monotonic()
    lives: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        images, run_dir, log = (
            write_images(Path(folder) / "images"),
            Path(folder) / "run",
            Path(folder) / "log",
        )
        while (left := begin + args.minutes * 60 - time.monotonic()) > 0:
            seconds = draw.uniform(*args.life) * 60
            last = left - seconds < args.life[0] * 60
            lives.append(live(images, run_dir, log, seconds=max(left, 90) if last else seconds, gently=last))
            print(json.dumps(lives[-1]), flush=True)
            if last:
                break
        ended_by_signal = "checkpoint written at" in log.read_text()
    counts = [life["nimg"] for life in lives]
    measured = [life for life in lives if life["growth"] is not None]
    report = {
        "minutes": (time.monotonic() - begin) / 60,
        "kills": len(lives) - 1,
        "images": counts[-1],
        "each_life_went_on": all(a < b for a, b in itertools.pairwise(counts)),
        "ended_by_signal": ended_by_signal,
        "largest_growth_within_a_life": max(life["growth"] for life in measured),
        "lives_measured": len(measured),
        "last_life_to_first": max(
            b / a - 1 for a, b in zip(measured[0]["last_mib"], measured[-1]["last_mib"], strict=True)
        ),
        "machine": describe_machine(torch.device("cpu")),
    }
    print(json.dumps(report, indent=2))
    if args.out:
        args.out.write_text(json.dumps(report | {"lives": lives}, indent=2) + "\n")


if __name__ == "__main__":
    main()
