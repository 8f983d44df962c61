"""If this fails, `ganmod data` changes pixels or labels, leaves half a zip behind, or tells wrong counts."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganmod.data import pack as dataset_pack
from ganmod.data.files import ImageFiles
from ganmod.data.image_dataset import ImageDataset
from ganmod.io.images import read_image, write_image

ROOT = Path(__file__).parents[2]


def picture(seed: int, height: int = 8, width: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """cat/ with pictures 0 and 1, dog/ with 2, 3 and 4, all 12 x 8 (width x height)."""
    for i in range(5):
        write_image(tmp_path / "pets" / ("cat" if i < 2 else "dog") / f"{i}.png", picture(i))
    return tmp_path / "pets"


def foreign_reader(path: Path) -> tuple[list[np.ndarray], list | None]:
    """What the format of stylegan2-ada says, and no more: sorted names, "labels" by exact name."""
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".png"))
        images = [np.array(Image.open(BytesIO(archive.read(name)))) for name in names]
        labels = json.loads(archive.read("dataset.json"))["labels"]
    return images, None if labels is None else [dict(labels)[name] for name in names]


def test_pack_and_read_back_bit_for_bit(pets: Path, tmp_path: Path, ganmod_command) -> None:
    ended = ganmod_command("data", "pack", pets, tmp_path / "out.zip")
    assert ended.code == 0
    assert "5 images of 12x8 (width x height), 2 classes" in ended.out
    data = ImageDataset(tmp_path / "out.zip", labels="required")
    assert data.label_names == ("cat", "dog")
    assert [data.label(i).tolist() for i in range(5)] == [[1, 0]] * 2 + [[0, 1]] * 3
    for i in range(5):
        assert np.array_equal(data.image(i).numpy(), picture(i).transpose(2, 0, 1))
    images, labels = foreign_reader(tmp_path / "out.zip")
    assert labels == [0, 0, 1, 1, 1]
    assert all(np.array_equal(image, picture(i)) for i, image in enumerate(images))


def test_layout_is_that_of_stylegan2_ada(pets: Path, tmp_path: Path, ganmod_command) -> None:
    ganmod_command("data", "pack", pets, tmp_path / "out.zip")
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        names = [f"00000/img0000000{i}.png" for i in range(5)]
        assert archive.namelist() == [*names, "dataset.json"]
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        labels = json.loads(archive.read("dataset.json"))
        assert {Image.open(BytesIO(archive.read(name))).mode for name in names} == {"RGB"}
    assert labels == {
        "labels": [[name, int(i > 1)] for i, name in enumerate(names)],
        "label_names": ["cat", "dog"],
    }


def test_equal_input_gives_equal_bytes(pets: Path, tmp_path: Path, ganmod_command) -> None:
    for name, source, workers in (("a", pets, 1), ("b", pets, 3), ("c", tmp_path / "a.zip", 2)):
        assert (
            ganmod_command("data", "pack", source, tmp_path / f"{name}.zip", "--workers", workers).code == 0
        )
        os.utime(pets / "cat" / "0.png", (0, 0))
    assert len({(tmp_path / f"{name}.zip").read_bytes() for name in "abc"}) == 1


def test_more_than_a_thousand_images_keep_their_order() -> None:
    """Results of threads come back in order, for any number of them."""
    for num_workers in (1, 5):
        results = dataset_pack._ordered_map(lambda name: name * 2, (str(i) for i in range(1200)), num_workers)
        assert list(results) == [str(i) * 2 for i in range(1200)]


def test_labels_keep_from_folders_none(pets: Path, tmp_path: Path, ganmod_command) -> None:
    (pets / "dataset.json").write_text(
        json.dumps({"labels": [[f"{'cat' if i < 2 else 'dog'}/{i}.png", [i, 0.5]] for i in range(5)]})
    )
    expected = {
        "keep": ([[i, 0.5] for i in range(5)], "labels of 2 numbers"),
        "from-folders": ([0, 0, 1, 1, 1], "2 classes"),
        "none": (None, "no labels"),
    }
    for choice, (labels, told) in expected.items():
        ended = ganmod_command("data", "pack", pets, tmp_path / f"{choice}.zip", "--labels", choice)
        assert told in ended.out
        assert foreign_reader(tmp_path / f"{choice}.zip")[1] == labels
        assert ImageDataset(tmp_path / f"{choice}.zip").c_dim == (0 if labels is None else 2)


def test_box_filter_averages_and_size_is_width_by_height(pets: Path, tmp_path: Path, ganmod_command) -> None:
    ganmod_command("data", "pack", pets, tmp_path / "out.zip", "--size", "6x4", "--filter", "box")
    images, _ = foreign_reader(tmp_path / "out.zip")
    for i, image in enumerate(images):
        mean = picture(i).reshape(4, 2, 6, 2, 3).mean(axis=(1, 3))
        assert image.shape == (4, 6, 3)
        assert np.abs(image - mean).max() <= 1  # Pillow rounds after each of two passes


def test_center_crop_takes_the_largest_middle_part() -> None:
    image = picture(0)
    assert np.array_equal(dataset_pack.fit(image, (8, 8)), image[:, 2:10])
    assert np.array_equal(dataset_pack.fit(image, (4, 12)), image[2:6])
    assert np.array_equal(dataset_pack.fit(image, (8, 12)), image)
    halved = dataset_pack.fit(image, (4, 4), resample="box")
    assert np.abs(halved - image[:, 2:10].reshape(4, 2, 4, 2, 3).mean(axis=(1, 3))).max() <= 1
    # An aspect that no whole number of pixels meets still gives the size that was asked for.
    assert dataset_pack.fit(image, (5, 7)).shape == (5, 7, 3)
    assert dataset_pack.fit(picture(0, 1, 50), (64, 1)).shape == (64, 1, 3)


def test_without_crop_the_whole_image_is_stretched(pets: Path, tmp_path: Path, ganmod_command) -> None:
    ended = ganmod_command(
        "data", "pack", pets, tmp_path / "out.zip", "--size", 4, "--filter", "box", "--crop", "none"
    )
    assert ended.code == 0
    images, _ = foreign_reader(tmp_path / "out.zip")
    assert np.abs(images[0] - picture(0).reshape(4, 2, 4, 3, 3).mean(axis=(1, 3))).max() <= 1


def test_filters_differ_and_enlarged_images_are_told(pets: Path, tmp_path: Path, ganmod_command) -> None:
    results = []
    for name in ("box", "lanczos"):
        ganmod_command("data", "pack", pets, tmp_path / f"{name}.zip", "--size", 4, "--filter", name)
        results.append(foreign_reader(tmp_path / f"{name}.zip")[0][0])
    assert not np.array_equal(results[0], results[1])
    assert "enlarged" not in ganmod_command("data", "pack", pets, tmp_path / "a.zip", "--size", 8).err
    assert "enlarged 5 images" in ganmod_command("data", "pack", pets, tmp_path / "b.zip", "--size", 9).err


def test_corrupt_images_are_named_and_labels_stay_with_theirs(
    pets: Path, tmp_path: Path, ganmod_command
) -> None:
    (pets / "cat" / "1.png").write_bytes(b"not an image")
    whole = (pets / "dog" / "3.png").read_bytes()
    (pets / "dog" / "3.png").write_bytes(whole[: len(whole) // 2])
    ended = ganmod_command("data", "pack", pets, tmp_path / "out.zip")
    assert ended.code == 1
    assert "3 images of 12x8 (width x height), 2 classes, 2 corrupt ones left out" in ended.out
    assert "Error: left out 2 images:\n" in ended.err
    assert "cat/1.png" in ended.err
    assert "dog/3.png" in ended.err
    images, labels = foreign_reader(tmp_path / "out.zip")
    assert labels == [0, 1, 1]
    assert all(np.array_equal(image, picture(i)) for i, image in zip((0, 2, 4), images, strict=True))

    ended = ganmod_command("data", "pack", pets, tmp_path / "few.zip", "--max-corrupt", 1)
    assert ended.code == 1
    assert "more than 1 corrupt images" in ended.err
    for i in (0, 2, 4):
        (pets / ("cat" if i < 2 else "dog") / f"{i}.png").write_bytes(b"")
    assert "none of the 5 images" in ganmod_command("data", "pack", pets, tmp_path / "few.zip").err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.zip", "pets"]


def test_mixed_sizes_need_a_size(pets: Path, tmp_path: Path, ganmod_command) -> None:
    write_image(pets / "dog" / "5.png", picture(5, height=16, width=16))
    ended = ganmod_command("data", "pack", pets, tmp_path / "out.zip")
    assert ended.code == 1
    assert "cat/0.png is 12x8, dog/5.png is 16x16" in ended.err
    assert "--size" in ended.err
    assert not (tmp_path / "out.zip").exists()
    assert ganmod_command("data", "pack", pets, tmp_path / "out.zip", "--size", 8).code == 0
    assert ImageDataset(tmp_path / "out.zip").image_shape == (3, 8, 8)


def test_nothing_is_overwritten_without_force(pets: Path, tmp_path: Path, ganmod_command) -> None:
    out = tmp_path / "out.zip"
    out.write_bytes(b"precious")
    ended = ganmod_command("data", "pack", pets, out)
    assert ended.code == 2
    assert "--force" in ended.err
    assert out.read_bytes() == b"precious"
    assert ganmod_command("data", "pack", pets, out, "--force").code == 0
    assert ImageDataset(out).num_images == 5
    ended = ganmod_command("data", "pack", out, out, "--force")
    assert ended.code == 2
    assert "which is read and would be overwritten" in " ".join(ended.err.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["out.tar"], "has no suffix .zip: try"),
        (["out.zip", "--crop", "center"], "needs --size"),
        (["out.zip", "--size", "0"], "'0' is no size"),
        (["out.zip", "--size", "64x"], "expected N or WIDTHxHEIGHT"),
        (["out.zip", "--size", "1x2x3"], "expected N or WIDTHxHEIGHT"),
        (["out.zip", "--size", "-4"], "expected N or WIDTHxHEIGHT"),
    ],
)
def test_wrong_usage(pets: Path, tmp_path: Path, ganmod_command, arguments: list[str], message: str) -> None:
    ended = ganmod_command("data", "pack", pets, tmp_path / arguments[0], *arguments[1:])
    assert ended.code == 2
    assert message in " ".join(ended.err.split())
    assert ganmod_command("data", "pack", tmp_path / "missing", tmp_path / "out.zip").code == 2


@pytest.mark.parametrize(
    ("error", "code"), [(KeyboardInterrupt(), 3), (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), 1)]
)
def test_an_interrupted_pack_leaves_everything_as_it_was(
    pets: Path,
    tmp_path: Path,
    ganmod_command,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
) -> None:
    num_written = 0
    original = zipfile.ZipFile.writestr

    def writestr(self: zipfile.ZipFile, *arguments: object) -> None:
        nonlocal num_written
        num_written += 1
        if num_written == 4:
            raise error
        original(self, *arguments)  # type: ignore[arg-type]

    (tmp_path / "old.zip").write_bytes(b"precious")
    monkeypatch.setattr(zipfile.ZipFile, "writestr", writestr)
    for name, options in (("new.zip", []), ("old.zip", ["--force"])):
        num_written = 0
        assert ganmod_command("data", "pack", pets, tmp_path / name, *options).code == code
        assert sorted(path.name for path in tmp_path.iterdir()) == ["old.zip", "pets"]
    assert (tmp_path / "old.zip").read_bytes() == b"precious"


def test_a_killed_pack_leaves_nothing_under_the_final_name(pets: Path, tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "from ganmod.data.pack import pack\n"
        "from ganmod.data.files import ImageFiles\n"
        "seen = []\n"
        "def progress():\n"
        "    seen.append(0)\n"
        "    if len(seen) == 4:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "pack(ImageFiles(sys.argv[1]), None, sys.argv[2], progress=progress)\n"
    )
    arguments = [sys.executable, "-c", code, str(pets), str(tmp_path / "out.zip")]
    assert subprocess.run(arguments, cwd=ROOT, check=False, timeout=120).returncode == -9
    assert not (tmp_path / "out.zip").exists()
    left = [path for path in tmp_path.iterdir() if path != pets]
    assert all(path.name.startswith(".") and path.suffix != ".zip" for path in left)
    dataset_pack.pack(ImageFiles(pets), None, tmp_path / "out.zip")
    assert len(foreign_reader(tmp_path / "out.zip")[0]) == 5


def test_info_counts(pets: Path, tmp_path: Path, ganmod_command) -> None:
    Image.fromarray(picture(5)[..., 0]).save(pets / "dog" / "5.png")
    write_image(pets / "dog" / "6.png", picture(6, height=16, width=16))
    (pets / "cat" / "7.png").write_bytes(b"not an image")
    ended = ganmod_command("data", "info", pets)
    assert ended.code == 0
    assert f"{pets}: 7 images" in ended.out
    assert "sizes (width x height): 12x8 (6), 16x16 (1)" in ended.out
    assert "modes: RGB (6), L (1)" in ended.out
    assert "labels: 2 classes: cat (3), dog (5)" in ended.out
    assert "corrupt: 1\n  cannot read image" in ended.out
    assert f"training needs one size: ganmod data pack {pets} OUT.zip --size N" in ended.out

    found = json.loads(ganmod_command("data", "info", pets, "--json").out)
    assert found.pop("corrupt")[0].startswith(f"cannot read image {pets}/cat/7.png")
    assert found == {
        "path": str(pets),
        "num_images": 7,
        "bytes": sum(path.stat().st_size for path in pets.rglob("*.png")),
        "sizes": {"12x8": 6, "16x16": 1},
        "modes": {"RGB": 6, "L": 1},
        "c_dim": 2,
        "labels": {"cat": 3, "dog": 5},
    }


def test_info_of_a_zip_and_hidden_damage(pets: Path, tmp_path: Path, ganmod_command) -> None:
    write_image(pets / "dog" / "9.png", picture(9, height=90, width=90))
    whole = (pets / "dog" / "9.png").read_bytes()
    (pets / "dog" / "9.png").write_bytes(whole[: len(whole) // 2])
    assert "corrupt" not in ganmod_command("data", "info", pets).out
    assert "dog/9.png: damaged" in ganmod_command("data", "info", pets, "--verify").out
    ganmod_command("data", "pack", pets, tmp_path / "out.zip", "--size", 8, "--labels", "none")
    ended = ganmod_command("data", "info", tmp_path / "out.zip")
    assert "5 images" in ended.out
    assert "labels: no labels\n" in ended.out


def test_bad_data_sets_end_with_one_message(pets: Path, tmp_path: Path, ganmod_command) -> None:
    (tmp_path / "empty").mkdir()
    with zipfile.ZipFile(tmp_path / "out.zip", "w") as archive:
        archive.writestr("../x.png", b"")
    (pets / "dataset.json").write_text("{")
    for path, message in (
        (tmp_path / "empty", "no image in folder"),
        (tmp_path / "out.zip", "leads out of it"),
        (pets, "is not JSON"),
    ):
        for arguments in (("info", path), ("pack", path, tmp_path / "new.zip")):
            ended = ganmod_command("data", *arguments)
            assert ended.code == 1
            assert ended.err.startswith("Error: ")
            assert message in ended.err
            assert len(ended.err.splitlines()) == 1


def test_contact_sheet_has_a_row_per_class(pets: Path, tmp_path: Path, ganmod_command) -> None:
    for i in range(5):
        color = np.full((32, 32, 3), 20 + 40 * i, dtype=np.uint8)
        write_image(pets / ("cat" if i < 2 else "dog") / f"{i}.png", color)
    (pets / "dog" / "3.png").write_bytes(b"not an image")
    sheet = tmp_path / "sheet.png"
    assert f"wrote {sheet}" in ganmod_command("data", "info", pets, "--sheet", sheet).out
    image = read_image(sheet)
    assert image.shape[0] == 4 + 2 * (96 + 4)
    left = image.shape[1] - 3 * (96 + 4)
    cells = [[int(image[4 + 100 * r + 48, left + 100 * c + 48, 0]) for c in range(3)] for r in range(2)]
    assert cells == [[20, 60, 255], [100, 255, 180]]

    for i in range(5):
        (pets / ("cat" if i < 2 else "dog") / f"{i}.png").write_bytes(b"not an image")
    assert "cat/0.png" in ganmod_command("data", "info", pets, "--sheet", tmp_path / "none.png").err
