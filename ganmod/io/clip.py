"""Video files: frames one at a time with their times, and H.264 segments joined to a clip with its sound.

Times are integers in units of the clip's `time_base` (seconds); so sound stays in step where the frame rate
varies.
"""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ganmod.io.animation import add_h264, h264_frame, import_av

CLIP_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".ogv", ".3gp"}
)

_SOUND_OF_MP4 = ("aac", "mp3", "ac3", "eac3", "opus", "alac", "flac", "mp2")  # what players expect in .mp4


def as_fraction(number: Any) -> Fraction:
    """A rational number of any type, such as PyAV 19's own, as a Fraction."""
    return Fraction(number.numerator, number.denominator)


class ClipError(ValueError):
    """A video that cannot be used: unreadable, of an unknown codec, without frames. The message names it."""


class ClipFrame(NamedTuple):
    image: np.ndarray  # uint8 [H,W,3], upright
    time: int  # in the clip's time_base


class Clip:
    """A video file: `frames()` decodes it from the beginning.

    rate: frames per second; the mean if it varies.
    num_frames: counted without decoding.
    notes: one sentence for each problem that `frames()` met.
    broken: whether `frames()` found frames missing at the end.
    """

    def __init__(self, path: str | Path) -> None:
        """Open and count; ClipError for a file without frames or of an unknown codec, and OSError."""
        self.path = Path(path)
        self.notes: list[str] = []
        self.broken = False
        with self._open() as (container, stream):
            self.time_base = as_fraction(stream.time_base)
            rate = as_fraction(stream.average_rate or stream.guessed_rate or 25)
            self.rate = rate.limit_denominator(1001)
            shown, cut_off = self._count()
            announced = stream.frames if "mp4" in container.format.name else 0  # others count loosely
            self.num_frames = announced - cut_off if announced else shown
        if not self.num_frames:
            raise ClipError(f"{self.path} has no frames: its video is empty, record or copy it again")

    @contextlib.contextmanager
    def _open(self) -> Iterator[tuple[Any, Any]]:
        av = import_av(self.path)
        if self.path.is_file() and not self.path.stat().st_size:
            raise ClipError(f"cannot read {self.path}: it is empty (0 bytes); copy it again")
        try:
            container = av.open(str(self.path))
        except av.FFmpegError as error:
            if isinstance(error, FileNotFoundError | PermissionError):
                raise
            raise ClipError(
                f"cannot read {self.path}: damaged, cut short or not a video ({error.strerror})"
            ) from error
        with container:
            cover = av.stream.Disposition.attached_pic  # a still, such as an album cover
            moving = [stream for stream in container.streams.video if not stream.disposition & cover]
            if not moving:
                raise ClipError(f"{self.path} has no frames: it holds sound or data, but no video")
            stream = moving[0]
            if stream.codec_context is None:
                raise ClipError(
                    f"{self.path}: the codec of its video is not known to av {av.__version__}; convert it to "
                    "H.264 first"
                )
            stream.thread_type = "AUTO"
            yield container, stream

    def _count(self) -> tuple[int, int]:
        """Numbers of packets with data: shown, and hidden by the edit list of a cut without re-encoding.

        What cameras and encoders write today has one packet for each frame.
        """
        with self._open() as (container, stream):
            packets = self._until_broken(container.demux(stream))
            hidden = [packet.is_discard for packet in packets if packet.size]
        return hidden.count(False), hidden.count(True)

    def frames(self) -> Iterator[ClipFrame]:
        """Every frame up to the end, or up to the first that cannot be decoded, which `notes` reports.

        Frames with non-square pixels are stretched. Frames of another size than the first are resized to it,
        which `notes` reports too. Raises ClipError if no frame can be decoded.
        """
        self.notes, self.broken = [], False
        count, odd_sizes, last = 0, 0, None
        first: tuple[int, int] | None = None
        with self._open() as (container, stream):
            for frame in self._until_broken(_decode(container, stream)):
                if first is None:
                    first = (frame.height, frame.width)
                    size = (frame.height, max(round(frame.width * (stream.sample_aspect_ratio or 1)), 1))
                odd_sizes += (frame.height, frame.width) != first
                if (frame.height, frame.width) != size:
                    frame = frame.reformat(width=size[1], height=size[0])
                image = frame.to_ndarray(format="rgb24")
                step = max(round(1 / (self.rate * self.time_base)), 1)
                time = frame.pts
                if time is None or (last is not None and time <= last):  # missing or repeated in some files
                    time = 0 if last is None else last + step
                last = time
                count += 1
                # A camera held upright stores the picture on its side, and the angle with it.
                yield ClipFrame(np.rot90(image, round(getattr(frame, "rotation", 0) / 90)), time)
        if not count:
            raise ClipError(f"{self.path} has no frames that can be decoded: copy or record it again")
        if count < self.num_frames and not self.notes:
            self.broken = True
            self.notes.append(
                f"{self.path} ends early: {count} of its {self.num_frames} frames are there, and were used"
            )
        if odd_sizes:
            self.notes.append(
                f"{self.path} changes its size: {odd_sizes} frames were resized to the first one's, "
                f"{size[1]} x {size[0]}"
            )

    def _until_broken(self, items: Iterable[Any]) -> Iterator[Any]:
        """The items up to the first that cannot be read."""
        av = import_av(self.path)
        count = 0
        try:
            for item in items:
                yield item
                count += 1
        except av.FFmpegError as error:
            self.broken = True
            self.notes.append(
                f"{self.path} is broken after {count} frames ({error.strerror}): those before were used"
            )


def _decode(container: Any, stream: Any) -> Iterator[Any]:
    """Frames; those that the decoder still holds when it meets a broken packet come before the error."""
    import av

    try:
        for packet in container.demux(stream):
            yield from packet.decode()
    except av.FFmpegError:
        with contextlib.suppress(av.FFmpegError):
            yield from stream.decode(None)
        raise


def write_segment(path: Path, images: Sequence[np.ndarray], rate: Fraction) -> None:
    """Write images, uint8 [H,W,3], as an .mp4 of constant rate, for `join_segments`."""
    av = import_av(path)
    with av.open(str(path), "w", format="mp4") as container:
        stream = add_h264(container, images[0].shape, rate)
        for image in images:
            container.mux(stream.encode(h264_frame(image)))
        container.mux(stream.encode())


def join_segments(
    path: Path,
    segments: Sequence[tuple[Path, Sequence[int]]],
    time_base: Fraction,
    *,
    sound: Path | None = None,
    sound_end: Fraction | None = None,
) -> str:
    """Join segments to one .mp4 without encoding them again; returns what was done with the sound.

    Args:
        path: the .mp4.
        segments: files of `write_segment`, each with the times of its frames.
        time_base: unit of these times, in seconds.
        sound: a file whose first audio stream is added: copied if .mp4 may hold it, else encoded as AAC.
        sound_end: in seconds; None: the entire stream.
    """
    av = import_av(path)
    with av.open(str(path), "w", format="mp4") as out, contextlib.ExitStack() as stack:
        with av.open(str(segments[0][0])) as first:
            video = out.add_stream_from_template(first.streams.video[0])
        video.time_base = time_base
        packets: list[Iterator[Any]] = [_video_packets(video, segments, time_base)]
        message = "no sound"
        source = stack.enter_context(av.open(str(sound))) if sound is not None else None
        if source is not None and source.streams.audio:
            audio = source.streams.audio[0]
            name = audio.codec_context.codec.canonical_name if audio.codec_context is not None else ""
            if name in _SOUND_OF_MP4:
                copied = out.add_stream_from_template(audio)
                packets.append(_sound_packets(source.demux(audio), copied, sound_end))
                message = f"sound copied ({name})"
            elif name:
                encoded = out.add_stream("aac", rate=audio.rate)
                packets.append(_encode_sound(source.decode(audio), encoded, sound_end))
                message = f"sound converted from {name} to aac"
            else:
                message = "sound left out: its codec is unknown"
        # Players expect both to lie side by side in the file.
        for packet in heapq.merge(*packets, key=lambda i: i.dts * i.time_base):
            out.mux(packet)
    return message


def _video_packets(
    stream: Any, segments: Sequence[tuple[Path, Sequence[int]]], time_base: Fraction
) -> Iterator[Any]:
    import av

    for file, times in segments:
        with av.open(str(file)) as container:
            packets = (packet for packet in container.demux(video=0) if packet.size)
            for packet, time in zip(packets, times, strict=True):
                step = max(round((packet.duration or 0) * packet.time_base / time_base), 1)
                packet.stream, packet.time_base = stream, time_base
                packet.pts, packet.dts, packet.duration = time, time, step
                yield packet


def _sound_packets(packets: Iterator[Any], stream: Any, end: Fraction | None) -> Iterator[Any]:
    import av

    with contextlib.suppress(av.FFmpegError):  # a broken tail
        for packet in packets:
            if packet.dts is None:
                continue  # the last, empty one
            if end is not None and packet.dts * packet.time_base >= end:
                return
            packet.stream = stream
            if packet.pts is None:
                packet.pts = packet.dts  # .mp4 wants both
            yield packet


def _encode_sound(frames: Iterator[Any], stream: Any, end: Fraction | None) -> Iterator[Any]:
    import av

    samples: int | None = None
    with contextlib.suppress(av.FFmpegError):
        for frame in frames:
            if (
                samples is None
            ):  # later times are counted from the first: those in the file may be coarse or missing
                samples = round((frame.time or 0) * frame.sample_rate)
            frame.pts, frame.time_base = samples, Fraction(1, frame.sample_rate)
            if end is not None and Fraction(samples, frame.sample_rate) >= end:
                break
            samples += frame.samples
            yield from stream.encode(frame)
    yield from stream.encode(None)
