"""Does a training on two processes keep its memory, for hours, while it is killed every few minutes?

A small StyleGAN2 (ADA, loader processes, checkpoints, snapshots) is trained by torchrun on the CPU. At random
moments all processes are killed (SIGKILL) and started again; the last life is ended by SIGTERM. The resident
memory of both trainers is read every few seconds. Needs Linux; no data, no GPU.

    python benchmarks/runs/soak.py --minutes 120 --out results/soak.json
"""

from __future__ import annotations

import argparse
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
WARM_UP = 45.0  # seconds of a life, in which caches fill
WINDOW = 10  # readings whose median counts, at the begin and at the end of a life
SETTINGS = {
    "schedule.total_kimg": 1e6,
    "schedule.checkpoint_minutes": 0.5,
    "schedule.log_kimg": 0.8,
    "schedule.snapshot_kimg": 8,
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
    """{process: resident MiB} of torchrun's children, in the order of their ranks."""
    found = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        except OSError:  # it has ended
            continue
        if int(fields["PPid"]) == launcher and "VmRSS" in fields:
            found[int(fields["Pid"])] = int(fields["VmRSS"].split()[0]) / 1024
    return dict(sorted(found.items()))


def newest(run_dir: Path) -> int:
    """Images at the newest checkpoint, 0 before the first."""
    return max((int(re.findall(r"\d+", file.name)[0]) for file in run_dir.glob("checkpoint-*.pt")), default=0)


def live(images: Path, run_dir: Path, log: Path, *, seconds: float, gently: bool) -> dict[str, Any]:
    """One life: its memory at the begin, after WARM_UP, and at the end, in MiB, by process."""
    process = start(images, run_dir, log)
    begin = time.monotonic()
    readings: list[tuple[float, ...]] = []
    while time.monotonic() - begin < seconds:
        time.sleep(EVERY)
        if process.poll() is not None:
            raise RuntimeError(f"the training ended with {process.returncode}: see {log}")
        resident = tuple(trainers(process.pid).values())
        if time.monotonic() - begin > WARM_UP and len(resident) == PROCESSES:
            readings.append(resident)
    number = signal.SIGTERM if gently else signal.SIGKILL
    for pid in (process.pid, *trainers(process.pid)):  # which torchrun starts in groups of their own
        os.killpg(pid, number)
    process.wait()
    ends = (readings[:WINDOW], readings[-WINDOW:])
    first, last = ([statistics.median(values) for values in zip(*end, strict=True)] for end in ends)
    growth = max(after / before - 1 for before, after in zip(first, last, strict=True))
    return {
        "seconds": seconds,
        "nimg": newest(run_dir),
        "first_mib": first,
        "last_mib": last,
        "growth": growth,
    }


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
    report = {
        "minutes": (time.monotonic() - begin) / 60,
        "kills": len(lives) - 1,
        "images": counts[-1],
        "each_life_went_on": all(a < b for a, b in itertools.pairwise(counts)),
        "ended_by_signal": ended_by_signal,
        "largest_growth_within_a_life": max(life["growth"] for life in lives),
        "last_life_to_first": max(
            b / a - 1 for a, b in zip(lives[0]["last_mib"], lives[-1]["last_mib"], strict=True)
        ),
        "machine": describe_machine(torch.device("cpu")),
    }
    print(json.dumps(report, indent=2))
    if args.out:
        args.out.write_text(json.dumps(report | {"lives": lives}, indent=2) + "\n")


if __name__ == "__main__":
    main()
