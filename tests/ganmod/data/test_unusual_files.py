"""If this fails, one odd file of a folder or a zip hangs, fills the memory, or hides the images beside it."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from small_images import folder_of, picture, png, write_zip

from configs.limits import FILE_MB, LIMITS
from ganmod.data.files import ImageFiles
from ganmod.io.images import ImageError, list_images, read_image
from ganmod.io.regular_file import open_regular, read_regular

posix = pytest.mark.skipif(os.name == "nt", reason="no pipes and devices in folders")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A picture, a pipe, and links to nowhere, to itself, to a device and to the picture."""
    place = folder_of(tmp_path / "photos", ["a.png"])
    os.mkfifo(place / "pipe.png")
    for name, target in (("gone", "nowhere"), ("loop", "loop.png"), ("zero", "/dev/zero"), ("link", "a.png")):
        (place / f"{name}.png").symlink_to(target)
    return place


@posix
def test_only_regular_files_are_read_and_the_others_are_named(folder: Path) -> None:
    files = ImageFiles(folder)
    assert files.names == ["a.png", "gone.png", "link.png", "loop.png", "pipe.png", "zero.png"]
    assert np.array_equal(files.read("a.png"), picture(0))
    assert np.array_equal(files.read("link.png"), picture(0))
    reasons = {
        "gone.png": "No such file",
        "loop.png": "Too many levels of symbolic links",
        "pipe.png": "is a pipe, expected a file",
        "zero.png": "is a device, expected a file",
    }
    for name, reason in reasons.items():
        for read in (files.read, files.header, files.read_bytes, lambda name: read_image(folder / name)):
            with pytest.raises(ImageError, match=f"{name}: {reason}"):
                read(name)
    assert files.num_bytes("gone.png") == 0
    assert files.fingerprint() == ImageFiles(folder).fingerprint()


@posix
def test_a_pipe_is_no_zip_and_is_not_waited_for(folder: Path) -> None:
    with pytest.raises(OSError, match="is a pipe, expected a file"):
        ImageFiles(folder / "pipe.png")


def test_links_to_folders_are_followed_once_and_never_upwards(tmp_path: Path) -> None:
    folder_of(tmp_path / "photos" / "sub", ["a.png"])
    folder_of(tmp_path / "other" / "deep", ["b.png"])
    folder_of(tmp_path / "third", ["c.png"])
    (tmp_path / "photos" / "other").symlink_to(tmp_path / "other")  # followed
    (tmp_path / "other" / "deep" / "third").symlink_to(tmp_path / "third")  # behind a link
    for name, target in (("up", ".."), ("root", "/"), ("self", ".")):
        (tmp_path / "photos" / "sub" / name).symlink_to(target)
    found = [path.relative_to(tmp_path / "photos").as_posix() for path in list_images(tmp_path / "photos")]
    assert found == ["other/deep/b.png", "sub/a.png"]


def zip_bomb(path: Path, name: str, megabytes: int) -> Path:
    """A small zip whose entry inflates to some megabytes of zeros."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open(name, "w", force_zip64=True) as entry:
            for _ in range(megabytes):
                entry.write(bytes(10**6))
        archive.writestr("good.png", png(picture(0)))
    return path


def test_entries_of_a_zip_are_limited_when_inflated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = ImageFiles(zip_bomb(tmp_path / "bomb.zip", "bad.png", 3))
    labels = ImageFiles(zip_bomb(tmp_path / "labels.zip", "dataset.json", 3))
    monkeypatch.setenv("GANMOD_MAX_FILE_MB", "2")
    monkeypatch.setenv("GANMOD_MAX_JSON_MB", "2")
    for read in (files.read, files.header):
        with pytest.raises(ImageError, match=r"bad\.png.* 3 MB, and the limit is 2: .* GANMOD_MAX_FILE_MB"):
            read("bad.png")
    assert np.array_equal(files.read("good.png"), picture(0))
    with pytest.raises(ValueError, match=r"dataset\.json.* 3 MB, and the limit is 2: .* GANMOD_MAX_JSON_MB"):
        labels.label_file()
    monkeypatch.setenv("GANMOD_MAX_JSON_MB", "3")
    assert labels.label_file() == ("", "\0" * 3 * 10**6)


def test_files_are_limited_by_their_stated_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "sparse.bin").open("wb") as file:
        file.truncate(2**40)  # 1 TiB that takes no space
    with pytest.raises(ValueError, match=r"the limit is 1,024: .* GANMOD_MAX_FILE_MB"):
        read_regular(tmp_path / "sparse.bin", FILE_MB)
    with open_regular(tmp_path / "sparse.bin") as file:
        assert file.read(3) == bytes(3)
    monkeypatch.setenv("GANMOD_MAX_FILE_MB", "many")
    with pytest.raises(ValueError, match="GANMOD_MAX_FILE_MB is 'many', expected a whole number"):
        read_regular(tmp_path / "sparse.bin", FILE_MB)


def test_names_in_a_zip_are_shown_without_control_characters(tmp_path: Path) -> None:
    files = ImageFiles(write_zip(tmp_path / "a.zip", {"x\x1b[2J.png": b"no", "y.png": png(picture(0))}))
    with pytest.raises(ImageError, match=r"a\.zip/x\\x1b\[2J\.png: damaged|not an image") as caught:
        files.read("x\x1b[2J.png")
    assert "\x1b" not in str(caught.value)


def test_every_limit_is_documented() -> None:
    page = (Path(__file__).parents[3] / "docs" / "limits.md").read_text(encoding="utf-8")
    for limit in LIMITS:
        assert f"`{limit.variable}` | {limit.default:,} {limit.unit} |" in page
