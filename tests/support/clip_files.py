"""Small video files, good and bad, for tests of clips."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

RATE = 25


def write_clip(
    path: Path,
    *,
    frames: list[np.ndarray],
    sound: str | None = None,
    codec: str = "libx264",
    times: list[int] | None = None,
    turned: int = 0,
    front: bool = False,
    pixel_aspect: int = 1,
    cover: bool = False,
) -> Path:
    """Write a clip.

    Args:
        frames: uint8 [H,W,3], 25 per second.
        sound: an audio codec.
        times: of the frames, in 25ths of a second.
        turned: rotation for display, degrees.
        front: put the table of contents first, which lets a truncated file be opened.
        pixel_aspect: width of a pixel divided by its height.
        cover: add a still image, as in music files.
    """
    import av

    height, width = frames[0].shape[:2]
    options = {"movflags": "faststart"} if front else {}
    with av.open(str(path), "w", options=options) as container:
        video = container.add_stream(codec, rate=RATE)
        video.height, video.width = height, width
        video.pix_fmt = "yuv420p"
        if codec == "libx264":
            video.options = {"crf": "5"}
        if pixel_aspect != 1:
            video.codec_context.sample_aspect_ratio = Fraction(pixel_aspect)
        if cover:
            still = container.add_stream("mjpeg", rate=1)
            still.width = still.height = 16
            still.pix_fmt = "yuvj420p"
            still.disposition = av.stream.Disposition.attached_pic
        if turned:
            if not hasattr(video, "set_display_rotation"):
                pytest.skip("this av cannot write a rotation")
            video.set_display_rotation(turned)
        if sound:
            audio = container.add_stream(sound, rate=48000)
            audio.bit_rate = 128_000
        if cover:
            white = np.full((16, 16, 3), 255, np.uint8)
            container.mux(still.encode(av.VideoFrame.from_ndarray(white, format="rgb24")))
            container.mux(still.encode())
        for i, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = i if times is None else times[i]
            container.mux(video.encode(frame))
        container.mux(video.encode())
        if sound:
            for i in range(48000 * len(frames) // RATE // 1024):
                wave = 0.1 * np.sin((np.arange(1024) + i * 1024) / 20)
                samples = np.stack([wave, wave]).astype(np.float32)
                block = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
                block.sample_rate, block.pts = 48000, i * 1024
                container.mux(audio.encode(block))
            container.mux(audio.encode())
    return path


def greys(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """Frames of constant grey, 20 + 4 i for frame i."""
    return [np.full((height, width, 3), 20 + 4 * i, np.uint8) for i in range(count)]


def sound_only(path: Path) -> Path:
    """A file with sound and no video."""
    import av

    with av.open(str(path), "w") as container:
        audio = container.add_stream("aac", rate=48000)
        block = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        block.sample_rate = 48000
        container.mux(audio.encode(block))
        container.mux(audio.encode())
    return path


def sound_of(path: Path) -> tuple[str, int]:
    """(codec, number of samples) of a file's sound; ("", 0) without."""
    import av

    with av.open(str(path)) as container:
        if not container.streams.audio:
            return "", 0
        name = container.streams.audio[0].codec_context.codec.canonical_name
        return name, sum(frame.samples for frame in container.decode(audio=0))
