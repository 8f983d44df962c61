"""The images of a folder or a zip: their names, sizes and pixels."""

from __future__ import annotations

import hashlib
import lzma
import math
import os
import posixpath
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from PIL import Image

from configs.limits import FILE_MB, JSON_MB, MB, Limit
from configs.visible_text import visible
from ganmod.io.image_decoding import open_picture, orientation
from ganmod.io.images import IMAGE_SUFFIXES, ImageError, list_images, read_image
from ganmod.io.regular_file import open_regular, read_regular

LABEL_FILE = "dataset.json"

# The zip reader's errors: damage, a password, an unknown compression, a size that no memory holds.
_ZIP_ERRORS = (EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, RuntimeError, MemoryError)


class Header(NamedTuple):
    """The upright size of an image in pixels, and Pillow's mode (RGB, L, P, ...)."""

    height: int
    width: int
    mode: str

    @property
    def size(self) -> str:
        """As `--size` takes it: WIDTHxHEIGHT."""
        return f"{self.width}x{self.height}"


class ImageFiles:
    """The images of a folder (with its sub-folders) or of a zip, in the order of their names.

    names: paths inside the folder or the zip, with forward slashes; hidden files and those without an image
    suffix are left out.

    A zip is never unpacked, and every process opens it separately. Raises ValueError for a path that is
    neither a folder nor a zip or holds no image, and for a zip with paths that lead out of it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._archive: tuple[int, zipfile.ZipFile] | None = None
        self._members: dict[str, zipfile.ZipInfo] = {}
        self.is_zip = not self.path.is_dir()
        if not self.is_zip:
            self.names = [file.relative_to(self.path).as_posix() for file in list_images(self.path)]
            return
        if not self.path.exists():
            raise ValueError(f"data set {self.path} does not exist: give a folder of images or a zip")
        for member in self._zip().infolist():
            name = member.filename.replace("\\", "/")
            if name.startswith("/") or ".." in name.split("/"):
                raise ValueError(
                    f"zip {self.path} holds the path {member.filename!r}, which leads out of it: repack it"
                )
            if name and not name.endswith("/"):  # is_dir() needs a name
                self._members[name] = member
        self.names = sorted(filter(_is_image, self._members), key=lambda name: name.split("/"))
        if not self.names:
            raise ValueError(f"no image in zip {self.path}: looked for {', '.join(sorted(IMAGE_SUFFIXES))}")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_archive": None}

    def full_name(self, name: str) -> str:
        """The name with the path of the folder or zip, for messages: control characters are visible."""
        return visible(str(self.path / name))

    def read_bytes(self, name: str) -> bytes:
        """The encoded image; ImageError, which names it, if it cannot be read."""
        try:
            return self._read(name, FILE_MB)
        except OSError as error:
            raise ImageError(
                f"cannot read image {self.full_name(name)}: {error.strerror or error}"
            ) from error
        except (ValueError, *_ZIP_ERRORS) as error:
            raise ImageError(f"cannot read image {self.full_name(name)}: {error}") from error

    def num_bytes(self, name: str) -> int:
        """Size of the encoded image; 0 for a link that leads nowhere."""
        return self._members[name].file_size if self.is_zip else self._file_stamp(name)[1]

    def fingerprint(self) -> str:
        """SHA-256 over the names and, in a zip, the images' checksums; in a folder, sizes and times.

        No image is read: large data sets have hundreds of gigabytes.
        """
        digest = hashlib.sha256()
        for name in self.names:
            if self.is_zip:
                stamp = (self._members[name].CRC, self._members[name].file_size)
            else:
                stamp = self._file_stamp(name)
            digest.update(f"{name}\0{stamp}\0".encode("utf-8", errors="surrogateescape"))
        return digest.hexdigest()

    def read(self, name: str) -> np.ndarray:
        """The decoded image, uint8 [H,W,3]; see `ganmod.io.images.read_image`."""
        return read_image(self.read_bytes(name), name=self.full_name(name))

    def header(self, name: str) -> Header:
        """Size and mode, if possible without decoding the pixels; ImageError if they cannot be read."""
        try:
            with self._stream(name) as stream, open_picture(stream) as image:
                return _header(image)
        except Exception:  # decoders raise a dozen types; the full reader decides and words the error
            height, width, _ = self.read(name).shape
            return Header(height, width, "RGB")

    def label_file(self) -> tuple[str, str] | None:
        """(its folder, its text) of dataset.json at the top, or in the one folder that holds all images."""
        for folder in dict.fromkeys(("", shared_folder(self.names))):
            name = posixpath.join(folder, LABEL_FILE)
            try:
                if name in self._members if self.is_zip else (self.path / name).is_file():
                    return folder, self._read(name, JSON_MB).decode("utf-8-sig")
            except (OSError, ValueError, *_ZIP_ERRORS) as error:
                raise ValueError(f"cannot read {self.full_name(name)}: {error}") from error
        return None

    def close(self) -> None:
        """Close the zip if it is open; reading opens it again."""
        if self._archive is not None:
            file = self._archive[1].fp  # not closed with the zip, since it was open before
            self._archive[1].close()
            if file is not None:
                file.close()
            self._archive = None

    def _read(self, name: str, limit: Limit) -> bytes:
        """The bytes of a file or an entry of the zip, of which at most the stated size is inflated."""
        if not self.is_zip:
            return read_regular(self.path / name, limit)
        limit.check(self._members[name].file_size / MB, "it")
        return self._zip().read(self._members[name])

    def _file_stamp(self, name: str) -> tuple[int, int]:
        """(time, size) of a file in a folder; zeros for a link that leads nowhere."""
        try:
            status = (self.path / name).stat()
        except OSError:
            return 0, 0
        return status.st_mtime_ns, status.st_size

    def _stream(self, name: str) -> IO[bytes]:
        if not self.is_zip:
            return open_regular(self.path / name, FILE_MB)
        FILE_MB.check(self._members[name].file_size / MB, "it")
        return self._zip().open(self._members[name])

    def _zip(self) -> zipfile.ZipFile:
        # A forked process would share its parent's file position: every process opens the zip separately.
        if self._archive is None or self._archive[0] != os.getpid():
            file = open_regular(self.path)
            try:
                self._archive = os.getpid(), zipfile.ZipFile(file)
            except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError) as error:
                file.close()
                raise ValueError(
                    f"{self.path} is no zip, or not a whole one ({error}): give a folder of images or a zip"
                ) from error
        return self._archive[1]


def read_headers(
    files: ImageFiles, *, progress: Callable[[], object] = lambda: None
) -> tuple[dict[str, Header], dict[str, ImageError]]:
    """(headers, errors) by name: each image is in one of them; `progress` is called once per image."""
    headers: dict[str, Header] = {}
    errors: dict[str, ImageError] = {}
    for name in files.names:
        try:
            headers[name] = files.header(name)
        except ImageError as error:
            errors[name] = error
        progress()
    return headers, errors


def check_one_size(headers: dict[str, Header], path: Path) -> None:
    """ValueError, which names two images, unless all have one size."""
    sizes = Counter(header[:2] for header in headers.values())
    if len(sizes) > 1:
        (first, one), *others = headers.items()
        second, two = next(item for item in others if item[1][:2] != one[:2])
        side = 2 ** round(math.log2(max(4, min(one.height, one.width, two.height, two.width))))
        raise ValueError(
            f"the images of {path} have {len(sizes)} sizes (width x height): {first} is {one.size}, {second} "
            f"is {two.size}. Make them equal: ganmod data pack {path} OUT.zip --size {side}"
        )


def _header(image: Image.Image) -> Header:
    # PNG stores EXIF after the pixels: reading it would decode them.
    is_quick = image.format != "PNG" or "exif" in image.info
    turned = image.width != image.height and is_quick and orientation(image) >= 5
    height, width = (image.width, image.height) if turned else (image.height, image.width)
    return Header(height, width, image.mode)


def _is_image(name: str) -> bool:
    parts = name.split("/")
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return not hidden and posixpath.splitext(name)[1].lower() in IMAGE_SUFFIXES


def shared_folder(names: Sequence[str]) -> str:
    """The deepest folder that holds all the named files, "" for the top."""
    return posixpath.commonpath([posixpath.dirname(name) for name in names])
