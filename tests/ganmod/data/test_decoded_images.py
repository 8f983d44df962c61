"""If this fails, data sets read images too often, keep too many, or stop at the first corrupt one."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from ganmod.data.decoded_images import DecodedImages
from ganmod.io.images import ImageError

MIB = 2**20


class Files:
    """Images of `sizes` bytes by name, None for a corrupt one; counts what is read."""

    def __init__(self, **sizes: int | None) -> None:
        self.sizes = sizes
        self.read: list[str] = []

    def decode(self, name: str) -> np.ndarray:
        self.read.append(name)
        size = self.sizes[name]
        if size is None:
            raise ImageError(f"cannot read image {name}")
        return np.zeros(size, dtype=np.uint8)


def images(files: Files, *, cache_mb: int = 2, max_corrupt: int = 1) -> DecodedImages[str]:
    return DecodedImages(files.decode, source="the set", cache_mb=cache_mb, max_corrupt=max_corrupt)


def test_an_image_is_decoded_once_while_there_is_room() -> None:
    files = Files(a=MIB, huge=3 * MIB, b=MIB, c=1)
    decoded = images(files)
    for name in ("a", "huge", "b", "c", "a", "huge", "b", "c"):
        assert len(decoded.load(name)) == files.sizes[name]
    assert files.read == ["a", "huge", "b", "c", "huge", "c"]
    assert sorted(decoded.cached) == ["a", "b"]


def test_a_copy_begins_with_an_empty_cache_of_full_size() -> None:
    decoded = images(Files(a=2 * MIB, b=2 * MIB))
    decoded.load("a")
    sent = copy.copy(decoded)
    assert sent.cached == {}
    sent.load("b")
    assert list(sent.cached) == ["b"]
    assert list(decoded.cached) == ["a"]


def test_corrupt_images_are_named_once_and_passed_over() -> None:
    files = Files(bad=None, good=5)
    decoded = images(files)
    with pytest.warns(UserWarning, match="skipped: cannot read image bad"):
        readable = decoded.first_readable(["bad", "good"])
    assert readable is not None
    assert (readable[0], len(readable[1])) == ("good", 5)
    assert decoded.first_readable(["bad", "good"]) is not None
    assert files.read == ["bad", "good"]
    assert decoded.first_readable(["bad"]) is None


@pytest.mark.filterwarnings("ignore:skipped")
def test_one_corrupt_image_too_many_is_an_error() -> None:
    decoded = images(Files(bad=None, worse=None, good=5))
    with pytest.raises(ImageError, match=r"more than 1 corrupt images in the set, the last: .*worse"):
        decoded.first_readable(["bad", "worse", "good"])
