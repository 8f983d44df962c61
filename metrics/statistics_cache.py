"""Statistics of real images, kept in a folder under a hash of the images and the feature space."""

from __future__ import annotations

import hashlib
import re
import warnings
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

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
            try:
                _write(path, found, _key(space, content_hash))
            except OSError as error:
                warnings.warn(f"statistics were not kept in {path}: {error}", stacklevel=2)
    return found


def cache_path(space: FeatureSpace, content_hash: str, cache_dir: str | Path) -> Path:
    """The file of these statistics: the space's name, for people, and a hash of all that decides them."""
    digest = hashlib.sha256(_key(space, content_hash).encode()).hexdigest()
    return Path(cache_dir) / f"{re.sub('[^0-9A-Za-z_-]', '_', space.name)}-{digest[:32]}.npz"


def _key(space: FeatureSpace, content_hash: str) -> str:
    return f"format {_FORMAT}; {space.fingerprint}; images {content_hash}"


def _read(path: Path, space: FeatureSpace, content_hash: str) -> GaussianStatistics | None:
    """What the file holds; None where there is none, or a damaged one, which a warning names."""
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["key"]) != _key(space, content_hash):
                raise ValueError("it is of other images or features")
            found = GaussianStatistics(file["mean"], file["covariance"], int(file["count"]))
        if found.dim != space.dim:
            raise ValueError(f"it has {found.dim} features, expected {space.dim}")
    except (OSError, EOFError, KeyError, ValueError, TypeError, zipfile.BadZipFile) as error:
        warnings.warn(
            f"cached statistics {path} cannot be used ({error}): measuring them again", stacklevel=3
        )
        return None
    return found


def _write(path: Path, statistics: GaussianStatistics, key: str) -> None:
    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:  # by handle: np.savez appends .npz to a name
            np.savez(
                file,
                mean=statistics.mean,
                covariance=statistics.covariance,
                count=np.int64(statistics.count),
                key=np.str_(key),
            )

    atomic_write(path, write)


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
