"""Images that cannot be read: a data set reports each once, skips it, and stops at too many."""

from __future__ import annotations

import warnings
from collections.abc import Hashable

from ganmod.io.images import ImageError

MAX_CORRUPT_FILES = 20


class CorruptImages:
    """The images of a data set that could not be read, by name or index."""

    def __init__(self, source: object, *, limit: int = MAX_CORRUPT_FILES) -> None:
        """No image is known to be corrupt yet.

        Args:
            source: the data set, for messages.
            limit: the number of corrupt images that is tolerated.
        """
        self.source, self.limit = source, limit
        self._names: set[Hashable] = set()

    def __contains__(self, image: Hashable) -> bool:
        return image in self._names

    def add(self, image: Hashable, error: ImageError) -> None:
        """Warn of an image, once; ImageError for more than `limit` images."""
        if image in self._names:
            return
        self._names.add(image)
        warnings.warn(f"skipped: {error}", stacklevel=5)
        if len(self._names) > self.limit:
            raise ImageError(
                f"more than {self.limit} corrupt images in {self.source}, the last: {error}"
            ) from error
