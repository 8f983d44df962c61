"""If this fails, a run whose data were moved cannot go on, or one goes on with other images."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ganmod.data.files import ImageFiles
from ganmod.data.identity import NUM_READ, file_identity, files_identity, pictures_identity
from ganmod.io.images import write_image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for i in range(6):
        image = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
        write_image(tmp_path / "faces" / ("b" if i % 2 else "a") / f"{i}.bmp", image)
    return tmp_path / "faces"


def identity(path: Path, labels: bytes = b"") -> str:
    return files_identity(ImageFiles(path), labels)


def test_a_copy_or_a_zip_of_the_folder_is_the_same_data(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "copied"
    shutil.copytree(folder, copy, copy_function=shutil.copyfile)
    os.utime(copy / "a" / "0.bmp", (1, 1))
    zipped = {}
    for name, top in (("inside", folder), ("with its folder", folder.parent)):
        zipped[name] = tmp_path / f"{name}.zip"
        with zipfile.ZipFile(zipped[name], "w") as archive:
            for file in folder.rglob("*.bmp"):
                archive.write(file, file.relative_to(top))
    assert (
        identity(folder)
        == identity(copy)
        == identity(zipped["inside"])
        == identity(zipped["with its folder"])
    )
    assert identity(folder) != identity(folder, b"labels")


def test_one_pixel_one_name_or_one_image_more_is_other_data(folder: Path) -> None:
    seen = {identity(folder)}
    file = folder / "a" / "2.bmp"
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    seen.add(identity(folder))
    file.rename(folder / "a" / "22.bmp")
    seen.add(identity(folder))
    shutil.copy(folder / "a" / "0.bmp", folder / "a" / "7.bmp")
    seen.add(identity(folder))
    assert len(seen) == 4


def test_large_sets_are_read_in_part_but_measured_whole(tmp_path: Path) -> None:
    for i in range(3 * NUM_READ):
        (tmp_path / f"{i:03d}.bmp").write_bytes(b"x" * 10)
    before = identity(tmp_path)
    (tmp_path / "001.bmp").write_bytes(b"y" * 10)  # not among those that are read
    assert identity(tmp_path) == before
    (tmp_path / "003.bmp").write_bytes(b"y" * 10)
    changed = identity(tmp_path)
    (tmp_path / "001.bmp").write_bytes(b"y" * 11)
    assert len({before, changed, identity(tmp_path)}) == 3


def test_pictures_count_by_their_last_names_and_in_order(folder: Path, tmp_path: Path) -> None:
    files = sorted(folder.rglob("*.bmp"))
    moved = [Path(shutil.copy(file, tmp_path)) for file in files]
    assert pictures_identity(files) == pictures_identity(moved) != pictures_identity(moved[::-1])
    pictures = [np.zeros((2, 3, 3), np.uint8), np.zeros((3, 2, 3), np.uint8)]
    assert pictures_identity(pictures) != pictures_identity(pictures[::-1])
    missing = [*moved, tmp_path / "gone.bmp"]
    assert pictures_identity(missing) not in (pictures_identity(moved), pictures_identity(files))
    (tmp_path / "empty").write_bytes(b"")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # FIPS 180-4
    assert file_identity(tmp_path / "empty") == empty
    assert file_identity(tmp_path / "gone") is None
