"""Which files are read and written: suffixes, folders, names of results. Imports nothing that is slow."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ganmod_lite.errors import LiteError, WrongUsage

STREAM = "-"  # in place of a file: standard input or output
WRITE_FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".ppm": "PPM",
}
READ_SUFFIXES = frozenset(WRITE_FORMATS) | {
    ".jfif",
    ".gif",
    ".pgm",
    ".pnm",
    ".tga",
    ".jp2",
    ".avif",
}
CLIP_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".ogv", ".3gp"}
)
MODEL = Path(__file__).parent / "model"
MANIFEST = "model.json"


def read_manifest(model: str | Path | None) -> tuple[Path, dict[str, Any]]:
    """A model's folder, None for the one in this package, and what its model.json says.

    Raises LiteError if it holds no model.
    """
    folder = Path(model or MODEL)
    try:
        about = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        about["stages"], about["num_parameters"] = list(about["stages"]), int(about["num_parameters"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        cure = "give the folder that `ganmod export --stages -o DIR` wrote"
        if model is None:
            cure = "run `make lite` in the repository, then `pip install ./lite`"
        raise LiteError(f"there is no model in {folder}, expected {MANIFEST} in it: {cure}") from error
    return folder, about


def is_clip(path: str) -> bool:
    """Whether a path has the suffix of a video and is no folder."""
    return Path(path).suffix.lower() in CLIP_SUFFIXES and not Path(path).is_dir()


def check_exists(path: str) -> None:
    """Raise LiteError unless the path exists or is "-"."""
    if path != STREAM and not Path(path).exists():
        raise LiteError(f"there is no file or folder {path}: expected a picture, check the name")


def list_pictures(folder: Path) -> list[Path]:
    """All files under a folder with a picture's suffix, sorted; without hidden ones.

    A link to a folder is followed unless it leads to a folder above or stands behind another such link.

    Raises LiteError for a folder without any.
    """
    found: list[Path] = []
    visited, linked = set(), set()  # real folders, and those behind a link
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        # Sorted: of two links to one folder, always the same one is kept.
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".")
            and name != "__MACOSX"
            and not _leads_astray(os.path.join(parent, name), real, parent in linked)
        )
        inside = (os.path.join(parent, name) for name in folders)
        linked |= {path for path in inside if parent in linked or os.path.islink(path)}
        found += [
            Path(parent, name)
            for name in files
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in READ_SUFFIXES
        ]
    if not found:
        suffixes = " ".join(sorted(READ_SUFFIXES))
        raise LiteError(f"the folder {folder} holds no picture: expected one at least ({suffixes})")
    return sorted(found, key=lambda path: path.relative_to(folder).parts)


def _leads_astray(path: str, parent: str, behind_link: bool) -> bool:
    """Whether a folder is a link that is not followed: to one above its parent, or the second in a row."""
    return os.path.islink(path) and (behind_link or Path(parent).is_relative_to(os.path.realpath(path)))


def result_names(source: str) -> dict[str, str]:
    """{file: its part of the names of results} of a picture, or of all pictures of a folder.

    The part is the stem, or the path inside the folder where several files have the same stem.
    """
    if source == STREAM:
        return {STREAM: "stdin"}
    if not Path(source).is_dir():
        return {source: Path(source).stem}
    files = list_pictures(Path(source))
    stems = Counter(file.stem for file in files)
    return {
        str(file): file.stem if stems[file.stem] == 1 else "_".join(file.relative_to(source).parts)
        for file in files
    }


def check_out(out: str, inputs: Sequence[str], *, several: bool, clip: bool = False) -> None:
    """Raise WrongUsage for an --out that cannot hold the results, or that is one of the inputs.

    Args:
        out: the value of --out.
        inputs: files and folders that are read.
        several: whether there are several results, in a folder.
        clip: whether the result is a video.
    """
    path = Path(out)
    if out == STREAM:
        if several or clip:
            what = "several pictures" if several else "a video"
            raise WrongUsage(f"--out -: standard output takes one picture, got {what}: name a file or folder")
        return
    if clip and path.suffix.lower() != ".mp4":
        raise WrongUsage(f"--out {out}: a video is written as .mp4, try {path.with_suffix('.mp4')}")
    if several and (path.is_file() or (path.suffix.lower() in WRITE_FORMATS and not path.is_dir())):
        raise WrongUsage(f"--out {out} is named as a file, expected a folder for several results: try out/")
    if not several and not clip and path.suffix.lower() not in WRITE_FORMATS:
        known = " ".join(WRITE_FORMATS)
        raise WrongUsage(f"--out {out} has no suffix of a picture, expected one of {known}: try {out}.png")
    for file in inputs:
        if file == STREAM:
            continue
        if Path(file).is_file() and path.exists() and path.samefile(file):
            raise WrongUsage(f"--out {out} is {file}, which is read and would be lost: give another name")
        if several and Path(file).is_dir() and path.resolve().is_relative_to(Path(file).resolve()):
            raise WrongUsage(
                f"--out {out} lies inside {file}, whose pictures are read: give a folder elsewhere"
            )
