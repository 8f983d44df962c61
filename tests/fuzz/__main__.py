"""Run the commands on hostile files and with odd command lines, and print what was found.

    make fuzz MINUTES=30
    python -m tests.fuzz --files 40 --lines 20 --seed 3

Each case is drawn by hypothesis from a seed and runs in a fork with limits on memory and time. For a finding,
its folder stays, with the command line. Exit code 1 if there is any. Nothing connects to a network, and code
in a file, if it were run, would only create an empty file, the canary.
"""

from __future__ import annotations

import argparse
import gc
import os
import shlex
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT / "tests" / "support" / "models")]

import click  # noqa: E402
from hypothesis import HealthCheck, Phase, given, seed, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from tests.fuzz.files import hostile_files  # noqa: E402
from tests.fuzz.lines import command_lines, commands_of_lines, find_command  # noqa: E402
from tests.fuzz.process import FAILURES, OK, SECONDS, run_line  # noqa: E402
from tests.fuzz.seeds import write_seeds  # noqa: E402

PART = 50  # cases of files, then of lines, and so on
FOLDER = ROOT / "build" / "fuzz"


class Fuzzing:
    """Counts of cases, and the folders of findings."""

    def __init__(self, seeds: Path, kept: Path, *, seconds: float, verbose: bool) -> None:
        self.seeds, self.kept, self.seconds, self.verbose = seeds, kept, seconds, verbose
        self.tried: Counter[str] = Counter()
        self.found: Counter[str] = Counter()
        self.places: Counter[str] = Counter()
        self.commands: set[tuple[str, ...]] = set()
        self.seen: set[bytes] = set()

    def run(self, kind: str, arguments: list[str], name: str = "", data: bytes = b"") -> None:
        """One case in a copy of the seeds; a finding's folder is kept."""
        case = shlex.join(arguments).encode(errors="replace") + data
        if case in self.seen:  # hypothesis draws some twice
            return
        self.seen.add(case)
        folder = Path(tempfile.mkdtemp(dir=self.seeds.parent)) / "case"
        folder.mkdir()
        for seed_file in self.seeds.iterdir():
            if seed_file.name in arguments or seed_file.suffix == ".py":
                shutil.copy(seed_file, folder)
        if "fifo.png" in arguments:
            os.mkfifo(folder / "fifo.png")
        if name:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(data)
        outcome = run_line(arguments, folder, seconds=self.seconds)
        self.tried[kind] += 1
        self.commands.add(find_command(arguments)[0])
        if self.verbose:
            click.echo(f"{shlex.join(arguments)[:120]} -> {outcome.detail[:160]}")
        if outcome.kind != OK:
            self.found[outcome.kind] += 1
            self.places[f"{outcome.kind}: {outcome.detail[:160]}"] += 1
            number = sum(self.found.values())
            line = f"cd {self.kept / str(number)} && ganmod {shlex.join(arguments)}"
            if "fifo.png" in arguments:
                (folder / "fifo.png").unlink(missing_ok=True)  # cannot be copied; the line says `mkfifo`
                line = line.replace("&& ganmod", "&& mkfifo fifo.png && ganmod", 1)
            shutil.copytree(folder, self.kept / str(number), symlinks=True)
            (self.kept / str(number) / "command.txt").write_text(
                f"{line}\n{outcome.kind}: {outcome.detail}\n"
            )
            click.echo(f"{outcome.kind}: {outcome.detail}\n  {line}")
        shutil.rmtree(folder.parent, ignore_errors=True)


def draw_cases(strategy: st.SearchStrategy[Any], count: int, number: int, use: Callable[[Any], None]) -> None:
    """Call `use` with `count` values of a strategy; the same number gives the same values."""
    if not count:
        return

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def draw_and_use(value: Any) -> None:
        use(value)

    draw_and_use()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, help="how long; none: --files and --lines once")
    parser.add_argument("--files", type=int, default=PART, help="hostile files, in turn with lines")
    parser.add_argument("--lines", type=int, default=PART, help="command lines")
    parser.add_argument("--seed", type=int, default=0, help="other cases")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="after which a command hangs")
    parser.add_argument("--keep", type=Path, default=FOLDER, help="folder of findings, emptied first")
    parser.add_argument("--verbose", action="store_true", help="print how each case ended")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    shutil.rmtree(options.keep, ignore_errors=True)
    options.keep.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ |= dict.fromkeys(("GANMOD_CACHE", "TORCH_HOME", "HOME", "TMPDIR"), scratch)
        seeds = Path(scratch) / "seeds"
        seeds.mkdir()
        write_seeds(seeds)
        commands_of_lines()  # imports them all, so that forks begin at once
        gc.freeze()  # forks then leave the pages of these objects shared
        fuzzing = Fuzzing(seeds, options.keep.resolve(), seconds=options.seconds, verbose=options.verbose)
        start, part = time.monotonic(), 0
        while part == 0 or (options.minutes and time.monotonic() - start < options.minutes * 60):
            number = options.seed * 100_000 + part
            draw_cases(
                hostile_files(seeds),
                options.files,
                number,
                lambda file: fuzzing.run("files", file.arguments, file.name, file.data),
            )
            draw_cases(command_lines(seeds), options.lines, number, lambda line: fuzzing.run("lines", line))
            part += 1
    tried, found, minutes = fuzzing.tried, fuzzing.found, (time.monotonic() - start) / 60
    click.echo(
        f"{tried['files']} files x commands, {tried['lines']} command lines, "
        f"{len(fuzzing.commands)} commands, seed {options.seed}, {minutes:.1f} minutes"
    )
    click.echo(", ".join(f"{kind}: {found[kind]}" for kind in FAILURES))
    for place, count in fuzzing.places.most_common():
        click.echo(f"  {count} x {place}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
