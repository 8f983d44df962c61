"""What the commands that measure sets of images share: their options, and features of sets with a bar."""

from __future__ import annotations

import difflib
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

if TYPE_CHECKING:
    from ganmod.process_shares import Processes
    from metrics.features.base import FeatureSpace
    from metrics.image_sets.features import SetFeatures
    from metrics.image_sets.sources import FileImages, ImageSource
    from metrics.image_sets.stylized import CroppedImages

LIBRARIES = ("ganmod", "torch", "numpy", "pillow", "clean-fid")


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
    """A line for each value, distances as `shown_distance` has them; a name may be KIND/METRIC/PAIR."""
    from metrics.distances.frechet import shown_distance

    width = max(map(len, values)) + 2
    for name, value in values.items():
        is_distance = any(part.startswith(("fid", "fd_")) for part in name.split("/"))
        click.echo(f"{name:{width}}{shown_distance(value) if is_distance else value:.6g}")


def check_count(num: int | None, metrics: tuple[str, ...]) -> None:
    """click.UsageError for a --num that is too small for --metrics."""
    from metrics.image_sets.distances import least_images

    if num is not None and num < least_images(metrics):
        raise click.UsageError(
            f"--num {num}: {', '.join(metrics)} need at least {least_images(metrics)} images of a set"
        )


def check_space_name(name: str) -> None:
    """click.UsageError, with the nearest name, unless --features may be `name`."""
    from metrics.features.pretrained import NAMES

    if name not in NAMES and ":" not in name:
        near = difflib.get_close_matches(name, NAMES, n=1)
        hint = f", did you mean {near[0]!r}" if near else ""
        raise click.UsageError(
            f"--features: unknown space {name!r}{hint}? Expected one of {', '.join(NAMES)}, or "
            "module:callable"
        )


def measured_set(
    source: ImageSource, space: FeatureSpace, processes: Processes, *, keep: bool, batch: int, title: str
) -> SetFeatures:
    """`measure_set` of all images of a source, under a progress bar of this title."""
    from metrics.image_sets.features import measure_set

    own = sum(len(indices) for indices in processes.batches(source.num_images, batch))
    with progress_bar(own, title, processes) as bar:
        return measure_set(
            source.load,
            source.num_images,
            space,
            keep=keep,
            batch_size=batch,
            processes=processes,
            done=bar.update,
        )


def hash_of_files(reference: FileImages | CroppedImages, processes: Processes, *, title: str) -> str:
    """The content hash of files, under a progress bar of this title."""
    with progress_bar(reference.num_images, f"{title}, hash", processes) as bar:
        return reference.content_hash(bar.update)


def measured_reference(
    reference: FileImages | CroppedImages,
    space: FeatureSpace,
    processes: Processes,
    *,
    keep: bool,
    batch: int,
    title: str,
    content_hash: str | None,
) -> SetFeatures:
    """`measured_set` of real images, from the cache where it holds what was measured under content_hash.

    content_hash: None measures anew and keeps nothing.
    """
    from ganmod.io.user_cache import user_cache_dir
    from metrics.image_sets.features import reference_set

    def measure() -> SetFeatures:
        return measured_set(reference, space, processes, keep=keep, batch=batch, title=title)

    if content_hash is None or space.fingerprint is None:
        return measure()
    return reference_set(
        measure, space, content_hash=content_hash, cache_dir=user_cache_dir(), keep=keep, processes=processes
    )


def progress_bar(total: int, title: str, processes: Processes) -> tqdm:
    """Of the first process alone; silent where the output is no terminal."""
    return tqdm(total=total, desc=title, unit="img", disable=None if processes.rank == 0 else True)


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Python warnings as one line each, above the progress bars."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        tqdm.write(f"warning: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show
        yield
