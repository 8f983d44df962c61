"""If this fails, a video loses frames, times or sound, or a damaged one ends in a traceback."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clip_files import greys, sound_of, sound_only, write_clip

from ganmod.io.clip import Clip, ClipError, join_segments, write_segment

pytest.importorskip("av", reason="the package av is not installed")


def level(images: list[np.ndarray]) -> list[float]:
    return [float(image.mean()) for image in images]


def rejoined(path: Path, out: Path, *, length: int = 4, **sound: object) -> str:
    """A clip cut into segments of `length` frames and joined again."""
    clip = Clip(path)
    frames, segments = list(clip.frames()), []
    for begin in range(0, len(frames), length):
        part = frames[begin : begin + length]
        file = out.with_name(f"segment{begin}.mp4")
        write_segment(file, [frame.image for frame in part], clip.rate)
        segments.append((file, [frame.time for frame in part]))
    return join_segments(out, segments, clip.time_base, sound=path, **sound)  # type: ignore[arg-type]


def test_frames_and_times_are_read(tmp_path: Path):
    path = write_clip(tmp_path / "a.mp4", frames=greys(6))
    clip = Clip(path)
    frames = list(clip.frames())
    assert (clip.rate, clip.num_frames, clip.notes, clip.broken) == (25, 6, [], False)
    assert [frame.time * clip.time_base * 25 for frame in frames] == list(range(6))
    np.testing.assert_allclose(level([frame.image for frame in frames]), level(greys(6)), atol=1.5)
    assert next(clip.frames()).time == frames[0].time  # from the beginning again


def test_a_picture_that_lies_is_set_upright(tmp_path: Path):
    image = np.zeros((48, 64, 3), np.uint8)
    image[:24, :32] = 200  # at the left, above
    write_clip(tmp_path / "a.mp4", frames=[image] * 2, turned=90)  # counter-clockwise
    (frame, _) = Clip(tmp_path / "a.mp4").frames()
    assert frame.image.shape == (64, 48, 3)
    assert frame.image[40:, :20].min() > 190  # at the left, below
    assert frame.image[:30].max() < 10


def test_pixels_are_made_square(tmp_path: Path):
    write_clip(tmp_path / "a.mp4", frames=greys(3), pixel_aspect=2)
    assert [frame.image.shape for frame in Clip(tmp_path / "a.mp4").frames()] == [(48, 128, 3)] * 3


def test_the_cover_of_a_record_is_no_video(tmp_path: Path):
    write_clip(tmp_path / "a.mp4", frames=greys(3), cover=True, sound="aac")
    clip = Clip(tmp_path / "a.mp4")
    assert [frame.image.shape for frame in clip.frames()] == [(48, 64, 3)] * 3


def test_colours_come_back_as_they_went(tmp_path: Path):
    image = np.zeros((32, 32, 3), np.uint8)
    image[:] = (200, 60, 30)
    write_segment(tmp_path / "a.mp4", [image], Fraction(25))
    (frame,) = Clip(tmp_path / "a.mp4").frames()
    assert np.abs(frame.image[4:28, 4:28].astype(int) - image[4:28, 4:28]).max() <= 4


@pytest.mark.parametrize(
    ("name", "sound", "result"),
    [
        ("a.mp4", "aac", "copied (aac)"),
        ("a.mkv", "pcm_s16le", "from pcm_s16le to aac"),
        ("a.mp4", None, "no"),
    ],
)
def test_segments_are_joined_with_all_frames_times_and_the_sound(
    tmp_path: Path, name: str, sound: str | None, result: str
):
    """The frame rate varies: times are kept, so that the sound stays in step."""
    times = [0, 1, 2, 4, 6, 7, 8, 11, 12, 13]
    path = write_clip(tmp_path / name, frames=greys(10), times=times, sound=sound)
    said = rejoined(path, tmp_path / "out.mp4")
    assert result in said
    clip = Clip(tmp_path / "out.mp4")
    frames = list(clip.frames())
    assert [round(frame.time * clip.time_base * 25, 2) for frame in frames] == times
    np.testing.assert_allclose(level([frame.image for frame in frames]), level(greys(10)), atol=2.5)
    codec, samples = sound_of(tmp_path / "out.mp4")
    expected, before = sound_of(path)
    assert codec == ("aac" if sound else "")
    assert samples == before if expected == "aac" else abs(samples - before) <= 2048  # AAC fills blocks


def test_the_sound_of_a_broken_clip_ends_with_its_frames(tmp_path: Path):
    path = write_clip(tmp_path / "a.mp4", frames=greys(25), sound="aac")
    rejoined(path, tmp_path / "out.mp4", sound_end=Fraction(1, 2))
    assert abs(sound_of(tmp_path / "out.mp4")[1] - 24000) <= 2048


def test_a_broken_tail_leaves_the_frames_before_it(tmp_path: Path):
    noise = np.random.default_rng(0).integers(0, 256, (12, 48, 64, 3), dtype=np.uint8)
    path = write_clip(tmp_path / "a.mp4", frames=list(noise), front=True)
    whole = [frame.image for frame in Clip(path).frames()]
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    clip = Clip(path)
    frames = [frame.image for frame in clip.frames()]
    assert 4 <= len(frames) < 12
    assert clip.broken
    assert "a.mp4" in clip.notes[0]
    assert "were used" in clip.notes[0]
    for got, expected in zip(frames[:-1], whole, strict=False):
        assert np.array_equal(got, expected)


def test_frames_that_a_cut_has_hidden_are_not_missed(tmp_path: Path):
    """A cut without encoding begins at a key frame, and hides the frames before the cut by an edit list."""
    import av

    whole, cut = write_clip(tmp_path / "whole.mp4", frames=greys(12)), tmp_path / "cut.mp4"
    options = {"avoid_negative_ts": "disabled"}
    with av.open(str(whole)) as source, av.open(str(cut), "w", options=options) as out:
        stream = source.streams.video[0]
        copied = out.add_stream_from_template(stream)
        begin = round(4 / 25 / stream.time_base)
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts - begin, packet.dts - begin, copied
                out.mux(packet)
    clip = Clip(cut)
    images = [frame.image for frame in clip.frames()]
    assert (clip.num_frames, len(images), clip.notes, clip.broken) == (8, 8, [], False)
    np.testing.assert_allclose(level(images), level(greys(12)[4:]), atol=2.5)


def test_frames_of_another_size_are_brought_to_the_firsts_and_it_is_said(tmp_path: Path):
    parts = [
        write_clip(tmp_path / f"{i}.h264", frames=greys(4, *size))
        for i, size in enumerate([(48, 64), (32, 32)])
    ]
    path = tmp_path / "a.h264"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    clip = Clip(path)
    frames = list(clip.frames())
    assert [frame.image.shape for frame in frames] == [(48, 64, 3)] * 8
    assert "changes its size: 4 frames were resized to the first one's, 64 x 48" in clip.notes[0]
    assert not clip.broken


def test_videos_without_frames_are_refused(tmp_path: Path):
    with pytest.raises(ClipError, match=r"a\.m4a has no frames: it holds sound"):
        Clip(sound_only(tmp_path / "a.m4a"))
    (tmp_path / "empty.mp4").write_bytes(b"")
    with pytest.raises(ClipError, match=r"empty\.mp4: it is empty \(0 bytes\)"):
        Clip(tmp_path / "empty.mp4")
    (tmp_path / "text.mp4").write_bytes(b"hello" * 99)
    with pytest.raises(ClipError, match=r"text\.mp4: damaged, cut short or not a video"):
        Clip(tmp_path / "text.mp4")
    with pytest.raises(FileNotFoundError):
        Clip(tmp_path / "missing.mp4")


def test_an_unknown_codec_is_named_as_the_reason(tmp_path: Path):
    path = write_clip(tmp_path / "a.avi", frames=greys(3), codec="mpeg4")
    data = path.read_bytes()
    for tag in (b"FMP4", b"fmp4", b"xvid", b"XVID"):
        data = data.replace(tag, b"QZQZ")
    path.write_bytes(data)
    with pytest.raises(ClipError, match=r"a\.avi: the codec of its video is not known"):
        Clip(path)


def test_without_av_the_message_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write_clip(tmp_path / "a.mp4", frames=greys(2))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ValueError, match=r"pip install 'ganmod\[video\]'"):
        Clip(path)
