"""If this fails, a command that cannot go on ends in a traceback, or without advice."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from command_checks import Ended, assert_fails

from configs.schema import ConfigError
from ganmod.io.images import write_image
from training.run.checkpoint import CheckpointError
from training.run.nonfinite import NonFiniteError
from training.run.progress import StoppedBySignal

ROOT = Path(__file__).parents[2]


@pytest.fixture
def fail_with(monkeypatch: pytest.MonkeyPatch, ganmod_command) -> Callable[..., Ended]:
    """Run a command with --batch and --tile that raises an error, or what a function raises."""

    def run(error: BaseException | Callable[[], object], *arguments: str) -> Ended:
        @click.command()
        @click.option("--batch")
        @click.option("--tile")
        def modulations(batch: str | None, tile: str | None) -> None:
            if isinstance(error, BaseException):
                raise error
            error()

        monkeypatch.setattr("ganmod.cli.modulations.modulations", modulations)
        return ganmod_command("modulations", *arguments)

    return run


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError, 1),
        (OSError, 1),
        (CheckpointError, 1),
        (NonFiniteError, 1),
        (ConfigError, 2),
        (StoppedBySignal, 3),
    ],
)
def test_errors_for_the_user_are_one_message(error, code, fail_with) -> None:
    line = "a message" if code == 3 else "Error: a message"
    assert fail_with(error("a message")) == Ended(code, "", f"{line}\n")
    shown = fail_with(error("a message"), "--traceback")
    assert shown.code == code
    assert shown.err.startswith("Traceback")
    assert shown.err.endswith(f"{line}\n")


def test_an_error_of_the_system_names_the_file(fail_with, tmp_path: Path) -> None:
    ended = fail_with(lambda: (tmp_path / "none" / "a.txt").read_text())
    assert ended == Ended(1, "", f"Error: {tmp_path}/none/a.txt: No such file or directory\n")


def allocate_in_torch() -> None:
    torch.empty(2**46)  # 256 TiB: more than any address space gives


@pytest.mark.parametrize(
    "error",
    [MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"), allocate_in_torch],
    ids=["python", "gpu", "cpu"],
)
def test_a_lack_of_memory_names_the_options_that_lower_it(error, fail_with) -> None:
    ended = fail_with(error)
    assert ended.code == 1
    assert ended.err.startswith("Error: there is not enough memory")
    assert ended.err.endswith(": lower --batch, or give --tile auto\n")
    assert ended.err.count("\n") == 1


def test_a_killed_loader_process_is_one_line(fail_with) -> None:
    ended = fail_with(RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."))
    assert ended.code == 1
    assert "(DataLoader worker (pid 7) is killed by signal: Killed.): lower data.num_workers" in ended.err


def test_endless_recursion_is_one_line(fail_with) -> None:
    def deeper() -> None:
        deeper()

    assert fail_with(deeper).err.startswith("Error: an input is nested too deeply")


def test_an_unexpected_error_leaves_its_trace_in_a_file(
    fail_with, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ended = fail_with(lambda: {}["a key"], "--batch", "3 4")
    (trace,) = tmp_path.iterdir()
    assert ended.code == 1
    assert ended.err.startswith("Error: unexpected KeyError: 'a key'. ")
    assert f"the trace is in {trace}, and --traceback shows it\n" in ended.err
    text = trace.read_text(encoding="utf-8")
    assert "\nganmod modulations --batch '3 4'\n" in text
    assert text.endswith("KeyError: 'a key'\n")


def test_control_characters_in_messages_are_visible(fail_with) -> None:
    text = "bad name: a\x1b[2J\u202eb\udcff\nsecond line"
    expected = "Error: bad name: a\\x1b[2J\\u202eb\\udcff\nsecond line\n"
    assert fail_with(ValueError(text)).err == expected
    assert fail_with(click.ClickException(text)).err == expected
    assert fail_with(click.UsageError(text)).err.endswith(expected)


def test_a_reader_that_has_seen_enough_ends_a_command_in_silence() -> None:
    command = [sys.executable, "-m", "ganmod", "modulations"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() == 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("train style --exclude {place}/latin.txt --out {place}/r", 1, "latin.txt is no text in UTF-8"),
        ("train style --set runtime.device=meta --out {place}/r", 2, "device meta: not supported"),
        ("train style --set metric.features=nonsense --out {place}/r", 2, "unknown space 'nonsense'"),
        ("train style --plugin .. --out {place}/r", 2, "--plugin '..': expected the dotted name"),
        (
            "train style --set model.modulation_options={{kernel_budget:\\ -1}} --dry-run",
            1,
            "option kernel_budget: Input should be greater than 0, got -1",
        ),
        (
            "stylize {place}/a.png {place}/a.png:1e308 {place}/a.png:1e308 -o o.png",
            2,
            "expected numbers from 0",
        ),
        ("stylize {place}/a.png {place}/a.png -o {place}/o.gif", 2, "has no image suffix, one of .bmp"),
        ("stylize {place}/pipe {place}/a.png -o o.png", 2, "is a pipe: expected a file or a folder"),
        ("data pack {place} {place}/o.zip --workers 1000", 2, "GANMOD_MAX_WORKERS"),
        ("data pack {place} {place}/o.zip --size 100000", 2, "GANMOD_MAX_MEGAPIXELS"),
        ("fid {place} {place} --features :", 2, "unknown space ':'"),
        (
            "fid {place} {place} --features os:system",
            1,
            "os:system fails on images torch.uint8 [2, 3",
        ),
        ("fid {place} {place} --seed 4294967296", 2, "4294967296 is not in the range"),
        ("generate {place}/a.png --seeds 0 --trunc 1e39 -o o", 2, "is not in the range -100<=x<=100"),
        ("generate {place}/a.png --interpolate 0-1 --fps nan -o o.gif", 2, "'nan' is no finite number"),
        ("project {place}/a.png {place}/a.png -o /dev/null", 2, "'/dev/null' is a device"),
    ],
)
def test_odd_command_lines_end_with_one_message(
    arguments: str, code: int, message: str, tmp_path: Path, ganmod_command
) -> None:
    for i in range(2):
        write_image(tmp_path / f"{'ab'[i]}.png", np.full((20, 20, 3), 90 * i, np.uint8))
    (tmp_path / "latin.txt").write_bytes(b"\xe4")
    os.mkfifo(tmp_path / "pipe")
    ended = ganmod_command(*shlex.split(arguments.format(place=tmp_path)))
    assert_fails(ended, code, message)
    assert "unexpected" not in ended.err


@pytest.mark.parametrize("group", [(), ("train",), ("--traceback",)])
def test_a_group_without_a_command_shows_its_help(group: tuple[str, ...], ganmod_command) -> None:
    ended = ganmod_command(*group)
    lines = (ended.out + ended.err).splitlines()
    assert lines[0].startswith("Usage: ganmod ")
    assert "Commands:" in lines
