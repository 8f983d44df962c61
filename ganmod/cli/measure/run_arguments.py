"""The runs and weights that `ganmod compare` is given: NAME=PATH in its forms, names for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ganmod.cli.measure.image_sets import check_space_name

if TYPE_CHECKING:
    from training.run.records import RunRecord


def named_paths(runs: Sequence[str], named: Sequence[str]) -> list[tuple[str | None, Path]]:
    """(name of the row or None, path) of every run; click.UsageError for one that is missing or doubled."""
    found: dict[Path, str | None] = {}
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
        if path in found and (text not in named or found[path] is not None):
            raise click.UsageError(f"run {path} is given twice")
        found[path] = title or None
    if not found:
        raise click.UsageError("no run is given: name one run folder or model file at least")
    return [(title, path) for path, title in found.items()]


def _run_names(paths: Sequence[Path]) -> list[str]:
    """A short name for each run: the folder's or the file's, with folders above where names repeat."""
    short = [path.resolve().name if path.is_dir() else path.stem for path in paths]
    counts = Counter(short)
    longer = [
        f"{path.resolve().parent.name}/{name}" if counts[name] > 1 else name
        for name, path in zip(short, paths, strict=True)
    ]
    counts = Counter(longer)
    return [str(path) if counts[name] > 1 else name for name, path in zip(longer, paths, strict=True)]


def read_runs(paths: Sequence[tuple[str | None, Path]]) -> list[RunRecord]:
    """The records of all runs; click.UsageError where they are of several recipes."""
    from training.run.records import read_run

    names = _run_names([path for _, path in paths])
    records = [
        read_run(path, title=title, name=name) for (title, path), name in zip(paths, names, strict=True)
    ]
    recipes = {record.facts.name: record.facts.recipe for record in records}
    if len(set(recipes.values())) > 1:
        each = ", ".join(f"{name} {recipe}" for name, recipe in recipes.items())
        raise click.UsageError(f"runs of several recipes have no common measure: {each}; compare them apart")
    return records


def model_files(paths: Sequence[tuple[str | None, Path]]) -> dict[str, Path]:
    """{name: model file}; click.UsageError for a name that stands twice."""
    from training.run.folder import MODEL_FILE

    names = _run_names([path for _, path in paths])
    found: dict[str, Path] = {}
    for (title, path), name in zip(paths, names, strict=True):
        if (title or name) in found:
            raise click.UsageError(f"two models are named {title or name!r}: give each its own NAME=MODEL")
        found[title or name] = path / MODEL_FILE if path.is_dir() else path
    return found


def picture_folders(given: Sequence[str]) -> dict[str, Path]:
    """NAME=DIR of every folder -> {name: folder}; click.UsageError for another form, and for a name twice."""
    found: dict[str, Path] = {}
    for text in given:
        name, equals, folder = text.partition("=")
        if not (name and equals and Path(folder).is_dir()):
            raise click.UsageError(f"--pictures {text}: expected NAME=DIR, where DIR is a folder of pictures")
        if name in found:
            raise click.UsageError(f"--pictures {text}: two folders are named {name!r}")
        found[name] = Path(folder)
    return found


def weights_of(features: Sequence[str], given: Sequence[str]) -> dict[str, Path]:
    """{space: weights}; click.UsageError for an unknown space, and weights of none that is asked for."""
    for name in features:
        check_space_name(name)
    if len(set(features)) < len(features):
        raise click.UsageError(f"--features names a space twice: {', '.join(features)}")
    found: dict[str, Path] = {}
    for text in given:
        name, equals, file = text.partition("=")
        if equals and name in features:
            found[name] = Path(file)
        elif len(features) == 1 and (not equals or Path(text).exists()):
            found[features[0]] = Path(text)
        else:
            raise click.UsageError(
                f"--feature-weights {text}: expected NAME=FILE, where NAME is one of {', '.join(features)}"
            )
    return found


def one_file(given: Sequence[str]) -> Path | None:
    """The weights of --style's one network, if given; click.UsageError for several."""
    if len(given) > 1:
        raise click.UsageError("--feature-weights: --style takes one file, that of --loss-network")
    if not given:
        return None
    _, equals, file = given[0].partition("=")
    return Path(file if equals and not Path(given[0]).exists() else given[0])
