"""Options that several commands share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import click

from ganmod.cli.options.paths import OutputPath

Command = TypeVar("Command", bound=Callable[..., Any])
Option = Callable[[Command], Command]


class Size(click.ParamType):
    """ "64" or "WIDTHxHEIGHT" -> (height, width)."""

    name = "size"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        sides = str(value).lower().split("x")
        if len(sides) > 2 or not all(side.isascii() and side.isdigit() and int(side) for side in sides):
            self.fail(f"{value!r} is no size: expected N or WIDTHxHEIGHT, such as 256 or 384x256", param, ctx)
        return int(sides[-1]), int(sides[0])


class Number(click.FloatRange):
    """A finite number in a range: neither nan, which compares with nothing, nor infinity."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is no finite number", param, ctx)
        return number


TRUNCATION = Number(-100, 100)  # psi
FRAME_RATE = Number(0.01, 1000)  # frames per second
SEED = click.IntRange(0, 2**32 - 1)  # what numpy takes
FRAMES_PER_STEP = click.IntRange(1, 10_000)

plugin_option: Option[Any] = click.option(
    "--plugin", multiple=True, metavar="PKG.MODULE", help="Import a module that registers modulations."
)
json_option: Option[Any] = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
reference_cache_option: Option[Any] = click.option(
    "--reference-cache/--no-reference-cache",
    default=True,
    show_default=True,
    help="Keep what was measured of the real images in the user's cache folder, under a hash of their files.",
)


def device_option(default: str = "auto") -> Option[Any]:
    """--device; small commands use the CPU by default."""
    words = f"{'auto, ' if default == 'auto' else ''}cpu, cuda, cuda:N or mps."
    return click.option("--device", default=default, show_default=True, help=words)


def batch_option(default: int, help: str = "Images at a time.") -> Option[Any]:
    """--batch: how many images go through a network at once."""
    return click.option("--batch", type=click.IntRange(1), default=default, show_default=True, help=help)


def truncation_options(help: str, *, default: float = 1.0) -> Option[Any]:
    """--trunc and --cutoff of a generator."""
    return combine_options(
        click.option(
            "--trunc", "truncation_psi", type=TRUNCATION, default=default, show_default=True, help=help
        ),
        click.option("--cutoff", type=int, metavar="N", help="Truncate the first N layers only."),
    )


def timing_options(repeats: int) -> Option[Any]:
    """--repeats, --threads, --device and --json of every benchmark."""
    return combine_options(
        click.option(
            "--repeats",
            type=click.IntRange(1),
            default=repeats,
            show_default=True,
            help="Timed runs of each form.",
        ),
        click.option("--threads", type=click.IntRange(1), help="CPU threads; none: torch's choice."),
        device_option("cpu"),
        click.option("--json", "json_file", type=OutputPath(dir_okay=False), help="Results as JSON."),
    )


def combine_options(*options: Option[Any]) -> Option[Any]:
    """Combine options, in this order, to one decorator."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate
