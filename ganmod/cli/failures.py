"""What a failed command says: one line for what is expected, and a file with the trace for what is not."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from ganmod.errors import GanmodError, is_memory_error

FAILED = 1

# Options that lower what a command needs at a time, in the order in which to try them.
_SMALLER = ("--batch", "--size", "--content-size", "--style-size", "--workers")
_WORKER_WORDS = ("DataLoader worker", "process pool was terminated abruptly")


def describe_failure(error: Exception, command: click.Command, arguments: Sequence[str]) -> tuple[str, int]:
    """(message, exit code) of an exception that ended a command.

    Args:
        error: of any kind.
        command: the group that was run.
        arguments: of the command line, to name the options of the command that would help.
    """
    if is_memory_error(error):
        return f"Error: there is not enough memory{_detail(error)}: {_advice(command, arguments)}", FAILED
    if isinstance(error, RecursionError):
        return "Error: an input is nested too deeply: expected a file with fewer levels", FAILED
    if isinstance(error, RuntimeError) and any(word in str(error) for word in _WORKER_WORDS):
        return (
            "Error: a process that loads images was ended from outside, often for want of memory"
            f"{_detail(error)}: lower data.num_workers or data.cache_mb with --set, or --batch",
            FAILED,
        )
    # Errors in packages below this one have the attribute without the class.
    code = getattr(error, "exit_code", None)
    if isinstance(code, int):
        return f"Error: {error}" if code in (FAILED, 2) else str(error), code
    if isinstance(error, GanmodError | ValueError):
        return f"Error: {error}", FAILED
    if isinstance(error, OSError):
        return f"Error: {_os_error(error)}", FAILED
    return _unexpected(error, arguments), FAILED


def show_failure(message: str) -> None:
    """Print a message to standard error; control characters of file names are made visible."""
    from configs.visible_text import visible_lines  # not before it is known to be ganmod's

    click.echo(visible_lines(message), err=True)


def describe_click_error(error: click.ClickException) -> str:
    """The message, after lines on the usage if that was wrong; the help of a group without a command."""
    message = error.format_message()
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    if ctx is None:
        return f"Error: {message}"
    if message == ctx.get_help():
        return message
    return f"{ctx.get_usage()}\nTry '{ctx.command_path} --help' for help.\n\nError: {message}"


def _os_error(error: OSError) -> str:
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    return f"{' -> '.join(names)}: {error.strerror}" if names and error.strerror else str(error)


def _detail(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f" ({lines[0][:200]})" if lines else ""


def _advice(command: click.Command, arguments: Sequence[str]) -> str:
    options = _options(command, arguments)
    smaller = [name for name in _SMALLER if name in options]
    parts = [f"lower {' or '.join(smaller)}"] if smaller else ["give smaller inputs"]
    if "--tile" in options:
        parts.append("give --tile auto")
    if "--device" in options:
        parts.append("use a --device with more memory")
    return ", or ".join(parts)


def _options(command: click.Command, arguments: Sequence[str]) -> set[str]:
    """The options of the command that the arguments name."""
    for name in arguments:
        if not isinstance(command, click.Group):
            break
        found = command.get_command(click.Context(command), name)
        command = found or command
    return {option for parameter in command.params for option in parameter.opts}


def _unexpected(error: Exception, arguments: Sequence[str]) -> str:
    """The line about an error that is a bug, with the file that holds its trace."""
    # Imported here: a third of the start of `ganmod --help`.
    import platform
    import shlex
    import tempfile
    import traceback
    from importlib import metadata

    kind = type(error).__name__
    first = (str(error).strip().splitlines() or ["no message"])[0][:200]
    text = (
        f"ganmod {metadata.version('ganmod')}, Python {platform.python_version()}, {platform.platform()}\n"
        f"ganmod {shlex.join(arguments)}\n\n{''.join(traceback.format_exception(error))}"
    )
    try:
        handle, name = tempfile.mkstemp(prefix="ganmod-trace-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        place = f"the trace is in {name}, and --traceback shows it"
    except OSError:  # a full disk, too, is a reason to be here
        place = "--traceback shows the trace"
    return f"Error: unexpected {kind}: {first}. This is a bug, or a file that no check knows; {place}"


def prepare_streams() -> None:
    """Let no character of a file's name end a command: what the terminal cannot show is escaped."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
