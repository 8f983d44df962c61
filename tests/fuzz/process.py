"""One command line in a fork of this process, which has imported the commands: limits, and how it ended."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

import click

MEMORY = 2 << 30  # bytes beyond what this process has already
SECONDS = 60.0
CANARY = ".code-was-run"  # a file that only code from a hostile file creates: no name that a line gives

OK, TRACEBACK, HANG, TOO_LARGE, CRASH, CODE_RUN = (
    *("ok", "traceback", "hang", "over 2 GiB"),
    *("crash of the process", "code executed"),
)
FAILURES = (TRACEBACK, HANG, TOO_LARGE, CRASH, CODE_RUN)


@dataclass(frozen=True)
class Outcome:
    """How a command ended: OK or one of FAILURES, and the message or the place of the failure."""

    kind: str
    detail: str


def run_line(arguments: list[str], folder: Path, *, seconds: float = SECONDS) -> Outcome:
    """Run `ganmod ARGUMENTS...` in a folder.

    An error with a message for the user is OK, an error of any other class is a TRACEBACK. The canary is
    looked for in the folder and beside it.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        report = f"{CRASH}\nof the fuzzing itself"
        try:
            report = _run(arguments, folder)
        finally:
            os.write(writing, report.encode(errors="replace")[:4000])
            os._exit(0)
    os.close(writing)
    answer, late = b"", not select.select([reading], [], [], seconds)[0]
    if not late:
        answer = os.read(reading, 4096)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    os.close(reading)
    status = os.waitpid(pid, 0)[1]
    if any((place / CANARY).exists() for place in (folder, folder.parent)):
        return Outcome(CODE_RUN, "the canary is there")
    if late:
        return Outcome(HANG, f"not done after {seconds:g} s")
    if not answer:
        return Outcome(CRASH, f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "no report")
    kind, _, detail = answer.decode(errors="replace").partition("\n")
    return Outcome(kind, detail)


def _run(arguments: list[str], folder: Path) -> str:
    """In the fork: run the command and return the kind and the detail of its outcome as two lines."""
    from ganmod.cli.main import cli

    os.setsid()
    os.chdir(folder)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    before = _peak_kib()
    ceiling = _address_space() + 2 * MEMORY  # above what counts as a finding, below what harms the machine
    resource.setrlimit(resource.RLIMIT_AS, (ceiling, ceiling + MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MEMORY, MEMORY))
    sys.argv = ["ganmod", *arguments]
    kind, detail = OK, "done"
    try:
        cli(arguments, standalone_mode=False)
    except BaseException as error:
        resource.setrlimit(resource.RLIMIT_AS, (ceiling + MEMORY,) * 2)  # room for the report
        kind, detail = _judge(error)
    if _peak_kib() - before > MEMORY // 1024:
        kind, detail = TOO_LARGE, f"{(_peak_kib() - before) >> 10} MiB; {detail}"
    return f"{kind}\n{detail}"


def _judge(error: BaseException) -> tuple[str, str]:
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    if any(isinstance(e, MemoryError) or "can't allocate memory" in str(e) for e in chain):
        return TOO_LARGE, f"memory was refused; {_message(error)}"
    expected = (ValueError, OSError, click.ClickException, click.Abort, click.exceptions.Exit)
    if isinstance(error, (*expected, SystemExit)) or getattr(error, "exit_code", None) is not None:
        return OK, _message(error)
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "site-packages" not in frame.filename] or frames
    place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "?"
    return TRACEBACK, f"{type(error).__name__} at {place}: {_message(error)}"


def _message(error: BaseException) -> str:
    text = error.format_message() if isinstance(error, click.ClickException) else str(error)
    return text.split("\n")[0][:300]


def _peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()
