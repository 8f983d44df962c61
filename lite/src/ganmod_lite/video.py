"""Clips, frame by frame, steadied against flicker; needs the package av.

Two things flicker where frames are stylised one by one. Camera noise changes every stroke, so encoded
features are blended with the former frame's where the picture hardly changes. And an object that enters
changes the normalisation of the entire picture, so its statistics are averaged over time.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ganmod_lite.errors import LiteError
from ganmod_lite.stylizer import Progress, Stylizer
from ganmod_lite.sweep import Moments

SMOOTHING = 0.8  # share of the past in the statistics
BLEND = 0.6  # share of the past in features where nothing changes
TOLERANCE = 0.03  # change of a cell, in [0,1], at which blending has fallen to 1/e; above noise
CUT = 0.15  # mean change of a frame, in [0,1], that begins a new shot
_CRF = 17  # of x264: no loss to be seen
_BT709, _LIMITED_RANGE = 1, 1  # FFmpeg's numbers for colours and for 16..235
_SOUND_OF_MP4 = ("aac", "mp3", "ac3", "eac3", "opus", "alac", "flac", "mp2")  # what players expect in .mp4


class Past:
    """The frames before, for `Stylizer.apply`; the first frame of each shot is stylised as a picture."""

    def __init__(self) -> None:
        self._frame: np.ndarray | None = None
        self._features: np.ndarray | None = None
        self._moments: dict[int, Moments] = {}

    def blend_features(self, frame: np.ndarray, features: np.ndarray) -> np.ndarray:
        """See `FramesBefore`; a cut, or a change of size, forgets the past."""
        before, past = self._frame, self._features
        if before is not None and past is not None and before.shape == frame.shape:
            cell = frame.shape[1] // features.shape[1]
            change = np.abs(frame - before).mean(axis=0)
            rows, columns = features.shape[1:]
            change = change.reshape(rows, cell, columns, cell).mean(axis=(1, 3))
            if change.mean() > CUT:
                self._moments = {}
            else:
                weight = BLEND * np.exp(-np.square(change / TOLERANCE))
                features = features + weight * (past - features)
        else:
            self._moments = {}
        self._frame, self._features = frame, features
        return features

    def smooth_moments(self, stage: int, moments: Moments) -> Moments:
        """See `FramesBefore`."""
        if stage in self._moments:
            past = self._moments[stage]
            mean = moments.mean + SMOOTHING * (past.mean - moments.mean)
            variance = moments.variance + SMOOTHING * (past.variance - moments.variance)
            moments = Moments(moments.pixels, mean, variance * moments.pixels)
        self._moments[stage] = moments
        return moments


class Converted(NamedTuple):
    """What a conversion did: frames, (width, height), and remarks on the input."""

    num_frames: int
    size: tuple[int, int]
    notes: tuple[str, ...]


def import_av() -> Any:
    """The package av; LiteError if it is missing."""
    try:
        import av
    except ImportError as error:
        raise LiteError(
            "clips need the package av, which is not installed: pip install 'ganmod-lite[video]' (its wheels "
            "contain FFmpeg with x264, under the GPL)"
        ) from error
    return av


@contextlib.contextmanager
def _open_clip(path: str) -> Iterator[tuple[Any, Any]]:
    """(container, its stream of moving pictures); LiteError for a file that is no clip."""
    av = import_av()
    try:
        container = av.open(path)
    except (av.FFmpegError, OSError) as error:
        raise LiteError(
            f"cannot read {path}: {error.strerror or error}; expected a clip such as .mp4, copy it again"
        ) from error
    with container:
        cover = av.stream.Disposition.attached_pic
        moving = [s for s in container.streams.video if not s.disposition & cover]
        if not moving or moving[0].codec_context is None:
            raise LiteError(
                f"{path} has no pictures that av can decode, expected a clip: convert it to H.264"
            )
        moving[0].thread_type = "AUTO"
        yield container, moving[0]


def _upright(frame: Any, stream: Any) -> np.ndarray:
    """Frame -> uint8 [H,W,3] of square pixels, turned as a camera held upright says."""
    turns = round(getattr(frame, "rotation", 0) / 90)
    width = max(round(frame.width * (stream.sample_aspect_ratio or 1)), 1)
    if width != frame.width:
        frame = frame.reformat(width=width)
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))


def first_frame(path: str) -> np.ndarray:
    """The first picture of a clip, uint8 [H,W,3]; LiteError if it cannot be decoded."""
    av = import_av()
    with _open_clip(path) as (container, stream), contextlib.suppress(av.FFmpegError):
        for frame in container.decode(stream):
            return _upright(frame, stream)
    raise LiteError(f"{path} has no frame that can be decoded, expected a clip: copy it again")


def convert_clip(
    stylizer: Stylizer,
    source: str,
    out: str,
    parameters: np.ndarray,
    *,
    size: int | None = None,
    tile: int | None = None,
    progress: Progress = lambda done, total: None,
) -> Converted:
    """Stylise a clip as .mp4 with its sound and its frames' times; what is before a break is kept.

    Args:
        stylizer: the model.
        source: the clip.
        out: the .mp4, written completely or not at all.
        parameters: [P] of the style.
        size: short side in pixels; None: as the source.
        tile: see `Stylizer.apply`.
        progress: called with the number of frames done and of all.

    Raises:
        LiteError: the clip cannot be read, or the result not written.
    """
    av = import_av()
    path = Path(out)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with _open_clip(source) as (container, stream):
            path.parent.mkdir(parents=True, exist_ok=True)
            with av.open(str(partial), "w", format="mp4") as target:
                writer = _Writer(target, container, stream)
                past = Past()
                total = stream.frames

                def stylize(frame: Any) -> None:
                    image = _upright(frame, stream)
                    image = stylizer.apply(image, parameters, size=size, tile=tile, before=past)
                    writer.add(image, frame)
                    progress(writer.num_frames, max(total, writer.num_frames))

                notes = _convert_packets(av, container, stream, writer, stylize, source)
                if not writer.num_frames:
                    raise LiteError(
                        f"{source} has no frame that can be decoded, expected a clip: copy it again"
                    )
                writer.finish()
        partial.replace(path)
    except (OSError, av.FFmpegError) as error:
        raise LiteError(
            f"cannot write {out}: {error.strerror or error}; expected a folder with room that can be written"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
    return Converted(writer.num_frames, writer.size, tuple(notes))


def _convert_packets(
    av: Any, container: Any, stream: Any, writer: _Writer, stylize: Any, source: str
) -> list[str]:
    """Hand on every packet of a clip; the notes say where it breaks off."""
    notes = []
    packets = container.demux(*([stream] if writer.sound is None else [stream, writer.sound]))
    broken = None
    while broken is None:
        packet, frames = None, []
        try:
            packet = next(packets, None)
            if packet is None:
                break
            if packet.stream is stream:
                frames = packet.decode()
        except av.FFmpegError as error:
            broken, packet = error, None
            with contextlib.suppress(av.FFmpegError):  # frames that the decoder still holds
                frames = stream.decode(None)
        for frame in frames:
            stylize(frame)
        if packet is not None and packet.stream is not stream:
            writer.add_sound(packet)
    if broken is not None:
        notes.append(
            f"{source} is broken after {writer.num_frames} frames ({broken.strerror}): those were used"
        )
    if writer.broken_sound:
        notes.append(f"the sound of {source} is broken ({writer.broken_sound}): what is before was used")
    return notes


class _Writer:
    """An .mp4 of H.264 and the source's sound."""

    def __init__(self, target: Any, container: Any, stream: Any) -> None:
        self.target = target
        self.num_frames, self.size = 0, (0, 0)
        self.rate = Fraction(stream.average_rate or stream.guessed_rate or 25).limit_denominator(1001)
        self.time_base = Fraction(stream.time_base)
        self.video = target.add_stream("libx264", rate=self.rate)
        self.video.pix_fmt = "yuv420p"  # what browsers play; its sides are even
        self.video.options = {"crf": str(_CRF), "bf": "0"}
        context = self.video.codec_context
        context.time_base = self.time_base
        context.color_primaries = context.color_trc = context.colorspace = _BT709
        context.color_range = _LIMITED_RANGE
        self._last: int | None = None
        sound: Any = container.streams.audio[0] if container.streams.audio else None
        codec = getattr(sound, "codec_context", None)
        self.sound = None if codec is None else sound
        self._copied: Any = None
        self._encoded: Any = None
        self.broken_sound = ""  # why it ends early
        self._early: list[Any] = []  # sound before the first frame, whose size the file's head states
        if codec is not None and codec.codec.canonical_name in _SOUND_OF_MP4:
            self._copied = target.add_stream_from_template(sound)
        elif codec is not None:
            self._encoded = target.add_stream("aac", rate=sound.rate)

    def add(self, image: np.ndarray, like: Any) -> None:
        """Encode a frame, uint8 [H,W,3], at the time of the source's; an odd last row or column is cut off.

        Missing or repeated times go on by one frame.
        """
        av = import_av()
        height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
        if not self.num_frames:
            self.size = width, height
            self.video.width, self.video.height = width, height
        even = av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:height, :width]), format="rgb24")
        frame = even.reformat(
            width=self.size[0], height=self.size[1], format="yuv420p", dst_colorspace=_BT709
        )
        step = max(round(1 / (self.rate * self.time_base)), 1)
        time = like.pts
        if time is None or (self._last is not None and time <= self._last):
            time = 0 if self._last is None else self._last + step
        self._last = time
        frame.pts, frame.time_base = time, self.time_base
        self.target.mux(self.video.encode(frame))
        self.num_frames += 1
        early, self._early = self._early, []
        for packet in early:
            self.add_sound(packet)

    def add_sound(self, packet: Any) -> None:
        """Copy a packet of sound, or encode it as AAC where .mp4 does not hold its kind.

        Sound that cannot be decoded ends there.
        """
        if not self.num_frames:
            self._early.append(packet)
        elif self._copied is not None:
            if packet.dts is not None:  # the last one is empty
                packet.stream = self._copied
                if packet.pts is None:
                    packet.pts = packet.dts  # .mp4 wants both
                self.target.mux(packet)
        elif self._encoded is not None and not self.broken_sound:
            encoded: list[Any] = []
            av = import_av()
            try:
                for frame in packet.decode():
                    encoded += self._encoded.encode(frame)
            except av.FFmpegError as error:
                self.broken_sound = error.strerror
            self.target.mux(encoded)

    def finish(self) -> None:
        """Write what the encoders still hold."""
        self.target.mux(self.video.encode())
        if self._encoded is not None:
            self.target.mux(self._encoded.encode(None))
