"""If this fails, pictures are read in wrong colours or on their side, or a bad one is not named."""

import struct
import warnings
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageFile

from ganmod.io.images import IMAGE_SUFFIXES, ImageError, read_image

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY = RGB[..., 0]
# 16-bit samples whose high byte is the 8-bit picture and whose low byte is anything.
RGB16 = RGB.astype(np.uint16) * 256 + RGB[::-1, ::-1]
ALPHA = np.linspace(0, 255, 35).round().astype(np.uint8).reshape(5, 7)


def over_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255.0
    return rgb * share + 255 * (1 - share)


def grey3(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=2)


def png16(path: Path, samples: np.ndarray, color_type: int, *, key: tuple[int, ...] | None = None) -> Path:
    """Write uint16 [H,W,C] as PNG by hand, since Pillow writes 16 bits in grey only; key: the tRNS chunk."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    body = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0))
    if key is not None:
        body += chunk(b"tRNS", struct.pack(f">{len(key)}H", *key))
    body += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def test_bytes_are_read_and_named():
    stream = BytesIO()
    Image.fromarray(RGB).save(stream, format="PNG")
    np.testing.assert_array_equal(read_image(stream.getvalue()), RGB)
    with pytest.raises(ImageError, match=r"data\.zip/3\.png"):
        read_image(stream.getvalue()[:60], name="data.zip/3.png")


def test_grey_bilevel_and_one_pixel(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png"), grey3(GREY))
    Image.fromarray(GREY > 127).save(tmp_path / "bilevel.png")
    np.testing.assert_array_equal(read_image(tmp_path / "bilevel.png"), grey3((GREY > 127) * 255))
    Image.fromarray(RGB[:1, :1]).save(tmp_path / "one.png")
    np.testing.assert_array_equal(read_image(tmp_path / "one.png"), RGB[:1, :1])


def test_alpha_lies_over_white(tmp_path):
    rgba, la = np.dstack([RGB, ALPHA]), np.dstack([GREY, ALPHA])
    for name, array, rgb in (("rgba", rgba, RGB), ("la", la, grey3(GREY))):
        for suffix in ("png", "tif"):
            Image.fromarray(array).save(tmp_path / f"{name}.{suffix}")
            got = read_image(tmp_path / f"{name}.{suffix}")
            np.testing.assert_allclose(got, over_white(rgb, ALPHA), atol=1)
    assert (read_image(tmp_path / "rgba.png")[ALPHA == 0] == 255).all()


def test_palette_with_and_without_transparency(tmp_path):
    picture = Image.fromarray(np.array([[0, 1], [2, 1]], dtype=np.uint8), mode="P")
    picture.putpalette([10, 20, 30, 200, 100, 50, 0, 255, 0])
    colors = np.array([[[10, 20, 30], [200, 100, 50]], [[0, 255, 0], [200, 100, 50]]])
    for suffix in ("png", "gif", "bmp"):
        picture.save(tmp_path / f"a.{suffix}")
        np.testing.assert_array_equal(read_image(tmp_path / f"a.{suffix}"), colors)
    # One index fully transparent (GIF, PNG), and an alpha per index (PNG only).
    for suffix in ("png", "gif"):
        picture.save(tmp_path / f"b.{suffix}", transparency=1)
        expected = np.where((colors == [200, 100, 50]).all(-1, keepdims=True), 255, colors)
        np.testing.assert_array_equal(read_image(tmp_path / f"b.{suffix}"), expected)
    picture.save(tmp_path / "c.png", transparency=bytes([255, 51, 0]))
    expected = over_white(colors, np.array([[255, 51], [0, 51]]))
    np.testing.assert_allclose(read_image(tmp_path / "c.png"), expected, atol=1)


def test_color_key_is_transparent(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "rgb.png", transparency=tuple(RGB[2, 3].tolist()))
    expected = RGB.copy()
    expected[2, 3] = 255
    np.testing.assert_array_equal(read_image(tmp_path / "rgb.png"), expected)


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_16_bit_keeps_the_high_byte(tmp_path, byteorder):
    """Grey and colour, PNG and TIFF, either byte order: all agree with the 8-bit picture."""
    rgba16 = np.dstack([RGB16, ALPHA.astype(np.uint16) * 257])
    np.testing.assert_array_equal(read_image(png16(tmp_path / "g.png", RGB16[..., :1], 0)), grey3(GREY))
    np.testing.assert_array_equal(read_image(png16(tmp_path / "rgb.png", RGB16, 2)), RGB)
    got = read_image(png16(tmp_path / "rgba.png", rgba16, 6))
    np.testing.assert_allclose(got, over_white(RGB, ALPHA), atol=1)
    got = read_image(png16(tmp_path / "la.png", rgba16[..., [0, 3]], 4))
    np.testing.assert_allclose(got, over_white(grey3(GREY), ALPHA), atol=1)

    tifffile.imwrite(tmp_path / "g.tif", RGB16[..., 0], byteorder=byteorder)
    np.testing.assert_array_equal(read_image(tmp_path / "g.tif"), grey3(GREY))
    tifffile.imwrite(tmp_path / "rgb.tif", RGB16, photometric="rgb", byteorder=byteorder)
    np.testing.assert_array_equal(read_image(tmp_path / "rgb.tif"), RGB)
    tifffile.imwrite(
        tmp_path / "rgba.tif", rgba16, photometric="rgb", extrasamples=["unassalpha"], byteorder=byteorder
    )
    np.testing.assert_allclose(read_image(tmp_path / "rgba.tif"), over_white(RGB, ALPHA), atol=1)


def test_16_bit_color_key(tmp_path):
    expected = RGB.copy()
    expected[1, 1] = 255
    key = tuple(RGB16[1, 1].tolist())
    np.testing.assert_array_equal(read_image(png16(tmp_path / "rgb.png", RGB16, 2, key=key)), expected)
    expected = grey3(np.where(RGB16[..., 0] == key[0], 255, GREY))
    np.testing.assert_array_equal(
        read_image(png16(tmp_path / "g.png", RGB16[..., :1], 0, key=key[:1])), expected
    )


def test_cmyk_jpeg_and_tiff(tmp_path):
    # Pure inks, whose colours need no profile: (1 - ink)(1 - black).
    inks = np.array([[0, 0, 0, 0], [255, 0, 0, 0], [0, 255, 0, 0], [0, 0, 255, 0], [0, 0, 0, 255]], np.uint8)
    colors = np.array([[255] * 3, [0, 255, 255], [255, 0, 255], [255, 255, 0], [0] * 3])
    picture = Image.fromarray(np.repeat(np.repeat(inks[None], 16, 0), 16, 1), mode="CMYK")
    picture.save(tmp_path / "a.jpg", quality=100)
    picture.save(tmp_path / "a.tif")
    for name in ("a.jpg", "a.tif"):
        np.testing.assert_allclose(read_image(tmp_path / name)[8, 8::16], colors, atol=4)


def test_float_and_32_bit_ranges(tmp_path):
    def read(values: np.ndarray, dtype: type) -> np.ndarray:
        Image.fromarray(values.astype(dtype)).save(tmp_path / "a.tif")
        got = read_image(tmp_path / "a.tif")
        assert (got == got[..., :1]).all()
        return got[..., 0]

    ramp = np.linspace(0, 1, 35).reshape(5, 7)
    np.testing.assert_allclose(read(ramp, np.float32), ramp * 255, atol=0.501)
    np.testing.assert_allclose(read(ramp * 255, np.float32), ramp * 255, atol=0.501)
    np.testing.assert_array_equal(read(ramp * 65535, np.float32), np.floor(ramp * 65535 / 256))
    np.testing.assert_array_equal(read(GREY, np.int32), GREY)
    np.testing.assert_array_equal(read(RGB16[..., 0], np.int32), GREY)
    for bad in (ramp * 1e6, ramp - 0.5, np.where(ramp > 0.5, np.nan, ramp)):
        with pytest.raises(ImageError, match=r"a\.tif"):
            read(bad, np.float32)


def test_dark_16_bit_pgm_is_not_taken_for_8_bit(tmp_path):
    path = tmp_path / "dark.pgm"
    path.write_bytes(b"P5 2 1 65535\n" + np.array([100, 255], ">u2").tobytes())
    np.testing.assert_array_equal(read_image(path), np.zeros((1, 2, 3)))


# What the camera stored, from the upright picture (Exif 2.3, orientation tag).
STORED = {
    1: RGB,
    2: RGB[:, ::-1],
    3: RGB[::-1, ::-1],
    4: RGB[::-1],
    5: RGB.transpose(1, 0, 2),
    6: np.rot90(RGB, 1),
    7: np.rot90(RGB, 2).transpose(1, 0, 2),
    8: np.rot90(RGB, -1),
}


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied_once(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.fromarray(np.ascontiguousarray(STORED[orientation]))
    if suffix == "jpg":
        picture.save(tmp_path / "a.jpg", exif=exif, quality=100, subsampling=0)
    elif suffix == "webp":
        picture.save(tmp_path / "a.webp", exif=exif, lossless=True)
    else:
        picture.save(tmp_path / f"a.{suffix}", exif=exif)
    got = read_image(tmp_path / f"a.{suffix}")
    np.testing.assert_allclose(got.astype(int), RGB.astype(int), atol=6 if suffix == "jpg" else 0)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_does_not_cost_the_picture(tmp_path):
    for i, exif in enumerate((b"Exif\0\0", b"Exif\0\0MM", b"Exif\0\0II*\0\xff\xff\xff\xff", b"junk" * 9)):
        Image.fromarray(RGB).save(tmp_path / f"{i}.png", exif=exif)
        np.testing.assert_array_equal(read_image(tmp_path / f"{i}.png"), RGB)


def test_missing_empty_foreign_and_folder_are_named(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("this is no picture")
    (tmp_path / "folder.png").mkdir()
    # PostScript would be handed to an outside program: refused whatever the suffix.
    (tmp_path / "script.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    for name, why in (
        ("missing.png", "No such file"),
        ("empty.png", "empty"),
        ("text.jpg", "not an image"),
        ("folder.png", "is a folder"),
        ("script.png", "not an image"),
    ):
        with pytest.raises(ImageError, match=why) as caught:
            read_image(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)


@pytest.mark.filterwarnings("ignore:Truncated File Read")
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "gif", "bmp", "webp", "ppm"])
def test_cut_short_at_any_place_is_an_image_error(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    picture = np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(picture).save(path)
    whole = path.read_bytes()
    for share in (0.02, 0.1, 0.3, 0.6, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(ImageError, match=f"a.{suffix}"):
            read_image(path)
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "gif", "webp"])
def test_damage_is_an_image_error_or_a_picture(suffix):
    """Flipped bytes may leave a readable picture, but no other error escapes."""
    rng = np.random.default_rng(2)
    stream = BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB.repeat(4, 0).repeat(4, 1)).save(
        stream, format=Image.registered_extensions()[f".{suffix}"], exif=exif
    )
    whole = np.frombuffer(stream.getvalue(), np.uint8)
    refused = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(150):
            damaged = whole.copy()
            damaged[rng.integers(0, len(whole), 3)] = rng.integers(0, 256, 3)
            try:
                got = read_image(damaged.tobytes())
            except ImageError:
                refused += 1
            else:
                assert got.dtype == np.uint8
                assert got.ndim == 3
                assert got.shape[2] == 3
    assert refused > 0


def test_decompression_bomb_is_an_image_error(tmp_path, monkeypatch):
    Image.fromarray(RGB).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(ImageError, match=r"bomb\.png.*35 pixels"):
        read_image(tmp_path / "bomb.png")


def test_every_listed_suffix_is_known_to_pillow():
    Image.init()
    assert IMAGE_SUFFIXES - {".avif"} <= set(Image.registered_extensions())
