"""Images that cannot be read: a data set names each once, passes over it, and gives up at too many."""

from __future__ import annotations

import warnings
from collections.abc import Hashable

from ganmod.io.images import ImageError

MAX_CORRUPT_FILES = 20


class CorruptImages:
    """The images of a data set that could not be read, by name or index."""

    def __init__(self, where: object, *, limit: int = MAX_CORRUPT_FILES) -> None:
        """where: the data set as messages name it. limit: how many are borne."""
        self.where, self.limit = where, limit
        self._found: set[Hashable] = set()

    def __contains__(self, image: Hashable) -> bool:
        return image in self._found

    def add(self, image: Hashable, error: ImageError) -> None:
        """Warn of an image, once; raises ImageError when it is one too many."""
        if image in self._found:
            return
        self._found.add(image)
        warnings.warn(f"skipped: {error}", stacklevel=4)
        if len(self._found) > self.limit:
            raise ImageError(
                f"more than {self.limit} corrupt images in {self.where}, the last: {error}"
            ) from error
