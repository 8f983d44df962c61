"""If this fails, large pictures change when they are reduced, or take the memory of full ones."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganmod.io import image_decoding
from ganmod.io.image_decoding import decode_rgb, reduce_pixels, reduced_size
from ganmod.io.images import ImageError, read_image, resize

HEIGHT, WIDTH = 403, 331


def smooth(channels: int = 3) -> np.ndarray:
    """Slow waves of full contrast, uint8 [HEIGHT,WIDTH,channels]."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] / 40.0
    waves = [np.sin(x + phase) * np.cos(y * 0.7 - phase) for phase in range(channels)]
    return np.round(127.5 + 127 * np.stack(waves, -1)).astype(np.uint8)


def encode(mode: str) -> bytes:
    """The waves as a file of a mode: PNG, or what can hold the mode."""
    rgb, stream = smooth(), BytesIO()
    if mode == "I;16":
        Image.fromarray(rgb[..., 0].astype(np.uint16) * 257).save(stream, "PNG")
    elif mode in ("I", "F"):
        Image.fromarray(rgb[..., 0]).convert(mode).save(stream, "TIFF")
    elif mode == "RGBA":
        Image.fromarray(np.dstack([rgb, smooth(4)[..., 3]]), "RGBA").save(stream, "PNG")
    elif mode == "rotated":
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(rgb).save(stream, "PNG", exif=exif)
    elif mode in ("JPEG", "CMYK"):
        Image.fromarray(rgb).convert("CMYK" if mode == "CMYK" else "RGB").save(stream, "JPEG", quality=98)
    else:
        Image.fromarray(rgb).convert(mode).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "I;16", "I", "F", "rotated", "JPEG", "CMYK"])
def test_a_reduced_picture_is_the_full_one_resized(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = encode(mode)
    full = read_image(encoded)
    monkeypatch.setattr(image_decoding, "LARGE", 1000)
    monkeypatch.setattr(image_decoding, "_STRIP", 5000)  # several strips
    reduced = read_image(encoded, short_side=16)
    assert min(reduced.shape[:2]) == 64
    shape = (16, round(HEIGHT * 16 / WIDTH)) if mode == "rotated" else (round(HEIGHT * 16 / WIDTH), 16)
    assert reduced.shape == (4 * shape[0], 4 * shape[1], 3)
    final, expected = (resize(image, shape).astype(int) for image in (reduced, full))
    assert np.abs(final - expected).max() <= 3
    assert np.array_equal(read_image(encoded), full)  # no size: as it is


def test_at_most_a_strip_is_converted_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    convert = image_decoding._to_rgb
    monkeypatch.setattr(image_decoding, "LARGE", 1000)
    monkeypatch.setattr(image_decoding, "_STRIP", 5000)
    monkeypatch.setattr(
        image_decoding, "_to_rgb", lambda image, *rest: sizes.append(image.size) or convert(image)
    )
    decode_rgb(BytesIO(encode("RGB")), short_side=16)
    assert max(width * height for width, height in sizes) <= 5000
    assert sum(height for _, height in sizes) == HEIGHT


def test_small_pictures_and_small_reductions_are_left_alone() -> None:
    assert reduced_size(4000, 6000, 64) is None  # 24 megapixels
    assert reduced_size(11000, 15000, 1400) is None  # less than twice four times that size
    assert reduced_size(11000, 15000, 64) == (4 * 64, 4 * 87)
    image = smooth()
    assert reduce_pixels(image, 16) is image


def test_pixels_are_limited_and_the_limit_can_be_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(np.zeros((1000, 1100), np.uint8)).save(tmp_path / "a.png")
    monkeypatch.setenv("GANMOD_MAX_MEGAPIXELS", "1")
    with pytest.raises(
        ImageError, match=r"has 1\.1 megapixels, and the limit is 1.* GANMOD_MAX_MEGAPIXELS to"
    ):
        read_image(tmp_path / "a.png")
    monkeypatch.setenv("GANMOD_MAX_MEGAPIXELS", "2")
    assert read_image(tmp_path / "a.png").shape == (1000, 1100, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    monkeypatch.setenv("GANMOD_MAX_MEGAPIXELS", "200")  # above the default: Pillow's limit is raised, too
    assert read_image(tmp_path / "a.png").shape == (1000, 1100, 3)
