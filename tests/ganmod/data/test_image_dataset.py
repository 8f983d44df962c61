"""If this fails, a GAN trains on wrong pixels, orders or labels, or a faulty data set ends a run too late."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_images import ADA_NAMES, ada_zip, folder_of, picture, png, same, write_zip

from ganmod.data.files import ImageFiles
from ganmod.data.image_dataset import ImageDataset
from ganmod.io.images import ImageError, read_image, write_image
from training.loader import StepSampler, step_loader


def index_of(item: torch.Tensor, count: int) -> int:
    """Which picture a stream's item shows, flipped or not."""
    (found,) = (i for i in range(count) if same(item, picture(i)) or same(item, picture(i)[:, ::-1]))
    return found


@pytest.fixture
def five(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "five", [f"{i}.png" for i in range(5)])


def test_every_pass_shows_every_image_once_in_another_order(five: Path) -> None:
    data = ImageDataset(five, seed=3, mirror=True)
    passes = [[index_of(data[5 * p + i][0], 5) for i in range(5)] for p in range(4)]
    assert [sorted(p) for p in passes] == [list(range(5))] * 4
    assert len({tuple(p) for p in passes}) > 2


def test_an_item_depends_on_seed_and_position_alone(five: Path) -> None:
    forwards = [ImageDataset(five, seed=3, mirror=True)[n][0] for n in range(23)]
    data = ImageDataset(five, seed=3, mirror=True, cache_mb=0)
    for n in reversed(range(23)):
        assert torch.equal(data[n][0], forwards[n])
    other = ImageDataset(five, seed=4, mirror=True)
    assert any(not torch.equal(other[n][0], forwards[n]) for n in range(23))


def test_half_of_the_positions_are_flipped_and_none_without_mirror(five: Path) -> None:
    data = ImageDataset(five, seed=0, mirror=True)
    flipped = []
    for n in range(300):
        image, _ = data[n]
        flipped.append(same(image, picture(index_of(image, 5))[:, ::-1]))
    assert 120 < sum(flipped) < 180
    # Drawn per position, not per image: an image is seen both ways.
    assert {(index_of(data[n][0], 5), flipped[n]) for n in range(50)} == {
        (i, f) for i in range(5) for f in (0, 1)
    }
    upright = ImageDataset(five, seed=0)
    assert all(same(upright[n][0], picture(index_of(upright[n][0], 5))) for n in range(20))
    # The order is the same with and without.
    assert all(index_of(upright[n][0], 5) == index_of(data[n][0], 5) for n in range(20))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_processes_share_a_step_and_workers_do_not_matter(tmp_path: Path, num_workers: int) -> None:
    path = ada_zip(tmp_path / "a.zip", [[name, i] for i, name in enumerate(ADA_NAMES)])
    data = ImageDataset(path, seed=1, mirror=True)
    data[0]  # the zip is open before workers are forked
    whole = iter(step_loader(ImageDataset(path, seed=1, mirror=True), StepSampler(batch_size=4, nimg=6)))
    samplers = [StepSampler(batch_size=4, nimg=6, rank=r, world_size=2) for r in range(2)]
    shares = [iter(step_loader(data, sampler, num_workers=num_workers)) for sampler in samplers]
    for _ in range(3):
        images, labels = next(whole)
        parts = [next(share) for share in shares]
        assert torch.equal(torch.cat([p[0] for p in parts]), images)
        assert torch.equal(torch.cat([p[1] for p in parts]), labels)
        assert [index_of(image, 4) for image in images] == labels.argmax(1).tolist()


def test_a_pickled_data_set_is_the_same(tmp_path: Path) -> None:
    data = ImageDataset(ada_zip(tmp_path / "a.zip", None), seed=1, mirror=True)
    items = [data[n][0] for n in range(6)]
    again = pickle.loads(pickle.dumps(data))
    assert all(torch.equal(again[n][0], item) for n, item in enumerate(items))


def test_access_by_index_is_in_order_and_never_flipped(five: Path) -> None:
    data = ImageDataset(five, mirror=True)
    assert (data.num_images, data.image_shape, data.c_dim, data.label_names) == (5, (3, 8, 12), 0, ())
    assert all(same(data.image(i), picture(i)) for i in range(5))
    assert data.label(0).shape == data[0][1].shape == (0,)
    batches = list(data.image_batches(2))
    assert [tuple(batch.shape) for batch in batches] == [(2, 3, 8, 12), (2, 3, 8, 12), (1, 3, 8, 12)]
    assert all(same(image, picture(i)) for i, image in enumerate(torch.cat(batches)))
    (share,) = data.image_batches(9, indices=range(1, 5, 2))
    assert same(share[0], picture(1))
    assert same(share[1], picture(3))
    for index in (-1, 5):
        with pytest.raises(IndexError, match="expected 0 to 4"):
            data.image(index)


