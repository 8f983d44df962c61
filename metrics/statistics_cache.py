"""Statistics and features of real images, kept in a folder under a hash of the images and the space."""

from __future__ import annotations

import hashlib
import re
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from ganmod.atomic_write import atomic_write
from ganmod.feature_spaces import FeatureSpace, check_uint8
from ganmod.user_cache import user_cache_dir as user_cache_dir
from metrics.frechet import GaussianStatistics
from metrics.process_shares import ONE_PROCESS, Processes

_FORMAT = 1


def hash_of_images(batches: Iterable[Tensor]) -> str:
    """SHA-256 over sizes and pixels of uint8 [N,3,H,W] batches, in order, however they are cut."""
    digest = hashlib.sha256()
    for number, images in enumerate(batches):
        check_uint8(images, source=f"batch {number}")
        for image in images.cpu():
            digest.update(f"{list(image.shape)}".encode())
            digest.update(image.contiguous().numpy().tobytes())
    return digest.hexdigest()


def cached_statistics(
    compute: Callable[[], GaussianStatistics],
    space: FeatureSpace,
    *,
    content_hash: str,
    cache_dir: str | Path,
    processes: Processes = ONE_PROCESS,
) -> GaussianStatistics:
    """The statistics of the images behind content_hash in a space: from cache_dir, or computed and put there.

    content_hash: changes whenever the images, their number or their preparation does: `hash_of_images`, or
    the hash of a data file together with the settings it is read with. A space without a fingerprint is not
    cached. Under several processes all call this, the first one reads and writes, and `compute` runs on all
    or none. A damaged file is reported by a warning and replaced; a folder that cannot be written to is
    reported, too. Raises ValueError for an empty hash.
    """
    if not content_hash:
        raise ValueError("content_hash is empty, expected a hash of the images: see hash_of_images")
    if space.fingerprint is None:
        return compute()
    path = cache_path(space, content_hash, cache_dir)
    found = _read(path, space, content_hash) if processes.rank == 0 else None
    if processes.count > 1:
        found = _shared(found, space.dim, processes)
    if found is None:
        found = compute()
        if processes.rank == 0:
            _write_or_warn(
                path,
                _key(space, content_hash),
                mean=found.mean,
                covariance=found.covariance,
                count=np.int64(found.count),
            )
    return found


def cached_features(
    compute: Callable[[], Tensor],
    space: FeatureSpace,
    *,
    content_hash: str,
    cache_dir: str | Path,
    processes: Processes = ONE_PROCESS,
) -> Tensor:
    """Features float32 [N,D] on the CPU, one row per image, in all else as `cached_statistics`."""
    if not content_hash:
        raise ValueError("content_hash is empty, expected a hash of the images: see hash_of_images")
    if space.fingerprint is None:
        return compute()
    path = cache_path(space, content_hash, cache_dir, kind="features")
    found = _read_features(path, space, content_hash) if processes.rank == 0 else None
    if processes.count > 1:
        count = int(processes.total(torch.tensor([0 if found is None else len(found)])))
        if count:
            found = processes.total(torch.zeros(count, space.dim) if found is None else found)
    if found is None:
        found = compute().to("cpu", torch.float32)
        if processes.rank == 0:
            _write_or_warn(path, _key(space, content_hash), features=found.numpy())
    return found


def cache_path(space: FeatureSpace, content_hash: str, cache_dir: str | Path, *, kind: str = "") -> Path:
    """The file of these statistics: the space's name, for people, and a hash of all that decides them.

    kind: "features" for the file of the features themselves.
    """
    digest = hashlib.sha256(_key(space, content_hash).encode()).hexdigest()
    name = f"{re.sub('[^0-9A-Za-z_-]', '_', space.name)}-{digest[:32]}"
    return Path(cache_dir) / (f"{name}-{kind}.npz" if kind else f"{name}.npz")


def _key(space: FeatureSpace, content_hash: str) -> str:
    return f"format {_FORMAT}; {space.fingerprint}; images {content_hash}"


def _read(path: Path, space: FeatureSpace, content_hash: str) -> GaussianStatistics | None:
    """What the file holds; None where there is none, or a damaged one, which a warning names."""

    def parse(arrays: Mapping[str, np.ndarray]) -> GaussianStatistics:
        found = GaussianStatistics(arrays["mean"], arrays["covariance"], int(arrays["count"]))
        if found.dim != space.dim:
            raise ValueError(f"it has {found.dim} features, expected {space.dim}")
        return found

    return _parsed(path, _key(space, content_hash), parse)


def _read_features(path: Path, space: FeatureSpace, content_hash: str) -> Tensor | None:
    """As `_read`."""

    def parse(arrays: Mapping[str, np.ndarray]) -> Tensor:
        found = arrays["features"]
        if found.dtype != np.float32 or found.shape != (len(found), space.dim) or not len(found):
            raise ValueError(f"it has features {found.dtype} {list(found.shape)}, expected [N, {space.dim}]")
        if not np.isfinite(found).all():
            raise ValueError("it has NaN or infinity")
        return torch.from_numpy(found)

    return _parsed(path, _key(space, content_hash), parse)


Found = TypeVar("Found")


def _parsed(path: Path, key: str, parse: Callable[[Mapping[str, np.ndarray]], Found]) -> Found | None:
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["key"]) != key:
                raise ValueError("it is of other images or features")
            return parse(file)
    except (OSError, EOFError, KeyError, ValueError, TypeError, zipfile.BadZipFile) as error:
        warnings.warn(
            f"cached statistics {path} cannot be used ({error}): measuring them again", stacklevel=4
        )
        return None


def _write_or_warn(path: Path, key: str, **arrays: np.ndarray | np.int64) -> None:
    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:  # by handle: np.savez appends .npz to a name
            np.savez(file, key=np.str_(key), **arrays)  # type: ignore[arg-type]

    try:
        atomic_write(path, write)
    except OSError as error:
        warnings.warn(f"statistics were not kept in {path}: {error}", stacklevel=3)


def _shared(found: GaussianStatistics | None, dim: int, processes: Processes) -> GaussianStatistics | None:
    """The first process's find on all of them: the others add zeros to it."""
    count = int(processes.total(torch.tensor([0 if found is None else found.count])))
    if not count:
        return None
    mean = torch.zeros(dim, dtype=torch.float64)
    covariance = torch.zeros(dim, dim, dtype=torch.float64)
    if found is not None:
        mean, covariance = torch.from_numpy(found.mean), torch.from_numpy(found.covariance)
    return GaussianStatistics(processes.total(mean).numpy(), processes.total(covariance).numpy(), count)
