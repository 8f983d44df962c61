"""Checks of options that several commands share; errors are raised before any work begins."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

import click
from click.core import ParameterSource


def import_plugins(names: Iterable[str]) -> None:
    """Import the modules of --plugin, which register modulations; the working folder is searched last.

    Raises click.UsageError for a missing module; errors inside a module pass unchanged.
    """
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # the console script, unlike `python -m`, does not look there
    for name in names:
        if not all(part.isidentifier() for part in name.split(".")):
            raise click.UsageError(
                f"--plugin {name!r}: expected the dotted name of a module, such as pkg.module"
            )
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise  # the plugin exists, but a module that it imports does not
            raise click.UsageError(
                f"--plugin {name}: no module named {error.name!r}. Install it, or run the command in the "
                "folder that holds it"
            ) from error


def check_device(name: str) -> None:
    """click.UsageError unless the device exists: auto, cpu, cuda, cuda:N, mps or another of torch's."""
    from ganmod.devices import find_device

    try:
        find_device(name)
    except ValueError as error:
        raise click.UsageError(f"--{error}") from error


@contextmanager
def usage_errors() -> Iterator[None]:
    """Raise ValueErrors of the library, about the user's values, as click.UsageError.

    A parameter's name at the start of the message is replaced by the option of the running command.
    """
    try:
        yield
    except ValueError as error:
        name, _, rest = str(error).partition(" ")
        context = click.get_current_context(silent=True)
        options = {} if context is None else {p.name: p.opts[0] for p in context.command.params}
        raise click.UsageError(f"{options.get(name, name)} {rest}") from error


def refuse_options(names: Collection[str], reason: str) -> None:
    """click.UsageError, "OPTION REASON", if one of these parameters is set on the command line.

    Does nothing outside a command.
    """
    context = click.get_current_context(silent=True)
    if context is None:
        return
    for parameter in context.command.params:
        name = parameter.name or ""
        if name in names and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{parameter.opts[0]} {reason}")
