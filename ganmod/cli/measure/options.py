"""Shared by the commands that measure images: options, progress bars and warnings."""

from __future__ import annotations

import shlex
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

from configs.suggestion import did_you_mean
from configs.visible_text import visible_lines
from ganmod.cli.options.checks import usage_errors
from ganmod.cli.options.progress import progress_bar

if TYPE_CHECKING:
    from metrics.progress import Progress

NUM_GENERATED = 50_000  # images of a model by default
COMMAND_LINE = "ganmod command line"  # its key in the context's meta


class RecordedCommand(click.Command):
    """A command that keeps its own command line, for messages and reports."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[COMMAND_LINE] = shlex.join(["ganmod", str(ctx.info_name), *args])
        return super().parse_args(ctx, args)


def current_command_line() -> str:
    """The command line of the running command."""
    return click.get_current_context().meta[COMMAND_LINE]


class MetricList(click.ParamType):
    """ "fid,pr" -> ("fid", "pr")."""

    name = "metrics"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        from metrics.image_sets.distances import parse_metrics

        if isinstance(value, tuple):
            return value
        try:
            return parse_metrics(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def print_values(values: Mapping[str, float]) -> None:
    """Print a line for each value, distances as `shown_distance`; a name may be KIND/METRIC/PAIR."""
    from metrics.distances.frechet import shown_distance

    width = max(map(len, values)) + 2
    for name, value in values.items():
        is_distance = any(part.startswith(("fid", "fd_")) for part in name.split("/"))
        click.echo(f"{name:{width}}{shown_distance(value) if is_distance else value:.6g}")


def latest_model(path: Path) -> Path:
    """The model of a run folder (its images are sheets of samples); any other path unchanged."""
    from training.run.folder import CONFIG_FILE, MODEL_FILE

    model = path / MODEL_FILE
    return model if (path / CONFIG_FILE).is_file() and model.is_file() else path


def check_count(num: int | None, metrics: tuple[str, ...]) -> None:
    """click.UsageError for a --num that is too small for --metrics."""
    from metrics.image_sets.distances import check_num_images

    with usage_errors():
        check_num_images(num, metrics)


def check_space_name(name: str, option: str = "--features") -> None:
    """click.UsageError, with the nearest name, unless the option may be `name`."""
    from metrics.features.pretrained import NAMES

    module, colon, function = name.partition(":")
    if name not in NAMES and not (module and colon and function):
        raise click.UsageError(
            f"{option}: unknown space {name!r}{did_you_mean(name, NAMES)}? Expected one of "
            f"{', '.join(NAMES)}, or module:callable"
        )


@contextmanager
def offer_other_space(features: Sequence[str]) -> Iterator[None]:
    """Add to the error of a missing network the same command line with a feature space that is at hand."""
    from ganmod.features.vgg import FeatureError

    try:
        yield
    except FeatureError as error:
        from metrics.features.known_files import spaces_at_hand

        others = [name for name in spaces_at_hand() if name not in features]
        if not others:
            raise
        command = with_features(current_command_line(), others[0])
        raise FeatureError(
            f"{error}\nAt hand: {', '.join(others)}. The same command, whose Frechet distance is then not "
            f"FID:\n    {command}"
        ) from error


def with_features(command_line: str, features: str) -> str:
    """The command line with this feature space instead of those that it names, and without their weights."""
    kept: list[str] = []
    words = iter(shlex.split(command_line))
    for word in words:
        option, equals, _ = word.partition("=")
        if option not in ("--features", "--feature-weights"):
            kept.append(word)
        elif not equals:
            next(words, None)
    return shlex.join([*kept, "--features", features])


def terminal_progress(rank: int) -> Progress:
    """Progress of the first process: bars in a terminal, else lines."""

    def bar(total: int, title: str) -> tqdm:
        # leave=None: a finished bar inside another one is removed.
        return progress_bar(total=total, desc=title, unit="img", leave=None, shown=rank == 0)

    return bar


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Print Python warnings as one line each, above the progress bars."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        tqdm.write(f"warning: {visible_lines(str(message))}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show
        yield
