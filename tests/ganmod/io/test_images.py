"""If this fails, images are written, resized or tiled with other pixels than those that were given."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ganmod.io.images import (
    center_crop,
    list_images,
    make_grid,
    read_image,
    resize,
    resize_short_side,
    to_tensor,
    to_uint8,
    write_image,
)

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff", ".ppm"])
def test_lossless_formats_round_trip(tmp_path, suffix):
    write_image(tmp_path / "new" / f"a{suffix}", RGB)
    got = read_image(tmp_path / "new" / f"a{suffix}")
    assert got.dtype == np.uint8
    assert got.flags.c_contiguous
    assert got.flags.writeable
    np.testing.assert_array_equal(got, RGB)


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".webp"])
def test_lossy_formats_stay_near(tmp_path, suffix):
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    picture = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], 255 - ramp[None]), -1)
    write_image(tmp_path / f"a{suffix}", picture)
    assert np.abs(read_image(str(tmp_path / f"a{suffix}")).astype(int) - picture).mean() < 3


def test_write_refuses_what_it_cannot_store(tmp_path):
    with pytest.raises(ValueError, match=r"'.xyz' is not one of .*\.png"):
        write_image(tmp_path / "a.xyz", RGB)
    for bad in (RGB.astype(np.float32), RGB[..., 0], RGB[:0], np.dstack([RGB, RGB])):
        with pytest.raises(ValueError, match="expected"):
            write_image(tmp_path / "a.png", bad)
    assert list(tmp_path.iterdir()) == []


def test_interrupted_write_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    write_image(tmp_path / "a.png", RGB)

    def full_disk(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match=r"a\.png: No space.* are missing"):
        write_image(tmp_path / "a.png", RGB[::-1].copy())
    monkeypatch.undo()
    assert [i.name for i in tmp_path.iterdir()] == ["a.png"]
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), RGB)


def test_write_takes_tensors_of_any_float_type(tmp_path):
    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        write_image(tmp_path / "a.png", to_tensor(RGB).to(dtype))
        atol = 1 if dtype == torch.bfloat16 else 0
        np.testing.assert_allclose(read_image(tmp_path / "a.png").astype(int), RGB.astype(int), atol=atol)


def test_list_images_sorts_recurses_and_skips_residue(tmp_path):
    for name in (
        "b/2.PNG",
        "b/10.jpg",
        "a/x.webp",
        "a.png",
        "b/notes.txt",
        ".cache/h.png",
        "__MACOSX/b.png",
        "b/._2.png",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "elsewhere").symlink_to(tmp_path / "b", target_is_directory=True)
    (tmp_path / "b" / "loop").symlink_to(tmp_path, target_is_directory=True)
    got = [i.relative_to(tmp_path).as_posix() for i in list_images(str(tmp_path))]
    assert got == ["a/x.webp", "a.png", "b/10.jpg", "b/2.PNG"]


def test_list_images_says_what_is_wrong(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere does not exist"):
        list_images(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=f"no image in folder {tmp_path}"):
        list_images(tmp_path)
    (tmp_path / "a.png").touch()
    with pytest.raises(ValueError, match="is not a folder"):
        list_images(tmp_path / "a.png")


def test_tensor_round_trip_is_exact():
    every = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    tensor = to_tensor(every)
    assert tensor.dtype == torch.float32
    assert tensor.shape == (3, 16, 16)
    assert tensor.is_contiguous()
    assert tensor[0, 0, 0] == 0
    assert tensor[0, -1, -1] == 1
    np.testing.assert_array_equal(to_uint8(tensor), every)
    batch = torch.stack([tensor, 1 - tensor])
    np.testing.assert_array_equal(to_uint8(batch), np.stack([every, 255 - every]))
    # A copy: training may change it in place.
    tensor.zero_()
    assert every.max() == 255


def test_to_uint8_rounds_clamps_and_refuses_nan():
    x = torch.tensor([-0.1, 0.4 / 255, 0.6 / 255, 254.4 / 255, 254.6 / 255, 7.0]).expand(3, 1, 6)
    np.testing.assert_array_equal(to_uint8(x)[0, :, 0], [0, 0, 1, 254, 255, 255])
    with pytest.raises(ValueError, match="NaN"):
        to_uint8(torch.full((3, 2, 2), torch.nan))
    for bad in (torch.zeros(1, 4, 4), torch.zeros(4, 4), torch.zeros(3, 4, 4, dtype=torch.uint8)):
        with pytest.raises(ValueError, match="expected a float tensor"):
            to_uint8(bad)


def test_resize_is_antialiased_and_keeps_the_mean():
    checker = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)[..., None].repeat(3, 2)
    # Box by a whole factor is the mean of each block; without antialiasing a checkerboard gives 0 or 255.
    np.testing.assert_allclose(resize(checker, (16, 8), resample="box"), 127.5, atol=0.5)
    np.testing.assert_allclose(resize(checker, (16, 16))[2:-2, 2:-2], 127.5, atol=2)
    constant = np.full((5, 9, 3), 93, np.uint8)
    assert (resize(constant, (17, 3)) == 93).all()
    assert (resize(RGB[:1, :1], (3, 4)) == RGB[0, 0]).all()
    same = resize(RGB, (5, 7))
    assert same is not RGB
    assert (same == RGB).all()
    with pytest.raises(ValueError, match="at least 1"):
        resize(RGB, (0, 4))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((30, 50), (12, 20)), ((50, 30), (20, 12)), ((12, 12), (12, 12)), ((1, 3), (12, 36))],
)
def test_resize_short_side(shape, expected):
    assert resize_short_side(np.zeros((*shape, 3), np.uint8), 12).shape == (*expected, 3)


def test_center_crop():
    np.testing.assert_array_equal(center_crop(RGB, 3), RGB[1:4, 2:5])
    np.testing.assert_array_equal(center_crop(RGB, (5, 1)), RGB[:, 3:4])
    with pytest.raises(ValueError, match="6 x 6 from an image of 5 x 7"):
        center_crop(RGB, 6)


def test_grid_puts_each_image_in_its_cell():
    rows: list[list[np.ndarray | None]] = [[RGB, 255 - RGB], [None, RGB[::-1].copy()], [RGB]]
    grid = make_grid(rows, gap=2, background=9)
    assert grid.shape == (2 + 3 * 7, 2 + 2 * 9, 3)
    expected = np.full_like(grid, 9)
    for r, c, image in ((0, 0, RGB), (0, 1, 255 - RGB), (1, 1, RGB[::-1]), (2, 0, RGB)):
        expected[2 + 7 * r : 7 + 7 * r, 2 + 9 * c : 9 + 9 * c] = image
    np.testing.assert_array_equal(grid, expected)


def test_grid_fits_other_sizes_with_their_aspect():
    tall, wide = np.full((40, 10, 3), 7, np.uint8), np.full((3, 12, 3), 80, np.uint8)
    grid = make_grid([[tall, wide]], gap=0, cell_size=(20, 20))
    assert grid.shape == (20, 40, 3)
    expected = np.full((20, 40), 255)
    expected[:, 7:12] = 7  # 40 x 10 -> 20 x 5, centred
    expected[7:12, 20:] = 80  # 3 x 12 -> 5 x 20, centred
    np.testing.assert_array_equal(grid[..., 0], expected)


def test_grid_labels_stand_outside_the_cells():
    cell = np.full((60, 80, 3), 128, np.uint8)
    plain = make_grid([[cell] * 2] * 3)
    labelled = make_grid(
        [[cell] * 2] * 3, column_labels=["adain", "a name much too long for it"], row_labels=["1", "22", ""]
    )
    top, left = labelled.shape[0] - plain.shape[0], labelled.shape[1] - plain.shape[1]
    assert top > 0
    assert left > 0
    np.testing.assert_array_equal(labelled[top:, left:], plain)
    dark = labelled.min(2) < 100
    assert dark[:top, left : left + 84].any()
    assert dark[:top, left + 88 :].any()
    rows = [dark[top + 64 * r : top + 64 * (r + 1), :left].any() for r in range(3)]
    assert rows == [True, True, False]
    assert not dark[:top, left + 84 : left + 88].any(), "a long label is cut at its cell"
    with pytest.raises(ValueError, match="got 1 column labels for 2 columns"):
        make_grid([[cell] * 2], column_labels=["x"])
    with pytest.raises(ValueError, match="got no image"):
        make_grid([[None], []])