def test_what_a_caller_does_to_an_item_stays_outside(five: Path) -> None:
    data = ImageDataset(five)
    data.image(2).zero_()
    data[0][0].zero_()
    assert all(same(data.image(i), picture(i)) for i in range(5))


def test_decoded_images_stay_in_memory_up_to_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder_of(tmp_path, [f"{i}.png" for i in range(3)], height=400, width=400)  # 0.46 MiB each
    read: list[str] = []
    original = ImageFiles.read

    def counted(self: ImageFiles, name: str) -> np.ndarray:
        read.append(name)
        return original(self, name)

    monkeypatch.setattr(ImageFiles, "read", counted)
    for cache_mb, expected in ((1, ["2.png"]), (2, []), (0, ["0.png", "1.png", "2.png"])):
        data = ImageDataset(path, cache_mb=cache_mb)
        for _ in data.image_batches(3):
            pass
        read.clear()
        for _ in data.image_batches(3):
            pass
        assert read == expected


def test_every_kind_of_image_becomes_rgb_of_one_size(tmp_path: Path) -> None:
    rgb = picture(0)
    Image.fromarray(rgb).save(tmp_path / "rgb.png")
    Image.fromarray(rgb[..., 0]).save(tmp_path / "grey.png")
    Image.fromarray(np.dstack([rgb, rgb[..., 0]])).save(tmp_path / "rgba.png")
    Image.fromarray(rgb).quantize(16).save(tmp_path / "palette.png")
    Image.fromarray(rgb).convert("CMYK").save(tmp_path / "cmyk.jpg")
    Image.fromarray(rgb[..., 0].astype(np.uint16) * 257).save(tmp_path / "sixteen.png")
    for name in ("turned.jpg", "turned.png"):
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(np.ascontiguousarray(np.rot90(rgb))).save(tmp_path / name, exif=exif)
    data = ImageDataset(tmp_path)
    assert data.image_shape == (3, 8, 12)
    assert data.num_images == 8
    for index, name in enumerate(data.names):
        assert same(data.image(index), read_image(tmp_path / name)), name
    assert same(data.image(data.names.index("turned.png")), rgb)
    assert same(data.image(data.names.index("sixteen.png")), np.repeat(rgb[..., :1], 3, axis=2))


def test_folder_and_zip_of_it_agree(tmp_path: Path) -> None:
    names = ["b/2.png", "b/10.png", "a-b/1.png", "a/1.png", "a/z/1.png"]
    folder_of(tmp_path / "d", names)
    members = {f"d\\{name}".replace("/", "\\"): (tmp_path / "d" / name).read_bytes() for name in names}
    # Made elsewhere: backslashes, the folder's own name before all, residue of macOS.
    path = write_zip(tmp_path / "d.zip", {**members, "__MACOSX/d/a/._1.png": b"x", "d/.hidden.png": b"x"})
    folder, archive = ImageDataset(tmp_path / "d"), ImageDataset(path)
    assert archive.names == [f"d/{name}" for name in folder.names]
    assert folder.names == ["a/1.png", "a/z/1.png", "a-b/1.png", "b/10.png", "b/2.png"]
    assert folder.label_names == archive.label_names == ("a", "a-b", "b")
    for i in range(5):
        assert torch.equal(folder.image(i), archive.image(i))
        assert torch.equal(folder.label(i), archive.label(i))
    assert [int(folder.label(i).argmax()) for i in range(5)] == [0, 0, 1, 2, 2]


