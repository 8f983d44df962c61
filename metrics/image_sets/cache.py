"""Cache of statistics and features of real images, keyed by a hash of the images and the space."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from ganmod.io.atomic_write import atomic_write
from ganmod.process_shares import ONE_PROCESS, Processes
from metrics.distances.frechet import GaussianStatistics
from metrics.features.base import FeatureSpace

_FORMAT = 1


Value = TypeVar("Value")
Arrays = dict[str, np.ndarray]


class Kind(NamedTuple, Generic[Value]):
    """A kind of cached value, and its conversion to arrays and back.

    Args:
        ending: of the file's name.
        arrays: value -> arrays.
        read: arrays, number of features -> value; raises ValueError or KeyError if they do not match.
    """

    ending: str
    arrays: Callable[[Value], Arrays]
    read: Callable[[Mapping[str, np.ndarray], int], Value]


def load_or_measure(
    kind: Kind[Value],
    compute: Callable[[], Value],
    space: FeatureSpace,
    *,
    content_hash: str,
    cache_dir: str | Path,
    processes: Processes = ONE_PROCESS,
) -> Value:
    """Statistics or features from cache_dir, or else computed and stored there.

    Nothing is cached for a space without a fingerprint. A damaged file is replaced with a warning; a folder
    that cannot be written to also gives a warning.

    Args:
        kind: STATISTICS or FEATURES.
        compute: returns the value; with several processes it runs on all or none.
        content_hash: changes whenever the images, their number or their preparation does.
        processes: all of them must call this; the first one reads and writes.

    Raises:
        ValueError: for an empty hash.
    """
    if not content_hash:
        raise ValueError("content_hash is empty, expected a hash of the images and of their preparation")
    if space.fingerprint is None:
        return compute()
    key = _key(space, content_hash)
    path = cache_path(space, content_hash, cache_dir, kind=kind.ending)
    result = _read(path, key, lambda arrays: kind.read(arrays, space.dim)) if processes.rank == 0 else None
    if processes.count > 1:
        shared = _broadcast(None if result is None else kind.arrays(result), processes)
        result = None if shared is None else kind.read(shared, space.dim)
    if result is None:
        result = compute()
        if processes.rank == 0:
            _write_or_warn(path, key, kind.arrays(result))
    return result


def _parse_statistics(arrays: Mapping[str, np.ndarray], dim: int) -> GaussianStatistics:
    statistics = GaussianStatistics(arrays["mean"], arrays["covariance"], int(arrays["count"]))
    if statistics.dim != dim:
        raise ValueError(f"it has {statistics.dim} features, expected {dim}")
    return statistics


def _parse_features(arrays: Mapping[str, np.ndarray], dim: int) -> Tensor:
    features = arrays["features"]
    if features.dtype != np.float32 or features.shape != (len(features), dim) or not len(features):
        raise ValueError(f"it has features {features.dtype} {list(features.shape)}, expected [N, {dim}]")
    if not np.isfinite(features).all():
        raise ValueError("it has NaN or infinity")
    return torch.from_numpy(features)


STATISTICS: Kind[GaussianStatistics] = Kind(
    "",
    lambda found: {"mean": found.mean, "covariance": found.covariance, "count": np.array(found.count)},
    _parse_statistics,
)
FEATURES: Kind[Tensor] = Kind(
    "features", lambda found: {"features": found.to("cpu", torch.float32).numpy()}, _parse_features
)


def cache_path(space: FeatureSpace, content_hash: str, cache_dir: str | Path, *, kind: str = "") -> Path:
    """The cache file of a set of images in a space.

    Args:
        content_hash: of the images and their preparation.
        kind: "features" for the features, "" for the statistics.
    """
    digest = hashlib.sha256(_key(space, content_hash).encode()).hexdigest()
    name = f"{re.sub('[^0-9A-Za-z_-]', '_', space.name)}-{digest[:32]}"
    return Path(cache_dir) / (f"{name}-{kind}.npz" if kind else f"{name}.npz")


def _key(space: FeatureSpace, content_hash: str) -> str:
    return f"format {_FORMAT}; {space.fingerprint}; images {content_hash}"


def _read(path: Path, key: str, parse: Callable[[Mapping[str, np.ndarray]], Value]) -> Value | None:
    """The file's value; None if it is missing, or damaged (with a warning)."""
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["key"]) != key:
                raise ValueError("it is of other images or features")
            return parse(file)
    except (OSError, EOFError, KeyError, ValueError, TypeError, zipfile.BadZipFile) as error:
        warnings.warn(
            f"cached statistics {path} cannot be used ({error}): measuring them again", stacklevel=3
        )
        return None


def _write_or_warn(path: Path, key: str, arrays: Arrays) -> None:
    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:  # by handle: np.savez appends .npz to a name
            np.savez(file, key=np.str_(key), **arrays)  # type: ignore[arg-type]

    try:
        atomic_write(path, write)
    except OSError as error:
        warnings.warn(f"statistics were not kept in {path}: {error}", stacklevel=3)


def _broadcast(arrays: Arrays | None, processes: Processes) -> Arrays | None:
    """The first process's arrays, on all processes: the others add zeros."""
    described = [] if arrays is None else [(k, v.dtype.str, v.shape) for k, v in arrays.items()]
    text = torch.tensor(list(json.dumps(described).encode()) if described else [], dtype=torch.int64)
    length = int(processes.total(torch.tensor([len(text)])))
    if not length:
        return None
    text = processes.total(text if len(text) else torch.zeros(length, dtype=torch.int64))
    result: Arrays = {}
    for name, dtype, shape in json.loads(bytes(text.tolist())):
        array = np.zeros(shape, np.dtype(dtype)) if arrays is None else arrays[name]
        result[name] = processes.total(torch.from_numpy(np.ascontiguousarray(array)).reshape(shape)).numpy()
    return result
