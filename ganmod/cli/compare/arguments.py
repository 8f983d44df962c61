"""Arguments and options of both comparisons: runs, pictures and weights as NAME=PATH."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ganmod.cli.measure.options import check_space_name
from ganmod.cli.options.paths import InputPath, OutputPath
from ganmod.cli.options.shared import Command, combine_options, device_option, json_option, plugin_option

if TYPE_CHECKING:
    from metrics.compare import RunRecord

PATH = InputPath()
FILE = InputPath(exists=False)
COMMAND_LINE = "ganmod compare"  # key of the command line in the context's meta


def comparison_options(command: Command) -> Command:
    """RUN..., --name, --content, --styles, --out, --size, --device, --json and --plugin."""
    return combine_options(
        click.argument("runs", metavar="RUN...", nargs=-1),
        click.option("--name", "named", multiple=True, metavar="NAME=RUN", help="A run, and its row's name."),
        click.option("--content", type=PATH, help="Photos to stylize: a folder."),
        click.option("--styles", type=PATH, multiple=True, help="Style images, likewise; may be repeated."),
        click.option(
            "-o",
            "--out",
            required=True,
            type=OutputPath(file_okay=False),
            help="Folder to write.",
        ),
        click.option(
            "--size", type=click.IntRange(16), default=256, show_default=True, help="Of stylized images."
        ),
        device_option(),
        json_option,
        plugin_option,
    )(command)


def parse_runs(runs: Sequence[str], named: Sequence[str]) -> list[tuple[str | None, Path]]:
    """(name of the row or None, path) of every run; click.UsageError for a missing or repeated one."""
    titles: dict[Path, str | None] = {}
    for text in (*runs, *named):
        title, equals, rest = text.partition("=")
        path = Path(text)
        if not path.exists() and equals and title:
            path = Path(rest)
        else:
            title = ""
        if text in named and not title:
            raise click.UsageError(f"--name {text}: expected NAME=RUN")
        if not path.exists():
            raise click.UsageError(f"run {path} does not exist: give a run folder or a model file")
        if path in titles and (text not in named or titles[path] is not None):
            raise click.UsageError(f"run {path} is given twice")
        titles[path] = title or None
    if not titles:
        raise click.UsageError("no run is given: name one run folder or model file at least")
    return [(title, path) for path, title in titles.items()]


def _run_names(paths: Sequence[Path]) -> list[str]:
    """A short name for each run: that of the folder or file, with parent folders where names repeat."""
    short = [path.resolve().name if path.is_dir() else path.stem for path in paths]
    counts = Counter(short)
    longer = [
        f"{path.resolve().parent.name}/{name}" if counts[name] > 1 else name
        for name, path in zip(short, paths, strict=True)
    ]
    counts = Counter(longer)
    return [str(path) if counts[name] > 1 else name for name, path in zip(longer, paths, strict=True)]


def read_runs(paths: Sequence[tuple[str | None, Path]]) -> list[RunRecord]:
    """The records of all runs; ValueError as `read_run`."""
    from training.run.records import read_run

    names = _run_names([path for _, path in paths])
    return [read_run(path, title=title, name=name) for (title, path), name in zip(paths, names, strict=True)]


def model_files(paths: Sequence[tuple[str | None, Path]]) -> dict[str, Path]:
    """{name: model file}; click.UsageError for a repeated name."""
    from training.run.folder import MODEL_FILE

    names = _run_names([path for _, path in paths])
    files: dict[str, Path] = {}
    for (title, path), name in zip(paths, names, strict=True):
        if (title or name) in files:
            raise click.UsageError(f"two models are named {title or name!r}: give each its own NAME=MODEL")
        files[title or name] = path / MODEL_FILE if path.is_dir() else path
    return files


def parse_picture_folders(texts: Sequence[str]) -> dict[str, Path]:
    """NAME=DIR of every folder -> {name: folder}; click.UsageError for other forms and repeated names."""
    folders: dict[str, Path] = {}
    for text in texts:
        name, equals, folder = text.partition("=")
        if not (name and equals and Path(folder).is_dir()):
            raise click.UsageError(f"--pictures {text}: expected NAME=DIR, where DIR is a folder of pictures")
        if name in folders:
            raise click.UsageError(f"--pictures {text}: two folders are named {name!r}")
        folders[name] = Path(folder)
    return folders


def parse_weights(features: Sequence[str], texts: Sequence[str]) -> dict[str, Path]:
    """--feature-weights as {space: file}; click.UsageError for an unknown space, and weights of another."""
    for name in features:
        check_space_name(name)
    if len(set(features)) < len(features):
        raise click.UsageError(f"--features names a space twice: {', '.join(features)}")
    weights: dict[str, Path] = {}
    for text in texts:
        name, equals, file = text.partition("=")
        if equals and name in features:
            weights[name] = Path(file)
        elif len(features) == 1 and (not equals or Path(text).exists()):
            weights[features[0]] = Path(text)
        else:
            raise click.UsageError(
                f"--feature-weights {text}: expected NAME=FILE, where NAME is one of {', '.join(features)}"
            )
    return weights


def parse_weights_file(texts: Sequence[str]) -> Path | None:
    """--feature-weights of the loss network, or None; click.UsageError for several."""
    if len(texts) > 1:
        raise click.UsageError("--feature-weights: expected one file, that of --loss-network")
    if not texts:
        return None
    _, equals, file = texts[0].partition("=")
    return Path(file if equals and not Path(texts[0]).exists() else texts[0])