def test_corrupt_files_are_named_and_left_out(tmp_path: Path) -> None:
    path = folder_of(tmp_path / "d", [f"{c}/{i}.png" for c in "ab" for i in range(3)], height=40)
    (path / "a/1.png").write_bytes(b"not an image")
    whole = (path / "b/1.png").read_bytes()
    (path / "b/1.png").write_bytes(whole[: len(whole) // 2])  # its header is in order
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = ImageDataset(path, seed=5)
        seen = [data[n] for n in range(15)]
        numbers = len(torch.cat(list(data.image_batches(2))))
    assert all(str(w.message).startswith("skipped: cannot read image") for w in caught)
    assert sorted(str(w.message).split("/d/")[1][:7] for w in caught) == ["a/1.png", "b/1.png"]
    assert (data.num_images, numbers) == (5, 4)
    for image, label in seen:  # the label goes with the image that came instead
        index = next(i for i in range(6) if same(image, picture(i, height=40)))
        assert index not in (1, 4)
        assert int(label.argmax()) == index // 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = ImageDataset(path, seed=5)
        assert all(torch.equal(again[n][0], seen[n][0]) for n in reversed(range(15)))
    with pytest.raises(ImageError, match=r"b/1\.png"):
        data.image(data.names.index("b/1.png"))


def test_too_many_corrupt_files_are_an_error(tmp_path: Path) -> None:
    path = folder_of(tmp_path / "d", [f"{i}.png" for i in range(6)])
    for i in range(3):
        (path / f"{i}.png").write_bytes(b"not an image")
    expected = r"more than 2 corrupt images.*2\.png"
    with pytest.warns(UserWarning, match="skipped"), pytest.raises(ImageError, match=expected):
        ImageDataset(path, max_corrupt=2)
    with pytest.warns(UserWarning, match="skipped"):
        assert ImageDataset(path, max_corrupt=3).num_images == 3


def test_damage_inside_a_zip_is_found_by_its_checksum(tmp_path: Path) -> None:
    path = ada_zip(tmp_path / "a.zip", [[name, i] for i, name in enumerate(ADA_NAMES)])
    content = path.read_bytes()
    place = content.index(png(picture(2))) + 60
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    with pytest.warns(UserWarning, match=r"a\.zip/00001/img00000002\.png: Bad CRC"):
        data = ImageDataset(path)
    assert data.num_images == 3
    assert same(data.image(2), picture(3))
    assert data.label(2).tolist() == [0, 0, 0, 1]


def test_mixed_sizes_name_two_files_and_the_remedy(tmp_path: Path) -> None:
    path = folder_of(tmp_path / "d", ["0.png", "1.png"])
    write_image(path / "2.png", picture(2, height=30, width=40))
    with pytest.raises(ValueError, match=r"0\.png is 12x8, 2\.png is 40x30.*ganmod data pack .*--size 8"):
        ImageDataset(path)


def test_resolution_is_checked_and_may_be_non_square(five: Path) -> None:
    assert ImageDataset(five, resolution=(8, 12)).image_shape == (3, 8, 12)
    with pytest.raises(ValueError, match=r"are 12x8 .*resolution is 16x16.*--size 16x16"):
        ImageDataset(five, resolution=16)


def test_too_few_images_and_paths_that_are_no_data_set(tmp_path: Path) -> None:
    one = folder_of(tmp_path / "one", ["0.png"])
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.zip").write_text("no zip")
    whole = ada_zip(tmp_path / "whole.zip", None).read_bytes()
    (tmp_path / "part.zip").write_bytes(whole[: len(whole) // 2])
    write_zip(tmp_path / "empty.zip", {"readme.txt": "no image"})
    write_zip(tmp_path / "nameless.zip", {"NAME.png": png(picture(0))})
    nameless = (tmp_path / "nameless.zip").read_bytes().replace(b"NAME.png", b"\0AME.png")
    (tmp_path / "nameless.zip").write_bytes(nameless)
    write_zip(tmp_path / "out.zip", {"../x.png": png(picture(0)), "y.png": png(picture(1))})
    write_zip(tmp_path / "back.zip", {"a\\..\\..\\x.png": png(picture(0)), "y.png": png(picture(1))})
    write_zip(tmp_path / "root.zip", {"/etc/x.png": png(picture(0)), "y.png": png(picture(1))})
    for path, message in (
        (one, r"has 1 readable images, but training needs at least 2"),
        (tmp_path / "empty", "no image in folder"),
        (tmp_path / "missing", "does not exist"),
        (tmp_path / "text.zip", "is no zip, or not a whole one"),
        (tmp_path / "part.zip", "is no zip, or not a whole one"),
        (tmp_path / "empty.zip", "no image in zip"),
        (tmp_path / "nameless.zip", "no image in zip"),
        (tmp_path / "out.zip", r"'\.\./x\.png', which leads out of it"),
        (tmp_path / "back.zip", "which leads out of it"),
        (tmp_path / "root.zip", "which leads out of it"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            ImageDataset(path)
        assert str(path) in str(caught.value)
