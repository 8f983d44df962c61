"""Shared by the commands that use a trained generator: number ranges, loading, class labels."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
from torch import Tensor

from ganmod.cli.options.checks import check_device, import_plugins
from ganmod.cli.options.paths import InputPath
from ganmod.stylegan2 import Generator
from ganmod.stylegan2.sampling import class_label, parse_ranges
from ganmod.stylegan2.stylegan2_file import read_stylegan2

MODEL = InputPath(dir_okay=False)


class Ranges(click.ParamType):
    """ "0-3,7" -> [0, 1, 2, 3, 7]."""

    name = "ranges"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        if isinstance(value, list):
            return value
        try:
            return parse_ranges(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class EditType(click.ParamType):
    """ "2:-1.5" -> (2, -1.5): a direction and how far to go."""

    name = "edit"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, float]:
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"([0-9]{1,6}):([+-]?[0-9]*\.?[0-9]+)", value)
        if match is None:
            self.fail(f"{value!r}: expected INDEX:STRENGTH, such as 0:2.5 or 3:-1", param, ctx)
        return int(match[1]), float(match[2])


def load_generator(model: Path, *, plugin: tuple[str, ...], device: str) -> tuple[Generator, tuple[str, ...]]:
    """The generator on its device, and its class names; click.UsageError for an unknown device or plugin."""
    check_device(device)
    import_plugins(plugin)
    from ganmod.distributed import resolve_device

    chosen = resolve_device(device)
    G, class_names = read_stylegan2(model, half_precision=chosen.type != "cpu")
    return G.to(chosen), class_names


def choose_label(which: str | None, G: Generator, class_names: tuple[str, ...]) -> Tensor | None:
    """The label [1,c_dim] of --class; None for an unconditional model.

    click.UsageError for an unknown class, none for a conditional model, or one for an unconditional model.
    """
    try:
        return class_label(which, c_dim=G.c_dim, class_names=class_names)
    except ValueError as error:
        raise click.UsageError(f"--class: {error}") from error


def check_cutoff(cutoff: int | None, G: Generator) -> None:
    """click.UsageError for a --cutoff beyond the model's layers."""
    if cutoff is not None and not 0 <= cutoff <= G.num_ws:
        raise click.UsageError(f"--cutoff {cutoff}: expected 0 to {G.num_ws}, the model's number of layers")
