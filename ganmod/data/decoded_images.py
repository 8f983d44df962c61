"""Decoded images of a data set: kept in memory up to a limit, corrupt ones skipped."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any, Generic, TypeVar

import numpy as np

from ganmod.data.corrupt_images import MAX_CORRUPT_FILES, CorruptImages
from ganmod.io.images import ImageError

Key = TypeVar("Key", bound=Hashable)


class DecodedImages(Generic[Key]):
    """The images of a data set by key, decoded on first use.

    An image that does not fit into the cache is decoded on every use; smaller ones are still cached. In
    another process a copy begins with an empty cache.
    """

    def __init__(
        self,
        decode: Callable[[Key], np.ndarray],
        *,
        source: object,
        cache_mb: int,
        max_corrupt: int = MAX_CORRUPT_FILES,
    ) -> None:
        """Nothing is decoded yet.

        Args:
            decode: a key -> uint8 pixels; raises ImageError for a corrupt file.
            source: the data set, for messages.
            cache_mb: memory for decoded images, in MiB.
            max_corrupt: the number of corrupt images that is tolerated.
        """
        self.cache_mb = cache_mb
        self.corrupt = CorruptImages(source, limit=max_corrupt)
        self._decode = decode
        self._cache: dict[Key, np.ndarray] = {}
        self._free_bytes = cache_mb * 2**20

    def __getstate__(self) -> dict[str, Any]:
        """Without the decoded images: a worker process would receive them all."""
        return {**self.__dict__, "_cache": {}, "_free_bytes": self.cache_mb * 2**20}

    @property
    def cached(self) -> dict[Key, np.ndarray]:
        """The images in memory."""
        return dict(self._cache)

    def load(self, key: Key) -> np.ndarray:
        """The pixels of an image, not to be written to; ImageError for a corrupt one."""
        if key in self._cache:
            return self._cache[key]
        pixels = self._decode(key)
        if self._free_bytes >= pixels.nbytes:
            self._free_bytes -= pixels.nbytes
            self._cache[key] = pixels
        return pixels

    def first_readable(self, keys: Iterable[Key]) -> tuple[Key, np.ndarray] | None:
        """(key, pixels) of the first image that is not corrupt; None if all are.

        Raises ImageError for more corrupt images than tolerated.
        """
        for key in keys:
            if key not in self.corrupt:
                try:
                    return key, self.load(key)
                except ImageError as error:
                    self.corrupt.add(key, error)
        return None
