"""Paths on the command line: inputs that can be read, and outputs that overwrite none of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from ganmod.io.regular_file import special_kind


class InputPath(click.Path):
    """A file or folder to read, as a Path or, with `text`, as a string; pipes and devices are refused."""

    def __init__(self, *, exists: bool = True, dir_okay: bool = True, text: bool = False) -> None:
        super().__init__(exists=exists, dir_okay=dir_okay, path_type=str if text else Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not str(value):
            self.fail("the path is empty: expected a file or a folder", param, ctx)
        path = super().convert(value, param, ctx)
        if (kind := special_path(str(path))) is not None:
            self.fail(f"{str(path)!r} is {kind}: expected a file or a folder", param, ctx)
        return path


class OutputPath(click.Path):
    """A file or folder to write, as a Path; an empty name and a device are refused."""

    def __init__(self, *, file_okay: bool = True, dir_okay: bool = True) -> None:
        super().__init__(file_okay=file_okay, dir_okay=dir_okay, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not str(value):
            self.fail("the path is empty: expected a name, or . for the current folder", param, ctx)
        path = super().convert(value, param, ctx)
        if (kind := special_path(str(path))) is not None:
            self.fail(f"{str(path)!r} is {kind}: expected the name of a file or a folder", param, ctx)
        return path


def special_path(path: str | Path) -> str | None:
    """What a path is that is neither a file nor a folder; None if it is one of them, or nothing."""
    try:
        kind = special_kind(os.stat(path).st_mode)
    except (OSError, ValueError):
        return None
    return None if kind == "a folder" else kind


def paths_read() -> list[Path]:
    """The files and folders that the running command was given to read; none outside a command."""
    ctx = click.get_current_context(silent=True)
    if ctx is None:
        return []
    inputs: list[Path] = []
    for parameter in ctx.command.params:
        value = ctx.params.get(parameter.name or "")
        if not isinstance(parameter.type, OutputPath):
            inputs += _paths_in(value, texts=isinstance(parameter.type, InputPath))
    return inputs


def _paths_in(value: Any, *, texts: bool) -> Iterator[Path]:
    if isinstance(value, Path) or (texts and isinstance(value, str)):
        yield Path(value)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _paths_in(part, texts=texts)


def refuse_inputs(*outputs: Path, also: Iterable[Path] = ()) -> None:
    """click.UsageError if the command would write over what it reads, or into a folder whose images it reads.

    Files are compared as such: by any path, link or spelling. A file that is no image may lie in a folder
    that is read.

    Args:
        outputs: files and folders to write.
        also: files and folders that are read without being parameters of the command.
    """
    from ganmod.io.images import IMAGE_SUFFIXES

    inputs = [*paths_read(), *also]
    for out in outputs:
        for source in inputs:
            if source.is_file() and out.exists() and out.samefile(source):
                raise click.UsageError(
                    f"{out} is {source}, which is read and would be overwritten: give another name"
                )
            holds_images = out.suffix.lower() in {*IMAGE_SUFFIXES, ""} or out.is_dir()
            if source.is_dir() and holds_images and out.resolve().is_relative_to(source.resolve()):
                raise click.UsageError(f"{out} lies inside {source}, which is read: give a place elsewhere")
