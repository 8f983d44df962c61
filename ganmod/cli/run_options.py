"""The options that all recipes of `ganmod train` share, and what they change in a configuration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from configs.schema import parse_setting

RUN_OPTIONS = (
    click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Run folder.  [required]"),
    click.option("--batch", type=int, help="Images per step, over all processes."),
    click.option("--kimg", type=float, help="Length, in thousands of images."),
    click.option(
        "--minutes",
        type=float,
        help="End after so many minutes of training, if --kimg is not reached before.",
    ),
    click.option("--seed", type=int),
    click.option("--device", help="auto, cpu, cuda or cuda:N."),
    click.option(
        "--compile/--no-compile", "compiled", default=None, help="torch.compile what is differentiated once."
    ),
    click.option("--resume/--no-resume", default=True, help="Continue the run in --out, if there is one."),
    click.option(
        "--plugin", multiple=True, metavar="PKG.MODULE", help="Import a module that registers modulations."
    ),
    click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="Any other key, e.g. model.style_dim=64.",
    ),
    click.option(
        "--dry-run", is_flag=True, help="Print the resolved configuration and parameter counts, and stop."
    ),
)
Command = TypeVar("Command", bound=Callable[..., Any])


def run_options(command: Command) -> Command:
    """The options that every recipe has."""
    for option in reversed(RUN_OPTIONS):
        command = option(command)
    return command


def changes_of(
    own: dict[str, Any],
    *,
    batch: int | None,
    kimg: float | None,
    minutes: float | None,
    seed: int | None,
    device: str | None,
    precision: str | None,
    compiled: bool | None,
    plugin: tuple[str, ...],
    settings: tuple[str, ...],
) -> dict[str, Any]:
    """What was given on the command line, {dotted.key: value}: a recipe's own options, then the shared ones,
    then --set.
    """
    given = own | {
        "schedule.batch_size": batch,
        "schedule.total_kimg": kimg,
        "schedule.minutes": minutes,
        "runtime.seed": seed,
        "runtime.device": device,
        "runtime.precision": precision,
        "runtime.compile": compiled,
        "plugins": list(plugin) or None,
    }
    changes = {key: value for key, value in given.items() if value is not None}
    return changes | dict(parse_setting(text) for text in settings)
