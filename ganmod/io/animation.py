"""Animations from frames, written one at a time: .mp4, .gif, .webp, or a folder of PNG files."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ganmod.io.atomic_write import atomic_write
from ganmod.io.images import write_image

SUFFIXES = (".mp4", ".gif", ".webp", "")
_CRF = 17  # of x264: visually lossless
_BT709, _LIMITED_RANGE = 1, 1  # FFmpeg's numbers for colour space, primaries and transfer; and for 16..235


def check_animation(path: str | Path) -> None:
    """Raise ValueError unless `write_animation` can write this path: known suffix, `av` if .mp4 needs it."""
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(
            f"cannot write {path}: expected the suffix .mp4, .gif or .webp, or none for a folder of PNG files"
        )
    if path.suffix.lower() == ".mp4":
        import_av(path)


def write_animation(path: str | Path, frames: Iterable[np.ndarray], *, fps: float) -> int:
    """Write an animation and return the number of its frames; GIF and WebP repeat endlessly.

    A file is only written completely or not at all. GIF rounds times to 10 ms.

    Args:
        path: .mp4, .gif, .webp, or without a suffix a folder of 000000.png, 000001.png ...
        frames: uint8 [H,W,3] of one size.
        fps: frames per second.

    Raises:
        ValueError: as `check_animation`, and for no frames.
    """
    path = Path(path)
    check_animation(path)
    counted = _FrameCounter(frames)
    if path.suffix == "":
        for frame in counted:
            write_image(path / f"{counted.count - 1:06d}.png", frame)
        for number in itertools.count(counted.count):  # left by a longer animation
            if not (stale := path / f"{number:06d}.png").is_file():
                break
            stale.unlink()
    else:
        write = _write_mp4 if path.suffix.lower() == ".mp4" else _write_pillow
        kind = path.suffix[1:].lower()
        atomic_write(path, lambda temporary: write(temporary, iter(counted), fps, kind))
    if not counted.count:
        raise ValueError(f"no frames for {path}")
    return counted.count


class _FrameCounter:
    """Passes frames on and counts them."""

    def __init__(self, frames: Iterable[np.ndarray]) -> None:
        self.frames, self.count = frames, 0

    def __iter__(self) -> Iterator[np.ndarray]:
        for frame in self.frames:
            self.count += 1
            yield frame


def _write_pillow(path: Path, frames: Iterator[np.ndarray], fps: float, kind: str) -> None:
    first = next(frames, None)
    if first is None:
        raise ValueError("no frames")
    Image.fromarray(first).save(
        path,
        format=kind,
        save_all=True,
        append_images=(Image.fromarray(frame) for frame in frames),
        duration=1000 / fps,
        loop=0,
        **({"quality": 90} if kind == "webp" else {}),
    )


def _write_mp4(path: Path, frames: Iterator[np.ndarray], fps: float, kind: str) -> None:
    av = import_av(path)
    with av.open(str(path), "w", format=kind) as container:
        stream = None
        for frame in frames:
            if stream is None:
                stream = add_h264(container, frame.shape, Fraction(fps).limit_denominator(1001))
            container.mux(stream.encode(h264_frame(frame)))
        if stream is None:
            raise ValueError("no frames")
        container.mux(stream.encode())


def add_h264(container: Any, shape: tuple[int, ...], rate: Fraction) -> Any:
    """Add an H.264 stream for frames of shape (height, width, 3) to an output container of av.

    Packets are shown in the order of writing; colours follow BT.709, as players assume.
    """
    stream = container.add_stream("libx264", rate=rate)
    stream.height, stream.width = shape[0] // 2 * 2, shape[1] // 2 * 2
    stream.pix_fmt = "yuv420p"  # what browsers play; its sides are even
    stream.options = {"crf": str(_CRF), "bf": "0"}
    context = stream.codec_context
    context.color_primaries = context.color_trc = context.colorspace = _BT709
    context.color_range = _LIMITED_RANGE
    return stream


def h264_frame(frame: np.ndarray) -> Any:
    """uint8 [H,W,3] -> av's frame for a stream of `add_h264`; an odd last row or column is cut off."""
    av = import_av("frames")
    height, width = frame.shape[0] // 2 * 2, frame.shape[1] // 2 * 2
    even = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[:height, :width]), format="rgb24")
    return even.reformat(format="yuv420p", dst_colorspace=_BT709)


def import_av(path: str | Path) -> Any:
    """Import the package av, which `path` needs; ValueError, with how to install it, if it is missing."""
    try:
        return importlib.import_module("av")
    except ImportError as error:
        raise ValueError(
            f"{path} needs the package av, which reads and writes video: pip install 'ganmod[video]'. "
            ".gif, .webp and a folder of PNG files are written without it"
        ) from error
